"""Small chaincodes for the tests of the endorsement side; each function is named by the first argument."""

import time

from chaincode.shim.errors import ContractError
from chaincode.shim.policy import all_of, signed_by
from chaincode.shim.stub import Transaction

calls = 0


class Ledger:
    """Every call of the stub, one function each."""

    name = "ledger"
    version = "1.0"

    def invoke(self, tx: Transaction, /) -> bytes:
        function, *arguments = (argument.decode() for argument in tx.args)
        return getattr(self, function)(tx, *arguments)

    def empty(self, tx: Transaction) -> bytes:
        return b""

    def put(self, tx: Transaction, key: str, value: str) -> bytes:
        tx.put_state(key, value.encode())
        return b"stored"

    def fill(self, tx: Transaction, prefix: str, count: str) -> bytes:
        for number in range(int(count)):
            tx.put_state(f"{prefix}{number:04d}", b"%d" % number)
        return b""

    def get(self, tx: Transaction, key: str) -> bytes:
        return tx.get_state(key) or b"absent"

    def delete(self, tx: Transaction, key: str) -> bytes:
        tx.delete_state(key)
        return b""

    def move(self, tx: Transaction, *keys: str) -> bytes:
        """Five reads in one message and five writes in another: the measure of python-chaincode.md §3."""
        for key, value in zip(keys, tx.get_multiple_states(keys), strict=True):
            tx.put_state(key, (value or b"") + b"x")
        return b""

    def guard(self, tx: Transaction, key: str, msp_id: str) -> bytes:
        tx.set_state_validation_parameter(key, all_of(signed_by(msp_id)))
        return b""

    def announce(self, tx: Transaction, name: str) -> bytes:
        tx.set_event("first", b"")
        tx.set_event(name, b"payload")
        tx.put_state("announced", name.encode())
        return b""

    def refuse(self, tx: Transaction, status: str, message: str) -> bytes:
        tx.set_event("never", b"")
        raise ContractError(message, int(status))

    def who(self, tx: Transaction) -> bytes:
        tx.put_state("who", tx.peer_msp_id.encode())
        return tx.peer_msp_id.encode()

    def count(self, tx: Transaction) -> bytes:
        """A module's variable, as no contract may use it."""
        global calls
        calls += 1
        return str(calls).encode()

    def secret(self, tx: Transaction, collection: str, key: str) -> bytes:
        tx.put_private_data(collection, key, tx.transient["value"])
        return b""

    def reveal(self, tx: Transaction, collection: str, key: str) -> bytes:
        return tx.get_private_data(collection, key) or b"absent"

    def sleep(self, tx: Transaction, seconds: str) -> bytes:
        time.sleep(float(seconds))
        return tx.get_state("after") or b"absent"

    def call(self, tx: Transaction, name: str, channel: str, *arguments: str) -> bytes:
        tx.put_state("caller", b"1")
        answer = tx.invoke_chaincode(name, [argument.encode() for argument in arguments], channel)
        return f"{answer.status} {answer.message} ".encode() + answer.payload


ledger = Ledger()
other = Ledger()
no_program = object()
