"""Contract tests: the real dispatch on a ledger in memory with Fabric's rules."""
