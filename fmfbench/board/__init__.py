"""Bundles of predictions with their receipts, and boards that score them again and compare them all at once."""
