"""Deliberate faults in a copy of the client, each of which must make named tests fail."""
