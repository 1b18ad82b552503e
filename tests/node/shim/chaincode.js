'use strict';

// A small chaincode on Fabric's own shim for Node, served to a peer that dials it (chaincode as a service).
// Arguments: the address to listen on and the package id. Every answer is text or JSON, so that a test can read it.

const shim = require('fabric-shim');

async function rows(promise, read) {
    const found = [];
    for await (const row of promise) {
        found.push(read(row));
    }
    return JSON.stringify(found);
}

const functions = {
    put: async (stub, key, value) => { await stub.putState(key, Buffer.from(value)); return 'stored'; },
    get: async (stub, key) => (await stub.getState(key)).toString() || 'absent',
    del: async (stub, key) => { await stub.deleteState(key); return 'deleted'; },
    fill: async (stub, prefix, count) => {
        for (let number = 0; number < Number(count); number++) {
            await stub.putState(prefix + String(number).padStart(4, '0'), Buffer.from(String(number)));
        }
        return count;
    },
    range: (stub, start, end) => rows(stub.getStateByRange(start, end), (row) => row.key),
    page: async (stub, start, end, size, bookmark) => {
        const {iterator, metadata} = await stub.getStateByRangeWithPagination(start, end, Number(size), bookmark);
        const keys = [];
        for (let row = await iterator.next(); !row.done; row = await iterator.next()) {
            keys.push(row.value.key);
        }
        await iterator.close();
        return JSON.stringify({keys, count: metadata.fetchedRecordsCount, bookmark: metadata.bookmark});
    },
    composite: async (stub, type, ...attributes) => {
        await stub.putState(stub.createCompositeKey(type, attributes), Buffer.from('1'));
        return 'stored';
    },
    partial: (stub, type, ...attributes) => rows(
        stub.getStateByPartialCompositeKey(type, attributes), (row) => stub.splitCompositeKey(row.key).attributes),
    history: (stub, key) => rows(
        stub.getHistoryForKey(key), (row) => [row.isDelete, Buffer.from(row.value).toString()]),
    event: async (stub, name, payload) => {
        stub.setEvent(name, Buffer.from(payload));
        await stub.putState('event', Buffer.from(name));
        return name;
    },
    transient: async (stub, name) => stub.getTransient().get(name).toString(),
    hide: async (stub, collection, key) => {
        await stub.putPrivateData(collection, key, stub.getTransient().get('value'));
        return 'hidden';
    },
    reveal: async (stub, collection, key) => (await stub.getPrivateData(collection, key)).toString() || 'absent',
    hash: async (stub, collection, key) => Buffer.from(await stub.getPrivateDataHash(collection, key)).toString('hex'),
    purge: async (stub, collection, key) => { await stub.purgePrivateData(collection, key); return 'purged'; },
    call: async (stub, name, ...args) => {
        const answer = await stub.invokeChaincode(name, args, '');
        return `${answer.status} ${Buffer.from(answer.payload).toString()}`;
    },
    about: async (stub) => JSON.stringify({
        channel: stub.getChannelID(),
        creator: stub.getCreator().mspid,
        msp: stub.getMspID(),
        seconds: Number(stub.getTxTimestamp().seconds),
        transaction: stub.getTxID(),
    }),
    policy: async (stub, key, policy) => {
        await stub.setStateValidationParameter(key, Buffer.from(policy, 'hex'));
        return Buffer.from(await stub.getStateValidationParameter(key) || '').toString('hex');
    },
    refuse: async (_stub, text) => { throw new Error(text); },
    exit: async () => process.exit(1),
};

class Ledger {
    async Init() {
        return shim.success();
    }

    async Invoke(stub) {
        const {fcn, params} = stub.getFunctionAndParameters();
        try {
            return shim.success(Buffer.from(await functions[fcn](stub, ...params)));
        } catch (error) {
            // Text, whatever the shim's documentation says: a Buffer here is lost and the peer waits for its time-out.
            return shim.error(error.message);
        }
    }
}

const [address, ccid] = process.argv.slice(2);
shim.server(new Ledger(), {ccid, address}).start().then(() => console.log('listening'));
