"""From raw video and a table to a scored model, on a furnace that no one prepared: docs/tutorials/own_furnace.md."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest_studio import Studio
from fmfbench_cli.main import main

import fmfbench

pytest.importorskip("av")
torch = pytest.importorskip("torch")

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "own_furnace.md"
MOST_COMMANDS = 10


def commands() -> list[list[str]]:
    """The page's commands, in order, as words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("fmfbench ")]


def call(words: list[str]) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, (words, done.output)
    return done.stdout


def label(store: Path, drawn: Path) -> None:
    """What a person does in the studio: boxes on keyframes of each recording, then Apply."""
    studio = Studio(store)
    try:
        found = studio.json("/api/read", drawn.read_bytes())["tracks"]
        for name, tracks in found.items():
            studio.json(f"/api/keyframes/{name}", {"base": 0, "tracks": tracks})
        state = studio.json("/api/apply", {"boxes": "boxes", "refined": "refined", "as_default": True})
        end = time.monotonic() + 120
        while state["state"] == "running":
            assert time.monotonic() < end
            time.sleep(0.1)
            state = studio.json("/api/pulse")["apply"]
        assert state["state"] == "done", state
    finally:
        assert studio.stop() == 0


def test_a_furnace_of_ones_own_in_ten_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = commands()
    assert len(steps) <= MOST_COMMANDS
    assert [step[0] for step in steps] == [
        "convert", "studio", "split", "train", "predict", "score", "studio", "watch"
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a model this small only waits for more
    try:
        follow(steps, tmp_path)
    finally:
        torch.set_num_threads(threads)


def follow(steps: list[list[str]], tmp_path: Path) -> None:
    call(["simulate", "furnace", "--preset", "tiny", "--layout", "recording"])  # in the place of a camera
    drawn = tmp_path / "furnace" / "truth" / "keyframes.json"
    for step in steps:
        if step[0] == "studio" and "--predictions" not in step:
            label(tmp_path / step[1], drawn)
            data = fmfbench.open_dataset(tmp_path / step[1])
            assert data.default_layer == "refined"
            assert all((r.class_label != 255).all() for r in data.recordings.values())
        elif step[0] == "studio":
            studio = Studio(tmp_path / step[1], *step[2:])
            shown = studio.json("/api/about")["predictions"]
            assert shown == [Path(step[step.index("--predictions") + 1]).name]
            assert studio.stop() == 0
        elif step[0] == "train":
            call(
                [
                    *step,
                    *["--epochs", "1", "--set", "preset=nano", "--protocol", "short", "--set", "every=10"],
                ]
            )  # a test has no hour
        elif step[0] == "score":
            metrics = json.loads(call([*step, "--json"]))["metrics"]
            assert 0 <= metrics["accuracy"] <= 1
            assert metrics["miou"] is not None
        else:
            call(step)
    watched = [json.loads(line) for line in (tmp_path / "log" / "frames.jsonl").read_text().splitlines()]
    data = fmfbench.open_dataset(tmp_path / "furnace.zarr")
    found = fmfbench.read_predictions(tmp_path / "predictions.npz")
    recording = data.recordings["FMF-Sim-2"]
    assert found.sample_id.tolist() == list(
        range(recording.first_id, recording.first_id + recording.num_frames)
    )
    assert np.abs(found.score - [entry["score"] for entry in watched]).max() <= 1e-5
