"""Agreement tests: what is said twice (code, metadata, specification) says the same."""
