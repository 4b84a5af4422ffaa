"""What no camera and no ammeter sees: written beside the data, never inside what a model is given."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmfbench.furnace import NAME, VERSION
from fmfbench.furnace.anomaly import UNIT, Spot
from fmfbench.furnace.render import Furnace

__all__ = ["keyframe_tracks", "truth_arrays", "write_arrays"]

Array = npt.NDArray[Any]

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def truth_arrays(furnace: Furnace, visibility: npt.NDArray[np.float32]) -> dict[str, Array]:
    """A recording's hidden states.

    Per frame (T,): `visibility` 0..1 (share of the spot's contrast that mist and glare let through; in frames
    without a spot, of the whole frame's), `mist_depth` (optical), `glare` (grey levels), `reflections` (how many),
    `event` (number of the event, -1 outside). Per event (E,): `onset`, `apex`, `offset` frames (inclusive),
    `box` (E, 4) x0 y0 x1 y1 in pixels at the apex, `glow` grey levels of red at its height.
    Per current row (M,): `current_time` ns since the video's first second, `signature` 0..1, `feeding` 0..1.
    `meta` is JSON text.
    """
    plan = furnace.plan
    event = np.full(plan.frames, -1, dtype=np.int32)
    for k, own in enumerate(furnace.plan.events):
        event[own.onset : own.offset + 1] = k
    reflections = np.zeros(plan.frames, dtype=np.int16)
    for patch in furnace.reflections:
        reflections[patch.first : patch.last] += 1
    meta = {
        "name": NAME,
        "version": VERSION,
        "recording": plan.name,
        "seed": plan.seed,
        "anomaly_free": plan.anomaly_free,
        "note": "simulated; hidden states for analysis, never an input of a model",
    }
    bounds = np.array([(e.onset, e.apex, e.offset) for e in plan.events], dtype=np.int64).reshape(-1, 3)
    return {
        "meta": np.array(json.dumps(meta, sort_keys=True)),
        "visibility": visibility,
        "mist_depth": furnace.mist_depth,
        "glare": furnace.glare_level,
        "reflections": reflections,
        "event": event,
        "onset": bounds[:, 0],
        "apex": bounds[:, 1],
        "offset": bounds[:, 2],
        "box": np.array([spot.box for spot in furnace.spots], dtype=np.int32).reshape(-1, 4),
        "glow": np.array([spot.glow.max() for spot in furnace.spots], dtype=np.float32),
        "current_time": furnace.current.time,
        "signature": furnace.current.signature.astype(np.float32),
        "feeding": furnace.current.feeding.astype(np.float32),
    }


def keyframe_tracks(furnace: Furnace) -> dict[str, Any]:
    """The events as an annotator would hand them in: onset, apex, offset and boxes on a few keyframes."""
    tracks = []
    for k, spot in enumerate(furnace.spots):
        event = spot.event
        between = [(event.onset + event.apex) // 2, (event.apex + event.offset) // 2]
        frames = sorted({event.onset, event.apex, event.offset, *between})
        tracks.append(
            {
                "id": k,
                "onset": event.onset,
                "apex": event.apex,
                "offset": event.offset,
                "keyframes": [{"frame": f, "box": _box(spot, f)} for f in frames],
            }
        )
    return {"tracks": tracks}


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """An .npz whose bytes depend on the arrays alone (`numpy.savez` writes the time of day)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # else the host's
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, buffer.getvalue())


def _box(spot: Spot, frame: int) -> list[int]:
    rows, columns = np.nonzero(spot.distance < min(int(spot.size[frame - spot.event.onset]), UNIT))
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
