"""Storage of the ledger's records: one repository per word over the stub, its keys and its indexes.

Imports ``chaincode.domain`` and ``chaincode.shim``, never ``chaincode.contract``. No rule of the business lives here.
"""
