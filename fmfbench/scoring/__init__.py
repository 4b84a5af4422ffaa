"""The official scores of a prediction file, and what stands beside them."""
