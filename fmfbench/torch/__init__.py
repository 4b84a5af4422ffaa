"""Windows for PyTorch: the one room of fmfbench that imports torch."""

from __future__ import annotations

from fmfbench.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401  (is it there?)
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingDependencyError(
        "fmfbench.torch needs PyTorch, which is not installed: pip install 'fmfbench[models]'"
    ) from None

from fmfbench.torch.dataset import WindowDataset
from fmfbench.torch.device import DeviceWindows
from fmfbench.torch.loader import WindowLoader, make_loader
from fmfbench.torch.samples import collate

__all__ = ["DeviceWindows", "WindowDataset", "WindowLoader", "collate", "make_loader"]
