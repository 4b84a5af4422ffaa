"""What a store says of itself that a card repeats: counts, times, gaps, labels and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmfbench.conversion.summary import describe
from fmfbench.store.layers import class_label_provenance, provenance_of
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording

__all__ = ["StoreFacts", "gather_facts"]

KNOWN_FRAMES = (31_826, 89_937, 148_158)  # of the benchmark's three pixel-level recordings


@dataclass(frozen=True, kw_only=True)
class StoreFacts:
    """Facts of a store, as `fmfbench info` has them, and what cards ask beyond.

    Attributes:
        kind: "FMF-Sim", "FMF-Benchmark" (its pixel-level set, by the frame counts of its recordings) or "own".
        info: of `describe`: counts by split and class, sizes, and the recordings one by one.
        day: on which the store was made, YYYY-MM-DD.
        digest: over every file of the store.
        tools: what wrote the labels: name and version of each tool, with its number of recordings.
        dates: the first day and the last, YYYY-MM-DD; empty where frame times are of no clock.
    """

    kind: str
    info: Mapping[str, Any]
    day: str
    digest: str
    tools: tuple[str, ...]
    dates: tuple[str, ...]

    @property
    def recordings(self) -> list[dict[str, Any]]:
        return list(self.info["recordings"])


def gather_facts(data: StoreReader) -> StoreFacts:
    """The facts of an open store."""
    recordings = list(data.recordings.values())
    kind = "own"
    if data.simulated:
        kind = "FMF-Sim"
    elif tuple(sorted(r.num_frames for r in recordings)) == KNOWN_FRAMES:
        kind = "FMF-Benchmark"
    tools: dict[str, int] = {}
    for recording in recordings:
        for layer in recording.layers or ("",):
            found = provenance_of(recording, layer) if layer else class_label_provenance(recording)
            if found:
                told = f"{found.get('tool', 'unknown tool')} {found.get('version', '')}".strip()
                told += f" (layer {layer})" if layer else " (class labels)"
                tools[told] = tools.get(told, 0) + 1
    return StoreFacts(
        kind=kind,
        info=describe(data),
        day=str(data.attributes.get("fmfbench.created", {}).get("time", "1970-01-01"))[:10],
        digest=str(data.attributes["fmfbench.digest"]),
        tools=tuple(f"{name}, {count} of {len(recordings)} recordings" for name, count in tools.items()),
        dates=_dates(recordings),
    )


def _dates(recordings: list[Recording]) -> tuple[str, ...]:
    filled = [r for r in recordings if r.num_frames]
    if not filled or any(r.time_origin != "clock" for r in filled):
        return ()
    ends = (min(int(r.frame_time[0]) for r in filled), max(int(r.frame_time[-1]) for r in filled))
    return tuple(str(np.datetime64(time, "ns").astype("datetime64[D]")) for time in ends)
