// The official client's half of `scripts/bench client`: node bench.mjs TARGET MSP_ID CERTIFICATE KEY CALLS CONCURRENCY WARMUP
import * as grpc from '@grpc/grpc-js';
import { connect, signers } from '@hyperledger/fabric-gateway';
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';

const [target, mspId, certificate, key, calls, concurrency, warmup] = process.argv.slice(2);
const client = new grpc.Client(target, grpc.credentials.createInsecure());
const gateway = connect({
    client,
    identity: { mspId, credentials: readFileSync(certificate) },
    signer: signers.newPrivateKeySigner(createPrivateKey(readFileSync(key))),
});
const contract = gateway.getNetwork('scf').getContract('trade', 'voucher');
const argument = 'x'.repeat(200);

async function run(operation, count) {
    let left = count;
    await Promise.all(Array.from({ length: Number(concurrency) }, async () => {
        while (left-- > 0) {
            await (operation === 'evaluate'
                ? contract.evaluateTransaction('get', argument)
                : contract.submitTransaction('issue', argument));
        }
    }));
}

const results = {};
for (const operation of ['evaluate', 'submit']) {
    await run(operation, Number(warmup));
    const [cpu, start] = [process.cpuUsage(), process.hrtime.bigint()];
    await run(operation, Number(calls));
    const used = process.cpuUsage(cpu);
    results[operation] = {
        calls: Number(calls),
        cpu_ms: (used.user + used.system) / 1000 / Number(calls),
        rate: Number(calls) / (Number(process.hrtime.bigint() - start) / 1e9),
        rss_mb: process.memoryUsage.rss() / 1048576,
    };
}
console.log(JSON.stringify(results));
gateway.close();
client.close();
