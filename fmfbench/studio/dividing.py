"""A split as it is being drawn: what `fmfbench split` would make of it, and made when it is saved."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import InputError
from fmfbench.files.local import local_path
from fmfbench.store.reader import StoreReader
from fmfbench.store.schema import SPLITS
from fmfbench.windows.division import Stretch, plan_split, split_store

__all__ = ["parse_rule", "plan", "save"]


def parse_rule(data: StoreReader, body: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `split_store` in what the page sends: `protocol`, and one of

    - `at`: [[recording, first frame, frame after the last], ...], the test stretches;
    - `percent`: the last share of each recording;
    - `by_recording`: names.

    Raises:
        InputError: none of these, or frames that the recording does not have.
    """
    protocol = str(body.get("protocol", "paper"))
    given = [key for key in ("at", "percent", "by_recording") if body.get(key) is not None]
    if len(given) != 1:
        raise InputError(f"expected one of at, percent and by_recording, got {' and '.join(given) or 'none'}")
    value = body[given[0]]
    if given == ["percent"]:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100:
            raise InputError(f"expected a share above 0 % and below 100 %, got {value!r}")
        return {"test": Fraction(str(value)) / 100, "protocol": protocol}
    if not isinstance(value, list) or not value:
        if given == ["at"]:
            raise InputError("expected at least a test stretch, got none; drag on the lane of the split")
        raise InputError("expected at least a recording, got none")
    if given == ["by_recording"]:
        return {"by_recording": [str(name) for name in value], "protocol": protocol}
    return {"at": [_stretch(data, entry) for entry in value], "protocol": protocol}


def plan(
    data: StoreReader, body: dict[str, Any], name: str
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What saving would write: the `split` (N,) of one recording, and frames of each part in each recording.

    Raises:
        InputError: what `fmfbench split` refuses.
    """
    splits, parameters = plan_split(data, **parse_rule(data, body))
    counts = {
        own: {part: int(np.count_nonzero(split == code)) for part, code in SPLITS.items()}
        for own, split in splits.items()
    }
    return {"counts": counts, "guard_seconds": parameters.get("guard_seconds", 0)}, {"split": splits[name]}


def save(data: StoreReader, body: dict[str, Any]) -> dict[str, Any]:
    """Write it, as `fmfbench split` does. Errors as there."""
    name = str(body.get("name") or "derived")
    made = split_store(
        local_path(data.path), name=name, as_default=body.get("as_default") is True, **parse_rule(data, body)
    )
    return made.to_dict()


def _stretch(data: StoreReader, entry: object) -> Stretch:
    """Frames as the seconds that `--at` takes: exact, so that the same frames come out."""
    if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)):
        raise InputError(f"expected [recording, first frame, frame after the last], got {entry!r}")
    name, start, stop = entry
    recording = data.recordings.get(name)
    if recording is None:
        raise InputError(f"expected one of the recordings {', '.join(data.recordings)}, got {name!r}")
    count = recording.num_frames
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in (start, stop))
    if not whole or not 0 <= start < stop <= count:
        raise InputError(f"{name}: expected frames that rise, from 0 to {count}, got {start!r} and {stop!r}")
    since = recording.frame_time - recording.frame_time[0]
    end = None if stop == count else Fraction(int(since[stop]), NS)
    return Stretch(recording=name, start=Fraction(int(since[start]), NS), stop=end)
