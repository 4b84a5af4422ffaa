"""Reading what `torch.save` wrote, as untrusted input: nothing in it is run, and whatever is wrong is one line."""

from __future__ import annotations

import os
import warnings
import zipfile

import torch

from fmfbench.errors import InputError

__all__ = ["read_torch_file"]


def read_torch_file(path: str | os.PathLike[str]) -> object:
    """The content of a .pth file, tensors and plain containers only.

    Raises:
        InputError: torch cannot read it, or it holds more than tensors and plain containers.
    """
    try:
        with warnings.catch_warnings():  # torch warns of what it then refuses
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch lets errors of any kind out of bytes that are no weights
        if arrays := _names_of_arrays(path):
            raise InputError(
                f"{path}: expected a state dict of plain tensors, got an .npz archive ({', '.join(arrays[:3])}); "
                "give a run folder, .safetensors, or a .pth that torch.save wrote"
            ) from None
        # Its own words advise to switch the protection off.
        reason = " ".join(str(error).split()).partition(" In PyTorch 2.6")[0][:120]
        raise InputError(
            f"{path}: expected a state dict of plain tensors, got a file that torch refuses "
            f"({type(error).__name__}: {reason}); give a .pth that torch.save wrote, or .safetensors"
        ) from None


def _names_of_arrays(path: str | os.PathLike[str]) -> list[str]:
    """Names of the members of an .npz archive; empty for everything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return []
    return names if all(name.endswith(".npy") for name in names) else []
