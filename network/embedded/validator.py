"""Is each transaction of a block well formed, signed by its creator, new, and endorsed by its policies?

These checks see the state before the block. They are written as Fabric orders them; `Candidate` holds what decoding
found, so that the order of the verdicts does not depend on the order of the work. Signatures are verified ahead in two
threads (OpenSSL runs without the interpreter lock) and found in the manager's cache by the checks.

Source: embedded-network.md D.1 rows 1-15, D.3; Fabric core/common/validation, core/committer/txvalidator/v20.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from fabric_protos.common import common_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from google.protobuf.message import DecodeError

from network.embedded import lifecycle
from network.embedded.lifecycle import Definition, LifecycleError
from network.embedded.msp import Identity, IdentityError
from network.embedded.mvcc import BlockView
from network.embedded.policy import Policy, PolicyError, SignedData
from network.embedded.rwset import NamespaceSet, RwSetError, decode_metadata, parse

Code = transaction_pb2.TxValidationCode
VALIDATION_PARAMETER = "VALIDATION_PARAMETER"
PARALLEL_FROM = 8  # signatures below which handing half of them to another thread costs more than it saves

_ENDORSER = common_pb2.HeaderType.ENDORSER_TRANSACTION
_CONFIG = common_pb2.HeaderType.CONFIG
_KNOWN_TYPES = frozenset({_ENDORSER, _CONFIG, common_pb2.HeaderType.CONFIG_UPDATE})


class Msps(Protocol):
    """What validation needs of the identity manager (network.embedded.msp.MspManager)."""

    def identity(self, serialized: bytes) -> Identity: ...
    def verify(self, identity: Identity, message: bytes, signature: bytes) -> bool: ...


class Policies(Protocol):
    """What validation needs of the policy manager (network.embedded.policy.PolicyManager)."""

    def signature_policy(self, data: bytes) -> Policy: ...
    def application_policy(self, data: bytes) -> Policy: ...


Definitions = Callable[[Callable[[str, str], bytes | None], str], Definition | None]


class Rejected(Exception):
    """A check failed; `code` is the transaction's validation code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(slots=True)
class Candidate:
    """One transaction of a block on its way to a verdict.

    `code` is the verdict so far. `malformed` is what decoding found wrong before the signature check, `ill_formed`
    after it and before the look for duplicates, `unusable` after that look: the verdicts keep this order.
    """

    transaction_id: str = ""
    code: int = Code.VALID
    malformed: Rejected | None = None
    ill_formed: Rejected | None = None
    unusable: Rejected | None = None
    creator: bytes = b""
    payload: bytes = b""
    signature: bytes = b""
    channel: str = ""
    chaincode: str = ""
    sets: tuple[NamespaceSet, ...] = ()
    endorsements: tuple[SignedData, ...] = ()
    reason: str = ""

    def reject(self, code: int, reason: str) -> None:
        """Give the final verdict."""
        self.code = code
        self.reason = reason


