"""Golden files of events and records: ``python -m tests.chaincode.contract.golden`` writes them anew, for review.

Transaction ids are replaced, since test certificates are signed anew in each run.
"""

import json
from pathlib import Path
from typing import Any

from tests.chaincode.contract.scene import Scene, chaincode_of, described
from tests.chaincode.contract.scenes import SCENES

GOLDEN = Path(__file__).parents[2] / "golden"


def envelope_of(scene: Scene) -> dict[str, Any]:
    """The event of a scene's valid call, empty for a reading one; its transaction id is written as 64 zeros."""
    world, call = scene.open()
    chaincode = chaincode_of(scene)
    if described(scene)["event"] is None:
        return {}
    input = {"request_id": "GOLDEN", **call.input}
    world.do(scene.transaction, call.by, chaincode=chaincode, transient=call.transient, **input)
    text = json.dumps(world.event())
    for identifier in world.transaction_ids:
        text = text.replace(identifier, "0" * 64)
    return json.loads(text)  # type: ignore[no-any-return]


def events() -> dict[str, dict[str, Any]]:
    """Event name → chaincode and transaction → envelope."""
    found: dict[str, dict[str, Any]] = {}
    for scene in SCENES:
        envelope = envelope_of(scene)
        if envelope:
            label = f"{chaincode_of(scene)} {scene.transaction}"
            found.setdefault(envelope["changes"][0]["event"], {})[label] = envelope
    return found


def records(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Word and schema → the first record of it in the events."""
    kept: dict[str, dict[str, Any]] = {}
    for envelopes in found.values():
        for envelope in envelopes.values():
            for change in envelope["changes"]:
                kept.setdefault(f"{change['word']}.{change['record']['schema']}", change["record"])
    return kept


def text_of(value: Any) -> str:
    """JSON that reads well in a review."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write() -> None:
    """Write all golden files; files of older schemas stay."""
    found = events()
    for folder, values in (("events", found), ("records", records(found))):
        (GOLDEN / folder).mkdir(exist_ok=True)
        for name, value in values.items():
            (GOLDEN / folder / f"{name}.json").write_text(text_of(value), "utf-8")


if __name__ == "__main__":
    write()
