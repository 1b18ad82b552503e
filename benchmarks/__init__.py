"""What `scripts/bench` runs: one module per subject, each prints a table and can write JSON."""
