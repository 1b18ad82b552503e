"""Tools for testing chaincode and the shim itself: exchanges without a peer, the repeated run, the fuzzer.

Not imported by the shim; must never import the embedded network, whose simulator knows Fabric's rules better.
"""
