"""FMF-Sim, the simulated furnace: one file per part of the physics, `render` puts them together.

Nothing here was measured on a furnace. A constant is taken from the paper (Wu et al., 2024, "Cross-Modal Learning for
Anomaly Detection in Fused Magnesium Smelting Process") or from what can be measured on its public figures, and then
says so, or it is chosen. How far the result is from those figures: `benchmarks/fmf_sim_evidence.py`.
"""

from __future__ import annotations

__all__ = ["NAME", "STREAMS", "VERSION"]

NAME = "FMF-Sim"
VERSION = "2.1"  # any change of the output, however small, changes this
# Keys every random stream. A version that changes one part keeps it, so that the other parts stay as they were.
STREAMS = "1.0"
