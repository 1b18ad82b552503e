"""Hyperledger Fabric from Python: the Gateway client (`tallystick.fabric`, `tallystick.aio`) and what is built on it.

`tallystick.fabric` is general: it knows nothing of any contract and serves every Fabric network from 2.4 on. Nothing
in this distribution imports the packages that run a network or hold contracts.
"""
