"""A chaincode whose transactions wait until the test lets them go."""

import threading

from chaincode.shim.contract import Chaincode, Contract, Transaction, query, submit

gate = threading.Event()


class Slow(Contract, name="slow"):
    @query
    def wait(self, tx: Transaction) -> str:
        gate.wait(20)
        return "done"

    @submit
    def copy(self, tx: Transaction, source: str, target: str) -> bytes:
        value = tx.get_state(source) or b""
        tx.put_state(target, value)
        tx.set_event("copied", target.encode())
        return value

    @query
    def large(self, tx: Transaction, size: int) -> bytes:
        return (tx.get_state("large") or b"") + bytes(size)

    @query
    def organisation(self, tx: Transaction) -> str:
        return tx.peer_msp_id


chaincode = Chaincode("slow", "1", [Slow])
