"""The named protocols as the contract states them, and what a protocol may be."""

from __future__ import annotations

import pytest

from fmfbench.errors import WindowError
from fmfbench.windows.protocol import PROTOCOLS, WindowProtocol


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
