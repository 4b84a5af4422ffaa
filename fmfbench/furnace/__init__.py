"""FMF-Sim, the simulated furnace: one file per part of the physics, `render` puts them together.

Nothing here is measured on a real furnace. A constant is either taken from the paper (Wu et al., 2024,
"Cross-Modal Learning for Anomaly Detection in Fused Magnesium Smelting Process") and then says so,
or it is chosen.
"""

from __future__ import annotations

__all__ = ["NAME", "STREAMS", "VERSION"]

NAME = "FMF-Sim"
VERSION = "1.3"  # any change of the output, however small, changes this
# Keys every random stream. A version that changes one part keeps it, so that the other parts stay as they were.
STREAMS = "1.0"
