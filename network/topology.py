"""The topology: organisations, nodes, people, channel and chaincodes of one network, as frozen values.

`load` reads the TOML file, checks it, and works out every address for one kind of network (`embedded` or `fabric`); all
other modules of `network` take addresses, names and policies from here. A home keeps its own resolved copy (`save`), so
that a restart uses the same ports."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SHIPPED: Final = Path(__file__).with_name("topology.toml")


class TopologyError(Exception):
    """The topology file cannot be used; the text names the file, the key and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An endorsement expression: `required` of `parts`, each part an organisation's name or a further rule."""

    required: int
    parts: tuple["Rule | str", ...]

    def organisations(self) -> tuple[str, ...]:
        """The organisations named, each once, in order of first mention."""
        names = (name for part in self.parts for name in (part.organisations() if isinstance(part, Rule) else (part,)))
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Node:
    """A peer or an orderer and where it listens.

    `advertised` is the `host:port` that others are told (error details, channel configuration). The last three are
    ports on the same host, None where the kind of network has no such listener: a peer's chaincode listener, an
    orderer's admin interface, the operations interface."""

    name: str
    host: str
    port: int
    advertised: str
    chaincode_port: int | None = None
    admin_port: int | None = None
    operations_port: int | None = None

    @property
    def address(self) -> str:
        """`host:port` the node listens on."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who gets a key and certificate when the network is made: folder name, pseudonym, ledger roles, use.

    `use` is "work" or "payment" (ledger-conventions.md §6), or None for a certificate that does not say."""

    name: str
    user_id: str
    roles: tuple[str, ...] = ()
    use: str | None = None


@dataclass(frozen=True, slots=True)
class Organisation:
    """A member of the consortium. Its groups in the channel configuration are called by `msp_id`.

    `credit_code` is the company's unified social credit code, None where no contract asks for it."""

    name: str
    msp_id: str
    display_name: str
    member_id: str
    credit_code: str | None
    peers: tuple[Node, ...]
    orderers: tuple[Node, ...]
    people: tuple[Person, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A named private data collection (peer/collection.proto); an endorsement of None means the chaincode's own."""

    name: str
    members: Rule
    required_peer_count: int = 0
    maximum_peer_count: int = 0
    block_to_live: int = 0
    member_only_read: bool = False
    member_only_write: bool = False
    endorsement: Rule | None = None


@dataclass(frozen=True, slots=True)
class ChaincodeSpec:
    """A chaincode of the channel.

    `endorsement` None is the channel's default (MAJORITY). `program` is `module:attribute` for running in process;
    `services` maps organisation name to the `host:port` that its peer dials (chaincode as a service)."""

    name: str
    version: str
    endorsement: Rule | None = None
    program: str | None = None
    services: Mapping[str, str] | None = None
    collections: tuple[Collection, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """When a block is cut: transactions, bytes, and milliseconds since the first pending transaction."""

    max_message_count: int
    absolute_max_bytes: int
    preferred_max_bytes: int
    interval_ms: int


@dataclass(frozen=True, slots=True)
class Topology:
    """A checked topology with all addresses resolved for one kind of network.

    `founding` is handed to `member:found` unread; its meaning is the contract's."""

    kind: str
    port_base: int
    channel: str
    consensus: str
    time_window_seconds: int
    batch: BatchSettings
    organisations: tuple[Organisation, ...]
    chaincodes: tuple[ChaincodeSpec, ...]
    founding: Mapping[str, Any]

    @property
    def embedded(self) -> bool:
        """Whether certificates must say that one operator holds every key (embedded-network.md 0.8)."""
        return self.kind == "embedded"

    def organisation(self, name: str) -> Organisation:
        """The organisation of that name or that MSP id. KeyError when there is none."""
        for organisation in self.organisations:
            if name in (organisation.name, organisation.msp_id):
                return organisation
        raise KeyError(name)

    def chaincode(self, name: str) -> ChaincodeSpec:
        """The chaincode of that name. KeyError when there is none."""
        for chaincode in self.chaincodes:
            if chaincode.name == name:
                return chaincode
        raise KeyError(name)

    def orderers(self) -> tuple[tuple[Organisation, Node], ...]:
        """All orderers in consenter order: the first has consenter id 1."""
        return tuple((organisation, node) for organisation in self.organisations for node in organisation.orderers)

    def to_toml(self) -> str:
        """The resolved topology in the form of the topology file, for this kind only; `load` reads the same back."""
        # The file's form is built from the values in this module, so it is imported when it is asked for.
        from network.topology_file import text

        return text(self)

    def save(self, path: Path) -> None:
        """Write the resolved topology to path, replacing what is there in one step."""
        part = path.with_name(path.name + ".part")
        part.write_text(self.to_toml(), encoding="utf-8")
        part.replace(path)


def load(path: Path | None = None, port_base: int | None = None, *, kind: str | None = None) -> Topology:
    """The topology of a file, checked and resolved.

    path None is the shipped file. port_base moves every port by its difference to the file's base; 0 lets the system
    choose free ports, once (save the result to keep them). kind None is "embedded", or the file's only kind.
    Raises TopologyError, which names the key, for anything that cannot be used."""
    from network.topology_file import read

    return read(path or SHIPPED, port_base, kind)
