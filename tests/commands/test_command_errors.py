"""Whatever goes wrong is one line on stderr and an exit code, whichever command it happens in.

Also tests fmfbench: errors.
Also tests fmfbench_cli: options.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from conftest_run import invoke as run

import fmfbench

DATA = Path(__file__).parents[1] / "data"


def assert_one_line(done: Result, exit_code: int, *parts: str) -> None:
    assert done.exit_code == exit_code
    assert len(done.stderr.splitlines()) == 1
    for part in parts:
        assert part in done.stderr


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fmfbench.convert(DATA / "v2_tree", tmp_path_factory.mktemp("store") / "s.zarr")


@pytest.fixture
def predictions(store: Path, tmp_path: Path) -> Path:
    ids = fmfbench.open_dataset(store).sample_ids("test")
    return fmfbench.write_predictions(tmp_path / "p.npz", sample_id=ids, score=np.full(len(ids), 0.25))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("nonsense",), ("No such command 'nonsense'", "see `fmfbench --help`")),
        (("--nonsense",), ("--nonsense", "see `fmfbench --help`")),
        (("convert",), ("Missing argument 'SOURCE'", "see `fmfbench convert --help`")),
        (("convert", "a", "b", "--layout", "v3"), ("'v3' is not one of", "see `fmfbench convert --help`")),
        (("score", "p.npz", "--nonsense"), ("--nonsense", "see `fmfbench score --help`")),
        (("labels", "nonsense"), ("No such command 'nonsense'", "see `fmfbench labels --help`")),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    assert_one_line(run(*arguments), 2, *parts)


def test_no_arguments_show_the_help() -> None:
    assert "Recordings and stores:" in run().output
    assert "export" in run("labels").output


def test_a_file_that_cannot_be_written_is_one_line(store: Path, predictions: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = run("labels", "export", store, "-o", tmp_path / "folder")
    assert_one_line(done, 2, f"{tmp_path / 'folder'}")
    done = run("score", predictions, "--data", store, "--csv", tmp_path / "folder")
    assert_one_line(done, 2, "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "p.npz"]


def test_a_file_is_no_store(store: Path) -> None:
    assert_one_line(run("info", store / "zarr.json"), 2, "zarr.json", "store")


def test_the_folder_itself_is_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(run("convert", DATA / "v2_tree", "."), 2, "expected the name of a store to make")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("--crop", "0,0,4,4"), ("--size", "8x8")])
def test_a_crop_or_size_of_mat_files_is_refused(tmp_path: Path, option: str, value: str) -> None:
    done = run("convert", DATA / "v2_tree", tmp_path / "o.zarr", option, value)
    assert_one_line(done, 2, "expected a raw recording to crop or resize, got layout v2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [("--preset", "nonsense"), ("--seed", "-1")])
def test_a_demo_that_cannot_be_made_leaves_no_folder(tmp_path: Path, options: tuple[str, str]) -> None:
    assert_one_line(run("demo", tmp_path / "demo", *options), 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--seed", "-1"), "a seed of 0 or more"),
        (("--resamples", "0"), "at least 20 resamples"),
        (("--protocol", "nonsense"), "protocol: expected one of paper"),
    ],
)
@pytest.mark.parametrize("command", ["score", "compare"])
def test_what_a_score_cannot_be_made_with(
    store: Path, predictions: Path, command: str, options: tuple[str, str], part: str
) -> None:
    files = [predictions] if command == "score" else [predictions, predictions]
    assert_one_line(run(command, *files, "--data", store, *options), 2, part)


def test_scoring_against_nothing_says_what_is_missing(predictions: Path, tmp_path: Path) -> None:
    done = run("score", predictions, "--data", tmp_path / "none.zarr")
    assert_one_line(done, 2, "none.zarr: expected a store or a label file, got nothing")


@pytest.mark.parametrize("meta", ['{"a": NaN}', '{"a": [1e999]}', "nonsense"])
def test_meta_that_is_no_json_is_refused(store: Path, tmp_path: Path, meta: str) -> None:
    ids = fmfbench.open_dataset(store).sample_ids("test")
    np.savez(tmp_path / "p.npz", sample_id=ids, score=np.full(len(ids), 0.25), meta=meta)
    done = run("score", tmp_path / "p.npz", "--data", store, "--json")
    assert_one_line(done, 2, "meta is not JSON text")
    assert done.stdout == ""
    assert not done.stderr.rstrip().endswith("'")
