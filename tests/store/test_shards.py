"""Shards: what is written is what zarr reads, any range reads back, and no damaged byte passes.

Also tests fmfbench.store: schema.
"""

from __future__ import annotations

import math
import pickle
import random
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmfbench.errors import DamageError, StoreError
from fmfbench.store import shards
from fmfbench.store.schema import ArraySpec, mask_spec, parse_array, video_spec
from fmfbench.store.shards import ArrayReader, decode_shard, encode_shard, is_whole_shard, shard_problems
from fmfbench.store.writer import replace_file, write_document

DTYPES = ("uint8", "int64", "float32")


@st.composite
def arrays(draw: st.DrawFn) -> tuple[ArraySpec, np.ndarray]:
    rest = tuple(draw(st.lists(st.integers(1, 5), max_size=3)))
    chunk = draw(st.integers(1, 7))
    shape = (draw(st.integers(0, 40)), *rest)
    spec = ArraySpec(
        shape=shape,
        dtype=draw(st.sampled_from(DTYPES)),
        dims=tuple(f"d{i}" for i in range(len(shape))),
        chunk=chunk,
        shard=chunk * draw(st.integers(1, 4)),
        cname=draw(st.sampled_from(["lz4", "zstd"])),
        shuffle=draw(st.sampled_from(["noshuffle", "shuffle", "bitshuffle"])),
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = rng.integers(0, draw(st.sampled_from([1, 2, 250])), shape).astype(spec.dtype)
    return spec, values


def write(folder: Path, spec: ArraySpec, values: np.ndarray) -> ArrayReader:
    (folder / "c").mkdir(parents=True)
    write_document(folder / "zarr.json", spec.to_document())
    for index in range(spec.num_shards):
        first, last = spec.shard_range(index)
        path = folder / spec.shard_key(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, encode_shard(spec, values[first:last]))
    return ArrayReader(folder)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=arrays(), data=st.data())
def test_zarr_reads_what_is_written_and_any_range_reads_back(
    case: tuple[ArraySpec, np.ndarray], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec, values = case
    folder = tmp_path_factory.mktemp("array") / "a"
    reader = write(folder, spec, values)
    opened = zarr.open_array(folder, mode="r")
    np.testing.assert_array_equal(opened[...], values)
    assert opened.metadata.dimension_names == spec.dims
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    for copy in (reader, pickle.loads(pickle.dumps(reader))):
        found = copy.read(start, stop)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values[start:stop])
    for number in range(-(-len(values) // spec.chunk)):
        part = values[number * spec.chunk : (number + 1) * spec.chunk]
        np.testing.assert_array_equal(reader.chunk(number)[: len(part)], part)
        assert not reader.chunk(number)[len(part) :].any()
    for index in range(spec.num_shards):
        first, last = spec.shard_range(index)
        stored = (folder / spec.shard_key(index)).read_bytes()
        np.testing.assert_array_equal(decode_shard(spec, stored, last - first), values[first:last])
        assert is_whole_shard(spec, stored, last - first)
        if last - first > spec.chunk:
            assert not is_whole_shard(spec, stored, last - first - spec.chunk)
    assert parse_array(folder) == spec


SPEC = ArraySpec(shape=(20, 5), dtype="uint8", dims=("a", "b"), chunk=4, shard=16)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SPEC.shape, np.uint8)


def test_every_flipped_bit_of_a_shard_is_seen(values: np.ndarray, tmp_path: Path) -> None:
    reader = write(tmp_path / "a", SPEC, values)
    path = tmp_path / "a" / SPEC.shard_key(0)
    whole = path.read_bytes()
    bits = random.Random(0)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bits.randrange(8)
        assert shard_problems(SPEC, bytes(damaged), 16)
        path.write_bytes(damaged)
        with pytest.raises(DamageError, match="fmfbench verify"):
            ArrayReader(tmp_path / "a").read()
    path.unlink()
    with pytest.raises(DamageError, match="missing"):
        ArrayReader(tmp_path / "a").read()
    np.testing.assert_array_equal(reader.read(16, 20), values[16:])  # the other shard is not concerned


@pytest.mark.parametrize("cut", [0, 1, 30, -1, -40])
def test_a_shard_that_was_cut_is_seen(cut: int, values: np.ndarray) -> None:
    data = encode_shard(SPEC, values[:16])
    assert shard_problems(SPEC, data, 16) == []
    assert shard_problems(SPEC, data[:cut], 16)
    assert shard_problems(SPEC, data + b"\0", 16)
    with pytest.raises(ValueError, match="checksum|decoded"):
        decode_shard(SPEC, data[:cut], 16)


def test_which_chunk_is_damaged_is_said(values: np.ndarray) -> None:
    data = bytearray(encode_shard(SPEC, values[:16]))
    data[5] ^= 1
    assert shard_problems(SPEC, bytes(data), 16) == ["chunk 0 does not match its checksum"]


def test_specs_that_do_not_go_together_are_refused() -> None:
    for change in ({"chunk": 0}, {"shard": 6}, {"dims": ("a",)}):
        with pytest.raises(StoreError, match="expected .* names and shards of whole chunks"):
            ArraySpec(
                **{"shape": (9, 2), "dtype": "uint8", "dims": ("a", "b"), "chunk": 4, "shard": 8, **change}
            )


@pytest.mark.parametrize("size", [(1, 1), (24, 32), (64, 64), (1440, 2560), (9000, 9000)])
def test_chunks_are_whole_frames_and_shards_whole_chunks(size: tuple[int, int]) -> None:
    for spec in (video_spec(100, *size), mask_spec(100, *size, {})):
        assert spec.chunk >= 1
        assert spec.shard % spec.chunk == 0
        frame_bytes = math.prod(spec.shape[1:])
        assert spec.shard * frame_bytes <= max(12 << 20, frame_bytes)
    assert video_spec(100, 64, 64).chunk == 25


def test_metadata_that_zarr_would_take_but_we_did_not_write_is_refused(
    values: np.ndarray, tmp_path: Path
) -> None:
    zarr.save_array(tmp_path / "plain", values)
    with pytest.raises(StoreError, match="expected an array that fmfbench wrote"):
        ArrayReader(tmp_path / "plain")


def test_a_checksum_holds_exactly_where_it_is_that_of_the_bytes_before_it() -> None:
    """Against the plain definition, on right bytes and with one bit turned anywhere."""
    rng = np.random.default_rng(3)
    for length in (1, 2, 5, 64, 1000):
        data = rng.bytes(length)
        whole = data + google_crc32c.value(data).to_bytes(4, "little")
        assert shards._holds(whole)
        for bit in rng.integers(0, 8 * len(whole), 50).tolist():
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            assert not shards._holds(bytes(changed))
    assert not shards._holds(b"")
    assert not shards._holds(bytes(4))
