"""A raw recording, the store that is made of it, and a model that tells its frames apart."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fmfbench
from fmfbench.windows.protocol import get_protocol

__all__ = ["recording", "run", "store"]

TINY = {
    "num_frames": 4,
    "current_length": 32,
    "dim": 24,
    "depth": 1,
    "mlp_dim": 48,
    "decoder_channels": [24, 16, 8],
}
PROTOCOL = get_protocol("short", current_seconds=16.0)


def write_recording(folder: Path, seconds: int = 12, gap: float = 2.5) -> tuple[Path, Path]:
    """48x36 frames with a gap in the middle, and a table that has gaps and an empty cell."""
    av = pytest.importorskip("av")
    rng = np.random.default_rng(0)
    video, table = folder / "run.mkv", folder / "run.csv"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 36, "bgr0"
        for number in range(25 * seconds):
            image = rng.integers(0, 255, (36, 48, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")
            shift = round(gap * 25) if number >= 25 * seconds // 2 else 0
            frame.pts = number + shift
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open(table, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["time", "a", "b", "c"])
        for k in range(2 * (seconds + 3)):
            if k not in (9, 10, 11, 12):
                cells = [f"{v:.1f}" for v in rng.normal(8000, 300, 3)]
                writer.writerow([f"{k / 2:.1f}", *(["", *cells[1:]] if k == 17 else cells)])
    return video, table


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_recording(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="session")
def store(recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("store") / "run.zarr"
    return fmfbench.convert(recording[0], target, crop=(4, 2, 36, 24), size=(24, 16))


@pytest.fixture(scope="session")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights that tell frames apart, saved as training saves it."""
    torch = pytest.importorskip("torch")
    from fmfbench_models import create_model
    from fmfbench_models.checkpoint import save_checkpoint

    torch.manual_seed(3)
    model = create_model("fmformer", size=[16, 24], **TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.5)
    data = fmfbench.open_dataset(store)
    kept = {"options": data.attributes["fmfbench.options"], "frame_size": [[24, 16]]}
    provenance = {**model.meta.provenance, "data": kept}
    model.meta = replace(model.meta, protocol=PROTOCOL.to_dict(), provenance=provenance)
    model.eval()
    return save_checkpoint(tmp_path_factory.mktemp("model") / "m.safetensors", model)
