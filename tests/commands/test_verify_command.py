"""`verify` as a user calls it: exit codes, one JSON document, every finding on a line of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest_run import invoke as run

import fmfbench

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return fmfbench.convert(DATA / "v2_tree", tmp_path / "o.zarr")


def test_sound(store: Path) -> None:
    done = run("verify", store, "--source", DATA / "v2_tree", "--strict")
    assert done.exit_code == 0
    assert "sound" in done.stdout
    assert "compared with" in done.stdout


def test_damage_is_listed_and_fails(store: Path) -> None:
    (store / "recordings" / "zarr.json").unlink()
    (store / "extra").touch()
    done = run("verify", store)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:2] == [
        "damage  extra: is extra: no conversion wrote it",
        "damage  recordings/zarr.json: is absent",
    ]
    assert "DAMAGED" in done.stdout


def test_a_store_that_cannot_be_opened_is_reported_on(store: Path) -> None:
    (store / "zarr.json").write_bytes(b"\x00")
    assert run("info", store).exit_code == 2
    done = run("verify", store, "--json")
    assert done.exit_code == 1
    assert [f["where"] for f in json.loads(done.stdout)["damage"]] == ["zarr.json"]


def test_remarks_fail_only_when_strict(tmp_path: Path) -> None:
    store = fmfbench.convert(DATA / "v1_octave_v7_nan_current.mat", tmp_path / "o.zarr")
    done = run("verify", store, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert report["ok"] is True
    assert [r["check"] for r in report["remarks"]] == ["current"]
    assert report["checked"]["files"] == sum(p.is_file() for p in store.rglob("*"))
    assert run("verify", store, "--strict").exit_code == 1


@pytest.mark.parametrize("what", ["absent", "folder", "half-made"])
def test_bad_input(what: str, tmp_path: Path) -> None:
    if what == "folder":
        (tmp_path / what).mkdir()
    if what == "half-made":
        (tmp_path / what).mkdir()
        (tmp_path / what / "journal.json").write_text("{}")
    done = run("verify", tmp_path / what)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_copied_store_is_as_good(store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "elsewhere" / "other name")
    assert run("verify", copy, "--source", DATA / "v2_tree").exit_code == 0
