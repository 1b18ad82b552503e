"""Chaincodes that the shim's tests load by name, here and in other processes."""
