"""The fmfbench command line."""
