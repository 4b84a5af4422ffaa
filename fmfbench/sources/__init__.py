"""Readers of what comes in: MATLAB files, V1 and V2 trees, raw recordings, and the simulated furnace."""
