"""A conversion of a raw recording that is interrupted resumes to the same bytes, times and remarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import fmfbench
from fmfbench.conversion import recordings
from fmfbench.conversion.verify import verify
from fmfbench.store import schema
from fmfbench.store.digest import file_names

COUNT = 120


def video(path: Path, codec: str) -> None:
    y, x = np.mgrid[:48, :64]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 10
        for i in range(COUNT):
            image = np.stack(
                [127 + 120 * np.sin(x / 9 + y / 7 + i * (k + 1) / 5) for k in range(3)], -1
            ).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "codec"), [("run1.mp4", "libx264"), ("run1.avi", "mpeg4"), ("run1.ts", "libx264")]
)
def test_interrupted_after_any_shard_the_same_command_gives_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str
) -> None:
    monkeypatch.setattr(schema, "_CHUNK_BYTES", 10 * 48 * 64 * 3)
    monkeypatch.setattr(schema, "_SHARD_BYTES", 10 * 48 * 64 * 3)
    folder = tmp_path / "in"
    folder.mkdir()
    video(folder / name, codec)
    (folder / "run1.csv").write_text(
        "seconds,a,b,c\n" + "".join(f"{i / 2},7000,7100,{7200 + i}\n" for i in range(10))
    )
    whole = fmfbench.convert(folder, tmp_path / "whole.zarr", workers=1)
    assert verify(whole, source=folder).ok

    def content(store: Path) -> dict[str, bytes]:
        return {n: (store / n).read_bytes() for n in file_names(store) if n != "zarr.json"}

    commit: Callable[..., Any] = recordings._commit
    for stop in (1, 4, 9, 11):
        left = stop

        def failing(*arguments: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            commit(*arguments)

        target = tmp_path / f"{stop}.zarr"
        monkeypatch.setattr(recordings, "_commit", failing)
        with pytest.raises(KeyboardInterrupt):
            fmfbench.convert(folder, target, workers=1)
        assert not target.exists()
        monkeypatch.setattr(recordings, "_commit", commit)
        fmfbench.convert(folder, target, workers=2)
        assert content(target) == content(whole)


def test_offset_shifts_the_video_against_its_table(tmp_path: Path) -> None:
    video(tmp_path / "run1.mp4", "libx264")
    (tmp_path / "run1.csv").write_text(
        "seconds,a,b,c\n" + "".join(f"{i / 2},7000,7100,7200\n" for i in range(12))
    )
    recording = fmfbench.open_dataset(fmfbench.convert(tmp_path, tmp_path / "o.zarr", offset=1.5)).recordings[
        "run1"
    ]
    assert recording.frame_time[0] == 1_500_000_000
    assert recording.current_time[0] == 0
    assert any("+1.5 s" in remark for remark in recording.attributes["fmfbench.remarks"])