class Validator:
    """Judges blocks by channel, identities, policies and chaincode definitions.

    `definitions(get_state, name)` finds a committed chaincode definition; `groups` maps MSP ids to the groups of the
    channel configuration.
    """

    def __init__(
        self, channel: str, policies: Policies, msps: Msps, definitions: Definitions, groups: Mapping[str, str]
    ) -> None:
        self._channel = channel
        self._policies = policies
        self._msps = msps
        self._definitions = definitions
        self._groups = groups
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="verify")

    def validate(self, envelopes: Sequence[bytes], view: BlockView) -> list[Candidate]:
        """One candidate per envelope, each with its code of rows 1 to 16; `sets` is usable where it is VALID."""
        candidates = [decode(data) for data in envelopes]
        self._verify_ahead(candidates)
        block = _BlockPolicies(self._policies, self._definitions, self._groups, view)
        seen: set[str] = set()
        for candidate in candidates:
            try:
                self._check(candidate, view)
                block.check(candidate)
            except Rejected as rejected:
                candidate.reject(rejected.code, str(rejected))
        for candidate in candidates:
            if candidate.code == Code.VALID:
                if candidate.transaction_id in seen:
                    candidate.reject(Code.DUPLICATE_TXID, "transaction id stands earlier in this block")
                seen.add(candidate.transaction_id)
        return candidates

    def close(self) -> None:
        """End the verifying thread."""
        self._pool.shutdown()

    def _check(self, candidate: Candidate, view: BlockView) -> None:
        if candidate.malformed is not None:
            raise candidate.malformed
        self._check_creator(candidate)
        if candidate.ill_formed is not None:
            raise candidate.ill_formed
        if view.reader.entry(candidate.transaction_id) is not None:
            raise Rejected(Code.DUPLICATE_TXID, "transaction id is in the ledger")
        if candidate.unusable is not None:
            raise candidate.unusable

    def _check_creator(self, candidate: Candidate) -> None:
        if candidate.channel != self._channel:
            raise Rejected(Code.BAD_CREATOR_SIGNATURE, f"channel {candidate.channel!r} is not ours")
        try:
            identity = self._msps.identity(candidate.creator)
        except IdentityError as error:
            raise Rejected(Code.BAD_CREATOR_SIGNATURE, str(error)) from error
        if not self._msps.verify(identity, candidate.payload, candidate.signature):
            raise Rejected(Code.BAD_CREATOR_SIGNATURE, "the creator's signature does not verify")

    def _verify_ahead(self, candidates: Sequence[Candidate]) -> None:
        """Verify every signature that a verdict will ask for; only true results are remembered, by the manager."""
        jobs: list[tuple[bytes, bytes, bytes]] = []
        for candidate in candidates:
            if candidate.malformed is None:
                jobs.append((candidate.creator, candidate.payload, candidate.signature))
                jobs += [(each.identity_bytes, each.message, each.signature) for each in candidate.endorsements]
        if len(jobs) < PARALLEL_FROM:
            return
        half = len(jobs) // 2
        other = self._pool.submit(self._verify_all, jobs[half:])
        self._verify_all(jobs[:half])
        other.result()

    def _verify_all(self, jobs: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        for serialized, message, signature in jobs:
            try:
                self._msps.verify(self._msps.identity(serialized), message, signature)
            except IdentityError:
                continue  # the verdict will meet the same error where it belongs


def decode(data: bytes) -> Candidate:
    """Decode an envelope as far as it goes; what is wrong is noted on the candidate in the order of the checks."""
    candidate = Candidate()
    try:
        headers = _decode_headers(candidate, data)
    except Rejected as rejected:
        candidate.malformed = rejected
        return candidate
    try:
        action = _decode_transaction(candidate, headers)
    except Rejected as rejected:
        candidate.ill_formed = rejected
        return candidate
    try:
        _decode_action(candidate, headers.channel.extension, action)
    except Rejected as rejected:
        candidate.unusable = rejected
    return candidate


def _read(kind: type[Any], data: bytes, code: int) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Rejected(code, f"{kind.__name__} cannot be read") from error


@dataclass(frozen=True, slots=True)
class _Headers:
    payload: common_pb2.Payload
    channel: common_pb2.ChannelHeader
    signature: common_pb2.SignatureHeader


def _decode_headers(candidate: Candidate, data: bytes) -> _Headers:
    """Rows 1 to 3."""
    envelope = _read(common_pb2.Envelope, data, Code.INVALID_OTHER_REASON)
    candidate.payload = envelope.payload
    candidate.signature = envelope.signature
    payload: common_pb2.Payload = _read(common_pb2.Payload, envelope.payload, Code.BAD_PAYLOAD)
    bad = Code.BAD_COMMON_HEADER
    if not payload.HasField("header"):
        raise Rejected(bad, "nil header")
    header = _read(common_pb2.ChannelHeader, payload.header.channel_header, bad)
    candidate.transaction_id = header.tx_id
    candidate.channel = header.channel_id
    signature = _read(common_pb2.SignatureHeader, payload.header.signature_header, bad)
    if header.type not in _KNOWN_TYPES:
        raise Rejected(bad, f"invalid header type {header.type}")
    if header.epoch:
        raise Rejected(bad, f"invalid Epoch in ChannelHeader. Expected 0, got [{header.epoch}]")
    if not signature.nonce or not signature.creator:
        raise Rejected(bad, "invalid nonce or creator specified in the header")
    candidate.creator = signature.creator
    return _Headers(payload, header, signature)


def _decode_transaction(candidate: Candidate, headers: _Headers) -> transaction_pb2.ChaincodeActionPayload:
    """Rows 5 to 7; returns the one action."""
    payload, header, signature = headers.payload, headers.channel, headers.signature
    if header.type == _CONFIG:
        raise Rejected(Code.INVALID_CONFIG_TRANSACTION, "the channel's configuration is fixed")
    if header.type != _ENDORSER:
        raise Rejected(Code.UNSUPPORTED_TX_PAYLOAD, "not an endorser transaction")
    if sha256(signature.nonce + signature.creator).hexdigest() != header.tx_id:
        raise Rejected(Code.BAD_PROPOSAL_TXID, "transaction id is not the hash of nonce and creator")
    bad = Code.INVALID_ENDORSER_TRANSACTION
    transaction = _read(transaction_pb2.Transaction, payload.data, bad)
    if len(transaction.actions) != 1:
        raise Rejected(bad, f"only one action per transaction is supported, tx contains {len(transaction.actions)}")
    action_header_bytes = transaction.actions[0].header
    action_header = _read(common_pb2.SignatureHeader, action_header_bytes, bad)
    if not action_header.nonce or not action_header.creator:
        raise Rejected(bad, "invalid nonce or creator specified in the action's header")
    action: transaction_pb2.ChaincodeActionPayload = _read(
        transaction_pb2.ChaincodeActionPayload, transaction.actions[0].payload, bad
    )
    response = _read(proposal_response_pb2.ProposalResponsePayload, action.action.proposal_response_payload, bad)
    if not payload.header.channel_header or not action.chaincode_proposal_payload:
        raise Rejected(bad, "nil arguments")
    digest = sha256(payload.header.channel_header + action_header_bytes + action.chaincode_proposal_payload)
    if digest.digest() != response.proposal_hash:
        raise Rejected(bad, "proposal hash does not match")
    candidate.endorsements = tuple(
        SignedData(action.action.proposal_response_payload + each.endorser, each.endorser, each.signature)
        for each in action.action.endorsements
    )
    return action


def _decode_action(candidate: Candidate, extension: bytes, payload: transaction_pb2.ChaincodeActionPayload) -> None:
    """Rows 9 to 13."""
    header = _read(proposal_pb2.ChaincodeHeaderExtension, extension, Code.BAD_HEADER_EXTENSION)
    if not payload.HasField("action") or not payload.action.proposal_response_payload:
        raise Rejected(Code.BAD_RESPONSE_PAYLOAD, "no payload in ChaincodeActionPayload")
    response = proposal_response_pb2.ProposalResponsePayload.FromString(payload.action.proposal_response_payload)
    if not response.extension:
        raise Rejected(Code.BAD_RESPONSE_PAYLOAD, "response payload is missing extension")
    action = _read(proposal_pb2.ChaincodeAction, response.extension, Code.BAD_RESPONSE_PAYLOAD)
    try:
        candidate.sets = parse(action.results)
    except RwSetError as error:
        raise Rejected(Code.BAD_RWSET, str(error)) from error
    if not header.HasField("chaincode_id"):
        raise Rejected(Code.INVALID_OTHER_REASON, "nil ChaincodeId in header extension")
    if not action.HasField("chaincode_id"):
        raise Rejected(Code.INVALID_OTHER_REASON, "nil ChaincodeId in ChaincodeAction")
    name = header.chaincode_id.name
    if not name or name != action.chaincode_id.name:
        raise Rejected(Code.INVALID_CHAINCODE, f"inconsistent ccid info ({name}/{action.chaincode_id.name})")
    if not action.chaincode_id.version:
        raise Rejected(Code.INVALID_CHAINCODE, "invalid chaincode version")
    candidate.chaincode = name
    if action.events:
        event = _read(chaincode_event_pb2.ChaincodeEvent, action.events, Code.INVALID_OTHER_REASON)
        if event.chaincode_id != name:
            raise Rejected(Code.INVALID_OTHER_REASON, "chaincode event chaincode id does not match chaincode action")
    names = [item.name for item in candidate.sets]
    if len(set(names)) != len(names):
        raise Rejected(Code.ILLEGAL_WRITESET, "duplicate namespace in txRWSet")


class _BlockPolicies:
    """Rows 14 and 15 for the transactions of one block, in their order."""

    def __init__(
        self, policies: Policies, definitions: Definitions, groups: Mapping[str, str], view: BlockView
    ) -> None:
        self._policies = policies
        self._find = definitions
        self._groups = groups
        self._view = view
        self._definitions: dict[str, Definition | None] = {}
        # Keys whose metadata an earlier transaction changes that passed endorsement for the key's namespace.
        self._changed: set[tuple[str, str, bytes]] = set()

    def check(self, candidate: Candidate) -> None:
        """Raise Rejected unless every written namespace, and the invoked one, is defined and endorsed."""
        written = {item.name: item for item in candidate.sets if item.writes}
        names = sorted(written.keys() | {candidate.chaincode})
        definitions = {}
        for name in names:
            definition = self._definition(name)
            if definition is None:
                raise Rejected(Code.INVALID_CHAINCODE, f"chaincode {name} is not defined")
            definitions[name] = definition
        failure: Rejected | None = None
        passed: list[NamespaceSet] = []
        for name in names:
            try:
                _Endorsed(self, candidate.endorsements, definitions[name]).check(written.get(name))
            except Rejected as rejected:
                failure = failure or rejected
            else:
                passed += [written[name]] if name in written else []
        for item in passed:
            self._note_changes(item)
        if failure is not None:
            raise failure

    def evaluate(self, policy: Policy, signed: Sequence[SignedData], what: str) -> None:
        """Raise Rejected unless the endorsements satisfy the policy."""
        try:
            policy.evaluate(signed)
        except PolicyError as error:
            raise Rejected(
                Code.ENDORSEMENT_POLICY_FAILURE, f"validation of endorsement policy for {what} failed: {error}"
            ) from error

    def key_policy(self, namespace: str, collection: str, key: bytes) -> bytes:
        """The committed VALIDATION_PARAMETER of a key, empty when there is none."""
        if (namespace, collection, key) in self._changed:
            raise Rejected(
                Code.ENDORSEMENT_POLICY_FAILURE, "the key's policy is changed by an earlier transaction of this block"
            )
        row = self._view.hashed(namespace, collection, key) if collection else self._view.state(namespace, key)
        if row is None or row.metadata is None:
            return b""
        return decode_metadata(row.metadata).get(VALIDATION_PARAMETER, b"")

    def collection_policy(self, definition: Definition, collection: str) -> bytes:
        """The ApplicationPolicy bytes that judge a collection's writes."""
        try:
            return lifecycle.collection_policy(definition, collection, self._groups)
        except LifecycleError as error:
            raise Rejected(Code.ENDORSEMENT_POLICY_FAILURE, str(error)) from error

    @property
    def policies(self) -> Policies:
        """The policy manager."""
        return self._policies

    def _definition(self, name: str) -> Definition | None:
        if name not in self._definitions:
            try:
                found = self._find(self._view.get_state, name)
            except LifecycleError:
                found = None
            self._definitions[name] = found if found is not None and found.validation_parameter else None
        return self._definitions[name]

    def _note_changes(self, item: NamespaceSet) -> None:
        for write in item.public.metadata_writes:
            self._changed.add((item.name, "", write.key.encode()))
        for collection in item.collections:
            for hashed in collection.hashed.metadata_writes:
                self._changed.add((item.name, collection.name, hashed.key_hash))


class _Endorsed:
    """The endorsements of one transaction against the policies of one namespace, each evaluated at most once."""

    def __init__(self, block: _BlockPolicies, signed: Sequence[SignedData], definition: Definition) -> None:
        self._block = block
        self._signed = signed
        self._definition = definition
        self._satisfied: set[tuple[str, bytes]] = set()

    def check(self, item: NamespaceSet | None) -> None:
        """Public writes, public metadata, hashed writes, hashed metadata; nothing written: the chaincode policy."""
        name = self._definition.name
        if item is not None:
            for write in item.public.writes:
                self._key(name, "", write.key.encode())
            for change in item.public.metadata_writes:
                self._key(name, "", change.key.encode())
            for collection in item.collections:
                for hashed in collection.hashed.hashed_writes:
                    self._key(name, collection.name, hashed.key_hash)
            for collection in item.collections:
                for hashed_change in collection.hashed.metadata_writes:
                    self._key(name, collection.name, hashed_change.key_hash)
        if not self._satisfied:
            self._application(self._definition.validation_parameter, f"chaincode {name}")

    def _key(self, namespace: str, collection: str, key: bytes) -> None:
        parameter = self._block.key_policy(namespace, collection, key)
        if parameter:
            if ("key", parameter) not in self._satisfied:
                policy = self._block.policies.signature_policy(parameter)
                self._block.evaluate(policy, self._signed, f"a key of {namespace}")
                self._satisfied.add(("key", parameter))
        elif collection:
            self._application(
                self._block.collection_policy(self._definition, collection), f"collection {collection} of {namespace}"
            )
        else:
            self._application(self._definition.validation_parameter, f"chaincode {namespace}")

    def _application(self, parameter: bytes, what: str) -> None:
        if ("application", parameter) not in self._satisfied:
            self._block.evaluate(self._block.policies.application_policy(parameter), self._signed, what)
            self._satisfied.add(("application", parameter))
