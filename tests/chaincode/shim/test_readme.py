"""The README's example runs, and its list of reasons is the code's."""

import re
from pathlib import Path
from typing import Any

import chaincode.shim
from chaincode.shim import keys, lint
from chaincode.shim.execute import execute
from chaincode.shim.testing.exchange import StateExchange, response, transaction

FOLDER = Path(chaincode.shim.__file__).parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")
IMPORTS = """
import itertools
from collections.abc import Sequence
import msgspec
from chaincode.shim import canonical
from chaincode.shim.contract import Chaincode, Contract, Transaction, query, submit
from chaincode.shim.errors import ContractError
from chaincode.shim.policy import all_of, any_of

class Voucher(msgspec.Struct, frozen=True, kw_only=True):
    voucher_id: str
    amount_minor: int
    holder: str

"""


def test_the_example_runs_and_passes_the_determinism_check() -> None:
    match = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert match is not None
    source = IMPORTS + match[1]
    assert lint.check_source(source) == []
    names: dict[str, Any] = {"__name__": "readme_example"}
    exec(compile(source, "README.md", "exec"), names)
    exchange = StateExchange()
    issue = transaction("voucher:issue", b'{"voucher_id":"V-1","amount_minor":5}')
    done = execute(names["chaincode"], issue, exchange, msp_id="Org1MSP")
    assert response(done).payload == b'{"amount_minor":5,"holder":"Org1MSP","voucher_id":"V-1"}'
    exchange.apply()
    again = execute(names["chaincode"], issue, exchange, msp_id="Org1MSP")
    assert (response(again).status, response(again).message) == (409, "CONFLICT voucher_exists: V-1 is taken.")
    listed = execute(names["chaincode"], transaction("voucher:list", ""), exchange, msp_id="Org1MSP")
    assert keys.composite("voucher", ["V-1"]).replace("\x00", "\\u0000") in response(listed).payload.decode()


def test_every_reason_of_the_shim_is_in_the_readme() -> None:
    sources = "".join(file.read_text(encoding="utf-8") for file in FOLDER.glob("*.py"))
    reasons = set(re.findall(r"\b(?:INVALID|INTERNAL) ([a-z_]+):", sources))
    assert len(reasons) > 10
    paragraph = README.split("Every message of a fault", 1)[1].split("\n\n", 1)[0]
    assert reasons - {"reason"} == set(re.findall(r"\b([a-z]+(?:_[a-z]+)*)`", paragraph)) - {"sentence"}
