"""What watching leaves behind: every judged frame as a JSON line, every alarm as a row of CSV."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import IO, Any

from fmfbench.clock import seconds_to_ns
from fmfbench.errors import InputError
from fmfbench.scoring.events import ALARM_HOLD_SECONDS

__all__ = ["Alarms", "WatchLog"]

FRAMES, ALARMS = "frames.jsonl", "alarms.csv"
_ALARMS_KEPT = 500


class Alarms:
    """Abnormal frames that follow each other by less than the hold time are one alarm.

    Example:
        >>> alarms = Alarms()
        >>> [alarms.see(t * 10**9, 0.9, t in (1, 2)) for t in range(5)]
        [None, None, None, None, (1000000000, 2000000000, 0.9)]
    """

    def __init__(self, hold_seconds: float = ALARM_HOLD_SECONDS) -> None:
        self._hold = seconds_to_ns(hold_seconds)
        self._open: tuple[int, int, float] | None = None

    @property
    def sounding(self) -> bool:
        return self._open is not None

    @property
    def now(self) -> tuple[int, int, float] | None:
        """The alarm that sounds: start, last abnormal frame so far, highest score so far."""
        return self._open

    def see(self, time: int, score: float, abnormal: bool) -> tuple[int, int, float] | None:
        """One judged frame, in order of time; the alarm (start, end, highest score) that it shows to be over."""
        over = None
        if self._open is not None and time - self._open[1] >= self._hold:
            over, self._open = self._open, None
        if abnormal:
            start, peak = (time, score) if self._open is None else (self._open[0], max(self._open[2], score))
            self._open = start, time, peak
        return over

    def end(self) -> tuple[int, int, float] | None:
        """The alarm that still sounds."""
        over, self._open = self._open, None
        return over


class WatchLog:
    """`frames.jsonl` and `alarms.csv` in a folder, each line on its way to the disk when it is known.

    Args:
        out: the folder, made if it is not there; None keeps no log.
        threshold: frames with a score above it are abnormal.
        append: go on with the files that are there, as a service does; otherwise they are refused.
    """

    def __init__(self, out: Path | None, threshold: float, *, append: bool = False) -> None:
        self.threshold = threshold
        self.frames = self.abnormal = self.alarms = 0
        self.past: deque[tuple[int, int, float]] = deque(maxlen=_ALARMS_KEPT)
        self._alarms = Alarms()
        self._jsonl: IO[str] | None = None
        self._csv: IO[str] | None = None
        if out is None:
            return
        if out.exists() and not out.is_dir():
            raise InputError(f"{out}: expected a folder to write to, got a file; name another --out")
        there = [name for name in (FRAMES, ALARMS) if (out / name).exists()]
        if there and not append:
            raise InputError(f"{out}: expected a folder without logs, got {there[0]}; name another --out")
        out.mkdir(parents=True, exist_ok=True)
        self._jsonl = open(out / FRAMES, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._csv = open(out / ALARMS, "a", encoding="utf-8", buffering=1, newline="")  # noqa: SIM115
        if ALARMS not in there:
            self._csv.write("start,end,peak\n")

    @property
    def sounding(self) -> bool:
        """Whether an alarm has begun and not ended."""
        return self._alarms.sounding

    @property
    def alarm(self) -> tuple[int, int, float] | None:
        """The alarm that sounds: start, last abnormal frame and highest score so far. Those before are in `past`."""
        return self._alarms.now

    def add(self, frame: int, time: int, score: float, **more: Any) -> bool:
        """One judged frame; whether it is abnormal. `more` joins its line."""
        abnormal = score > self.threshold
        self.frames += 1
        self.abnormal += abnormal
        if self._jsonl is not None:
            entry = {"frame": frame, "time": time, "score": score, "abnormal": abnormal, **more}
            self._jsonl.write(json.dumps(entry) + "\n")
        self._write(self._alarms.see(time, score, abnormal))
        return abnormal

    def finish(self) -> None:
        """No frame follows: write the alarm that still sounds."""
        self._write(self._alarms.end())

    def close(self) -> None:
        """Write the alarm that still sounds, and close the files."""
        self.finish()
        for file in (self._jsonl, self._csv):
            if file is not None:
                file.close()

    def _write(self, alarm: tuple[int, int, float] | None) -> None:
        if alarm is None:
            return
        self.alarms += 1
        self.past.append(alarm)
        if self._csv is not None:
            self._csv.write(f"{alarm[0]},{alarm[1]},{alarm[2]:.6g}\n")
