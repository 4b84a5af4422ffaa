"""Synchronised causal windows: protocols, index arithmetic, and the reader of arrays."""
