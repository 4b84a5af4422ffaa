"""What is said of a recording's times, from both sides of each bound."""

import numpy as np
import pytest

from fmfbench.conversion.findings import Findings
from fmfbench.conversion.verify_recording import _check_times

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
