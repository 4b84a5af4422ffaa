"""A run's log: one JSON object a line, cut back to a known length on resuming, and drawn as curves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

from fmfbench.files.atomic import replacing

__all__ = ["LogForm", "RunLog", "draw_curves", "read_log"]


class LogForm(Protocol):
    """Another form of the log, told of each line when it is written."""

    def line(self, values: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class RunLog:
    """Appends lines to `path`. `length` is what a resumed run must cut the file back to; `forms` are told of each."""

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path = path
        self.forms: list[LogForm] = []
        path.touch()
        os.truncate(path, min(length, path.stat().st_size))

    @property
    def length(self) -> int:
        return self.path.stat().st_size

    def write(self, **values: Any) -> None:
        with self.path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps(values) + "\n")
        for form in self.forms:
            form.line(values)


def read_log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def draw_curves(log: Path, picture: Path, title: str) -> None:
    """Loss by epoch, training and validation, beside the metrics of validation, into a PNG.

    Args:
        log: log.jsonl of a run.
        picture: the PNG to write.
        title: what was trained on what, above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [line for line in read_log(log) if line["kind"] == "epoch"]
    number = [line["epoch"] + 1 for line in epochs]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    figure.suptitle(title)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(number, [line["loss"] for line in epochs], marker=".", label="training")
    _plot(left, epochs, "val_loss", "validation")
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    _plot(right, epochs, "val_accuracy", "accuracy")
    _plot(right, epochs, "val_f1", "F1")
    _plot(right, epochs, "val_miou", "mIoU")
    right.set(xlabel="epoch", ylabel="validation", ylim=(0, 1.02))
    for axis in (left, right):
        if axis.lines:
            axis.legend()
        else:
            axis.text(0.5, 0.5, "no validation", transform=axis.transAxes, ha="center", color="0.4")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})


def _plot(axis: Any, lines: list[dict[str, Any]], key: str, label: str) -> None:
    points = [(line["epoch"] + 1, line[key]) for line in lines if line.get(key) is not None]
    if points:
        axis.plot(*zip(*points, strict=True), marker=".", label=label)
