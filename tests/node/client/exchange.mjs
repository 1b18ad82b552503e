// The official Node client, driven by test_exchange.py: one JSON request per line in, one JSON answer per line out.
import * as grpc from '@grpc/grpc-js';
import { checkpointers, connect, signers } from '@hyperledger/fabric-gateway';
import { createHash, createPrivateKey, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [target, certificatePath, keyPath] = process.argv.slice(2);
const credentials = readFileSync(certificatePath);
const privateKey = createPrivateKey(readFileSync(keyPath));
const identity = { mspId: 'Org1MSP', credentials };
const client = new grpc.Client(target, grpc.credentials.createInsecure());
const signer = signers.newPrivateKeySigner(privateKey);
const offline = connect({ client, identity });
const online = connect({ client, identity, signer });

const text = (bytes) => Buffer.from(bytes).toString('base64');
const bytes = (value) => Buffer.from(value, 'base64');
const show = (object) => ({
    bytes: text(object.getBytes()),
    digest: text(object.getDigest()),
    transactionId: object.getTransactionId?.() ?? null,
});

const loaders = {
    proposal: [(g, d) => g.newProposal(d), (g, d, s) => g.newSignedProposal(d, s)],
    transaction: [(g, d) => g.newTransaction(d), (g, d, s) => g.newSignedTransaction(d, s)],
    commit: [(g, d) => g.newCommit(d), (g, d, s) => g.newSignedCommit(d, s)],
    chaincode_events_request: [(g, d) => g.newChaincodeEventsRequest(d), (g, d, s) => g.newSignedChaincodeEventsRequest(d, s)],
    block_events_request: [(g, d) => g.newBlockEventsRequest(d), (g, d, s) => g.newSignedBlockEventsRequest(d, s)],
    filtered_block_events_request: [
        (g, d) => g.newFilteredBlockEventsRequest(d), (g, d, s) => g.newSignedFilteredBlockEventsRequest(d, s)],
    block_and_private_data_events_request: [
        (g, d) => g.newBlockAndPrivateDataEventsRequest(d), (g, d, s) => g.newSignedBlockAndPrivateDataEventsRequest(d, s)],
};

function proposalOf(gateway) {
    return gateway.getNetwork('scf').getContract('trade', 'voucher').newProposal('issue', {
        arguments: ['V-1', bytes('AP8=')],
        transientData: { price: 'nine' },
        endorsingOrganizations: ['BankMSP', 'CoreMSP'],
    });
}

async function signed(gateway, kind, object) {
    return loaders[kind][1](gateway, object.getBytes(), await signer(object.getDigest()));
}

const makers = {
    proposal: async () => proposalOf(offline),
    transaction: async () => (await signed(offline, 'proposal', proposalOf(offline))).endorse(),
    commit: async () => (await signed(offline, 'transaction', await makers.transaction())).submit(),
    chaincode_events_request: async () =>
        offline.getNetwork('scf').newChaincodeEventsRequest('trade', { startBlock: 7n }),
    block_events_request: async () => offline.getNetwork('scf').newBlockEventsRequest({ startBlock: 7n }),
    filtered_block_events_request: async () => offline.getNetwork('scf').newFilteredBlockEventsRequest({ startBlock: 7n }),
    block_and_private_data_events_request: async () =>
        offline.getNetwork('scf').newBlockAndPrivateDataEventsRequest({ startBlock: 7n }),
};

async function first(events) {
    try {
        for await (const event of events) {
            return event;
        }
    } finally {
        events.close();
    }
}

const actions = {
    make: async ({ kind }) => show(await makers[kind]()),
    load: async ({ kind, data }) => show(loaders[kind][0](offline, bytes(data))),
    load_signed: async ({ kind, data, signature }) => show(loaders[kind][1](offline, bytes(data), bytes(signature))),
    sign: async ({ digest }) => ({ signature: text(await signer(bytes(digest))) }),
    verify: async ({ message, signature }) => ({
        valid: verify('sha256', bytes(message), createPublicKey(credentials), bytes(signature)),
    }),
    sha256: async ({ message }) => ({ digest: text(createHash('sha256').update(bytes(message)).digest()) }),
    evaluate: async () => {
        const contract = online.getNetwork('scf').getContract('trade', 'voucher');
        const options = { arguments: ['V-1'], transientData: { price: 'nine' }, endorsingOrganizations: ['BankMSP'] };
        return { result: text(await contract.evaluate('get', options)) };
    },
    submit: async () => ({ result: text(await online.getNetwork('scf').getContract('trade', 'voucher').submit('issue', {
        arguments: ['V-1'], transientData: { price: 'nine' }, endorsingOrganizations: ['BankMSP'] })) }),
    send_proposal: async ({ data, signature }) => ({
        result: text(await offline.newSignedProposal(bytes(data), bytes(signature)).evaluate()),
    }),
    chaincode_events: async () => {
        const event = await first(await online.getNetwork('scf').getChaincodeEvents('trade', { startBlock: 1n }));
        return { block: String(event.blockNumber), id: event.transactionId, name: event.eventName, payload: text(event.payload) };
    },
    blocks: async ({ kind }) => {
        const network = online.getNetwork('scf');
        const open = { block: 'getBlockEvents', filtered: 'getFilteredBlockEvents', private: 'getBlockAndPrivateDataEvents' };
        await first(await network[open[kind]]({ startBlock: 1n }));
        return {};
    },
    checkpoint: async ({ path, block, id }) => {
        const checkpointer = await checkpointers.file(path);
        if (block !== undefined) {
            await checkpointer.checkpointTransaction(BigInt(block), id);
        }
        return { block: String(checkpointer.getBlockNumber()), id: checkpointer.getTransactionId() ?? null };
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    try {
        console.log(JSON.stringify(await actions[request.action](request)));
    } catch (error) {
        console.log(JSON.stringify({ error: String(error.stack ?? error) }));
    }
}
offline.close();
online.close();
client.close();
