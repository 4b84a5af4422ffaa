"""The named protocols as the contract states them, and what a protocol may be."""

from __future__ import annotations

from typing import Any

import pytest

from fmfbench.errors import WindowError
from fmfbench.windows.protocol import PROTOCOLS, WindowProtocol, get_protocol


@pytest.mark.parametrize(
    ("name", "frames", "stride", "seconds", "values", "transposed"),
    [
        ("paper", 10, 4, 220.0, 440, False),
        ("official", 10, 18, 120.0, 240, True),
        ("short", 4, 4, 20.0, 40, False),
    ],
)
def test_the_named_protocols(
    name: str, frames: int, stride: int, seconds: float, values: int, transposed: bool
) -> None:
    own = PROTOCOLS[name]
    assert (own.name, own.num_frames, own.stride, own.current_seconds) == (name, frames, stride, seconds)
    assert (own.num_current, own.current_hz, own.tolerance, own.transposed) == (values, 2.0, 1.0, transposed)


def test_one_frame_is_a_window_and_none_is_not() -> None:
    assert WindowProtocol(name="one", num_frames=1, stride=1, current_seconds=4.0).num_frames == 1
    for frames, stride in ((0, 1), (1, 0)):
        with pytest.raises(WindowError, match=f"at least 1, got {frames} and {stride}"):
            WindowProtocol(name="none", num_frames=frames, stride=stride, current_seconds=4.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": "many"}, "num_frames: expected int, got 'many'"),
        ({"num_frames": 2.5}, "num_frames: expected int, got 2.5"),
        ({"stride": True}, "stride: expected int, got True"),
        ({"current_seconds": None}, "current_seconds: expected float, got None"),
        ({"tolerance": "1"}, "tolerance: expected float, got '1'"),
        ({"transposed": 1}, "transposed: expected bool, got 1"),
        ({"alignment": 3}, "alignment: expected str, got 3"),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WindowError, match=message):
        get_protocol("short", **change)
    assert get_protocol("short", current_seconds=8).num_current == 16
