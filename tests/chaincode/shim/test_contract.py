"""Dispatch by name, typed arguments and results, metadata in Fabric's form."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaincode.shim import metadata
from chaincode.shim.contract import Chaincode, Contract, Transaction, TransactionFunction, query, submit
from chaincode.shim.errors import ContractError
from chaincode.shim.execute import execute
from chaincode.shim.stub import Limits, Mode
from chaincode.shim.testing.exchange import StateExchange, response, transaction


class Issue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an issue needs."""

    voucher_id: str
    amount_minor: int
    parts: tuple["Part", ...] = ()


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    amount_minor: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    voucher_id: str


class VoucherContract(Contract, name="voucher"):
    def __init__(self) -> None:
        self.calls = 0

    @submit(extension={"x-tallystick": {"roles": ["operator"]}})
    def issue(self, tx: Transaction, input: Issue) -> Receipt:
        """Issue a voucher.

        Who: an operator.
        """
        self.calls += 1
        assert self.calls == 1
        tx.put_state(input.voucher_id, b"v")
        tx.set_event("voucher.issued", b"{}")
        return Receipt(voucher_id=input.voucher_id)

    @query
    def get(self, tx: Transaction, voucher_id: str) -> bytes:
        return tx.get_state(voucher_id) or b""

    @query
    def writes(self, tx: Transaction) -> None:
        tx.put_state("k", b"v")

    def hidden(self, tx: Transaction) -> None:
        """Not marked, so not reachable."""


class PlainContract(Contract):
    @submit
    def several(self, tx: Transaction, text: str, number: int, flag: bool, raw: bytes, names: list[str]) -> str:
        return f"{text},{number + 1},{not flag},{len(raw)},{'+'.join(names)}"

    @query
    def number(self, tx: Transaction) -> int:
        return 7

    @query
    def flag(self, tx: Transaction) -> bool:
        return True

    @query
    def mapping(self, tx: Transaction) -> Mapping[str, int]:
        return {"b": 1, "a": 2}

    @query
    def nothing(self, tx: Transaction) -> None:
        return None

    @query
    def half(self, tx: Transaction) -> Sequence[int]:
        return [0.5]  # type: ignore[list-item]


CHAINCODE = Chaincode("trade", "1.2", [VoucherContract, PlainContract], title="Trade", description="Vouchers")


def call(function: str, *args: bytes | str, chaincode: Chaincode = CHAINCODE, limits: Limits | None = None) -> Any:
    done = execute(
        chaincode,
        transaction(function, *args),
        StateExchange({("", "V-1"): b"v"}),
        msp_id="m",
        limits=limits or Limits(),
    )
    return response(done)


def test_a_transaction_is_found_by_contract_and_method_name() -> None:
    answer = call("voucher:issue", b'{"amount_minor":1,"voucher_id":"V-2"}')
    assert (answer.status, answer.payload) == (200, b'{"voucher_id":"V-2"}')


def test_without_a_contract_name_the_first_contract_answers() -> None:
    assert call("get", "V-1").payload == b"v"


def test_every_transaction_has_a_fresh_contract_object() -> None:
    assert [call("voucher:issue", b'{"amount_minor":1,"voucher_id":"V-2"}').status for _ in range(3)] == [200] * 3


def test_plain_arguments_and_results() -> None:
    assert (
        call("PlainContract:several", "钢", "-5", "false", b"\xff\x00", '["a","b"]').payload
        == "钢,-4,True,2,a+b".encode()
    )
    results = {name: call(f"PlainContract:{name}").payload for name in ("number", "flag", "mapping", "nothing")}
    assert results == {"number": b"7", "flag": b"true", "mapping": b'{"a":2,"b":1}', "nothing": b""}


@pytest.mark.parametrize(
    "name",
    [
        *("", ":", "voucher:", ":issue", "voucher:issue ", "voucher:voucher:issue", "Voucher:issue", "other:issue"),
        *("voucher:hidden", "voucher:__init__", "voucher:calls", "transactions", "org.hyperledger.fabric:Other"),
    ],
)
def test_an_unknown_name_is_refused(name: str) -> None:
    answer = call(name, b"{}")
    assert answer.status == 400
    assert answer.message.startswith("INVALID unknown_transaction: ")


def test_a_name_that_is_no_text_is_refused() -> None:
    message = transaction("f")
    message.payload = b"\x0a\x02\xff\xff"
    answer = response(execute(CHAINCODE, message, StateExchange(), msp_id="m"))
    assert answer.message.startswith("INVALID unknown_transaction")
    message.payload = b""
    answer = response(execute(CHAINCODE, message, StateExchange(), msp_id="m"))
    assert answer.message.startswith("INVALID argument_count")


