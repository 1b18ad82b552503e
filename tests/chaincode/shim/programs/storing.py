"""A chaincode that uses every kind of request a chaincode can make of its peer, for peers of any make."""

import json

from chaincode.shim.contract import Chaincode, Contract, Transaction, query, submit
from chaincode.shim.errors import ContractError
from chaincode.shim.policy import all_of


class Storing(Contract, name="storing"):
    """One transaction per kind of request; keys of several attributes are given as a JSON list."""

    @submit
    def fill(self, tx: Transaction, prefix: str, count: int) -> int:
        """Write so many numbered keys, and set two events of which the last one counts."""
        for number in range(count):
            tx.put_state(f"{prefix}{number:04d}", b"%d" % number)
        tx.set_event("begun", b"")
        tx.set_event("filled", b"%d" % count)
        return count

    @submit
    def clear(self, tx: Transaction, prefix: str, count: int) -> int:
        """Delete so many numbered keys; what is deleted is still read in the same transaction."""
        for number in range(count):
            tx.delete_state(f"{prefix}{number:04d}")
        return len(tx.get_state(f"{prefix}0000") or b"")

    @query
    def span(self, tx: Transaction, start: str, end: str) -> str:
        """All keys of a range."""
        with tx.get_state_by_range(start, end) as rows:
            return json.dumps([key for key, _ in rows])

    @query
    def page(self, tx: Transaction, start: str, end: str, size: int, bookmark: str) -> str:
        """One page of a range, and where the next one begins."""
        page = tx.get_state_by_range_with_pagination(start, end, size, bookmark)
        return json.dumps([[key for key, _ in page.rows], page.bookmark])

    @query
    def several(self, tx: Transaction, keys: str) -> str:
        """The values of several keys, in their order."""
        values = tx.get_multiple_states(json.loads(keys))
        return json.dumps([None if value is None else value.decode() for value in values])

    @query
    def history(self, tx: Transaction, key: str) -> str:
        """The values a key has had, newest first; empty where it was deleted."""
        with tx.get_history_for_key(key) as entries:
            return json.dumps([(entry.value or b"").decode() for entry in entries])

    @submit
    def index(self, tx: Transaction, attributes: str) -> str:
        """Write a composite key."""
        key = tx.create_composite_key("index", json.loads(attributes))
        tx.put_state(key, b"1")
        return json.dumps(tx.split_composite_key(key))

    @query
    def indexed(self, tx: Transaction, attributes: str) -> str:
        """The attributes of all composite keys that begin with these."""
        with tx.get_state_by_partial_composite_key("index", json.loads(attributes)) as rows:
            return json.dumps([tx.split_composite_key(key)[1] for key, _ in rows])

    @submit
    def guard(self, tx: Transaction, key: str, msp_ids: str) -> str:
        """Write a key that only these together may change from now on."""
        tx.put_state(key, b"guarded")
        tx.set_state_validation_parameter(key, all_of(*json.loads(msp_ids)))
        return key

    @query
    def guarded(self, tx: Transaction, key: str) -> bytes:
        """The key's own endorsement policy."""
        return tx.get_state_validation_parameter(key) or b""

    @submit
    def change(self, tx: Transaction, key: str, value: str) -> str:
        """Write one key."""
        tx.put_state(key, value.encode())
        return value

    @submit
    def swell(self, tx: Transaction, prefix: str, count: int, size: int) -> int:
        """Write so many numbered keys of so many bytes each."""
        for number in range(count):
            tx.put_state(f"{prefix}{number:04d}", b"v" * size)
        return count * size

    @submit
    def keep(self, tx: Transaction, collection: str, key: str) -> str:
        """Write a transient value to a collection."""
        tx.put_private_data(collection, key, tx.transient["value"])
        return key

    @submit
    def purge(self, tx: Transaction, collection: str, key: str) -> str:
        """Remove a private value and its past."""
        tx.purge_private_data(collection, key)
        return key

    @query
    def kept(self, tx: Transaction, collection: str, key: str) -> str:
        """The private value and the hash that everybody has."""
        value, digest = tx.get_private_data(collection, key), tx.get_private_data_hash(collection, key)
        return json.dumps([None if value is None else value.decode(), None if digest is None else digest.hex()])

    @query
    def kept_span(self, tx: Transaction, collection: str, start: str, end: str) -> str:
        """The keys of a collection's range."""
        with tx.get_private_data_by_range(collection, start, end) as rows:
            return json.dumps([key for key, _ in rows])

    @submit
    def call(self, tx: Transaction, chaincode: str, function: str, key: str, value: str) -> str:
        """Have another chaincode write in the same transaction; its refusal is passed on."""
        answer = tx.invoke_chaincode(chaincode, [function.encode(), key.encode(), value.encode()])
        if answer.status != 200:
            raise ContractError(answer.message, answer.status)
        tx.put_state(f"called-{key}", answer.payload)
        return answer.payload.decode()

    @query
    def about(self, tx: Transaction) -> str:
        """What a transaction says of itself."""
        return json.dumps([tx.creator.msp_id, tx.channel_id, tx.transaction_id, tx.outermost_chaincode])


chaincode = Chaincode("storing", "1.0", [Storing])
