"""A run's log in other forms, beside log.jsonl: a table for spreadsheets, and event files for TensorBoard."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmfbench.errors import InputError, MissingDependencyError
from fmfbench.files.atomic import write_text
from fmfbench_models.training.runlog import LogForm, read_log

__all__ = ["LOGS", "check_logs", "log_forms"]

LOGS = ("csv", "tensorboard")


def check_logs(names: Sequence[str]) -> None:
    """InputError for a form that there is not, MissingDependencyError for one whose package is not installed."""
    for name in names:
        if name not in LOGS:
            raise InputError(f"log: expected one of {', '.join(LOGS)}, got {name!r}")
    if "tensorboard" in names:
        _writer_class()


def log_forms(names: Sequence[str], log: Path) -> list[LogForm]:
    """The forms of a log, which may already hold lines."""
    made: dict[str, type[CsvLog | TensorBoardLog]] = {"csv": CsvLog, "tensorboard": TensorBoardLog}
    return [made[name](log) for name in dict.fromkeys(names)]


class CsvLog:
    """log.csv beside log.jsonl: a row for each of its lines, written whole after each epoch."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._write()

    def line(self, values: dict[str, Any]) -> None:
        if values.get("kind") == "epoch":
            self._write()

    def close(self) -> None:
        self._write()

    def _write(self) -> None:
        lines = read_log(self._log)
        columns = list(dict.fromkeys(key for line in lines for key in line))
        text = io.StringIO()
        rows = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        rows.writeheader()
        for line in lines:
            rows.writerow({key: "" if value is None else value for key, value in line.items()})
        write_text(self._log.with_suffix(".csv"), text.getvalue())


class TensorBoardLog:
    """Event files in the folder `tensorboard` beside log.jsonl.

    They are made anew of the log when a run resumes, so that no step stands in them twice.
    """

    def __init__(self, log: Path) -> None:
        folder = log.parent / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = _writer_class()(str(folder))
        for line in read_log(log):
            self.line(line)

    def line(self, values: dict[str, Any]) -> None:
        kind, step = values.get("kind"), values.get("step")
        if kind not in ("step", "epoch") or step is None:
            return
        for name, value in values.items():
            if name not in ("kind", "step", "epoch") and value is not None:
                part = "validation" if name.startswith("val_") else kind
                self._writer.add_scalar(f"{part}/{name.removeprefix('val_')}", value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "tensorboard":
            raise
        raise MissingDependencyError(
            "log tensorboard: the package tensorboard is not installed: pip install 'fmfbench[tensorboard]'"
        ) from None
    return SummaryWriter
