"""The documents: every example of the README runs, the reference is up to date, user code passes mypy's strict mode."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tallystick
from tallystick import testing

from network.embedded.network import EmbeddedNetwork
from network.founding import found
from network.topology import load

CLIENT = Path(__file__).resolve().parents[2] / "client"
README = (CLIENT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the network of `scripts/demo` in `.tallystick`, founded and running."""
    place = tmp_path_factory.mktemp("readme")
    home = place / ".tallystick"
    with EmbeddedNetwork.running(home, load(None, 0)) as network:
        found(home, network.topology, network.connection)
        yield place


def test_every_example_of_the_readme_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLES) >= 7
    monkeypatch.chdir(folder)
    for _ in range(2):  # whoever tries them does so more than once
        names: dict[str, object] = {"__name__": "readme"}
        for number, example in enumerate(EXAMPLES):
            exec(compile(example, f"README.md, example {number + 1}", "exec"), names)
    printed = capsys.readouterr().out
    assert '"items"' in printed
    assert "business_date" in printed


def test_the_first_example_has_fifteen_lines() -> None:
    assert len(EXAMPLES[0].strip().splitlines()) <= 15


def test_the_example_of_the_testing_module_runs(folder: Path) -> None:
    from .material import identity, private_key

    example = "\n".join(line[4:] for line in (testing.__doc__ or "").splitlines() if line.startswith("    "))
    names = {
        "StubGateway": testing.StubGateway,
        "connect": tallystick.fabric.connect,  # type: ignore[attr-defined]
        "identity": identity(),
        "signer": tallystick.fabric.signers.from_key(private_key()),  # type: ignore[attr-defined]
    }
    exec(example, names)


def test_the_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("reference", CLIENT / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (CLIENT / "REFERENCE.md").read_text() == module.reference(), "run python client/reference.py"


def test_the_readme_names_every_error_and_loader() -> None:
    from tallystick.fabric import errors

    for name in errors.__all__:
        if name.endswith("Error") and name not in ("FabricError", "GatewayError"):
            assert name in README, name


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(tallystick.__file__).parent / "py.typed").exists()
    text = (CLIENT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11,<3.15"' in text
    assert all((CLIENT / name).exists() for name in ("LICENSE", "NOTICE"))
    assert "hyperledger-fabric-protos" in (CLIENT / "NOTICE").read_text()


USER_CODE = """
import asyncio
from tallystick import aio
from tallystick.fabric import (
    Block, ChaincodeEvent, CommitError, EndorseError, FileCheckpointer, Identity, Retry, Status, Timeouts, channel,
    connect, signers,
)
from tallystick.testing import Endorsed, StubGateway


def pay(pem: bytes, key: bytes) -> bytes:
    timeouts = Timeouts(endorse=20)
    with channel("peer.bank.example:7051", tls_ca=pem) as ch:
        with connect(ch, Identity.x509("BankMSP", pem), signers.from_pem(key), timeouts=timeouts) as gateway:
            contract = gateway.network("scf").contract("trade", "voucher")
            try:
                result: bytes = contract.submit("issue", b"{}", transient={"price": b"9"}, retry=Retry.safe(2))
            except EndorseError as error:
                answer = error.contract_answer
                return b"" if answer is None else answer.message.encode()
            except CommitError as error:
                return error.code.name.encode()
            status: Status = contract.submit_async("sign_off", "V-1").status(timeout=30)
            return result if status.successful else b""


def follow(pem: bytes) -> None:
    with channel("peer:7051", tls_ca=pem) as ch, connect(ch, Identity.x509("BankMSP", pem)) as gateway:
        with FileCheckpointer("cp") as cp, gateway.network("scf").block_events(checkpoint=cp) as blocks:
            for block in blocks:
                seen: Block = block
                cp.checkpoint_block(seen.number)


async def listen(pem: bytes) -> ChaincodeEvent:
    async def sign(digest: bytes) -> bytes:
        return await asyncio.sleep(0, digest)

    async with aio.channel("peer:7051", tls_ca=pem) as ch:
        async with aio.connect(ch, Identity.x509("BankMSP", pem), sign) as gateway:
            async with gateway.network("scf").chaincode_events("trade") as events:
                async for event in events:
                    return event
    raise LookupError


def test() -> None:
    with StubGateway() as stub:
        stub.endorse.answer(Endorsed(b"done"))
        arguments: tuple[bytes, ...] = stub.endorse.requests[0].arguments
        print(arguments)
"""


def test_user_code_passes_strict_type_checking(tmp_path: Path) -> None:
    """So do the README's examples, one after the other in one file."""
    (tmp_path / "user.py").write_text(USER_CODE)
    (tmp_path / "readme.py").write_text("\n".join(EXAMPLES))
    wrong = USER_CODE.replace("result: bytes = contract", "result: str = contract").replace(
        "asyncio.sleep(0, digest)", "1"
    )
    (tmp_path / "wrong.py").write_text(wrong)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", "--cache-dir"]
    command += [
        str(tmp_path / "cache"),
        "--config-file=",
        *(str(tmp_path / name) for name in ("user.py", "readme.py", "wrong.py")),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    found = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line for line in found if not line.startswith("wrong.py")] == [], done.stdout + done.stderr
    assert any("[assignment]" in line for line in found)
