"""What a run of a conversion leaves beside a block of frames, so that a later run resumes after it."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.sources.video.damage import Ledger

__all__ = ["CHECKED", "Note"]

CHECKED = 8  # frames at the end of a block whose sums a resumed run compares


@dataclass(kw_only=True)
class Note:
    """What a run leaves beside a block of frames."""

    stamps: list[int]
    sums: list[int]
    ledger: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stamps: list[int], images: list[NDArray[np.uint8]], ledger: Ledger) -> Note:
        return cls(
            stamps=stamps, sums=[zlib.crc32(i.data) for i in images[-CHECKED:]], ledger=ledger.to_json()
        )

    @classmethod
    def parse(cls, data: bytes) -> Note:
        return cls(**json.loads(data))

    def to_bytes(self) -> bytes:
        return json.dumps(vars(self)).encode()
