import numpy as np
import pytest

from fmfbench.windows.audit import audit, border_twins, window_reach
from fmfbench.windows.protocol import get_protocol

SHORT = get_protocol("short", num_frames=3, stride=4, current_seconds=6.0)


def slow_reach(recording, own, protocol):
    """Window by window, position by position, in words of the contract."""
    found = []
    for frame in np.flatnonzero(recording.split == own):
        now = recording.frame_time[frame]
        video = sum(
            frame - k * protocol.stride >= 0 and recording.split[frame - k * protocol.stride] == 1 - own
            for k in range(protocol.num_frames)
        )
        current = 0
        for k in range(protocol.num_current):
            rows = np.flatnonzero(recording.current_time <= now - k * 500_000_000)
            if not len(rows):
                continue
            frames = np.flatnonzero(recording.frame_time <= recording.current_time[rows[-1]])
            current += bool(len(frames)) and recording.split[frames[-1]] == 1 - own
        found.append((frame, video, current))
    return found


@pytest.mark.parametrize("own", [0, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_a_slow_definition(make_data, own, seed):
    rng = np.random.default_rng(seed)
    for recording in make_data(seed).recordings.values():
        recording.split[:] = np.repeat(rng.integers(0, 3, 40), 10)[: recording.num_frames]
        recording.current_time = np.sort(rng.choice(recording.current_time, 20, replace=False))
        recording.current = recording.current[:20]
        reach = window_reach(recording, own, SHORT)
        found = list(zip(reach.frames, reach.video, reach.current, strict=True))
        assert found == slow_reach(recording, own, SHORT)


@pytest.mark.parametrize("own", [0, 1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_long_stretches_of_one_split_against_a_slow_definition(make_data, own, seed):
    """Most windows span nothing foreign, and are not looked at position by position."""
    rng = np.random.default_rng(seed)
    spared = 0
    for recording in make_data(seed).recordings.values():
        split = np.full(recording.num_frames, own, np.uint8)
        split[: int(rng.integers(1, 40))] = 1 - own
        recording.split[:] = split
        recording.current_time = np.sort(rng.choice(recording.current_time, 15, replace=False))
        recording.current = recording.current[:15]
        reach = window_reach(recording, own, SHORT)
        assert list(zip(reach.frames, reach.video, reach.current, strict=True)) == slow_reach(
            recording, own, SHORT
        )
        spared += int(((reach.video == 0) & (reach.current == 0)).sum())
    assert spared > 20


def test_exactly_the_planted_windows_leak(data):
    """A guard of 11 frames holds off video windows of 9 frames, and no current window of 6 s."""
    recording = data.recordings["furnace_0"]
    result = audit(data, SHORT, frames=False).to_dict()
    row = next(r for r in result["splits"] if (r["recording"], r["split"]) == ("furnace_0", "test"))
    assert row["video"]["windows"] == 0
    first = int(np.flatnonzero(recording.split == 1)[0])
    train_ends = recording.frame_time[first - 12]
    # a window leaks if its oldest row, 5.5 s back, is held by a train frame; rows fall on half seconds
    leaking = [
        frame
        for frame in np.flatnonzero(recording.split == 1)
        if (recording.frame_time[frame] - 5_500_000_000) // 500_000_000 * 500_000_000
        <= train_ends + 39_999_999
    ]
    assert row["strict_left_out"] == leaking
    assert row["smallest_gap_s"] == pytest.approx(12 * 0.04)
    recording.split[first - 3] = 0
    moved = audit(data, SHORT, frames=False).to_dict()
    row = next(r for r in moved["splits"] if (r["recording"], r["split"]) == ("furnace_0", "test"))
    # first - 3 is reached by frames 4 and 8 later
    assert row["video"]["windows"] == 2
    assert {first + 1, first + 5} <= set(row["strict_left_out"])


def noisy(recording, rng):
    recording.video = rng.integers(0, 256, (recording.num_frames, 7, 9, 3)).astype(np.uint8)
    walk = np.cumsum(rng.normal(0, 2, recording.num_frames))
    recording.video = np.clip(recording.video // 8 + 100 + walk[:, None, None, None], 0, 255).astype(np.uint8)
    recording.read_video = lambda start, stop: recording.video[start:stop]


def test_planted_twins_are_found_and_only_they(data):
    rng = np.random.default_rng(0)
    recording = data.recordings["furnace_1"]
    noisy(recording, rng)
    first = int(np.flatnonzero(recording.split == 1)[0])
    recording.video[first:] = np.clip(recording.video[first:].astype(int) + 60, 0, 255)
    assert list(border_twins(recording)) == []
    recording.video[first + 7] = recording.video[first - 12 - 3]
    (twin,) = border_twins(recording)
    assert twin["pairs"] >= 1
    assert twin["ids"][0] == (recording.first_id + first - 15, recording.first_id + first + 7)
    assert twin["closest"] == 0.0


def test_markdown_names_the_counts(data):
    text = audit(data, SHORT).to_markdown()
    assert "| furnace_0 | test |" in text
    assert "Near-duplicate frames across split borders" in text


def test_a_recording_without_borders(data):
    for recording in data.recordings.values():
        recording.split[:] = 1
    for row in audit(data, SHORT).rows:
        assert row["either"] == 0
        assert row["smallest_gap_s"] is None
