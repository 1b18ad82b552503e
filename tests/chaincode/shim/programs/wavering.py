"""A chaincode with one honest transaction and one for each way to differ between processes."""

import os
import time

from chaincode.shim.contract import Chaincode, Contract, Transaction, query, submit
from chaincode.shim.errors import ContractError

# So many that no two hash seeds put them in one order by luck.
NAMES = "core warehouse logistics bank supplier carrier auditor keeper"


class Wavering(Contract, name="wavering"):
    @submit
    def honest(self, tx: Transaction, key: str) -> str:
        tx.get_multiple_states([key, "other"])
        with tx.get_state_by_range("", "") as rows:
            count = len(list(rows))
        tx.put_state(key, str(count).encode())
        tx.set_event("honest", key.encode())
        print("a stray line")
        return tx.peer_msp_id

    @submit
    def set_order(self, tx: Transaction) -> None:
        for name in set(NAMES.split()):
            tx.put_state(name, b"v")

    @query
    def read_order(self, tx: Transaction) -> None:
        for name in set(NAMES.split()):
            tx.get_state(name)

    @query
    def hashed(self, tx: Transaction) -> int:
        return hash(NAMES) % 1_000_003

    @submit
    def event_order(self, tx: Transaction) -> None:
        tx.set_event(",".join(set(NAMES.split())), b"")

    @query
    def zone(self, tx: Transaction) -> str:
        return time.strftime("%H:%M", time.localtime(tx.timestamp.seconds))

    @query
    def environment(self, tx: Transaction) -> str:
        return os.environ.get("PYTHONHASHSEED", "")

    @query
    def refused(self, tx: Transaction) -> None:
        raise ContractError("CONFLICT busy: " + ",".join(set(NAMES.split())), 409)

    @query
    def late(self, tx: Transaction) -> str:
        return "x" * 1_000 + f"{hash(NAMES) % 1_000_003:07}"

    @submit
    def calls(self, tx: Transaction) -> None:
        tx.invoke_chaincode("wavering", [b"hashed"])

    @query
    def crash(self, tx: Transaction) -> None:
        if os.environ.get("PYTHONHASHSEED") == "2":
            os._exit(3)


chaincode = Chaincode("wavering", "1", [Wavering])
