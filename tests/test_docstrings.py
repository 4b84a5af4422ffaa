"""The examples of docstrings run, in a folder that holds what they name; public functions have one.

In the folder: `furnace/` (FMF-Sim, preset tiny), `fmf.zarr` (the store of it), and `predictions.npz` and `other.npz` (a
constant score for its test split). The variable `store` is the path of a store of awkward recordings.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest

import fmfbench

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "fmfbench": ROOT / "fmfbench",
    "fmfbench_models": ROOT / "fmfbench_models",
    "fmfbench_cli": ROOT / "cli",
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_with_examples() -> list[str]:
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(folder).with_suffix("").parts
                found.append(".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts))))
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    fmfbench.simulate(folder / "furnace", preset="tiny")
    fmfbench.convert(folder / "furnace", folder / "fmf.zarr")
    ids = fmfbench.open_dataset(folder / "fmf.zarr").sample_ids("test")
    for name, score in (("predictions.npz", 0.25), ("other.npz", 0.75)):
        fmfbench.write_predictions(folder / name, sample_id=ids, score=np.full(len(ids), score))
    return folder


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(
    name: str, prepared: Path, awkward_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(name)
    work = tmp_path / "work"
    shutil.copytree(prepared, work)
    monkeypatch.chdir(work)
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert examples
    for test in examples:
        test.globs.update({"fmfbench": fmfbench, "np": np, "store": awkward_store})
        told: list[str] = []
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append)
        assert not told, "".join(told)


@pytest.mark.parametrize("module", ["fmfbench", "fmfbench_models"])
def test_what_a_front_page_offers_has_an_example(module: str) -> None:
    front = importlib.import_module(module)
    functions = [
        n for n in front.__all__ if callable(getattr(front, n)) and not inspect.isclass(getattr(front, n))
    ]
    missing = [n for n in functions if ">>> " not in (inspect.getdoc(getattr(front, n)) or "")]
    assert not missing
