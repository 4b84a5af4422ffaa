"""Texts of a column as bytes, by their *shape* (each digit as 0): tables have few shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError

__all__ = ["byte_texts", "digits", "shapes"]

_CHUNK = 1 << 18
_MOST_SHAPES = 400
_CHINESE = str.maketrans({
    "年": "-", "月": "-", "日": " ", "号": " ", "时": ":", "時": ":", "点": ":", "分": ":", "秒": "", "：": ":",
    "／": "/",     "－": "-", "，": ",", "．": ".", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u3000": " ",
    **{chr(0xFF10 + i): str(i) for i in range(10)},
})  # fmt: skip


def byte_texts(texts: NDArray[np.object_], where: str, row: int) -> NDArray[np.bytes_]:
    """Texts (n,) as ASCII bytes of one length, Chinese marks as ASCII's."""
    try:
        return np.char.strip(texts.astype("S"))
    except UnicodeEncodeError:
        pass
    known: dict[str, str] = {}
    out = []
    for i, text in enumerate(texts):
        plain = known.get(text)
        if plain is None:
            plain = str(text).translate(_CHINESE).replace("上午", "AM ").replace("下午", "PM ").strip(" :")
            plain = re.sub(r" +", " ", plain)
            if not plain.isascii():
                raise SourceError(f"{where}: expected a time in row {row + i}, got {text[:40]!r}")
            known[text] = plain
        out.append(plain)
    return np.array(out, dtype="S")


def shapes(
    texts: NDArray[np.bytes_], where: str, rows: Callable[[int], int]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each shape, and entries that have it, a chunk of the column at a time: what is made of them stays small."""
    width = texts.dtype.itemsize
    found: set[bytes] = set()
    for first in range(0, len(texts), _CHUNK):
        part = np.ascontiguousarray(texts[first : first + _CHUNK])
        codes = part.view(np.uint8).reshape(len(part), width)
        shape = np.where((codes >= 48) & (codes <= 57), np.uint8(48), codes).view(f"S{width}")[:, 0]
        left = np.arange(len(part))
        while len(left):
            key = bytes(shape[left[0]])
            found.add(key)
            if len(found) > _MOST_SHAPES:
                raise SourceError(
                    f"{where}: expected times of one form, got more than {_MOST_SHAPES} by row {rows(first)}"
                )
            same = shape[left] == key
            yield key.decode(), left[same] + first
            left = left[~same]


def digits(codes: NDArray[np.uint8], span: tuple[int, int]) -> NDArray[np.int64]:
    out = np.zeros(len(codes), np.int64)
    for i in range(*span):
        out = out * 10 + (codes[:, i] - 48)
    return out
