"""Transaction functions: authorise, load, domain verb, save, one event; ``trade`` and ``account`` assemble the
chaincodes.

Imports ``chaincode.ledger``, ``chaincode.domain`` and the decorators and stub of ``chaincode.shim``. Rules of one
word live in ``chaincode.domain``; what joins several words lives here.
"""
