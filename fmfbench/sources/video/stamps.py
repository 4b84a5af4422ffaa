"""The time of each frame, from its own stamp."""

from __future__ import annotations

import heapq
from fractions import Fraction
from typing import Any

from fmfbench.clock import NS
from fmfbench.errors import SourceError

__all__ = ["Stamps", "exact_rate"]


class Stamps:
    """Stamps of decoded frames, in order, as ticks of the stream's time base.

    Containers that order pictures by decoding only (AVI) have no presentation stamps: there the k-th picture that
    comes out of the decoder has the k-th tick that went in. A frame without a stamp stands one nominal step after
    the one before it.

    Attributes:
        by_rate: how many frames had no stamp and got one from the nominal rate.
        out_of_order: where stamps that do not advance are put, their frames left out; None refuses them.
    """

    def __init__(
        self,
        where: str,
        time_base: Fraction,
        rate: Fraction,
        *,
        by_order: bool,
        steady: bool = False,
        out_of_order: list[int] | None = None,
    ) -> None:
        self.out_of_order = out_of_order
        self._where = where
        self._time_base = 1 / exact_rate(1 / time_base) if by_order else time_base
        self._step = max(1, round(1 / rate / time_base))
        self._by_order = by_order
        self._steady = steady  # a rate stands in the place of the stamps
        self._ticks: list[int] = []
        self._last: int | None = None
        self.by_rate = 0

    def seed(self, last: int) -> None:
        """Resume after a frame of stamp `last`."""
        self._last = last

    def packet(self, packet: Any) -> None:
        """Note a packet that goes into the decoder."""
        if self._by_order and packet.size and packet.dts is not None:
            heapq.heappush(self._ticks, packet.dts)

    def lost(self, packet: Any) -> None:
        """Note that a packet gives no frame."""
        if self._by_order and packet.dts in self._ticks:
            self._ticks.remove(packet.dts)
            heapq.heapify(self._ticks)

    def frame(self, frame: Any, index: int) -> int | None:
        """The stamp of the next frame, or None where it is left out.

        Raises:
            SourceError: it is not after the stamp of the frame before it, and none is to be left out.
        """
        stamp = (heapq.heappop(self._ticks) if self._ticks else None) if self._by_order else frame.pts
        if stamp is None:
            stamp = 0 if self._last is None else self._last + self._step
            self.by_rate += 1
        if self._last is not None and stamp <= self._last and self._steady:
            stamp = self._last + 1  # it only tells the frames apart
        if self._last is not None and stamp <= self._last:
            if self.out_of_order is not None:
                if stamp not in self.out_of_order:
                    self.out_of_order.append(stamp)
                return None
            raise SourceError(
                f"{self._where}: expected time stamps that advance, got {self.seconds(stamp):.6f} s after "
                f"{self.seconds(self._last):.6f} s at frame {index}; give its steady rate with --fps, or "
                "write it anew with `ffmpeg -i OLD NEW.mkv`"
            )
        self._last = stamp
        return int(stamp)

    def seconds(self, stamp: int) -> float:
        return float(stamp * self._time_base)

    def nanoseconds(self, ticks: int) -> int:
        """Ticks as nanoseconds, to the nearest."""
        return round(ticks * self._time_base * NS)


def exact_rate(rate_hz: Fraction) -> Fraction:
    """The rate a container means: 29.97 and the like are 30000/1001, which a container may round."""
    broadcast = Fraction(round(float(rate_hz) * 1.001) * 1000, 1001)
    return broadcast if abs(float(broadcast / rate_hz) - 1) < 1e-5 else rate_hz
