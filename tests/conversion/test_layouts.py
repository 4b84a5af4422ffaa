"""A hundred invented layouts: every good one converts exactly, every bad one is named rightly."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from conftest_run import invoke
from layouts_campaign.case import Layout, Recording
from layouts_campaign.invent import COUNT, layout

import fmfbench

SEED = 18


def run(folder: Path, *arguments: str) -> Result:
    """The command line, in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return invoke(*arguments)
    finally:
        os.chdir(before)


def same(recording: object, expected: Recording) -> None:
    n = len(expected.frames)
    assert recording.num_frames == n
    frames = recording.read_video(0, n)
    if expected.lossy:
        near = np.abs(frames.astype(int) - expected.frames).mean(axis=(1, 2, 3))
        assert near.max() < 8, "pictures"
        levels = frames.mean(axis=(1, 2, 3)) - expected.frames.mean(axis=(1, 2, 3))
        assert np.abs(levels).max() < 8, "order of pictures"  # neighbours differ by 22 and more
    else:
        assert np.array_equal(frames, expected.frames), "pictures"
    assert np.abs(recording.frame_time - expected.frame_time).max() <= expected.slack, "times of frames"
    assert np.array_equal(recording.current_time, expected.current_time), "times of rows"
    np.testing.assert_allclose(recording.current, expected.current, rtol=3e-7)
    if expected.split is not None:
        assert np.array_equal(recording.split, expected.split), "split"
    assert (expected.masks is not None) == bool(recording.layers)
    if expected.masks is not None:
        assert np.array_equal(recording.read_masks(0, n), expected.masks), "masks"
    if expected.classes is not None:
        assert np.array_equal(recording.class_label, expected.classes), "classes"


def check(made: Layout, folder: Path) -> None:
    """What the doctor says of a layout, what its command makes, and what `convert` says without it."""
    before = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    done = run(folder, "doctor", made.place, "--json")
    assert done.exit_code in (0, 2), done.output
    told = json.loads(done.output)
    page = json.dumps(told, ensure_ascii=False)
    for words in made.words:
        assert re.search(words, page), f"{words!r} is not in {told['problems']} {told['files']}"
    converts = bool(made.recordings or made.counted)
    assert (done.exit_code == 0) == converts == (told["command"] is not None), told
    if not made.as_it_is and not (made.either and not told["problems"]):
        refused = run(folder, "convert", made.place, "refused.zarr")
        assert refused.exit_code == 2, refused.output
        assert " ".join(told["problems"][0].split()) in " ".join(refused.output.split())
    assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == before
    if not converts:
        return
    parts = shlex.split(told["command"])
    assert parts[:2] == ["fmfbench", "convert"]
    assert re.search(made.command, told["command"]), told["command"]
    assert not made.as_it_is or (len(parts) == 4 and not told["problems"]), told
    pasted = run(folder, *parts[1:])
    assert pasted.exit_code == 0, pasted.output
    recordings = fmfbench.open_dataset(folder / parts[3]).recordings
    assert sorted(recordings) == sorted([*made.recordings, *made.counted])
    for name, expected in made.recordings.items():
        same(recordings[name], expected)
    for name in made.counted:
        assert recordings[name].num_frames > 0
        assert any("damaged" in r for r in recordings[name].attributes["fmfbench.remarks"])


@pytest.mark.parametrize("number", range(SEED % 10, COUNT, 20))
def test_a_tenth_of_the_hundred(tmp_path: Path, number: int) -> None:
    for one in (number, number + 1):  # a bad one and a good one
        folder = tmp_path / str(one)
        folder.mkdir()
        check(layout(SEED, one, folder), folder)


@pytest.mark.long
@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.parametrize("seed", [SEED, 1, 2, 3])
def test_the_hundred(tmp_path: Path, seed: int, number: int) -> None:
    check(layout(seed, number, tmp_path), tmp_path)


def test_at_least_forty_of_a_hundred_are_bad(tmp_path: Path) -> None:
    from layouts_campaign.bad import BAD

    assert len(BAD) >= COUNT // 2
    kinds = np.random.default_rng(SEED).permutation(sorted(BAD))
    assert len(set(kinds[: COUNT // 2])) == COUNT // 2
