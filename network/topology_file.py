"""The form of the topology file: its tables, what they resolve to, and how a resolved topology is written.

Every refusal is one sentence that begins with the key."""

import json
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from network.topology import (
    BatchSettings,
    ChaincodeSpec,
    Collection,
    Node,
    Organisation,
    Person,
    Rule,
    Topology,
    TopologyError,
)

SCHEMA: Final = 1
_PORTS_PER_ORGANISATION: Final = 100
# A second peer takes two further ports, because each peer also listens for its chaincodes on the port after its own.
_PEER_STRIDE: Final = 2
_PORT_MAX: Final = 65_535
# The channel configuration keeps these numbers in 32 bits.
_BATCH_MAX: Final = 2**32 - 1
# Fabric's own limit on channel names (common/configtx: lower case, digits, dots and dashes, up to 249).
_CHANNEL_NAME: Final = re.compile(r"[a-z][a-z0-9.-]{0,248}")
# Names become folders and certificate subjects; Fabric allows letters, digits, dots and dashes in group names.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED_PEOPLE: Final = ("admin", "service")


class _Struct(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of the file's tables: a key that is not known is an error."""


class _Channel(_Struct):
    name: str
    consensus: Literal["BFT", "etcdraft"] = "BFT"
    time_window_seconds: int = 60


class _Ports(_Struct):
    peer: int = 51
    chaincode: int | None = None
    orderer: int | None = None
    service: int | None = None
    orderer_admin: int | None = None
    orderer_operations: int | None = None
    peer_operations: int | None = None


class _Batch(_Struct):
    max_message_count: int
    absolute_max_bytes: int
    preferred_max_bytes: int
    interval_ms: int


class _Kind(_Struct):
    host: str
    port_base: int
    ports: _Ports
    batch: _Batch


class _Node(_Struct):
    name: str
    host: str | None = None
    port: int | None = None
    advertised: str | None = None
    chaincode_port: int | None = None
    admin_port: int | None = None
    operations_port: int | None = None


class _Person(_Struct):
    name: str
    user_id: str
    roles: tuple[str, ...] = ()
    use: Literal["work", "payment"] | None = None


class _Organisation(_Struct):
    name: str
    msp_id: str
    display_name: str | None = None
    member_id: str | None = None
    credit_code: str | None = None
    peers: tuple[_Node, ...] = ()
    orderers: tuple[_Node, ...] = ()
    people: tuple[_Person, ...] = ()


class _Collection(_Struct):
    name: str
    members: Any
    required_peer_count: int = 0
    maximum_peer_count: int = 0
    block_to_live: int = 0
    member_only_read: bool = False
    member_only_write: bool = False
    endorsement: Any = None


class _Chaincode(_Struct):
    name: str
    version: str
    program: str | None = None
    endorsement: Any = None
    services: dict[str, str] | None = None
    collections: tuple[_Collection, ...] = ()


class _File(_Struct):
    schema: int
    channel: _Channel
    kinds: dict[Literal["embedded", "fabric"], _Kind]
    organisations: tuple[_Organisation, ...]
    chaincodes: tuple[_Chaincode, ...] = ()
    founding: dict[str, Any] = {}


class _Refused(Exception):
    """A key and what is wrong with it; `load` adds the file."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")


def read(source: Path, port_base: int | None, kind: str | None) -> Topology:
    """The topology of a file, as `topology.load` says it. Raises TopologyError."""
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
        file = msgspec.convert(document, _File)
        return _Resolver(file, kind, port_base).topology()
    except OSError as error:
        raise TopologyError(f"{source}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TopologyError(f"{source}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise TopologyError(f"{source}: {_key_first(str(error))}") from error
    except _Refused as error:
        raise TopologyError(f"{source}: {error}") from error


def _key_first(text: str) -> str:
    """msgspec's "what - at `$.where`" turned round into "where: what"."""
    reason, found, place = text.partition(" - at `$")
    return f"{place.rstrip('`').lstrip('.') or 'file'}: {reason}" if found else f"file: {text}"


class _Resolver:
    """Turns the file's tables into values for one kind of network."""

    def __init__(self, file: _File, kind: str | None, port_base: int | None) -> None:
        self._file = file
        self.kind: str = kind or ("embedded" if "embedded" in file.kinds else next(iter(file.kinds), "embedded"))
        chosen = {str(name): settings for name, settings in file.kinds.items()}.get(self.kind)
        if chosen is None:
            raise _Refused(f"kinds.{self.kind}", "missing")
        self._settings = chosen
        self._base = chosen.port_base if not port_base else port_base
        self._shift = self._base - chosen.port_base
        self._free = port_base == 0
        self._names = tuple(organisation.name for organisation in file.organisations)

    def topology(self) -> Topology:
        self._check_settings()
        self._check_names()
        organisations = tuple(self._organisation(i, entry) for i, entry in enumerate(self._file.organisations))
        if not any(organisation.orderers for organisation in organisations):
            raise _Refused("organisations", "no organisation has an orderer")
        if not any(organisation.peers for organisation in organisations):
            raise _Refused("organisations", "no organisation has a peer")
        chaincodes = tuple(self._chaincode(i, entry) for i, entry in enumerate(self._file.chaincodes))
        batch = self._settings.batch
        resolved = Topology(
            kind=self.kind,
            port_base=self._base,
            channel=self._file.channel.name,
            consensus=self._file.channel.consensus,
            time_window_seconds=self._file.channel.time_window_seconds,
            batch=BatchSettings(
                batch.max_message_count, batch.absolute_max_bytes, batch.preferred_max_bytes, batch.interval_ms
            ),
            organisations=organisations,
            chaincodes=chaincodes,
            founding=self._file.founding,
        )
        if self._free:
            resolved = _with_free_ports(resolved)
        _check_ports(resolved)
        return resolved

    def _check_settings(self) -> None:
        if self._file.schema != SCHEMA:
            raise _Refused("schema", f"{self._file.schema} is not {SCHEMA}, the one this version reads")
        channel = self._file.channel
        if not _CHANNEL_NAME.fullmatch(channel.name):
            raise _Refused("channel.name", f"{channel.name!r} is no channel name (a-z first, then a-z 0-9 . -)")
        if channel.time_window_seconds <= 0:
            raise _Refused("channel.time_window_seconds", "must be above 0")
        key = f"kinds.{self.kind}.batch"
        batch = self._settings.batch
        for name in ("max_message_count", "absolute_max_bytes", "preferred_max_bytes", "interval_ms"):
            if not 0 < getattr(batch, name) <= _BATCH_MAX:
                raise _Refused(f"{key}.{name}", f"must be from 1 to {_BATCH_MAX}")
        if batch.preferred_max_bytes > batch.absolute_max_bytes:
            raise _Refused(f"{key}.preferred_max_bytes", "must not exceed absolute_max_bytes")

    def _check_names(self) -> None:
        if not self._file.organisations:
            raise _Refused("organisations", "at least one is needed")
        seen: dict[tuple[str, str], str] = {}
        for key, space, name in self._all_names():
            if not _NAME.fullmatch(name):
                raise _Refused(key, f"{name!r} is no name (letters, digits, dot, dash, underscore; up to 64)")
            if (space, name) in seen:
                raise _Refused(key, f"{name!r} stands already at {seen[space, name]}")
            seen[space, name] = key

    def _all_names(self) -> Iterator[tuple[str, str, str]]:
        """(key, the space in which it must be unique, name)"""
        for i, organisation in enumerate(self._file.organisations):
            at = f"organisations[{i}]"
            yield f"{at}.name", "organisation", organisation.name
            yield f"{at}.msp_id", "organisation", organisation.msp_id
            yield from ((f"{at}.peers[{n}].name", "node", node.name) for n, node in enumerate(organisation.peers))
            yield from ((f"{at}.orderers[{n}].name", "node", node.name) for n, node in enumerate(organisation.orderers))
            for n, person in enumerate(organisation.people):
                if person.name in _RESERVED_PEOPLE:
                    raise _Refused(f"{at}.people[{n}].name", f"{person.name!r} is made for every organisation anyway")
                yield f"{at}.people[{n}].name", at, person.name
        yield from ((f"chaincodes[{i}].name", "chaincode", c.name) for i, c in enumerate(self._file.chaincodes))

    def _port(self, key: str, explicit: int | None, offset: int | None, index: int, step: int = 0) -> int | None:
        """A node's port: its own moved by the shift, else base + 100 · organisation + offset + step, else None."""
        port = explicit + self._shift if explicit is not None else None
        if port is None and offset is not None:
            port = self._base + _PORTS_PER_ORGANISATION * index + offset + step
        if port is not None and not 0 < port <= _PORT_MAX:
            raise _Refused(key, f"port {port} is outside 1 to {_PORT_MAX}")
        return port

    def _node(self, key: str, entry: _Node, default: int | None, **ports: int | None) -> Node:
        host = entry.host or self._settings.host
        port = self._port(f"{key}.port", entry.port, None, 0) or default
        if port is None:
            raise _Refused(f"{key}.port", "missing, and the kind gives no offset to work it out")
        advertised = entry.advertised or f"{host}:{port}"
        _check_address(f"{key}.advertised", advertised)
        return Node(entry.name, host, port, advertised, **ports)

    def _organisation(self, index: int, entry: _Organisation) -> Organisation:
        at = f"organisations[{index}]"
        if not entry.peers and not entry.orderers:
            raise _Refused(at, f"{entry.name!r} has neither peers nor orderers")
        peers = tuple(self._peer(f"{at}.peers[{n}]", index, n, node) for n, node in enumerate(entry.peers))
        shared = peers[0].port if peers else None
        return Organisation(
            name=entry.name,
            msp_id=entry.msp_id,
            display_name=entry.display_name or entry.name,
            member_id=entry.member_id or f"M-{entry.msp_id.removesuffix('MSP').upper()}",
            credit_code=entry.credit_code,
            peers=peers,
            orderers=tuple(
                self._orderer(f"{at}.orderers[{n}]", index, n, node, shared) for n, node in enumerate(entry.orderers)
            ),
            people=tuple(Person(p.name, p.user_id, p.roles, p.use) for p in entry.people),
        )

    def _peer(self, key: str, index: int, n: int, entry: _Node) -> Node:
        ports, step = self._settings.ports, _PEER_STRIDE * n
        return self._node(
            key,
            entry,
            self._port(f"{key}.port", None, ports.peer, index, step),
            chaincode_port=self._port(f"{key}.chaincode_port", entry.chaincode_port, ports.chaincode, index, step),
            operations_port=self._port(
                f"{key}.operations_port", entry.operations_port, ports.peer_operations, index, n
            ),
        )

    def _orderer(self, key: str, index: int, n: int, entry: _Node, shared: int | None) -> Node:
        ports = self._settings.ports
        # Further orderers go below the first, because peers and their chaincodes take what is above it.
        own = self._port(f"{key}.port", None, ports.orderer, index, -n)
        admin, operations = ports.orderer_admin, ports.orderer_operations
        return self._node(
            key,
            entry,
            own if own is not None else shared,
            admin_port=self._port(f"{key}.admin_port", entry.admin_port, admin, index, n),
            operations_port=self._port(f"{key}.operations_port", entry.operations_port, operations, index, n),
        )

    def _chaincode(self, index: int, entry: _Chaincode) -> ChaincodeSpec:
        at = f"chaincodes[{index}]"
        if not entry.version:
            raise _Refused(f"{at}.version", "must not be empty")
        if entry.program is not None and not re.fullmatch(r"[\w.]+:\w+", entry.program):
            raise _Refused(f"{at}.program", f"{entry.program!r} is not module:attribute")
        for name, address in (entry.services or {}).items():
            if name not in self._names:
                raise _Refused(f"{at}.services.{name}", "no organisation of that name")
            _check_address(f"{at}.services.{name}", address)
        services = entry.services or self._services(index)
        if entry.program is None and not services:
            raise _Refused(at, f"{entry.name!r} needs a program or services")
        collections = tuple(self._collection(f"{at}.collections[{n}]", c) for n, c in enumerate(entry.collections))
        return ChaincodeSpec(
            name=entry.name,
            version=entry.version,
            endorsement=self._optional_rule(f"{at}.endorsement", entry.endorsement),
            program=entry.program,
            services=services,
            collections=collections,
        )

    def _services(self, index: int) -> dict[str, str] | None:
        """Where each organisation's process of the n-th chaincode listens, in kinds that run them as services."""
        offset, host = self._settings.ports.service, self._settings.host
        if offset is None:
            return None
        with_peers = [(i, entry) for i, entry in enumerate(self._file.organisations) if entry.peers]
        if self._free:
            with ExitStack() as held:
                return {entry.name: f"{host}:{_free_port(held, host)}" for _, entry in with_peers}
        return {
            entry.name: f"{host}:{self._port(f'chaincodes[{index}].services', None, offset, i, index)}"
            for i, entry in with_peers
        }

    def _collection(self, key: str, entry: _Collection) -> Collection:
        if not _NAME.fullmatch(entry.name):
            raise _Refused(f"{key}.name", f"{entry.name!r} is no name")
        return Collection(
            name=entry.name,
            members=self._rule(f"{key}.members", entry.members),
            required_peer_count=entry.required_peer_count,
            maximum_peer_count=entry.maximum_peer_count,
            block_to_live=entry.block_to_live,
            member_only_read=entry.member_only_read,
            member_only_write=entry.member_only_write,
            endorsement=self._optional_rule(f"{key}.endorsement", entry.endorsement),
        )

    def _optional_rule(self, key: str, value: Any) -> Rule | None:
        return None if value is None else self._rule(key, value)

    def _rule(self, key: str, value: Any) -> Rule:
        """`{all = […]}`, `{any = […]}` or `{n_of = 2, rules = […]}`; a name alone stands for itself."""
        if isinstance(value, str):
            return Rule(1, (self._organisation_name(key, value),))
        keys = sorted(value) if isinstance(value, dict) else []
        lists = {"all": "all", "any": "any", "n_of": "rules"}
        form = next((name for name in lists if name in keys), None)
        if form is None or keys != sorted({form, lists[form]}):
            raise _Refused(key, "expected a name, {all = […]}, {any = […]} or {n_of = N, rules = […]}")
        entries = value[lists[form]]
        if not isinstance(entries, list) or not entries:
            raise _Refused(f"{key}.{lists[form]}", "expected a list that is not empty")
        required = {"all": len(entries), "any": 1, "n_of": value.get("n_of")}[form]
        if not isinstance(required, int) or isinstance(required, bool) or not 0 < required <= len(entries):
            raise _Refused(f"{key}.n_of", f"must be a number from 1 to {len(entries)}")
        parts = tuple(self._part(f"{key}.{lists[form]}[{n}]", entry) for n, entry in enumerate(entries))
        return Rule(required, parts)

    def _part(self, key: str, value: Any) -> Rule | str:
        return self._organisation_name(key, value) if isinstance(value, str) else self._rule(key, value)

    def _organisation_name(self, key: str, name: str) -> str:
        if name not in self._names:
            raise _Refused(key, f"no organisation is called {name!r}")
        return name


def _listeners(topology: Topology) -> Iterator[tuple[str, str, int, str]]:
    """(key, host, port, who shares it) of every listener; an orderer may share its organisation's peer port."""
    for i, organisation in enumerate(topology.organisations):
        shared = organisation.peers[0].port if organisation.peers else None
        for group, nodes in (("peers", organisation.peers), ("orderers", organisation.orderers)):
            for n, node in enumerate(nodes):
                at = f"organisations[{i}].{group}[{n}]"
                is_shared = node.port == shared and (group == "orderers" or n == 0)
                yield f"{at}.port", node.host, node.port, f"peer of {i}" if is_shared else at
                for name in ("chaincode_port", "admin_port", "operations_port"):
                    port = getattr(node, name)
                    if port is not None:
                        yield f"{at}.{name}", node.host, port, f"{at}.{name}"


def _check_address(key: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= _PORT_MAX:
        raise _Refused(key, f"{address!r} is not host:port")


def _check_ports(topology: Topology) -> None:
    seen: dict[tuple[str, int], tuple[str, str]] = {}
    for key, host, port, sharer in _listeners(topology):
        first_key, first_sharer = seen.setdefault((host, port), (key, sharer))
        if first_sharer != sharer:
            raise _Refused(key, f"port {port} is taken by {first_key}")


def _with_free_ports(topology: Topology) -> Topology:
    """The same topology with every distinct port replaced by one that is free now; equal ports stay equal."""
    wanted = sorted({(host, port) for _, host, port, _ in _listeners(topology)})
    with ExitStack() as held:
        # All are held open together, so the system cannot give one of them twice.
        chosen = {place: _free_port(held, place[0]) for place in wanted}

    def moved(node: Node) -> Node:
        def port_of(port: int | None) -> int | None:
            return None if port is None else chosen[node.host, port]

        port = chosen[node.host, node.port]
        own = node.advertised == node.address
        return replace(
            node,
            port=port,
            advertised=f"{node.host}:{port}" if own else node.advertised,
            chaincode_port=port_of(node.chaincode_port),
            admin_port=port_of(node.admin_port),
            operations_port=port_of(node.operations_port),
        )

    organisations = tuple(
        replace(o, peers=tuple(map(moved, o.peers)), orderers=tuple(map(moved, o.orderers)))
        for o in topology.organisations
    )
    return replace(topology, organisations=organisations)


def _free_port(held: ExitStack, host: str) -> int:
    listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    listener.bind((host, 0))
    port: int = listener.getsockname()[1]
    return port


def text(topology: Topology) -> str:
    """The resolved topology in the form of the file, for its kind only."""
    return _render(_document(topology))


def _document(topology: Topology) -> dict[str, Any]:
    batch = topology.batch
    kind = {
        "host": "127.0.0.1",
        "port_base": topology.port_base,
        "ports": {},
        "batch": {name: getattr(batch, name) for name in BatchSettings.__slots__},
    }
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "channel": {
            "name": topology.channel,
            "consensus": topology.consensus,
            "time_window_seconds": topology.time_window_seconds,
        },
        "kinds": {topology.kind: kind},
    }
    if topology.founding:
        document["founding"] = dict(topology.founding)
    document["organisations"] = [_organisation_entry(organisation) for organisation in topology.organisations]
    document["chaincodes"] = [_chaincode_entry(chaincode) for chaincode in topology.chaincodes]
    return document


def _organisation_entry(organisation: Organisation) -> dict[str, Any]:
    nodes = {
        "peers": [_node_entry(node) for node in organisation.peers],
        "orderers": [_node_entry(node) for node in organisation.orderers],
    }
    return {**_set_fields(organisation), **nodes, "people": [_set_fields(person) for person in organisation.people]}


def _node_entry(node: Node) -> dict[str, Any]:
    entry = _set_fields(node)
    if node.advertised == node.address:
        # Left out, so that a moved port moves it too.
        del entry["advertised"]
    return entry


def _chaincode_entry(chaincode: ChaincodeSpec) -> dict[str, Any]:
    entry = _with_rules(chaincode)
    entry["collections"] = [_with_rules(collection) for collection in chaincode.collections]
    return entry


def _with_rules(value: Any) -> dict[str, Any]:
    fields = _set_fields(value)
    return {name: _rule_entry(field) if isinstance(field, Rule) else field for name, field in fields.items()}


def _set_fields(value: Any) -> dict[str, Any]:
    fields = ((name, getattr(value, name)) for name in type(value).__slots__)
    return {name: list(field) if isinstance(field, tuple) else field for name, field in fields if field is not None}


def _rule_entry(rule: Rule) -> dict[str, Any]:
    return {
        "n_of": rule.required,
        "rules": [_rule_entry(part) if isinstance(part, Rule) else part for part in rule.parts],
    }


def _render(document: Mapping[str, Any]) -> str:
    """TOML text of a document of scalars, tables and lists of tables; deeper values stand in line."""
    lines = [f"{name} = {_inline(value)}" for name, value in document.items() if not isinstance(value, dict | list)]
    for name, value in document.items():
        if isinstance(value, dict):
            lines += ["", f"[{name}]", *(f"{_key(k)} = {_inline(v)}" for k, v in value.items())]
        elif isinstance(value, list):
            for entry in value:
                lines += ["", f"[[{name}]]", *(f"{_key(k)} = {_inline(v)}" for k, v in entry.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_inline, value)) + "]"
    # TOML's basic strings, whole numbers and booleans are written as JSON writes them; other values print themselves.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool | int) else str(value)
