"""Damaged copies of the samples: a clean error or values, never another exception, a hang or much memory."""

import random
import time
import tracemalloc
from pathlib import Path

import pytest

from fmfbench.errors import SourceError
from fmfbench.sources.matlab.mat import open_mat

SAMPLES = sorted(p for p in (Path(__file__).parents[2] / "data").glob("*.mat") if p.stat().st_size)
SECONDS = 2.5  # for each kind of damage


def cut(rng, data):
    return data[: rng.randrange(len(data))]


def flip(rng, data):
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 32])):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def lie(rng, data):
    """Numbers in the headers become extreme."""
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 2, 4])):
        at = rng.randrange(min(len(data), 8192)) & ~3
        damaged[at : at + 4] = rng.choice(
            [b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", b"\0\0\0\x40", rng.randbytes(4)]
        )
    return bytes(damaged[: len(data)])


def splice(rng, data):
    """A stretch of the file comes from elsewhere in it."""
    size = rng.randrange(1, 200)
    source, target = rng.randrange(len(data)), rng.randrange(len(data))
    return (data[:target] + data[source : source + size] + data[target + size :])[: len(data)]


def check(error, path):
    assert str(error).startswith(f"{path}: ")
    assert "\n" not in str(error)


def use(path):
    """Everything there is to be done with a file; returns how many frames came out."""
    frames = 0
    with open_mat(path, workers=2) as mat:
        mat.describe()
        for variable in mat.variables.values():
            for frame_ndim in (3, 2, 1):
                try:
                    if variable.num_frames(frame_ndim) < 10_000:
                        frames += sum(len(block) for block in variable.iter_frames(frame_ndim, 4))
                except SourceError as error:
                    check(error, path)
            try:
                assert variable.read().shape == variable.shape
            except SourceError as error:
                check(error, path)
    return frames


@pytest.mark.parametrize("damage", [cut, flip, lie, splice])
def test_damaged_samples(tmp_path, damage):
    path = tmp_path / "x.mat"
    outcomes = {"read": 0, "refused": 0}
    end = time.monotonic() + SECONDS
    seed = 0
    while time.monotonic() < end:
        rng = random.Random(f"{damage.__name__} {seed}")
        sample = rng.choice(SAMPLES)
        path.write_bytes(damage(rng, sample.read_bytes()))
        began = time.monotonic()
        try:
            use(path)
            outcomes["read"] += 1
        except SourceError as error:
            check(error, path)
            outcomes["refused"] += 1
        except Exception as error:
            pytest.fail(f"{damage.__name__} {seed} of {sample.name}: {error!r}")
        assert time.monotonic() - began < 2, f"{damage.__name__} {seed} of {sample.name} is slow"
        seed += 1
    assert outcomes["refused"] > 3


def test_damaged_samples_take_little_memory(tmp_path):
    path = tmp_path / "x.mat"
    tracemalloc.start()
    try:
        for seed in range(60):
            rng = random.Random(seed)
            path.write_bytes(rng.choice([flip, lie, splice])(rng, rng.choice(SAMPLES).read_bytes()))
            try:
                use(path)
            except SourceError:
                continue
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
