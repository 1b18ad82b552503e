// The official Gateway client as a witness: it drives a network it knows nothing about and prints what it saw as JSON.
// usage: node gateway.mjs HOME ORGANISATION CHAINCODE
import * as grpc from '@grpc/grpc-js';
import { checkpointers, connect, hash, signers } from '@hyperledger/fabric-gateway';
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

const [home, organisationName, chaincode] = process.argv.slice(2);
const connection = JSON.parse(fs.readFileSync(path.join(home, 'connection.json')));
const organisation = connection.organisations.find((each) => each.name === organisationName);
const folder = path.join(home, 'identities', organisationName, 'user');
const identity = { mspId: organisation.msp_id, credentials: fs.readFileSync(path.join(folder, 'certificate.pem')) };
const key = crypto.createPrivateKey(fs.readFileSync(path.join(folder, 'private_key.pem')));
const sign = signers.newPrivateKeySigner(key);
const tls = grpc.credentials.createSsl(fs.readFileSync(path.join(home, organisation.tls_ca_file)));
const options = organisation.tls_host_override
    ? { 'grpc.ssl_target_name_override': organisation.tls_host_override }
    : {};
const client = new grpc.Client(organisation.gateway, tls, options);
const gateway = connect({ client, identity, signer: sign, hash: hash.sha256 });
const network = gateway.getNetwork(connection.channel);
const contract = network.getContract(chaincode);
const text = (bytes) => Buffer.from(bytes).toString();

async function take(events, count) {
    const taken = [];
    try {
        for await (const event of events) {
            taken.push(event);
            if (taken.length === count) break;
        }
    } finally {
        events.close();
    }
    return taken;
}

async function failure(call) {
    try {
        await call();
    } catch (error) {
        return {
            name: error.constructor.name,
            code: error.code,
            message: error.message,
            transactionId: error.transactionId ?? null,
            details: error.details ?? null,
        };
    }
    return null;
}

const seen = {};

seen.submit = text(await contract.submitTransaction('put', 'fruit', 'apple'));
seen.evaluate = text(await contract.evaluateTransaction('get', 'fruit'));

const named = await network.getContract(chaincode, 'basic').submitAsync('emit', { arguments: ['first', 'one'] });
seen.resultBeforeCommit = text(named.getResult());
const status = await named.getStatus();
seen.status = { successful: status.successful, code: status.code };
const startBlock = status.blockNumber;
for (const [name, payload] of [['second', 'two'], ['third', 'three']]) {
    await contract.submitTransaction('emit', name, payload);
}
const shown = (event) => `${event.eventName}=${text(event.payload)}`;
seen.events = (await take(await network.getChaincodeEvents(chaincode, { startBlock }), 3)).map(shown);
seen.replayed = (await take(await network.getChaincodeEvents(chaincode, { startBlock }), 3)).map(shown);

const checkpointer = checkpointers.inMemory();
const first = await take(await network.getChaincodeEvents(chaincode, { startBlock, checkpoint: checkpointer }), 1);
await checkpointer.checkpointChaincodeEvent(first[0]);
const rest = await take(await network.getChaincodeEvents(chaincode, { checkpoint: checkpointer }), 2);
seen.afterCheckpoint = rest.map(shown);

const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'checkpoint-')), 'checkpoint.json');
const filed = await checkpointers.file(file);
await filed.checkpointChaincodeEvent(rest[0]);
const last = await take(await network.getChaincodeEvents(chaincode, { checkpoint: await checkpointers.file(file) }), 1);
seen.afterFileCheckpoint = last.map(shown);

const blocks = await take(await network.getBlockEvents({ startBlock: 0n }), 3);
seen.blocks = blocks.map((block) => block.getHeader().getNumber());
seen.linked = blocks.slice(1).every((block) => block.getHeader().getPreviousHash_asU8().length === 32);
const filtered = await take(await network.getFilteredBlockEvents({ startBlock }), 1);
seen.filtered = filtered[0].getFilteredTransactionsList().map((transaction) => transaction.getTxid());
seen.filteredExpected = named.getTransactionId();
const withPrivate = await take(await network.getBlockAndPrivateDataEvents({ startBlock }), 1);
seen.privateBlock = String(withPrivate[0].getBlock().getHeader().getNumber()) === String(startBlock);

// Offline signing: the gateway of these calls has no signer at all.
const offline = connect({ client, identity, hash: hash.sha256 });
const away = offline.getNetwork(connection.channel).getContract(chaincode);
const unsigned = away.newProposal('put', { arguments: ['colour', 'green'] });
const proposal = offline.newSignedProposal(unsigned.getBytes(), await sign(unsigned.getDigest()));
const unsignedTransaction = await proposal.endorse();
const transaction = offline.newSignedTransaction(
    unsignedTransaction.getBytes(),
    await sign(unsignedTransaction.getDigest()),
);
const unsignedCommit = await transaction.submit();
const commit = offline.newSignedCommit(unsignedCommit.getBytes(), await sign(unsignedCommit.getDigest()));
seen.offline = (await commit.getStatus()).successful;
const request = offline.getNetwork(connection.channel).newChaincodeEventsRequest(chaincode, { startBlock });
const signedRequest = offline.newSignedChaincodeEventsRequest(request.getBytes(), await sign(request.getDigest()));
seen.offlineEvents = (await take(await signedRequest.getEvents(), 1)).map(shown);
const seek = offline.getNetwork(connection.channel).newBlockEventsRequest({ startBlock });
const signedSeek = offline.newSignedBlockEventsRequest(seek.getBytes(), await sign(seek.getDigest()));
seen.offlineBlocks = (await take(await signedSeek.getEvents(), 1)).length;

seen.errors = {
    evaluate: await failure(() => contract.evaluateTransaction('get', 'nothing')),
    endorse: await failure(() => contract.submitTransaction('refuse', 'CONFLICT busy: Later.')),
    oneDisagrees: await failure(() => contract.submitTransaction('disagree')),
    unknownChaincode: await failure(() => network.getContract('nowhere').submitTransaction('put', 'a', 'b')),
    unknownChannel: await failure(() =>
        gateway.getNetwork('elsewhere').getContract(chaincode).evaluateTransaction('get', 'fruit'),
    ),
    wrongKey: await failure(async () => {
        const stranger = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
        const foreign = connect({ client, identity, signer: signers.newPrivateKeySigner(stranger), hash: hash.sha256 });
        await foreign.getNetwork(connection.channel).getContract(chaincode).evaluateTransaction('get', 'fruit');
    }),
    deadline: await failure(() =>
        contract.newProposal('wait', { arguments: ['3'] }).evaluate({ deadline: Date.now() + 500 }),
    ),
};
seen.conflict = await (async () => {
    const submitted = await Promise.all([1, 2, 3, 4].map(() => contract.submitAsync('increment', { arguments: ['n'] })));
    const statuses = await Promise.all(submitted.map((each) => each.getStatus()));
    return statuses.map((each) => each.code).sort();
})();

gateway.close();
client.close();
fs.rmSync(path.dirname(file), { recursive: true });
console.log(JSON.stringify(seen, (_, value) => (typeof value === 'bigint' ? Number(value) : value)));
