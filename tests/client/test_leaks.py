"""Ten thousand event streams on the embedded network, opened and cancelled, leave nothing on either side."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import AsyncGeneratorType
from typing import Any

import pytest

from network.embedded.network import EmbeddedNetwork

from . import networks
from .conftest import eventually
from .sides import Side

STREAMS = 5_000
"""Of each interface, so ten thousand; the peer lets 500 of its gateway service stand open at once."""
WARM_UP = 500
GROWTH_MB_MAX = 16.0
"""Of the process that holds both sides; a kilobyte and a half per stream would be more."""
SERVER_CODE = os.sep + os.path.join("network", "embedded") + os.sep


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNetwork]:
    """A network of this module's own: other tests' streams must not count."""
    with networks.running("embedded", tmp_path_factory.mktemp("leaks")) as network:
        assert isinstance(network, EmbeddedNetwork)
        yield network


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files and memory in /proc, as Linux has it")
def test_opened_and_cancelled_streams_leak_nothing_on_either_side(side: Side, embedded: EmbeddedNetwork) -> None:
    place = networks.Place(embedded, "core")
    channel = side.channel(place.target, tls_ca=place.tls_ca)
    gateway = side.connect(channel, *place.person("user"))
    network = gateway.network("scf")
    contract = network.contract("basic")
    contract.submit("emit", "event", "payload")
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: network.chaincode_events("basic", start_block=0),
        lambda: network.block_events(start_block=0),
        lambda: network.filtered_block_events(start_block=0),
        lambda: network.block_and_private_data_events(start_block=0),
        lambda: network.block_events(),
        lambda: network.chaincode_events("basic", start_block=2**40),
    )

    def open_and_cancel(count: int) -> None:
        for number in range(count):
            kind = number % len(kinds)
            with kinds[kind]() as events:
                if kind < 4:  # the others have nothing to give
                    next(events)

    open_and_cancel(WARM_UP)
    assert eventually(lambda: _open_at(embedded) == 0, 20)
    before, memory = _counts(), _memory_mb()
    open_and_cancel(STREAMS)
    assert eventually(lambda: _open_at(embedded) == 0, 20), "slots of the peer"
    assert (channel.open_streams, len(gateway._settings.edge.streams)) == (0, 0)
    assert eventually(lambda: _counts() <= before, 20), (_counts(), before)
    assert _memory_mb() - memory < GROWTH_MB_MAX
    assert contract.evaluate("who") == b"CoreMSP"


def _open_at(network: EmbeddedNetwork) -> int:
    """Calls and streams that hold a slot of any peer."""
    return sum(limit.open for server in network.servers.values() for limit in server.limits.values())


class _Counts(dict[str, int]):
    """What could pile up; at most as much as before, some pools' last threads and connections aside."""

    SPARE = 20

    def __le__(self, other: "_Counts") -> bool:
        return all(value <= other[name] + self.SPARE for name, value in self.items())


def _counts() -> _Counts:
    gc.collect()
    living = gc.get_objects()
    ours = ("tallystick.fabric.events", "tallystick.aio.events")
    return _Counts(
        threads=threading.active_count(),
        files=len(os.listdir("/proc/self/fd")),
        client_streams=sum(getattr(type(each), "__module__", None) in ours for each in living),
        server_streams=sum(
            isinstance(each, AsyncGeneratorType) and SERVER_CODE in each.ag_code.co_filename for each in living
        ),
        tasks=sum(type(each).__name__ == "Task" for each in living),
    )


def _memory_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
