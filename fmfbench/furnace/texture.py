"""Smooth random fields that repeat at their edges, to be cut out at moving offsets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fmfbench.furnace.streams import Stream

__all__ = ["DriftingTexture", "smooth_noise"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def smooth_noise(
    stream: Stream, height: int, width: int, coarsest: float, finest: float, slope: float = 1.5
) -> FloatArray:
    """(height, width) periodic field, mean 0, deviation 1, with amplitude spectrum k**-slope.

    `coarsest` and `finest` bound the wavelengths, in pixels.
    """
    white = stream.normals(height * width).reshape(height, width)
    k = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    gain = np.zeros_like(k)
    band = (k >= 1.0 / coarsest) & (k <= 1.0 / finest)
    gain[band] = k[band] ** -slope
    field = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(height, width))
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


class DriftingTexture:
    """A periodic tile that slides behind the frame, `step` times finer than it so that motion is smooth.

    Whole offsets, not interpolation: no frame hangs on the last bit of a floating-point position.
    """

    def __init__(self, tile: FloatArray, height: int, width: int, step: int) -> None:
        self._period = tile.shape
        self._frame = (height * step, width * step)
        self._step = step
        pad = ((0, self._frame[0]), (0, self._frame[1]))
        self._tile = np.pad(tile, pad, mode="wrap")

    def frames(self, down: IntArray, right: IntArray) -> FloatArray:
        """(n, H, W) the texture moved down and right by (n,) tile pixels."""
        height, width = self._frame
        step = self._step
        out = np.empty((len(down), height // step, width // step), dtype=np.float32)
        for i in range(len(down)):
            y, x = -int(down[i]) % self._period[0], -int(right[i]) % self._period[1]
            out[i] = self._tile[y : y + height : step, x : x + width : step]
        return out
