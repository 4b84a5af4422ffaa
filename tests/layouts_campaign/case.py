"""What an invented layout is, and what must come of it: from the numbers that were drawn, never from reading a file."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

NS = 1_000_000_000


@dataclass(kw_only=True)
class Recording:
    """The numbers behind one recording."""

    frames: np.ndarray  # (n,H,W,3) uint8
    frame_time: np.ndarray  # (n,) ns
    current: np.ndarray  # (m,3) A, NaN where missing
    current_time: np.ndarray  # (m,) ns
    lossy: bool = False  # the codec changes pixels a little
    slack: int = 0  # ns by which the container may round a frame's time
    masks: np.ndarray | None = None  # (n,H,W) 0/1
    classes: np.ndarray | None = None  # (n,) 0/1
    split: np.ndarray | None = None  # (n,) 0 train, 1 test, 2 unused


@dataclass(kw_only=True)
class Layout:
    """Files in a folder, and what the doctor must say of them.

    Attributes:
        name: for people.
        place: what is given to the doctor, relative to the folder.
        recordings: what its command must give; none where nothing converts.
        words: patterns that its page must have, chosen before it was seen; none where nothing is wrong.
        command: a pattern that its command must have.
        as_it_is: no option is needed.
        either: it may convert as it is, or by a command with options.
        counted: which of the recordings are only counted (what is left of a damaged file).
    """

    name: str
    place: str
    recordings: dict[str, Recording] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    command: str = ""
    as_it_is: bool = False
    either: bool = False
    counted: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        return bool(self.words)
