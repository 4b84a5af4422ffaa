"""What is said of a recording's times and frames, from both sides of each bound."""

import numpy as np
import pytest

from fmfbench.conversion.findings import Findings
from fmfbench.conversion.verify_recording import _check_times, _check_video

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("steps", "damage", "remark"),
    [
        ([1, 1, SECOND], None, None),
        ([1, 0, 5], "got 1 steps of 0 or back, the first after entry 1", None),
        ([5, -1, -1], "got 2 steps of 0 or back, the first after entry 1", None),
        (
            [5, SECOND + 1, 5],
            None,
            "1 gap of more than a second between frames (longest 1.00 s; the first after frame 1)",
        ),
        (
            [3 * SECOND, 7, 2 * SECOND],
            None,
            "2 gaps of more than a second between frames (longest 3.00 s; the first after frame 0)",
        ),
        ([], None, None),
    ],
)
def test_times_rise_and_gaps_are_told(steps: list[int], damage: str | None, remark: str | None) -> None:
    findings = Findings()
    times = np.cumsum([17, *steps], dtype=np.int64)
    _check_times(times, "recordings/r", "frame_time", "frame", findings)
    assert [damage in str(found) for found in findings.damage] == [True] * (damage is not None)
    assert [remark in str(found) for found in findings.remarks] == [True] * (remark is not None)


def test_times_that_could_not_be_read_are_named_elsewhere() -> None:
    findings = Findings()
    _check_times(None, "recordings/r", "frame_time", "frame", findings)
    assert not findings.damage
    assert not findings.remarks


class Hashes:
    """A reader of frames of which these are the hashes."""

    specs = ("recordings/r/video",)

    def __init__(self, hashes: list[int]) -> None:
        self.hashes = np.array(hashes, np.uint64)

    def looked_at(self, path: str, look: object) -> list[tuple[int, int, np.ndarray]]:
        half = len(self.hashes) // 2
        return [(0, half, self.hashes[:half]), (half, len(self.hashes), self.hashes[half:])]


@pytest.mark.parametrize(
    ("hashes", "frozen", "again"),
    [
        ([1, 2, 3], None, None),
        ([5, 5, 6, 6], "2 frames are the same as the one before, in 2 runs (longest: 1 after frame 0)", None),
        ([4, 5, 5], "1 frame is the same as the one before, in 1 run (longest: 1 after frame 1)", None),
        ([7, 8, 8, 9, 9, 9], "3 frames are .*, in 2 runs (longest: 2 after frame 3)", None),
        ([7, 8, 7], None, "1 frame repeats an earlier one (frame 2 is frame 0 again)"),
        ([1, 2, 3, 2, 1, 1], "1 frame is ", "2 frames repeat an earlier one (frame 3 is frame 1 again)"),
    ],
)
def test_frozen_frames_are_counted_in_runs_and_repeated_ones_apart(
    hashes: list[int], frozen: str | None, again: str | None
) -> None:
    findings = Findings()
    _check_video(Hashes(hashes), "recordings/r", findings)
    expected = [words for words in (frozen, again) if words is not None]
    assert len(findings.remarks) == len(expected)
    for remark, words in zip(findings.remarks, expected, strict=True):
        for part in words.split(".*"):
            assert part in str(remark)
