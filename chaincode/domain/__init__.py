"""Pure values and verbs of the ledger: what a voucher, a member or an account is and what may happen to it.

Verbs take values and return new values or raise ``DomainError``; caller, date, storage and ids are arguments. Imports
the standard library and msgspec only, never ``chaincode.ledger``, ``chaincode.contract`` or ``chaincode.shim``.
"""
