"""The contracts of Tallystick: the only home of business rules, and the shim they run on.

It imports neither the network nor the client; README.md is the specification.
"""
