from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import torch
from conftest_reproduce import everything, sim_store  # noqa: F401
from conftest_watch import recording, run, store  # noqa: F401

import fmfbench

HEIGHT, WIDTH = 16, 24
LENGTHS = {"one": 150, "two": 90}
TINY = {"dim": 24, "depth": 1, "mlp_dim": 48, "decoder_channels": [24, 16, 8]}
# eight values of current over half a second: recordings of a few seconds have room for a guard that long
WINDOWS = {
    "protocol.num_frames": 4,
    "protocol.stride": 2,
    "protocol.current_seconds": 0.5,
    "protocol.current_hz": 16,
    "protocol.tolerance": 0.2,
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors on shared cores: more threads only wait for each other."""
    torch.set_num_threads(1)


def furnace(frames, seed):
    """A recording whose abnormal frames have a bright patch at the marked pixels and lower currents."""
    rng = np.random.default_rng(seed)
    abnormal = (np.arange(frames) // 15) % 2 == 1
    mask = np.zeros((HEIGHT, WIDTH, frames), np.uint8)
    mask[3:9, 5:15, abnormal] = 1
    video = rng.integers(0, 120, (HEIGHT, WIDTH, 3, frames), dtype=np.uint8)
    video += 130 * mask[:, :, None]
    current = 8000 + 300 * rng.standard_normal((3, frames)) - 1500 * abnormal
    split = np.zeros((1, frames))
    split[0, int(frames * 0.7) :] = 1
    return {"video": video, "current": current, "label": mask, "train_test_index": split}


@pytest.fixture(scope="session")
def furnace_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("furnace")
    (folder / "v1").mkdir()
    for seed, (name, frames) in enumerate(LENGTHS.items()):
        scipy.io.savemat(folder / "v1" / f"{name}.mat", furnace(frames, seed))
    return fmfbench.convert(folder / "v1", folder / "furnace.zarr")


@pytest.fixture(scope="session")
def options():
    """What makes FmFormer and its windows small enough for a test."""
    return {**TINY, **WINDOWS}
