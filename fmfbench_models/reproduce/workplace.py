"""The folder of a reproduction: where things lie, and facts that survive a kill at any point.

    OUT/reproduce.json                               the data it belongs to
    OUT/runs/SIZE/TRAINING/seed0/                    run folders of `train`; seed0.times.json beside each
    OUT/predictions/SIZE/ROW-seed0.npz
    OUT/results/SIZE/ROW-seed0.json                  score, or why there is none
    OUT/bundles/SIZE/ROW-seed0.fmfb                  of `reproduce all`: predictions, score and receipt
    OUT/turns/                                       which rows are being made by a `reproduce all`, on any machine
    OUT/table2-SIZE.md, .json                        and fig6-SIZE.png

SIZE is the preset, its epochs, how training samples are thinned where that is not as the preset has it, and a mark of
what else was set; what is
predicted and scored once a second has "-per-second" after it. A row that
several tables share is trained and scored once. Where a file of backbone weights is given, TRAINING ends with the first
eight digits of its sha256, and so do the names of rows and tables.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmfbench.data import Dataset
from fmfbench.errors import InputError
from fmfbench.files.atomic import write_text
from fmfbench.files.claims import read_mark
from fmfbench.files.turns import live_turns

__all__ = ["Stopwatch", "Workplace", "read_json", "write_json"]


@dataclass(frozen=True)
class Workplace:
    """table_mark: joins the names of tables, for rows of their own that other tables of this size have not.

    sample_set: joins the names of what is predicted and scored, where that is not every test sample.
    """

    out: Path
    size: str
    table_mark: str = ""
    sample_set: str = ""

    @property
    def scored(self) -> str:
        return f"{self.size}-{self.sample_set}" if self.sample_set else self.size

    def run(self, training: str, seed: int) -> Path:
        return self.out / "runs" / self.size / training / f"seed{seed}"

    def predictions(self, slug: str, seed: int) -> Path:
        return self.out / "predictions" / self.scored / f"{slug}-seed{seed}.npz"

    def result(self, slug: str, seed: int) -> Path:
        return self.out / "results" / self.scored / f"{slug}-seed{seed}.json"

    def bundle(self, slug: str, seed: int) -> Path:
        return self.out / "bundles" / self.scored / f"{slug}-seed{seed}.fmfb"

    @property
    def turns(self) -> Path:
        return self.out / "turns"

    def table(self, name: str, ending: str) -> Path:
        return self.out / f"{name}-{self.scored}{self.table_mark}.{ending}"

    def check(self, data: Dataset) -> None:
        """A folder belongs to one data set; InputError where it is another's or holds other things."""
        found = read_mark(self.out, "reproduce.json", "one of an earlier call")
        if found is not None:
            if found.get("fingerprint") != data.fingerprint:
                raise InputError(
                    f"{self.out}: expected a folder of {data.name} (fingerprint {data.fingerprint[:12]}), got one "
                    f"of {found.get('data')} ({str(found.get('fingerprint'))[:12]}); choose another folder"
                )
            if found.get("sources") not in (None, data.sources_digest):  # None: an older folder
                raise InputError(
                    f"{self.out}: expected a folder of the files that {data.path} was made of, got one of files of "
                    f"the same labels and other frames or currents; choose another folder"
                )

    def claim(self, data: Dataset) -> None:
        """Check, mark it as this data set's, and clear away what killed calls have left, if no other is at work."""
        self.check(data)
        mark = self.out / "reproduce.json"
        if not mark.is_file():
            facts = {"data": data.name, "fingerprint": data.fingerprint, "sources": data.sources_digest}
            write_json(mark, {"schema": 1, **facts})
        if not live_turns(self.turns):
            self._sweep()

    def _sweep(self) -> None:
        for left in self.out.glob("predictions/*/.predict-*"):
            shutil.rmtree(left, ignore_errors=True)
        for pattern in (
            "predictions/*/*.part",
            "turns/.*",
            "*/*/.*.tmp",
            "runs/*/*/.*.tmp",
            "runs/*/*/*/.*.tmp",
            ".*.tmp",
        ):
            for left in self.out.glob(pattern):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()
        for run in self.out.glob("runs/*/*/seed*"):
            if run.is_dir() and not (run / "run.json").is_file():
                shutil.rmtree(run)  # killed before it had begun


class Stopwatch:
    """Seconds that a run folder was worked on, over all calls; a killed call counts to its last saved state."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.path = run.with_name(f"{run.name}.times.json")

    def start(self) -> None:
        write_json(self.path, [*self._spans(), {"start": time.time(), "end": None}])

    def stop(self) -> None:
        spans = self._spans(open_end=time.time())
        write_json(self.path, spans)

    def seconds(self) -> float | None:
        """None where nothing was timed: the run was made elsewhere."""
        spans = self._spans()
        return sum(span["end"] - span["start"] for span in spans) if spans else None

    def _spans(self, open_end: float | None = None) -> list[dict[str, float]]:
        spans: list[dict[str, Any]] = read_json(self.path) or []
        for span in spans:
            if span["end"] is None:
                saved = [path.stat().st_mtime for path in self.run.glob("*.*")]
                span["end"] = max([span["start"], *saved]) if open_end is None else open_end
        return spans


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
