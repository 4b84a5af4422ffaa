"""A source into a store, and the proof that the store is still what was written."""
