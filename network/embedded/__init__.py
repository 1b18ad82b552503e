"""The embedded network: Fabric's protocols, endorsement, ordering and validation in one process (embedded-network.md)."""
