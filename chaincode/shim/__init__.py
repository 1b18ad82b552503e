"""Hyperledger Fabric's chaincode protocol in Python: the stub, the dispatch of transactions and the stream to the peer.

For any contract, not only ours: it must never import `chaincode.contract`, `chaincode.ledger`, `chaincode.domain`,
`network` or `tallystick`. A contract author needs `contract`, `errors`, `policy` and `canonical`; who runs chaincode
(the embedded network, a test, the service) needs `execute`. README.md has the author's view and the rules.
"""
