"""The one catalogue of refusals: reason, code and sentence.

A refusal is written ``CODE reason: sentence``. The sentence says why and what to do next; it is built from the
catalogue and from plain facts (texts and whole numbers), so that every peer gives the same bytes.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

STATUS: Final = MappingProxyType({"INVALID": 400, "FORBIDDEN": 403, "NOT_FOUND": 404, "CONFLICT": 409, "INTERNAL": 500})
"""Response status of each code, the same in the contract, in Python, over HTTP and on pages."""

CATALOGUE: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        # Shape.
        "input_malformed": ("INVALID", "{rule}. Correct the input and send it again."),
        "argument_too_large": ("INVALID", "{rule}. Send less at once."),
        "argument_count": ("INVALID", "{rule}. Send one JSON object."),
        "unknown_transaction": ("INVALID", "{rule}. Choose a transaction of the specification."),
        "amount_out_of_range": ("INVALID", "{value} is outside 0 to {limit} minor units. Enter an amount in range."),
        "days_out_of_range": ("INVALID", "{value} days are outside 0 to {limit}. Choose other dates."),
        "rate_out_of_range": ("INVALID", "{value} ppm is outside 0 to {limit}. Enter a rate in range."),
        "net_not_positive": (
            "INVALID",
            "Nothing would be paid out (net {net}). Choose a larger amount or other terms.",
        ),
        "credit_code_invalid": (
            "INVALID",
            "{code} is no valid unified social credit code. Compare it with the licence.",
        ),
        "company_name_invalid": (
            "INVALID",
            "The company name contains characters that are not allowed. Type it again.",
        ),
        "record_too_large": ("INVALID", "The record is larger than {limit} bytes. Send less in it."),
        # Caller.
        "certificate_unknown": (
            "FORBIDDEN",
            "This certificate acts for nobody here. Present it and have it bound first.",
        ),
        "certificate_not_bound": ("FORBIDDEN", "This certificate is {state}. Ask an admin of another organisation."),
        "certificate_differs": ("FORBIDDEN", "The certificate and its record name different {what}. Ask your sponsor."),
        "request_reused": ("CONFLICT", "Request {request_id} was used with other content. Use a new request id."),
        "role_missing": ("FORBIDDEN", "This step needs the role {roles}. Ask a colleague who has it."),
        "payment_certificate_required": ("FORBIDDEN", "This step moves value. Sign it with the payment certificate."),
        "member_not_active": ("FORBIDDEN", "{member} is {state}. Only a real-named member can do this."),
        "blacklisted": ("FORBIDDEN", "{member} is on the blacklist and may only repay. Ask the consortium admin why."),
        "grade_too_low": (
            "FORBIDDEN",
            "Grade {grade} does not allow to {action}. See the reasons or contest the rating.",
        ),
        "direct_call_refused": (
            "FORBIDDEN",
            "This step is made by {outermost} only as a part of its own. Call that one.",
        ),
        "same_person": ("FORBIDDEN", "{user} already did an earlier step of this. Another person has to do this one."),
        "same_organisation": ("FORBIDDEN", "This has to be done from another organisation than {organisation}."),
        "not_sponsor": ("FORBIDDEN", "{member} is sponsored by {organisation}. Ask an admin of that organisation."),
        "not_holder": ("FORBIDDEN", "{id} is not held by {member}. Look up who holds it."),
        "not_issuer": ("FORBIDDEN", "{id} was not made by {member}. Only its issuer can do this."),
        "not_receiver": ("FORBIDDEN", "{id} is not offered to {member}. Only the receiver can do this."),
        "not_owner": ("FORBIDDEN", "{id} does not belong to {member}. Only its owner can do this."),
        # Existence.
        "network_not_founded": ("NOT_FOUND", "The network has not been founded yet. An admin runs member:found first."),
        "network_founded": ("CONFLICT", "The network was founded before. This is done once only."),
        "organisation_invalid": ("INVALID", "Organisation {organisation} must have the member id {member}."),
        "member_not_found": ("NOT_FOUND", "Member {id} was not found. Check the number."),
        "member_exists": ("CONFLICT", "Member {id} exists already. Use a new number."),
        "member_not_real_named": ("CONFLICT", "{id} is {state} and not real-named yet. Choose a real-named member."),
        "credit_code_registered": (
            "CONFLICT",
            "Credit code {code} is registered already. Ask the people of that company.",
        ),
        "login_batch_not_found": ("NOT_FOUND", "Batch {id} was not found. Check the number."),
        "login_batch_exists": ("CONFLICT", "Batch {id} exists already. Use a new number."),
        "invitation_not_found": ("NOT_FOUND", "The invitation was not found. Check the code or ask for a new one."),
        "invitation_exists": ("CONFLICT", "Invitation {id} exists already. Make a new code."),
        "invitation_code_missing": ("INVALID", "The invitation code has to come in the transient field {field}."),
        "invitation_expired": ("CONFLICT", "The invitation expired on {date}. Ask for a new one."),
        "expiry_passed": ("INVALID", "{date} is not after the business date {today}. Choose a later date."),
        "certificate_not_found": ("NOT_FOUND", "Certificate {id} was not found. Present it first."),
        "certificate_exists": ("CONFLICT", "Certificate {id} was presented before. Use a new key."),
        "certificate_incomplete": ("INVALID", "The certificate lacks the attribute {attribute}. Have it issued again."),
        "company_differs": (
            "CONFLICT",
            "The {what} is not the one that {member} registered with. Correct it or register anew.",
        ),
        "role_not_granted": (
            "CONFLICT",
            "Role {role} was not granted to {member}. Leave it out or have it granted first.",
        ),
        "role_unknown": ("INVALID", "{role} is no role. Choose one of the roles in the specification."),
        "state_wrong": ("CONFLICT", "{id} is {state}, so it cannot be used for {verb}. Look at its latest state."),
        # Dates.
        "date_differs": ("CONFLICT", "The business date is {today}, not {date}. Look it up and try again."),
        "date_not_next": ("INVALID", "The next business day is {next}, not {date}. Advance to that day."),
        "date_stale": (
            "CONFLICT",
            "The time does not fit the business date {today}. The bank has to advance the date.",
        ),
        "day_open": ("CONFLICT", "The day {date} is not closed for {currency}. The bank closes it first."),
        "calendar_year_missing": (
            "CONFLICT",
            "The calendar of {year} is not recorded. An admin has to record it first.",
        ),
        "calendar_day_invalid": ("INVALID", "{date} cannot be listed in this calendar. Correct the list."),
        "calendar_day_passed": ("CONFLICT", "{date} is not in the future and cannot be changed any more."),
        # Policies.
        "policy_missing": ("CONFLICT", "The policy {name} is not in force. Two people have to record it first."),
        "policy_name_unknown": ("INVALID", "{name} is no policy of this chaincode. See the list in the specification."),
        "policy_value_invalid": ("INVALID", "The value does not fit the policy {name}: {rule}."),
        "policy_from_date_passed": ("INVALID", "{date} is not after the business date {today}. Choose a later date."),
        "proposal_missing": ("CONFLICT", "Nothing is proposed for {id}. Propose the change first."),
        "currency_unknown": ("INVALID", "{currency} is not a currency of this network. Choose one of its currencies."),
        "tenor_too_long": (
            "INVALID",
            "{days} days to the payment date are more than the {limit} allowed. Choose an earlier one.",
        ),
        "due_date_passed": ("INVALID", "{date} is not after the business date {today}. Choose a later due date."),
        # Invoices, vouchers, quotas.
        "invoice_not_found": ("NOT_FOUND", "Invoice {id} was not found. Register it first."),
        "invoice_differs": ("CONFLICT", "Invoice {id} is registered with another {what}. Compare it with the paper."),
        "invoice_parties_differ": (
            "CONFLICT",
            "Invoice {id} is not between these two companies. Choose another invoice.",
        ),
        "invoice_used_up": ("CONFLICT", "Invoice {id} has {free} left, {needed} are needed. Lower the amount."),
        "invoice_sum_differs": ("INVALID", "The invoices back {sum}, the voucher is {amount}. Make the two equal."),
        "invoice_repeated": ("INVALID", "Invoice {id} is named twice. Name it once."),
        "currency_differs": ("CONFLICT", "{id} is in {currency}. Sums of different currencies are kept apart."),
        "credit_target_missing": ("INVALID", "A credit note names the invoice that it reduces. Add that invoice."),
        "credit_too_large": ("CONFLICT", "Invoice {id} has {free} left to reduce. Correct the credit note."),
        "lien_not_found": ("NOT_FOUND", "There is no lien on {id}. It is free."),
        "lien_exists": ("CONFLICT", "{id} already secures {secured}. One claim secures one financing only."),
        "voucher_not_found": ("NOT_FOUND", "Voucher {id} was not found. Check the number."),
        "voucher_exists": ("CONFLICT", "Voucher {id} exists already. Use a new number."),
        "voucher_matured": ("CONFLICT", "{id} matured on {date} and cannot be moved any more. Wait for the payment."),
        "receiver_is_issuer": ("INVALID", "Issuer and receiver are one company. Choose another receiver."),
        "receiver_is_holder": ("INVALID", "{member} holds the voucher already. Choose another receiver."),
        "amount_above_voucher": ("INVALID", "{amount} is not between 1 and the voucher's {limit}. Lower the amount."),
        "part_missing": (
            "INVALID",
            "A part needs its own number and the rest too. Add part_id, part_number and rest_number.",
        ),
        "part_superfluous": (
            "INVALID",
            "The whole voucher is transferred, so no part is made. Leave the part's fields out.",
        ),
        "quota_not_found": ("NOT_FOUND", "Quota {id} was not found. Check the number."),
        "quota_exists": ("CONFLICT", "Quota {id} exists already. Use a new number."),
        "quota_exceeded": (
            "CONFLICT",
            "Slice {slice} of {id} has {free} left, {needed} are needed. Name other slices.",
        ),
        "quota_required": ("INVALID", "The slices name {sum}, the voucher is {amount}. Make the two equal."),
        "quota_expired": (
            "CONFLICT",
            "{id} is valid from {valid_from} to {valid_until} only. Ask the bank for a new one.",
        ),
        "slice_repeated": ("INVALID", "Slice {slice} of {id} is named twice. Name it once."),
        "issuance_stopped": (
            "CONFLICT",
            "{member} failed to pay on time and may not issue. Pay what is overdue first.",
        ),
        "settlement_not_found": ("NOT_FOUND", "Settlement {id} was not found. Check the number."),
        "settlement_exists": ("CONFLICT", "Settlement {id} exists already. Use a new number."),
        "settlement_not_due": ("CONFLICT", "{date} is after the business date {today}. Settle when it has come."),
        "settlement_total_invalid": ("INVALID", "{total} is more than the {limit} owed. Enter at most that."),
        "cut_off_not_reached": ("CONFLICT", "Short funds are shared after {time} only. Fund all or wait."),
        "plan_page_not_found": ("NOT_FOUND", "Page {id} of the plan was not found. Plan the pages in their order."),
        "plan_page_exists": ("CONFLICT", "Page {id} of the plan exists already."),
        "page_changed": ("CONFLICT", "The payees of page {page} of {id} changed. Plan the page again."),
        "page_paid": ("CONFLICT", "Page {page} of {id} is paid. Go on with the next page."),
        "page_unpaid": ("CONFLICT", "Page {page} of {id} is not paid yet. Pay it first."),
        "cut_differs": (
            "CONFLICT",
            "The cut of page {page} of {id} is not that of page 1. Share all pages with one cut.",
        ),
        "shares_differ": ("CONFLICT", "The shares sum to {sum}, not to {total}. Share with another cut."),
        "grace_running": ("CONFLICT", "{id} is {days} days late, grace is {limit}. Wait until it is over."),
        "not_party": ("FORBIDDEN", "{member} is neither issuer nor holder of {id}. Only they can do this."),
        "voucher_disputed": ("CONFLICT", "{id} is disputed by {member}. It cannot move until that ends."),
        "voucher_unsettled": ("CONFLICT", "{id} is {state} and not settled yet. Wait for its settlement."),
        "penalty_none": ("CONFLICT", "No penalty is owed for {id}. Nothing is to be paid."),
        "issuance_not_stopped": ("CONFLICT", "{member} may issue. Nothing is to be done."),
        "tariff_not_found": ("NOT_FOUND", "Tariff {id} was not found. Check the number."),
        "tariff_exists": ("CONFLICT", "Tariff {id} exists already. Use a new number."),
        "fee_bounds_invalid": ("INVALID", "The least fee {least} is above the most {most}. Correct one of them."),
        "evidence_not_found": ("NOT_FOUND", "Evidence {id} was not found. Check the number."),
        "evidence_exists": ("CONFLICT", "Evidence {id} exists already. Use a new number."),
        "list_invalid": ("INVALID", "Name either a member or a digest. Leave the other one out."),
        "model_not_found": ("NOT_FOUND", "Model {id} was not found. Propose it first."),
        "model_exists": ("CONFLICT", "Model {id} was proposed before. Look at its state."),
        "model_not_approved": ("CONFLICT", "Model {id} is {state} or expired. Use an approved one."),
        "scale_invalid": (
            "INVALID",
            "The scale has to name each grade once with rising limits up to 10000. Correct it.",
        ),
        "rating_not_found": ("NOT_FOUND", "Rating {id} was not found. Check the number."),
        "rating_exists": ("CONFLICT", "Rating {id} exists already. Use a new number."),
        "grade_differs": ("INVALID", "{pd_bp} basis points are grade {expected}, not {grade}. Correct one of them."),
        "default_missing": ("INVALID", "Grade D needs the id of the default. Add it."),
        "as_of_invalid": ("INVALID", "As-of date {date} is after {today} or before the last rating's. Correct it."),
        "validity_too_long": (
            "INVALID",
            "The rating would hold {days} days, {limit} are allowed. Choose an earlier end.",
        ),
        "reason_code_unknown": ("INVALID", "The model knows reason codes up to {limit} only. Correct the codes."),
        "override_invalid": ("INVALID", "An override names notches and a reason, a model rating neither. Correct it."),
        # Money.
        "account_not_found": ("NOT_FOUND", "Account {id} was not found. It is opened when a certificate is bound."),
        "account_exists": ("CONFLICT", "Account {id} exists already."),
        "account_frozen": ("CONFLICT", "Account {id} is {state}. Ask the bank."),
        "funds_insufficient": (
            "CONFLICT",
            "{available} are available, {needed} are needed. Top up or lower the amount.",
        ),
        "posting_invalid": ("INVALID", "A posting does not have the agreed form: {rule}."),
        "bank_identity_required": ("FORBIDDEN", "Only the bank confirms that money came or went. Ask the bank."),
        "credit_not_found": ("NOT_FOUND", "Credit {id} was not found. List the open credits again."),
        "credit_exists": ("CONFLICT", "Credit {id} exists already."),
        "credit_repeated": ("INVALID", "Credit {id} is named twice. Name it once."),
        "hold_not_found": ("NOT_FOUND", "Hold {id} was not found. Check the number."),
        "hold_exists": ("CONFLICT", "Hold {id} exists already. Use a new number."),
        "bank_entry_exists": ("CONFLICT", "Bank entry {id} is recorded already. It moves money once only."),
        "bank_entry_not_found": ("NOT_FOUND", "Bank entry {id} was not found. Record it first."),
        "page_not_found": ("NOT_FOUND", "Page {id} was not found. Check the number."),
        "binding_not_found": ("NOT_FOUND", "Binding {id} was not found. Check the number."),
        "binding_exists": ("CONFLICT", "Binding {id} exists already. Use a new number."),
        "binding_name_differs": (
            "CONFLICT",
            "The bank account is not in the name of {member}. Bind one of the same name.",
        ),
        "binding_unverified": ("CONFLICT", "Binding {id} is {state}. Have it verified by the bank first."),
        "instruction_not_found": ("NOT_FOUND", "Instruction {id} was not found. Check the number."),
        "instruction_exists": ("CONFLICT", "Instruction {id} exists already. Use a new number."),
        "fee_differs": ("CONFLICT", "The fee is {fee}, not {shown}. Look at the amounts again."),
        "batch_not_found": ("NOT_FOUND", "Batch {id} was not found. Check the number."),
        "batch_exists": ("CONFLICT", "Batch {id} exists already. Use a new number."),
        "batch_page_exists": ("CONFLICT", "Page {id} of the batch exists already. Take the next number."),
        "batch_differs": ("CONFLICT", "Count, sum or digest of batch {id} is another. Read the batch again."),
        "batch_mixed": ("CONFLICT", "{id} does not belong into batch {batch}. Leave it out."),
        "page_wrong": ("CONFLICT", "Page {page} of {id} is not the next one, {next}. Take the pages in their order."),
        "batch_empty": ("CONFLICT", "Batch {id} has no instruction. Add one first."),
        "instruction_repeated": ("INVALID", "Instruction {id} is named twice. Name it once."),
        "entry_differs": ("CONFLICT", "Entry {id} does not fit {instruction}: {what}. Put it into suspense."),
        "file_reused": ("CONFLICT", "Message {id} was recorded with other content. Ask the sender."),
        "bank_file_not_found": ("NOT_FOUND", "File {id} was not found. Check sender and message id."),
        "resolution_invalid": (
            "INVALID",
            "{resolution} needs other details. Name account or counter entry as it asks.",
        ),
        "counter_differs": ("CONFLICT", "{id} is not the opposite amount of {other}. Choose another entry."),
        "suspense_not_found": ("NOT_FOUND", "Entry {id} is not in suspense. Check the number."),
        "settlement_page_exists": ("CONFLICT", "Page {page} of {id} is paid already. Go on with the next page."),
        "day_exists": ("CONFLICT", "The day {date} is closed for {currency} already."),
        "day_not_found": ("NOT_FOUND", "The day {date} is not recorded for {currency}. Close it first."),
        "difference_unexplained": (
            "INVALID",
            "The bank's closing balance differs by {difference}. Explain it in a reason.",
        ),
    }
)


class DomainError(Exception):
    """A rule said no: a reason of the catalogue with the facts of its sentence."""

    def __init__(self, reason: str, **facts: str | int) -> None:
        code, sentence = CATALOGUE[reason]
        self.reason = reason
        self.code = code
        self.sentence = sentence.format(**facts)
        super().__init__(f"{code} {reason}: {self.sentence}")

    @property
    def status(self) -> int:
        """Response status that belongs to the code."""
        return STATUS[self.code]