@pytest.mark.parametrize("args", [(), (b"{}", b"{}")])
def test_another_number_of_arguments_is_refused(args: tuple[bytes, ...]) -> None:
    answer = call("voucher:issue", *args)
    assert (answer.status, answer.message) == (
        400,
        f"INVALID argument_count: issue takes 1 arguments, not {len(args)}",
    )


GOOD = ("text", "5", "true", b"raw", "[]")


@pytest.mark.parametrize(
    ("position", "value", "sentence"),
    [
        (0, b"\xff", "text: must be UTF-8 text"),
        *[
            (1, value, "number: must be a whole number in decimal digits")
            for value in ("", "-", "1.0", "01", "-0", "+1", " 1", "1_000", "٣", "²", "1e3", "1" * 19, "0x1", "1\n")
        ],
        *[(2, value, "flag: must be true or false") for value in ("", "True", "1", "yes", "false ")],
        (4, '["a",1]', "names: $[1] must be str, not int"),
        (4, '{"a":1,"a":1}', "names: the value must be array, not object"),
        (4, "", "names: not valid JSON"),
    ],
)
def test_an_argument_of_another_type_is_refused(position: int, value: bytes | str, sentence: str) -> None:
    args = [*GOOD[:position], value, *GOOD[position + 1 :]]
    answer = call("PlainContract:several", *args)
    assert (answer.status, answer.message) == (400, f"INVALID input_malformed: {sentence}")


@given(st.binary(max_size=40))
def test_any_bytes_as_input_are_answered(data: bytes) -> None:
    assert call("voucher:issue", data).status == 400


def test_an_argument_has_a_largest_size() -> None:
    answer = call("voucher:get", b"x" * 11, limits=Limits(argument_bytes=10))
    assert answer.message == "INVALID argument_too_large: voucher_id is larger than 10 bytes"


def test_a_query_cannot_write() -> None:
    answer = call("voucher:writes")
    assert (answer.status, answer.message) == (500, "INTERNAL stub_refused: a query writes nothing")


def test_a_result_without_canonical_form_is_a_fault() -> None:
    assert call("PlainContract:half").message == "INTERNAL unexpected: CanonicalError"


def declare(annotation: Any) -> None:
    def method(self: Any, tx: Transaction, value: Any) -> None: ...

    method.__annotations__["value"] = annotation
    type("Declared", (Contract,), {"method": submit(method)})


class Floating(msgspec.Struct):
    inner: "list[dict[str, Inner]]"


class Inner(msgspec.Struct):
    amount: int | float
    parent: "Inner | None" = None


@pytest.mark.parametrize(
    "annotation", [float, Floating, list[float], set[str], frozenset[int], Any, dict, tuple[Any, ...]]
)
def test_a_type_that_lets_floats_or_sets_in_is_refused_at_loading(annotation: Any) -> None:
    with pytest.raises(TypeError, match="a transaction takes no"):
        declare(annotation)


def test_parameters_must_be_typed_and_without_default() -> None:
    def untyped(self, tx, value): ...  # type: ignore[no-untyped-def]

    def default(self: Any, tx: Transaction, value: str = "") -> None: ...

    def anything(self: Any, tx: Transaction, *values: str) -> None: ...

    for method, words in ((untyped, "no type"), (default, "without default"), (anything, "plain")):
        with pytest.raises(TypeError, match=words):
            type("Declared", (Contract,), {"method": submit(method)})


def test_wrapped_methods_keep_their_types() -> None:
    def around(method: Any) -> Any:
        @functools.wraps(method)
        def wrapper(self: Any, tx: Transaction, input: Any) -> Any:
            return method(self, tx, input)

        return wrapper

    class Wrapped(Contract):
        @submit
        @around
        def issue(self, tx: Transaction, input: Issue) -> str:
            return input.voucher_id

    answer = call("issue", b'{"amount_minor":1,"voucher_id":"V-2"}', chaincode=Chaincode("w", "1", [Wrapped]))
    assert answer.payload == b"V-2"


def test_a_contract_inherits_and_hides_transactions() -> None:
    class Base(Contract):
        @query
        def first(self, tx: Transaction) -> str:
            return "first"

        @query
        def second(self, tx: Transaction) -> str:
            return "second"

    class Derived(Base, name="derived"):
        def second(self, tx: Transaction) -> str:
            return "hidden"

    assert list(Derived.transactions) == ["first"]
    assert call("derived:first", chaincode=Chaincode("c", "1", [Derived])).payload == b"first"


def test_contracts_of_one_chaincode_have_names_of_their_own() -> None:
    with pytest.raises(TypeError, match="a name of its own"):
        Chaincode("c", "1", [VoucherContract, VoucherContract])
    with pytest.raises(TypeError, match="at least one"):
        Chaincode("c", "1", [])
    with pytest.raises(TypeError, match="colon"):
        type("Bad", (Contract,), {}, name="a:b")


def test_an_extension_key_begins_with_x() -> None:
    with pytest.raises(TypeError, match="x-"):
        submit(extension={"tallystick": 1})


