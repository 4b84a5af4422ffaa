"""Windows against a slow definition written from the contract alone: two loops, Python integers, no numpy tricks.

Also tests fmfbench.windows: currents, protocol.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import fmfbench
from fmfbench.errors import WindowError
from fmfbench.windows.plan import fill_source
from fmfbench.windows.protocol import PROTOCOLS, get_protocol

NS = 10**9
TRAIN, TEST, UNUSED = 0, 1, 2


def nearest_valid(valid: list[bool], position: int) -> int | None:
    best = None
    for other, ok in enumerate(valid):
        if ok and (best is None or abs(other - position) < abs(best - position)):
            best = other  # of two equally near the first found is the earlier
    return best


def foreign(split: int, own: int) -> bool:
    return split not in (own, UNUSED)


def slow_video(r, e: int, num_frames: int, stride: int, tolerance: int, masked: bool):
    held, valid, strange = [], [], []
    for k in range(num_frames - 1, -1, -1):
        index = e - k * stride
        ok = index >= 0
        other = False
        if ok:
            age = int(r.frame_time[e]) - int(r.frame_time[index])
            ok = age <= Fraction(k * stride * NS, 25) + tolerance
            other = foreign(int(r.split[index]), int(r.split[e]))
        held.append(index)
        strange.append(other)
        valid.append(ok and not (masked and other))
    source = [nearest_valid(valid, p) for p in range(num_frames)]
    return [None if s is None else held[s] for s in source], valid, strange


def last_frame_before(r, moment: int) -> int | None:
    frame = None
    for candidate, time in enumerate(r.frame_time.tolist()):
        if time > moment:
            break
        frame = candidate
    return frame


def slow_current(r, e: int, count: int, hz: int, tolerance: int, masked: bool):
    held, valid, strange = [], [], []
    for k in range(count - 1, -1, -1):
        u = int(r.frame_time[e]) - k * NS // hz
        row = None
        for candidate, time in enumerate(r.current_time.tolist()):
            if time > u:
                break
            row = candidate
        ok = row is not None and u - int(r.current_time[row]) <= tolerance
        ok = ok and bool(np.isfinite(r.current[row]).all())
        other = False
        if row is not None:
            before = last_frame_before(r, int(r.current_time[row]))
            other = before is not None and foreign(int(r.split[before]), int(r.split[e]))
        held.append(row)
        strange.append(other)
        valid.append(ok and not (masked and other))
    source = [nearest_valid(valid, p) for p in range(count)]
    return [None if s is None else held[s] for s in source], valid, strange


@pytest.mark.parametrize("context", ["full", "masked"])
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"tolerance": 0.0, "current_seconds": 9.0},
        {"num_frames": 7, "stride": 11, "tolerance": 2.5, "current_hz": 4.0, "current_seconds": 5.0},
    ],
)
def test_windows_equal_the_slow_definition(awkward_store: Path, context: str, overrides: dict) -> None:
    data = fmfbench.open_dataset(awkward_store)
    protocol = get_protocol("short", **overrides)
    tolerance = round(protocol.tolerance * NS)
    windows = data.windows("all", protocol=protocol, context=context)
    rng = np.random.default_rng(0)
    chosen = np.unique(np.r_[:12, rng.choice(len(windows), 40), len(windows) - 3 :])
    batch = windows.batch(chosen)
    recordings = list(data.recordings.values())
    for i, (k, e) in enumerate(zip(*data.locate(windows.sample_ids[chosen]), strict=True)):
        r = recordings[k]
        frames, valid, _ = slow_video(
            r, e, protocol.num_frames, protocol.stride, tolerance, context == "masked"
        )
        video = r.read_video()
        expected = [video[f] if f is not None else np.zeros_like(video[0]) for f in frames]
        np.testing.assert_array_equal(batch["video"][i], expected)
        np.testing.assert_array_equal(batch["video_valid"][i], valid)
        rows, valid, _ = slow_current(
            r, e, protocol.num_current, int(protocol.current_hz), tolerance, context == "masked"
        )
        expected = [r.current[row] if row is not None else np.zeros(3) for row in rows]
        np.testing.assert_array_equal(batch["current"][i], np.array(expected, np.float32))
        np.testing.assert_array_equal(batch["current_valid"][i], valid)
        assert batch["class_label"][i] == r.class_label[e]
        np.testing.assert_array_equal(batch["mask"][i], r.read_masks(e, e + 1)[0])


def test_strict_leaves_out_exactly_the_windows_with_a_foreign_position(awkward_store: Path) -> None:
    data = fmfbench.open_dataset(awkward_store)
    protocol = get_protocol("short", current_seconds=4.0)
    for split in ("train", "test"):
        windows = data.windows(split, protocol=protocol, context="strict")
        expected = []
        for r in data.recordings.values():
            for e in np.flatnonzero(r.split == {"train": TRAIN, "test": TEST}[split]).tolist():
                a = slow_video(r, e, protocol.num_frames, protocol.stride, NS, False)[2]
                b = slow_current(r, e, protocol.num_current, 2, NS, False)[2]
                if any(a) or any(b):
                    expected.append(r.first_id + e)
        assert len(expected) > 0
        np.testing.assert_array_equal(windows.left_out, expected)
        both = np.sort(np.r_[windows.left_out, windows.sample_ids])
        np.testing.assert_array_equal(both, data.sample_ids(split))


def slow_official(r, e: int) -> tuple[list[int], np.ndarray]:
    """The released loader's window: clamped frames; the last 120 stamped seconds, stretched when short."""
    frames = [max(0, e - k * 18) for k in range(9, -1, -1)]
    second = int(r.frame_time[e]) // NS
    rows = [i for i in range(len(r.current_time)) if int(r.current_time[i]) // NS <= second]
    seconds = sorted({int(r.current_time[i]) // NS for i in rows})[-120:]
    rows = [i for i in rows if int(r.current_time[i]) // NS in seconds]
    if not rows:
        return frames, np.zeros((240, 3), np.float32)
    n = len(rows)
    picked = rows if n == 240 else [rows[k * (n - 1) // 239] for k in range(240)]
    return frames, r.current[picked]


def test_official_is_what_the_released_loader_shows(awkward_store: Path) -> None:
    data = fmfbench.open_dataset(awkward_store)
    windows = data.windows("all", protocol="official")
    chosen = np.linspace(0, len(windows) - 1, 80).astype(int)
    batch = windows.batch(chosen)
    recordings = list(data.recordings.values())
    for i, (k, e) in enumerate(zip(*data.locate(windows.sample_ids[chosen]), strict=True)):
        r = recordings[k]
        frames, current = slow_official(r, e)
        np.testing.assert_array_equal(batch["video"][i], r.read_video()[frames].swapaxes(1, 2))
        np.testing.assert_array_equal(batch["mask"][i], r.read_masks(e, e + 1)[0].T)
        finite = np.isfinite(current).all(axis=1)
        np.testing.assert_array_equal(batch["current"][i][finite], current[finite])
        np.testing.assert_array_equal(batch["video_valid"][i], [e - k * 18 >= 0 for k in range(9, -1, -1)])
        assert np.isfinite(batch["current"][i]).all()


def test_official_wants_two_rows_a_second(tmp_path: Path) -> None:
    store = fmfbench.convert(Path(__file__).parents[1] / "data" / "v1_octave_v7.mat", tmp_path / "v1.zarr")
    with pytest.raises(WindowError, match="two rows a second, got a second with 10"):
        fmfbench.open_dataset(store).windows("test", protocol="official")


def test_fill_takes_the_nearest_and_the_earlier_of_two() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        valid = rng.random((3, int(rng.integers(1, 14)))) < rng.random()
        expected = [[nearest_valid(row.tolist(), p) for p in range(valid.shape[1])] for row in valid]
        got = fill_source(valid)
        np.testing.assert_array_equal(got, [[-1 if v is None else v for v in row] for row in expected])
    np.testing.assert_array_equal(fill_source(np.array([[True, False, True]])), [[0, 0, 2]])


def test_a_recording_without_currents_gives_zeros_that_say_so(tmp_path: Path) -> None:
    store = fmfbench.convert(
        Path(__file__).parents[1] / "data" / "v2_matio_v73_deflate.mat", tmp_path / "lone.zarr"
    )
    data = fmfbench.open_dataset(store)
    assert len(data.windows("test")) == len(data.windows("train")) == 0
    batch = data.windows("unused", protocol="short").batch([0, 9])
    assert not batch["current"].any()
    assert not batch["current_valid"].any()
    assert batch["video_valid"].sum(axis=1).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "papr"}, "one of paper, official, short, .*got 'papr'"),
        ({"context": "loose"}, "one of full, masked, strict, got 'loose'"),
        ({"cache": "disk"}, "cache: expected None, 'memory' or 'device', got 'disk'"),
        ({"every": 0}, "every"),
        ({"num_frames": 0}, "num_frames"),
        ({"frames": 3}, "protocol: expected fields of .*, got frames"),
        ({"current_seconds": 0.1}, "at least one current value"),
        ({"split": "tset"}, "one of train, test, unused, .*got 'tset'"),
    ],
)
def test_bad_requests_are_refused_with_what_there_is(
    awkward_store: Path, arguments: dict, message: str
) -> None:
    with pytest.raises(fmfbench.errors.InputError, match=message) as caught:
        fmfbench.open_dataset(awkward_store).windows(**arguments)
    assert "\n" not in str(caught.value)


def test_every_takes_each_kth_sample(awkward_store: Path) -> None:
    data = fmfbench.open_dataset(awkward_store)
    np.testing.assert_array_equal(data.windows("test", every=7).sample_ids, data.sample_ids("test")[::7])


def test_protocols_are_as_documented() -> None:
    paper, official = PROTOCOLS["paper"], PROTOCOLS["official"]
    assert (paper.num_frames, paper.stride, paper.num_current, paper.tolerance) == (10, 4, 440, 1.0)
    assert (official.num_frames, official.stride, official.num_current) == (10, 18, 240)
    assert get_protocol(paper.to_dict()) == paper
