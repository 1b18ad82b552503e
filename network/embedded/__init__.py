"""The embedded network: Fabric's protocols, endorsement, ordering and validation in one program (README.md).

It imports the topology, the identities, the channel configuration and the shim, never a contract."""
