"""Video and table held against each other: what is refused, what is remarked, what is right."""

# ruff: noqa: E501 - a case a line
from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

import fmfbench
from fmfbench.errors import SourceError
from fmfbench.sources.alignment import alignment_remarks, refuse_apart

NS = 1_000_000_000


def every(rate: float, seconds: float, start: float = 0.0) -> np.ndarray:
    """Times (ns) of `rate` a second from `start` on, for `seconds`."""
    return np.round((start + np.arange(round(rate * seconds)) / rate) * NS).astype(np.int64)


FRAMES = every(25, 100)
REMARKS = {
    "right": (every(2, 100), []),
    "right to a row": (every(2, 99.5), []),
    "slower": (every(1, 100), ["1 current rows a second (nominal 2)"]),
    "faster": (every(10, 100), ["10 current rows a second (nominal 2)"]),
    "nearly nominal": (every(2.08, 100), []),
    "not nearly nominal": (every(2.2, 100), ["2.2 current rows a second (nominal 2)"]),
    "clock that drifts": (every(2, 102), ["the table is 2.00 s longer than the video (2.00%)"]),
    "clock that drifts back": (every(2, 97), ["currents end 3.46 s before", "the table is 3.00 s shorter than the video (3.00%)"]),
    "half a second longer": (every(2, 100.5), []),
    "ends early": (every(2, 60), ["currents end 40.46 s before the video"]),
    "runs on": (every(2, 180), ["currents run on 79.54 s after the video"]),
    "begins late": (every(2, 70, 30), ["currents begin 30.00 s after the video"]),
    "none": (np.empty(0, np.int64), ["no currents"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REMARKS)
def test_remarks(name: str) -> None:
    rows, words = REMARKS[name]
    got = alignment_remarks(FRAMES, rows)
    assert len(got) == len(words), got
    for text, word in zip(got, words, strict=True):
        assert text.startswith(word)


def test_the_rate_is_held_against_the_one_that_is_given() -> None:
    assert alignment_remarks(FRAMES, every(10, 100), 10.0) == []
    assert alignment_remarks(FRAMES, every(2, 100), 10.0) == ["2 current rows a second (nominal 10)"]


@pytest.mark.parametrize(
    ("rows", "good"),
    [
        (every(2, 100, 0), True),
        (every(2, 100, 49), True),
        (every(2, 100, 51), False),
        (every(2, 100, -49), True),
        (every(2, 100, -51), False),
        (every(2, 20, 89), True),  # half of the shorter one
        (every(2, 20, 91), False),
        (every(2, 1000, -400), True),
        (every(2, 10, 3600), False),
    ],
)
def test_under_half_of_the_shorter_one_is_refused(rows: np.ndarray, good: bool) -> None:
    if good:
        refuse_apart("t.csv", FRAMES, rows, clock=False)
    else:
        with pytest.raises(SourceError, match=r"t\.csv.*s in common.*--offset SECONDS"):
            refuse_apart("t.csv", FRAMES, rows, clock=False)


def test_a_store_keeps_the_remarks_of_its_recordings(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "run.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for i in range(300):
            image = np.full((24, 32, 3), i % 256, np.uint8)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0"))
            )
        container.mux(stream.encode())
    for rate, seconds, words in (
        (5, 12, "5 current rows a second"),
        (2, 8, "end 4.46 s before"),
        (2, 20, "run on 7.54 s"),
    ):
        rows = "".join(f"{t / NS},7000,7100,7200\n" for t in every(rate, seconds).tolist())
        (tmp_path / "run.csv").write_text("seconds,a,b,c\n" + rows)
        store = fmfbench.convert(tmp_path / "run.mkv", tmp_path / "o.zarr", overwrite=True)
        remarks = fmfbench.open_dataset(store).recordings["run"].attributes["fmfbench.remarks"]
        assert any(words in remark for remark in remarks), remarks
