"""A split drawn in the page is the one that `fmfbench split` makes of the same words, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_run import call
from conftest_studio import HOSTILE, in_path, until

import fmfbench
from fmfbench.studio.bundle import unpack

PROTOCOL = "short"


@pytest.fixture
def divisible(awkward_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(awkward_store, tmp_path / "own.zarr"))


def split_files(store: Path, name: str) -> dict[str, bytes]:
    """The stored codes; their documents carry the time of writing."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob(f"splits/{name}/**/*")
        if path.is_file() and path.name != "zarr.json"
    }


RULES = {
    "stretches": ({"at": [["b-long", 300, 450], ["b-long", 600, 700]]}, None),
    "share": ({"percent": 20}, ["--test", "20%"]),
    "odd share": ({"percent": 12.5}, ["--test", "0.125"]),
    "recordings": ({"by_recording": ["b-long"]}, ["--by-recording", "b-long"]),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_split_is_that_of_the_command(launch, divisible: Path, tmp_path: Path, rule: str) -> None:
    body, words = RULES[rule]
    body = {**body, "protocol": PROTOCOL}
    data = fmfbench.open_dataset(divisible)
    times = data.recordings["b-long"].frame_time
    if words is None:  # the seconds of these frames, to the nanosecond
        count = len(times)
        spans = []
        for _, a, b in body["at"]:
            start, stop = (int(times[k] - times[0]) for k in (a, min(b, count - 1)))
            end = "" if b >= count else f"{stop // 10**9}.{stop % 10**9:09d}"
            spans.append(f"b-long:{start // 10**9}.{start % 10**9:09d}-{end}")
        words = ["--at", ",".join(spans)]
    other = Path(shutil.copytree(divisible, tmp_path / "other.zarr"))
    guards = [] if rule == "recordings" else ["--protocol", PROTOCOL]
    call("split", other, "--name", "mine", *words, *guards, "--as-default")
    studio = launch(divisible)
    facts, arrays = unpack(studio.ask("/api/split/b-long", body)[2])
    made = studio.json("/api/split", {**body, "name": "mine", "as_default": True})
    assert (made["split"], made["default_split"]) == ("mine", "mine")
    assert split_files(divisible, "mine") == split_files(other, "mine")
    assert split_files(divisible, "mine")
    ours, theirs = fmfbench.open_dataset(divisible), fmfbench.open_dataset(other)
    assert ours.fingerprint == theirs.fingerprint == made["fingerprint"]
    assert np.array_equal(arrays["split"], ours.recordings["b-long"].split)
    for name, recording in ours.recordings.items():
        assert facts["counts"][name] == {k: made["recordings"][name][k] for k in ("train", "test", "unused")}
        assert facts["counts"][name]["test"] == np.count_nonzero(recording.split == 1)
    assert (facts["guard_seconds"] > 0) == (rule != "recordings")
    # it is there now: again the same is no error, another one of its name is
    assert studio.json("/api/split", {**body, "name": "mine", "as_default": True})["written"] == []
    status, message = studio.error("/api/split", {"percent": 33, "protocol": PROTOCOL, "name": "mine"})
    assert status in (400, 404, 409)
    assert "mine" in message


def test_what_the_command_refuses_is_refused(launch, divisible: Path) -> None:
    studio = launch(divisible)
    before = {p: p.stat().st_mtime_ns for p in divisible.rglob("*") if p.is_file()}
    everything = [[r["name"], 0, r["frames"]] for r in studio.json("/api/recordings") if r["frames"]]
    for body, words in (
        ({}, "expected one of"),
        ({"percent": 20, "by_recording": ["b-long"]}, "expected one of"),
        ({"percent": 100}, "share above 0 %"),
        ({"percent": "20"}, "share above 0 %"),
        ({"percent": True}, "share above 0 %"),
        ({"at": []}, "at least a test stretch"),
        ({"at": [["b-long", 5, 5]]}, "frames that rise"),
        ({"at": [["b-long", 5, 99_999]]}, "frames that rise"),
        ({"at": [["b-long", 0.5, 9]]}, "frames that rise"),
        ({"at": [["zz", 1, 2]]}, "got 'zz'"),
        ({"at": ["b-long:1-2"]}, "expected [recording"),
        ({"by_recording": ["zz"]}, "got 'zz'"),
        ({"at": everything}, "none of train"),
        ({"percent": 20, "protocol": "none"}, "protocol"),
        ({"percent": 20, "protocol": "paper"}, "what would fit"),  # guards longer than the recordings
    ):
        for path in ("/api/split/b-long", "/api/split"):
            status, message = studio.error(path, {"protocol": PROTOCOL, "name": "x", **body})
            assert status == 400, (body, message)
            assert words in message
    assert studio.error("/api/split/zz", {"percent": 20, "protocol": PROTOCOL})[0] == 404
    assert studio.error("/api/split", {"percent": 20, "protocol": PROTOCOL, "name": "a/b"})[0] in (400, 404)
    assert {p: p.stat().st_mtime_ns for p in divisible.rglob("*") if p.is_file()} == before
    studio.stop()
    studio = launch(divisible, "--read-only")
    assert studio.ask("/api/split", {"percent": 20})[0] in (404, 405)


def test_stretches_by_mouse_and_keys(look: Any, launch: Any, own_store: Path) -> None:
    studio = launch(own_store)
    page = look(f"{studio.url}#{in_path(HOSTILE)}/0")
    press = page.keyboard.press
    assert (
        page.locator("#part-divide").get_by_text("Train and test are those of the split source").is_visible()
    )
    page.get_by_role("button", name="New split…").click()
    page.locator("#part-divide select").nth(1).select_option(PROTOCOL)
    division = (
        "import('/assets/app.js').then(({ app }) => [...(app.division?.stretches.values() ?? [])].flat())"
    )

    def drawn() -> list[list[int]]:
        return page.evaluate(division)

    def goto(frame: int) -> None:
        page.locator("#frame").fill(str(frame))
        page.locator("#frame").press("Enter")
        until(page, "f => document.getElementById('video').dataset.frame === String(f)", frame)
        page.locator("#lanes").focus()

    goto(70)
    press("j")
    goto(80)
    press("l")
    assert drawn() == [[70, 81]]
    goto(85)
    press("j")
    goto(79)
    press("l")  # backwards, and over the other: they become one
    assert drawn() == [[70, 86]]
    bounds = page.locator("#lanes").bounding_box()
    top = page.evaluate(
        "import('/assets/lanes.js').then(({ laneAt }) => { const l = laneAt('division'); return l.top + l.height / 2 })"
    )
    seconds = fmfbench.open_dataset(own_store).recordings[HOSTILE].frame_time
    total = (seconds[-1] - seconds[0]) / 1e9 + 0.04

    def at(frame: int) -> tuple[float, float]:
        share = ((seconds[frame] - seconds[0]) / 1e9 + 0.02) / total
        return bounds["x"] + 118 + share * (bounds["width"] - 128), bounds["y"] + top

    page.mouse.move(*at(20))
    page.mouse.down()
    page.mouse.move(*at(25))
    page.mouse.move(*at(30))
    page.mouse.up()
    assert drawn() == [[20, 31], [70, 86]]
    goto(75)
    press("u")
    assert drawn() == [[20, 31]]
    # guards of the short protocol leave nothing of so short a recording to train on: said, and not saved
    save = page.get_by_role("button", name="Save split")
    until(page, "document.querySelector('#part-divide .value, #part-divide .note') !== null")
    page.locator("#part-divide select").first.select_option("by_recording")
    page.locator("#part-divide").get_by_label("plain", exact=True).check()
    page.locator("#part-divide").get_by_text("plain: train 0, test 77, unused 0").wait_for()
    save.click()
    page.locator("#part-divide").get_by_text("Train and test are those of the split derived").wait_for()
    data = fmfbench.open_dataset(own_store)
    assert data.split_name == "derived"
    assert (data.recordings["plain"].split == 1).all()
