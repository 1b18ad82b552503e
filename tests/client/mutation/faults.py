"""The faults, where they are made, the tests that must notice, and how many did when this was last recorded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One deliberate fault.

    edits are (file below the package, text that stands there exactly once, text in its place). tests is the file below
    `tests/client` that must notice, select pytest's expression for the tests of it to run. failing is the recorded
    number of tests that fail; fewer is an error.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    tests: str
    select: str
    failing: int


FAULTS = (
    Fault(
        "no low S",
        (("fabric/signer.py", "return signature if s <= self._half else", "return signature if True else"),),
        "test_signer.py",
        "low_s or normalised",
        2,
    ),
    Fault(
        "no low S of signatures made elsewhere",
        (("fabric/signer.py", "encode_dss_signature(r, min(s, order - s))", "encode_dss_signature(r, s)"),),
        "test_signer.py",
        "normalise",
        3,
    ),
    Fault(
        "transient data dropped",
        (("fabric/contract.py", "for key, value in transient.items()} if transient else {}", "for key, value in ()}"),),
        "test_proposal.py",
        "transient or whole_calls",
        14,
    ),
    Fault(
        "endorsing organisations dropped",
        (("fabric/contract.py", "_names(endorsing_organizations),", "(),"),),
        "test_proposal.py",
        "organizations or whole_calls",
        12,
    ),
    Fault(
        "error details dropped",
        (("fabric/_core.py", "_wire.detail_messages(status_details(trailer))", "_wire.detail_messages([])"),),
        "test_errors.py",
        "details or answer or hints",
        18,
    ),
    Fault(
        "checkpoint block ignored",
        (("fabric/network.py", "(start_block if block is None else block)", "start_block"),),
        "test_chaincode_events.py",
        "checkpoint",
        8,
    ),
    Fault(
        "after_transaction_id omitted",
        (("fabric/network.py", 'checkpoint.transaction_id or ""', '""'),),
        "test_chaincode_events.py",
        "checkpoint",
        6,
    ),
    Fault(
        "digest of the wrong bytes",
        (("fabric/_core.py", "self._settings.hash.digest(self._message)", "self._settings.hash.digest(self.bytes)"),),
        "test_transaction.py",
        "signed or hash",
        12,
    ),
    Fault(
        "a submit is repeated with a new proposal",
        (
            ("fabric/contract.py", "except (EndorseError, CommitError) as error:", "except GatewayError as error:"),
            ("fabric/contract.py", "if after(error) is not Next.LOST_RACE or", "if after(error) is Next.GIVE_UP or"),
        ),
        "test_retry.py",
        "unknown or envelope or refusal_of_the_second or refused_submit",
        4,
    ),
    Fault(
        "an unknown outcome is not asked for",
        (("fabric/contract.py", "if self._retry.attempts and error.outcome_unknown:", "if False:"),),
        "test_retry.py",
        "unknown_outcome or stays_unknown",
        14,
    ),
    Fault(
        "checkpoint written over, not replaced",
        (("fabric/checkpoint.py", "_write_atomically(self._path, text.encode())", "self._path.write_text(text)"),),
        "test_checkpoint.py",
        "half_a_file or failed_write",
        1,
    ),
    Fault(
        "a failed checkpoint moves the position",
        (
            (
                "fabric/checkpoint.py",
                "        self._save(position)\n        self._position = position",
                "        self._position = position\n        self._save(position)\n        self._position = position",
            ),
        ),
        "test_checkpoint.py",
        "moves_nothing",
        2,
    ),
    Fault(
        "a checkpoint of another network is taken",
        (("fabric/checkpoint.py", "checkpoint.network_id != network_id:", "not network_id:"),),
        "test_checkpoint.py",
        "another_network or network_stays or given_network",
        13,
    ),
    Fault(
        "an invalid transaction passes for a success",
        (("fabric/contract.py", "if not status.successful:", "if False:"),),
        "test_transaction.py",
        "invalid",
        2,
    ),
    Fault(
        "closed streams are not cancelled",
        (("fabric/events.py", "    call.cancel()\n", ""),),
        "test_chaincode_events.py",
        "sync and closing_cancels_on_the_server",
        1,
    ),
    Fault(
        "TLS certificate hash of the PEM",
        (("fabric/channel.py", "hashlib.sha256(der)", "hashlib.sha256(certificate)"),),
        "test_channel.py",
        "hash",
        2,
    ),
)