def test_a_chaincode_may_word_its_own_refusals() -> None:
    class Worded(Chaincode):
        def unknown_transaction(self, name: str) -> ContractError:
            return ContractError(f"no {name}", 500)

        def wrong_argument_count(self, function: TransactionFunction, count: int) -> ContractError:
            return ContractError(f"{count} for {function.name}", 500)

    chaincode = Worded("c", "1", [VoucherContract])
    assert call("nowhere", chaincode=chaincode).message == "no nowhere"
    assert call("issue", chaincode=chaincode).message == "0 for issue"


# -- metadata ---------------------------------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    answer = call("org.hyperledger.fabric:GetMetadata")
    assert answer.status == 200
    return dict(json.loads(answer.payload))


def test_metadata_describes_every_transaction() -> None:
    found = document()
    voucher = found["contracts"]["voucher"]
    assert found["info"] == {"title": "Trade", "version": "1.2", "description": "Vouchers"}
    assert voucher["contractInstance"] == {"name": "voucher", "default": True}
    assert found["contracts"]["PlainContract"]["contractInstance"]["default"] is False
    assert voucher["transactions"][0] == {
        "name": "issue",
        "tag": ["SUBMIT", "submitTx"],
        "parameters": [{"name": "input", "required": True, "schema": {"$ref": "#/components/schemas/Issue"}}],
        "returns": {"$ref": "#/components/schemas/Receipt"},
        "description": "Issue a voucher.\n\nWho: an operator.",
        "x-tallystick": {"roles": ["operator"]},
    }
    assert [transaction["name"] for transaction in voucher["transactions"]] == ["issue", "get", "writes"]
    assert voucher["transactions"][1]["tag"] == ["EVALUATE", "evaluateTx"]
    assert "returns" not in voucher["transactions"][2]
    plain = {entry["name"]: entry for entry in found["contracts"]["PlainContract"]["transactions"]}
    assert [parameter["schema"]["type"] for parameter in plain["several"]["parameters"]] == [
        "string",
        "integer",
        "boolean",
        "string",
        "array",
    ]


def test_metadata_components_are_the_structs() -> None:
    schemas = document()["components"]["schemas"]
    assert set(schemas) == {"Issue", "Part", "Receipt"}
    assert schemas["Issue"]["$id"] == "Issue"
    assert schemas["Issue"]["additionalProperties"] is False
    assert schemas["Issue"]["required"] == ["voucher_id", "amount_minor"]
    assert schemas["Issue"]["properties"]["parts"]["items"] == {"$ref": "#/components/schemas/Part"}


def test_metadata_has_the_form_of_fabrics_schema() -> None:
    """The `required` members and closed objects of contract-schema.json (fabric-contract-api)."""
    found = document()
    assert {"info", "contracts"} <= set(found)
    assert {"title", "version"} <= set(found["info"])
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)))
    assert references <= set(found["components"]["schemas"])
    for name, contract in found["contracts"].items():
        assert contract["name"] == name
        for entry in contract["transactions"]:
            assert set(entry) - {"name", "tag", "parameters", "returns", "description"} <= {"x-tallystick"}
            for parameter in entry["parameters"]:
                assert set(parameter) <= {"name", "description", "required", "schema"}


def test_metadata_is_the_same_bytes_each_time() -> None:
    again = Chaincode("trade", "1.2", [VoucherContract, PlainContract], title="Trade", description="Vouchers")
    assert again.metadata() == CHAINCODE.metadata()


def test_build_info_names_what_must_be_equal() -> None:
    info = msgspec.json.decode(call("org.hyperledger.fabric:BuildInfo").payload, type=metadata.BuildInfo)
    assert (info.chaincode, info.version, info.shim) == ("trade", "1.2", metadata.SHIM_VERSION)
    assert re.fullmatch(r"[0-9a-f]{64}", info.code_digest)
    assert info.python.startswith("CPython 3.")


def test_the_code_digest_depends_on_names_and_content_not_on_the_place(tmp_path: Path) -> None:
    digests = []
    for place, content in (("a", "x = 1\n"), ("b", "x = 1\n"), ("c", "x = 2\n")):
        package = tmp_path / place / "package"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "module.py").write_text(content)
        (package / "notes.txt").write_text(place)
        digests.append(metadata.code_digest([package]))
    assert digests[0] == digests[1] != digests[2]


def test_the_mode_is_set_before_the_method_runs() -> None:
    seen: list[Mode] = []

    class Modes(Contract):
        @query
        def reads(self, tx: Transaction) -> None:
            seen.append(tx.mode)

        @submit
        def writes(self, tx: Transaction) -> None:
            seen.append(tx.mode)

    chaincode = Chaincode("c", "1", [Modes])
    call("reads", chaincode=chaincode)
    call("writes", chaincode=chaincode)
    assert seen == [Mode.QUERY, Mode.SUBMIT]
