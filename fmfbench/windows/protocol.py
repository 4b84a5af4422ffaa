"""Protocols: named, versioned sets of rules by which windows are cut (data_cards/protocol.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any

from fmfbench.clock import seconds_to_ns
from fmfbench.errors import WindowError

__all__ = ["CONTEXTS", "PROTOCOLS", "WindowProtocol", "get_protocol"]

CONTEXTS = ("full", "masked", "strict")


@dataclass(frozen=True, kw_only=True)
class WindowProtocol:
    """What a window sees of the recording before its sample, ends included.

    `alignment` is "causal", or "official" for the released loader's rules: frames before the first are the
    first, currents are counted in stamped seconds up to the end of the sample's own second, gaps are not seen,
    and a short history is stretched.
    """

    name: str
    version: int = 1
    num_frames: int
    stride: int
    current_seconds: float
    current_hz: float = 2.0
    tolerance: float = 1.0
    video_hz: float = 25.0
    alignment: str = "causal"
    transposed: bool = False

    def __post_init__(self) -> None:
        kinds = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
        for item in fields(self):
            value, kind = getattr(self, item.name), str(item.type)
            if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "bool"):
                raise WindowError(f"protocol: {item.name}: expected {kind}, got {value!r}")
        if self.num_frames < 1 or self.stride < 1:
            raise WindowError(
                f"protocol {self.name}: expected num_frames and stride of at least 1, "
                f"got {self.num_frames} and {self.stride}"
            )
        if not (self.current_hz > 0 and self.video_hz > 0 and self.tolerance >= 0):
            raise WindowError(
                f"protocol {self.name}: expected rates above 0 and a tolerance of at least 0 s, got current_hz "
                f"{self.current_hz}, video_hz {self.video_hz}, tolerance {self.tolerance}"
            )
        if not 1 <= self.num_current <= 1_000_000:
            raise WindowError(
                f"protocol {self.name}: expected at least one current value in current_seconds x current_hz, "
                f"got {self.current_seconds} x {self.current_hz}"
            )
        if self.alignment not in ("causal", "official"):
            raise WindowError(
                f"protocol {self.name}: alignment: expected causal or official, got {self.alignment!r}"
            )

    @property
    def num_current(self) -> int:
        """Current values of a window."""
        return round(self.current_seconds * self.current_hz)

    @property
    def tolerance_ns(self) -> int:
        return seconds_to_ns(self.tolerance)

    def frame_lag_ns(self, steps: int) -> int:
        """How far back a frame `steps` video steps before the sample lies, nominally."""
        return seconds_to_ns(Fraction(steps * self.stride) / Fraction(self.video_hz))

    def current_lag_ns(self, steps: int) -> int:
        """How far back the current position `steps` before the last lies."""
        return seconds_to_ns(Fraction(steps) / Fraction(self.current_hz))

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON; `WindowProtocol(**d)` is the inverse."""
        return asdict(self)


PROTOCOLS = {
    p.name: p
    for p in (
        WindowProtocol(name="paper", num_frames=10, stride=4, current_seconds=220.0),
        WindowProtocol(
            name="official",
            num_frames=10,
            stride=18,
            current_seconds=120.0,
            alignment="official",
            transposed=True,
        ),
        WindowProtocol(name="short", num_frames=4, stride=4, current_seconds=20.0),
    )
}


def get_protocol(protocol: str | WindowProtocol | dict[str, Any], **overrides: Any) -> WindowProtocol:
    """A protocol by name (or as it stands in a file), with fields overridden."""
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise WindowError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
        protocol = PROTOCOLS[protocol]
    known = {f.name for f in fields(WindowProtocol)}
    given = set(overrides) | (set(protocol) if isinstance(protocol, dict) else set())
    if given - known:
        raise WindowError(
            f"protocol: expected fields of {', '.join(sorted(known))}, got {', '.join(sorted(given - known))}"
        )
    if isinstance(protocol, dict):
        try:
            protocol = WindowProtocol(**protocol)
        except TypeError as error:
            raise WindowError(
                f"protocol: expected name, num_frames, stride and current_seconds, got others: {error}"
            ) from None
    return replace(protocol, **overrides)
