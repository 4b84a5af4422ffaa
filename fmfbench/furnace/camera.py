"""The camera: sensor noise, chroma subsampling and the small coefficients that a video encoder drops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from fmfbench.furnace.streams import Stream

__all__ = ["BLOCK", "Encoder", "expose", "tone"]

FloatArray = npt.NDArray[np.float32]

READ_NOISE = 7.0  # grey levels squared, chosen: a pixel is the mean of many of the camera's
SHOT_NOISE = 0.016  # grey levels squared per grey level
DEAD_ZONE = 1.6  # luma DCT coefficients lose this much; chosen, as of a light MJPEG stream
BLOCK = 8
KNEE, SHOULDER = 200.0, 70.0  # grey levels; white is reached by light of 480
_GAUSS = ndtri((np.arange(256) + 0.5) / 256.0).astype(np.float32)


def tone(light: FloatArray) -> FloatArray:
    """The camera's answer to (...) grey levels of light, in place: straight up to KNEE, then ever flatter to white."""
    over = np.maximum(light - np.float32(KNEE), np.float32(0.0))
    np.minimum(light, np.float32(KNEE), out=light)
    light += over / (np.float32(1.0) + over * np.float32(1.0 / SHOULDER))
    return np.clip(light, np.float32(0.0), np.float32(255.0), out=light)


def expose(light: FloatArray, stream: Stream) -> FloatArray:
    """Add the sensor's noise to (n, H, W, 3) grey levels 0..255, in place; its variance grows with the light."""
    noise = _GAUSS[stream.bytes(light.size)].reshape(light.shape)
    noise *= np.sqrt(np.float32(READ_NOISE) + np.float32(SHOT_NOISE) * light)
    light += noise
    return light


class Encoder:
    """Lossy coding in blocks of 8 x 8, as MJPEG does it.

    Coefficients are shrunk, not rounded to steps: shrinking loses the same faint detail, and is continuous, so a
    last-bit difference between two machines stays one.
    """

    def __init__(self, height: int, width: int) -> None:
        self._rows, self._columns = _blockwise_dct(height), _blockwise_dct(width)

    def code(self, frames: FloatArray) -> npt.NDArray[np.uint8]:
        """(n, H, W, 3) grey levels to uint8."""
        red, green, blue = frames[..., 0], frames[..., 1], frames[..., 2]
        luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
        cr, cb = _halve(red - luma), _halve(blue - luma)
        luma = self._shrink(luma)
        out = np.empty(frames.shape, dtype=np.float32)
        out[..., 0] = luma + cr
        out[..., 2] = luma + cb
        out[..., 1] = luma - (np.float32(0.299) * cr + np.float32(0.114) * cb) / np.float32(0.587)
        np.rint(out, out=out)
        return np.clip(out, 0.0, 255.0, out=out).astype(np.uint8)

    def _shrink(self, luma: FloatArray) -> FloatArray:
        coefficients = self._rows @ luma @ self._columns.T
        kept = coefficients[:, ::BLOCK, ::BLOCK].copy()
        shrunk = coefficients - np.clip(coefficients, np.float32(-DEAD_ZONE), np.float32(DEAD_ZONE))
        shrunk[:, ::BLOCK, ::BLOCK] = kept
        return np.asarray(self._rows.T @ shrunk @ self._columns, dtype=np.float32)


def _halve(chroma: FloatArray) -> FloatArray:
    """(n, H, W) each 2 x 2 square becomes its mean."""
    mean = chroma[:, ::2, ::2] + chroma[:, 1::2, ::2] + chroma[:, ::2, 1::2] + chroma[:, 1::2, 1::2]
    mean *= np.float32(0.25)
    return np.repeat(np.repeat(mean, 2, axis=1), 2, axis=2)


def _blockwise_dct(length: int) -> FloatArray:
    """(length, length) orthonormal DCT-II of each run of 8 samples."""
    k, n = np.arange(BLOCK)[:, None], np.arange(BLOCK)[None, :]
    small = np.cos(np.pi * k * (2 * n + 1) / (2 * BLOCK)) * np.sqrt(2.0 / BLOCK)
    small[0] /= np.sqrt(2.0)
    return np.kron(np.eye(length // BLOCK), small).astype(np.float32)
