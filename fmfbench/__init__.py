"""The toolkit of FMF-Benchmark: conversion, windows, annotation and scoring.

import fmfbench

fmfbench.convert("pixel-level/", "fmf.zarr")
data = fmfbench.open_dataset("fmf.zarr")
windows = data.windows("test", protocol="paper")
fmfbench.write_predictions("predictions.npz", sample_id=windows.sample_ids, score=p)
print(fmfbench.score("predictions.npz", data).to_markdown())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmfbench.annotation.annotate import annotate as annotate
    from fmfbench.conversion.convert import convert as convert
    from fmfbench.conversion.verify import verify as verify
    from fmfbench.data import Dataset as Dataset
    from fmfbench.data import Recording as Recording
    from fmfbench.data import open_dataset as open_dataset
    from fmfbench.exchange.predictions import read_predictions as read_predictions
    from fmfbench.exchange.predictions import write_predictions as write_predictions
    from fmfbench.furnace.simulate import simulate as simulate
    from fmfbench.scoring.compare import compare as compare
    from fmfbench.scoring.score import score as score
    from fmfbench.windows.protocol import WindowProtocol as WindowProtocol

    __version__: str

# Each public name and its module: imported when first used, so that `import fmfbench` is instant.
_HOMES = {
    "Dataset": "fmfbench.data",
    "Recording": "fmfbench.data",
    "WindowProtocol": "fmfbench.windows.protocol",
    "annotate": "fmfbench.annotation.annotate",
    "compare": "fmfbench.scoring.compare",
    "convert": "fmfbench.conversion.convert",
    "open_dataset": "fmfbench.data",
    "read_predictions": "fmfbench.exchange.predictions",
    "score": "fmfbench.scoring.score",
    "simulate": "fmfbench.furnace.simulate",
    "verify": "fmfbench.conversion.verify",
    "write_predictions": "fmfbench.exchange.predictions",
}

__all__ = [
    "Dataset",
    "Recording",
    "WindowProtocol",
    "__version__",
    "annotate",
    "compare",
    "convert",
    "open_dataset",
    "read_predictions",
    "score",
    "simulate",
    "verify",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from fmfbench.version import installed_version

        return installed_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'fmfbench' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
