"""The channel: its configuration block and its policies, as Fabric's protobuf messages.

One builder serves the embedded and a real network. It reads the topology and the identities, and imports nothing of the
embedded network."""
