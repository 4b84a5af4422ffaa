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
from fmfbench.furnace.current import STRETCHES
from fmfbench.furnace.light import STATES
from fmfbench.furnace.render import RED, Furnace

__all__ = ["keyframe_tracks", "truth_arrays", "write_arrays"]

Array = npt.NDArray[Any]

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def truth_arrays(
    furnace: Furnace, visibility: npt.NDArray[np.float32], pixels: npt.NDArray[np.uint16]
) -> dict[str, Array]:
    """A recording's hidden states.

    Per frame (T,): `visibility` 0..1 (share of the heat's contrast that mist, glare and light let through; in frames
    without any, of the whole frame's), `mist_depth` (optical), `glare` (grey levels), `reflections`, `splashes` (how
    many), `light` (number of the light's state, in `meta`'s list), `event` (number of the event, -1 outside),
    `hot_pixels`, `label_pixels` and `common_pixels` (what is hot, what the label says, and both: `pixels` (T, 3)).
    Per event (E,): `onset`, `apex`, `offset` frames (inclusive), `box` (E, 4) x0 y0 x1 y1 in pixels at the largest,
    `glow` grey levels of red at its height, `sign` of its signature (1 rough, -1 calm).
    Per current row (M,): `current_time` ns since the video's first second, `signature` 0..1, `feeding` 0..1,
    `stretch` (number of the kind of stretch, in `meta`'s list, -1 as usual). `meta` is JSON text.
    """
    plan = furnace.plan
    event = np.full(plan.frames, -1, dtype=np.int32)
    for k, own in enumerate(furnace.plan.events):
        event[own.onset : own.offset + 1] = k
    reflections = np.zeros(plan.frames, dtype=np.int16)
    for patch in furnace.reflections:
        reflections[patch.first : patch.last] += 1
    splashes = np.zeros(plan.frames, dtype=np.int16)
    for drop in furnace.splashes:
        splashes[drop.first : drop.last] += 1
    meta = {
        "name": NAME,
        "version": VERSION,
        "recording": plan.name,
        "seed": plan.seed,
        "anomaly_free": plan.anomaly_free,
        "signature": plan.signature,
        "light": [name for name, *_ in STATES],
        "stretch": list(STRETCHES),
        "note": "simulated; hidden states for analysis, never an input of a model",
    }
    bounds = np.array([(e.onset, e.apex, e.offset) for e in plan.events], dtype=np.int64).reshape(-1, 3)
    return {
        "meta": np.array(json.dumps(meta, sort_keys=True)),
        "visibility": visibility,
        "mist_depth": furnace.mist_depth,
        "glare": furnace.glare_level,
        "reflections": reflections,
        "splashes": splashes,
        "light": furnace.light.state,
        "hot_pixels": pixels[:, 0],
        "label_pixels": pixels[:, 1],
        "common_pixels": pixels[:, 2],
        "event": event,
        "onset": bounds[:, 0],
        "apex": bounds[:, 1],
        "offset": bounds[:, 2],
        "box": np.array([spot.box for spot in furnace.spots], dtype=np.int32).reshape(-1, 4),
        "glow": np.array([RED * spot.glow.max() for spot in furnace.spots], dtype=np.float32),
        "sign": furnace.current.sign,
        "current_time": furnace.current.time,
        "signature": furnace.current.signature.astype(np.float32),
        "feeding": furnace.current.feeding.astype(np.float32),
        "stretch": furnace.current.stretch,
    }


def keyframe_tracks(furnace: Furnace) -> dict[str, Any]:
    """The events as the annotator handed them in, a track for each hot piece: what the labels were made from."""
    tracks: list[dict[str, Any]] = []
    for pieces, spot in zip(furnace.labeller.tracks, furnace.spots, strict=True):
        for track in pieces:
            first, last = int(track.frames[0]), int(track.frames[-1])
            frames = zip(track.frames.tolist(), track.boxes.tolist(), strict=True)
            tracks.append(
                {
                    "id": len(tracks),
                    "onset": first,
                    "apex": min(max(spot.event.apex, first), last),
                    "offset": last,
                    "keyframes": [{"frame": frame, "box": box} for frame, box in frames],
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
