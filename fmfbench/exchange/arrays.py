"""Whatever a program has at hand, as a plain numpy array: tensors on any device, lists of batches, bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError

__all__ = ["as_vector", "plain_array"]

_TROUBLE = (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError, OverflowError)


def plain_array(value: Any, name: str, ndim: int) -> NDArray[Any]:
    """An array of numbers of `ndim` dimensions, as far as the value can be read as one.

    Args:
        value: an array, a tensor (on any device, with or without gradients, bfloat16 too), a list of numbers, or a
            list of batches, which are joined along their first axis.
        name: of the value, for the error.
        ndim: how many dimensions the whole has; items of one fewer are stacked.

    Returns:
        The array; of objects where the value is none of these.

    Raises:
        PredictionError: it cannot be read at all.

    Example:
        >>> plain_array([[0.25, 0.5], [0.75]], "score", 1).tolist()
        [0.25, 0.5, 0.75]
    """
    try:
        return _joined(value, ndim) if isinstance(value, (list, tuple)) else _single(value)
    except _TROUBLE as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise PredictionError(
            f"{name}: expected an array, a tensor, or a list of them, got {type(value).__name__}: {told}"
        ) from None


def as_vector(array: NDArray[Any]) -> NDArray[Any]:
    """(N,) of an array of shape (N,), (N, 1) or (1, N); others as they are.

    Exists because MATLAB knows no array of one dimension.
    """
    return array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array


def _single(value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()  # numpy has no bfloat16; every one of its values is a float32
        value = value.numpy()
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _joined(values: list[Any] | tuple[Any, ...], ndim: int) -> NDArray[Any]:
    if all(isinstance(item, (bool, int, float, np.generic)) for item in values):
        return np.asarray(values)
    items = [
        _joined(item, max(ndim, 1)) if isinstance(item, (list, tuple)) else _single(item) for item in values
    ]
    if all(item.ndim < ndim for item in items):
        return np.stack(items)
    return np.concatenate(items)
