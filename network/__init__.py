"""The network: its topology, its identities, its channel, and the embedded network that runs all of it in one process.

It imports the chaincode shim and the client, never the business rules: contracts are reached by the names in
`topology.toml`."""
