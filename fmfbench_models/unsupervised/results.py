"""A folder of results that grows part by part, belongs to one set of settings, and resumes after an interruption."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import FmfbenchError, InputError
from fmfbench.files.atomic import write_text
from fmfbench.files.claims import make_folder, read_mark, sweep
from fmfbench.scoring.metrics import metric
from fmfbench.scoring.ranks import auroc, rank, rank_replicates

__all__ = ["ResultFolder", "auroc_interval", "check_seed", "exit_code", "run_command"]

RESAMPLES = 2000


class ResultFolder:
    """Parts by name, a JSON file each. InputError: the folder holds results of other settings, or is a file."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        make_folder(path, "the results")
        own = json.loads(json.dumps(settings))
        found = read_mark(path, "settings.json", "results to resume")
        if found is None:
            sweep(path)
            self.write("settings", own)
        else:
            differing = sorted(key for key in own.keys() | found.keys() if own.get(key) != found.get(key))
            if differing:
                raise InputError(
                    f"{path}: expected results of these settings, got those of other {', '.join(differing)}; "
                    "choose another folder or delete it"
                )

    def read(self, name: str) -> dict[str, Any] | None:
        """A part, or None where it is not done yet."""
        file = self.path / f"{name}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        self.write_text(f"{name}.json", json.dumps(value, indent=1) + "\n")

    def write_text(self, name: str, text: str) -> None:
        write_text(self.path / name, text)


def check_seed(seed: int, where: str) -> None:
    """InputError: a seed that NumPy or PyTorch would not take."""
    if not 0 <= seed < 2**32:
        raise InputError(f"{where}: expected a seed from 0 to 2^32 - 1, got {seed}; choose another")


def auroc_interval(
    label: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]],
    strata: NDArray[np.integer[Any]],
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, NDArray[np.float64]]:
    """(AUROC, that of each resample (R,)) of independent samples (N,), drawn anew within each stratum.

    Strata must tell the labels apart. Samples and resamples depend on strata and seed alone: detectors of the same
    samples are compared, and averaged, resample by resample. The spread is that of the test images: nothing is
    trained again.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(label)))
    for value in np.unique(strata):
        rows = np.flatnonzero(strata == value)
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), resamples)
    ranking = rank(label, score)
    formula = metric("auroc").formula
    return auroc(ranking), rank_replicates(ranking, np.arange(len(label)), weights, {"auroc": formula})[
        "auroc"
    ]


def run_command(name: str, arguments: Sequence[str] | None = None) -> None:
    """`fmfbench unsupervised NAME` with these arguments, or with those of this process; errors are click's."""
    command = next(iter(entry_points(group="console_scripts", name="fmfbench")))  # no import of a room above
    given = sys.argv[1:] if arguments is None else arguments
    command.load()(["unsupervised", name, *given], prog_name="fmfbench", standalone_mode=False)


def exit_code(main: Callable[[], None]) -> int:
    """Run a command; an error of fmfbench or of the file system becomes one line on stderr and an exit code."""
    try:
        main()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FmfbenchError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        print(
            f"Error: {where}{error.strerror or error}; put that right and call again: what is done is kept",
            file=sys.stderr,
        )
        return 1
    return 0
