"""v7.3 against plain h5py: random shapes, chunks and filters, through memory and through a temporary file.

Also tests fmfbench.sources.matlab: chunk_rows, chunks, dataset, frame_grid, row_scratch.
"""

import tracemalloc

import h5py
import hdf5storage
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmfbench.errors import FailedError, SourceError
from fmfbench.sources.matlab import chunk_rows, dataset, row_scratch
from fmfbench.sources.matlab.chunks import fletcher32, same_fletcher32
from fmfbench.sources.matlab.mat import open_mat

FILTERS = [
    {},
    {"compression": "gzip", "compression_opts": 3},
    {"compression": "gzip", "shuffle": True},
    {"compression": "gzip", "fletcher32": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"shuffle": True},
    {"fletcher32": True},
    {"compression": "lzf", "shuffle": True},
]
CLASSES = {"u1": "uint8", "f8": "double", "f4": "single", "i2": "int16", ">f8": "double", ">u2": "uint16"}


def write(path, name="data", values=None, matlab_class=None, **options):
    """One dataset (in HDF5's order) with MATLAB's attributes, behind a user block."""
    with h5py.File(path, "w", userblock_size=512) as hdf:
        dataset = hdf.create_dataset(name, data=values, **options)
        if matlab_class:
            dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return path


@pytest.fixture(params=["grouped", "one by one", "disk", "disk, as it comes", "plain"])
def way(request, monkeypatch):
    """Rows of chunks in memory, in groups or on threads; through a file, in groups or not; left to h5py."""
    for module in (chunk_rows, dataset):
        monkeypatch.setattr(module, "ROW_BYTES", 0 if "disk" in request.param else 1 << 30)
    monkeypatch.setattr(chunk_rows, "SMALL_BYTES", 0 if request.param == "one by one" else 1 << 30)
    monkeypatch.setattr(chunk_rows, "GROUP_BYTES", 2000)
    monkeypatch.setattr(chunk_rows, "SCRATCH_BLOCK_BYTES", 300)  # a few frames a block
    monkeypatch.setattr(row_scratch, "GROUP_BYTES", 0 if "comes" in request.param else 100)
    if request.param == "plain":
        monkeypatch.setattr(dataset, "MOST_CHUNKS", 0)
    return request.param


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_chunks_and_filters_equal_plain_h5py(tmp_path, way, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=4, max_size=4)))
    if data.draw(st.booleans()):
        shape = (shape[0], *shape[2:])  # a label
    chunks = tuple(data.draw(st.integers(1, extent)) for extent in shape)
    kind = data.draw(st.sampled_from(sorted(CLASSES)))
    options = data.draw(st.sampled_from(FILTERS))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    path = write(tmp_path / "x.mat", values=rng.integers(0, 100, shape).astype(kind), chunks=chunks,
                 matlab_class=CLASSES[kind], **options)  # fmt: skip
    with h5py.File(path) as hdf:
        oracle = hdf["data"][()]
    rank = len(shape) - 1
    upright = np.ascontiguousarray(oracle.transpose(0, *range(rank, 0, -1))).astype(
        np.dtype(kind).newbyteorder("=")
    )
    with open_mat(path, workers=data.draw(st.integers(1, 3))) as mat:
        variable = mat.variables["data"]
        assert variable.chunks == chunks
        assert variable.shape == shape[::-1]
        np.testing.assert_array_equal(variable.read(), oracle.T)
        for _ in range(3):
            a, b = sorted(rng.integers(0, shape[0] + 1, 2).tolist())
            np.testing.assert_array_equal(variable.read_frames(a, b, rank), upright[a:b], strict=True)
        for block in (None, 1, 3):
            np.testing.assert_array_equal(np.concatenate(list(variable.iter_frames(rank, block))), upright)
        rows = variable._storage._rows.get(rank)
        direct = "lzf" not in options.values()
        on_disk = way.startswith("disk")
        assert (rows is not None) == (on_disk or (way != "plain" and direct))
        assert rows is None or rows.on_disk == on_disk


@pytest.mark.parametrize("chunks", [None, (1, 1, 3, 4, 5), (1, 1, 2, 3, 2)])
def test_ones_before_the_frame_axis_and_none_at_all(tmp_path, way, chunks):
    values = np.arange(3 * 4 * 5, dtype="u1").reshape(3, 4, 5)  # one frame (C, W, H)
    for shape in ((3, 4, 5), (1, 3, 4, 5), (1, 1, 3, 4, 5)):
        cut = chunks and chunks[-len(shape) :]
        path = write(tmp_path / "x.mat", values=values.reshape(shape), matlab_class="uint8", chunks=cut)
        with open_mat(path) as mat:
            frames = mat.variables["data"].read_frames(0, 1, 3)
            np.testing.assert_array_equal(frames, values.T[None], strict=True)
            assert mat.variables["data"].num_frames(3) == 1


def test_chunks_larger_than_a_growable_array(tmp_path, way):
    values = np.arange(3 * 4 * 5, dtype="u1").reshape(3, 4, 5)
    path = write(tmp_path / "x.mat", values=values, matlab_class="uint8", chunks=(8, 4, 8),
                 maxshape=(None, None, None), compression="gzip")  # fmt: skip
    with open_mat(path) as mat:
        np.testing.assert_array_equal(mat.variables["data"].read_frames(0, 3, 2), values.transpose(0, 2, 1))


def test_chunk_that_skipped_its_filters(tmp_path, way):
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
    path = tmp_path / "x.mat"
    with h5py.File(path, "w") as hdf:
        dataset = hdf.create_dataset("data", (4, 5, 6), "u1", chunks=(2, 5, 6), compression="gzip")
        dataset[:2] = values[:2]
        dataset.id.write_direct_chunk((2, 0, 0), values[2:].tobytes(), filter_mask=1)
    with open_mat(path) as mat:
        np.testing.assert_array_equal(mat.variables["data"].read_frames(0, 4, 2), values.transpose(0, 2, 1))


@pytest.mark.parametrize("compress", [False, True])
def test_hdf5storage_writes_what_we_read(tmp_path, way, compress):
    rng = np.random.default_rng(1)
    arrays = {
        "video": rng.integers(0, 256, (20, 13, 3, 37), np.uint8),
        "label": rng.integers(0, 2, (20, 13, 37)).astype(bool),
        "current": rng.normal(size=(3, 37)),
        "train_test_index": np.zeros((1, 37), np.int64),
        "s": {"a": 1.0},
        "z": np.array([[1 + 2j]]),
        "text": "hello",
        "cells": np.array([[1, "a"]], dtype=object),
        "none": np.zeros((5, 4, 0), np.uint8),
    }
    path = tmp_path / "x.mat"
    options = hdf5storage.Options(matlab_compatible=True, compress=compress, compress_size_threshold=0)
    hdf5storage.writes(
        {f"/{name}": value for name, value in arrays.items()}, filename=str(path), options=options
    )
    with open_mat(path) as mat:
        assert mat.version == "v7.3"
        assert set(mat.variables) == set(arrays)  # and not #refs#
        assert mat.variables["label"].matlab_class == "logical"
        for name in ("video", "label", "current", "train_test_index", "none"):
            np.testing.assert_array_equal(mat.variables[name].read(), arrays[name])
        for name, rank in (("video", 3), ("label", 2), ("current", 1), ("none", 2)):
            n = mat.variables[name].num_frames(rank)
            wanted = np.moveaxis(arrays[name], -1, 0)
            np.testing.assert_array_equal(mat.variables[name].read_frames(0, n, rank), wanted)
        for name, text in (("s", "struct"), ("z", "complex double"), ("text", "char"), ("cells", "cell")):
            with pytest.raises(SourceError, match=f"variable '{name}'.*{text}"):
                mat.variables[name].read()


def test_links_and_odd_types_are_listed(tmp_path):
    path = tmp_path / "x.mat"
    with h5py.File(path, "w") as hdf:
        hdf["good"] = np.arange(6.0).reshape(2, 3)
        hdf["half"] = np.zeros((2, 3), "f2")
        hdf["away"] = h5py.ExternalLink("elsewhere.mat", "/x")
        hdf["soft"] = h5py.SoftLink("/nowhere")
        hdf["null"] = h5py.Empty("f8")
        hdf["one"] = 5.0
        hdf["#refs#/a"] = 1
        layout = h5py.VirtualLayout((2, 3), "u1")
        hdf.create_virtual_dataset("virtual", layout)
    with open_mat(path) as mat:
        assert set(mat.variables) == {"good", "half", "away", "soft", "null", "one", "virtual"}
        np.testing.assert_array_equal(mat.variables["one"].read(), [[5.0]])
        np.testing.assert_array_equal(mat.variables["good"].read(), np.arange(6.0).reshape(2, 3).T)
        for name in ("half", "away", "soft", "null", "virtual"):
            with pytest.raises(SourceError, match=f"variable '{name}'"):
                mat.variables[name].read_frames(0, 1, 1)


def test_class_and_type_that_differ(tmp_path):
    path = write(tmp_path / "x.mat", values=np.array([[0.0, 255.0]]), matlab_class="uint8")
    with open_mat(path) as mat:
        np.testing.assert_array_equal(mat.variables["data"].read(), np.array([[0], [255]], "u1"), strict=True)
    path = write(tmp_path / "x.mat", values=np.array([[0.5, 1.0]]), matlab_class="uint8")
    with (
        open_mat(path) as mat,
        pytest.raises(SourceError, match="uint8 but holds float64 values that do not fit"),
    ):
        mat.variables["data"].read()


def test_empty_without_its_dimensions(tmp_path):
    path = tmp_path / "x.mat"
    with h5py.File(path, "w") as hdf:
        for name, dims in (("good", [4, 0]), ("full", [4, 5]), ("frac", [0.0, 1.0]), ("vast", [0, 2**63])):
            hdf[name] = np.array(dims, "f8" if name == "frac" else "u8")
            hdf[name].attrs["MATLAB_empty"] = 1
            hdf[name].attrs["MATLAB_class"] = "double"
    with open_mat(path) as mat:
        assert mat.variables["good"].read().shape == (4, 0)
        for name in ("full", "frac", "vast"):
            with pytest.raises(SourceError, match=r"marked empty|no array is that large"):
                mat.variables[name].read()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"chunks": (8, 64, 64), "compression": "gzip"}, "cannot hold them|were ever written"),
        ({"chunks": (1 << 16, 64, 64), "compression": "gzip"}, "cannot hold them|were ever written"),
        ({}, "expected 4096000000000 bytes, got only 0 that were ever written"),
    ],
)
def test_terabytes_that_were_never_written(tmp_path, options, text):
    path = tmp_path / "x.mat"
    with h5py.File(path, "w") as hdf:
        dataset = hdf.create_dataset("data", (1_000_000_000, 64, 64), "u1", **options)
        if options.get("chunks", (0,))[0] == 8:
            dataset[:8] = 1
    tracemalloc.start()
    try:
        with open_mat(path) as mat, pytest.raises(SourceError, match=text):
            mat.variables["data"].num_frames(2)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_chunks_that_were_never_written(tmp_path):
    path = tmp_path / "x.mat"
    with h5py.File(path, "w") as hdf:
        for name, frames in (("whole", 32), ("part", 24)):
            hdf.create_dataset(name, (32, 5, 6), "u1", chunks=(8, 5, 6))[:frames] = 1
    with open_mat(path) as mat:
        assert mat.variables["whole"].read_frames(0, 32, 2).all()
        with pytest.raises(SourceError, match="expected 4 chunks, got only 3 that were ever written"):
            mat.variables["part"].read_frames(0, 8, 2)


def damage(path, where, change):
    """`change` of the bytes of chunk 1 at index `where`."""
    with h5py.File(path) as hdf:
        infos = []
        hdf["data"].id.chunk_iter(infos.append)
    data = bytearray(path.read_bytes())
    data[infos[1].byte_offset + where % infos[1].size] ^= change
    path.write_bytes(data)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("options", "where", "text"),
    [
        ({"compression": "gzip"}, -1, "damaged|filter"),
        ({"compression": "gzip"}, 40, "compressed data|filter|inflate"),
        ({"fletcher32": True}, 17, "checksum|filter|read"),
        ({"fletcher32": True}, -1, "checksum|filter|read"),
        ({"compression": "gzip", "shuffle": True, "fletcher32": True}, 40, "checksum|filter|read"),
        ({"compression": "lzf", "fletcher32": True}, 9, "filter|read"),
    ],
)
def test_damaged_chunk_is_found(tmp_path, way, *, workers, options, where, text):
    values = np.random.default_rng(0).integers(0, 50, (64, 16, 16), np.uint8).astype("u2")
    path = write(tmp_path / "x.mat", values=values, matlab_class="uint16", chunks=(16, 16, 16), **options)
    damage(path, where, 0x10)
    with open_mat(path, workers=workers) as mat, pytest.raises(SourceError, match=text) as caught:
        list(mat.variables["data"].iter_frames(2))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("filters", [{"fletcher32": True}, {"compression": "gzip", "fletcher32": True}])
def test_chunk_of_no_size_is_found(tmp_path, way, filters):
    """HDF5's checksum filter crashes the whole process on one."""
    path = write(
        tmp_path / "x.mat", values=np.ones((8, 5, 6), "u1"), matlab_class="uint8", chunks=(4, 5, 6), **filters
    )
    data = bytearray(path.read_bytes())
    node = next(i for i in range(len(data)) if data[i : i + 5] == b"TREE\1")  # the chunks' B-tree
    assert int.from_bytes(data[node + 24 : node + 28], "little") > 4  # its first key: the chunk's size
    for size in (0, 3):
        data[node + 24] = size
        data[node + 25 : node + 28] = bytes(3)
        path.write_bytes(data)
        with open_mat(path) as mat:
            for read in (mat.variables["data"].read, lambda v=mat.variables["data"]: v.read_frames(0, 8, 2)):
                with pytest.raises(SourceError, match="'data': "):
                    read()


@pytest.mark.parametrize("way", ["memory", "disk"], indirect=True)  # HDF5 itself does not look
@pytest.mark.parametrize("change", ["longer", "shorter", "short raw"])
def test_chunk_of_another_size_is_found(tmp_path, way, change):
    import zlib

    path = tmp_path / "x.mat"
    sizes = {"longer": 2 << 20, "shorter": 100, "short raw": 100}
    with h5py.File(path, "w") as hdf:
        filters = {} if change == "short raw" else {"compression": "gzip"}
        dataset = hdf.create_dataset("data", (4, 32, 32), "u1", chunks=(4, 32, 32), **filters)
        stream = bytes(sizes[change])
        dataset.id.write_direct_chunk((0, 0, 0), zlib.compress(stream) if filters else stream)
    with (
        open_mat(path) as mat,
        pytest.raises(SourceError, match=r"announced|holds|bytes|written|not where HDF5 says|read"),
    ):
        mat.variables["data"].read_frames(0, 4, 2)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 4096, 200_001])
def test_fletcher32_is_the_one_of_hdf5(tmp_path, length):
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    # the textbook sums over big-endian words
    low = high = 0
    for i in range(0, length, 2):
        low = (low + int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big")) % 65535
        high = (high + low) % 65535
    assert fletcher32([data[:4096], data[4096:]]) == high << 16 | low
    assert same_fletcher32(0, 0xFFFF_FFFF)
    assert not same_fletcher32(1, 0)


@pytest.mark.parametrize("group_bytes", [0, 1 << 19])
def test_long_chunks_take_bounded_memory(tmp_path, monkeypatch, group_bytes):
    monkeypatch.setattr(chunk_rows, "ROW_BYTES", 1 << 20)
    monkeypatch.setattr(dataset, "ROW_BYTES", 1 << 20)
    monkeypatch.setattr(chunk_rows, "SCRATCH_BLOCK_BYTES", 1 << 19)
    monkeypatch.setattr(row_scratch, "GROUP_BYTES", group_bytes)
    values = np.zeros((1500, 3, 48, 64), np.uint8)
    values[::5, :, 7] = 3
    path = write(
        tmp_path / "x.mat", values=values, matlab_class="uint8", chunks=(1500, 3, 1, 14), compression="gzip"
    )
    total, size = int(values.sum()), values.nbytes
    del values
    tracemalloc.start()
    try:
        with open_mat(path, workers=2) as mat:
            assert sum(int(part.sum()) for part in mat.variables["data"].iter_frames(3, 64)) == total
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size // 3


def test_scratch_goes_where_it_is_told_and_then_away(tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_rows, "ROW_BYTES", 0)
    monkeypatch.setattr(dataset, "ROW_BYTES", 0)
    path = write(tmp_path / "x.mat", values=np.ones((4, 5, 6), "u1"), matlab_class="uint8", chunks=(4, 5, 6))
    with open_mat(path, scratch=tmp_path) as mat:
        assert mat.variables["data"].read_frames(1, 3, 2).sum() == 60
    assert [p.name for p in tmp_path.iterdir()] == ["x.mat"]
    with open_mat(path, scratch=tmp_path / "none") as mat, pytest.raises(FailedError, match="set TMPDIR"):
        mat.variables["data"].read_frames(1, 3, 2)


def test_plan_follows_the_chunks(tmp_path):
    """Whole chunks in memory if they fit, through a file if not."""
    shape = (1400, 3, 64, 64)
    values = np.zeros(shape, np.uint8)
    cases = {(8, 3, 64, 64): 1360, (1365, 3, 14, 1): 1365, (1, 3, 16, 16): 1365, (1400, 3, 64, 1): 1400}
    for chunk_shape, block in cases.items():
        path = write(
            tmp_path / "x.mat", values=values, matlab_class="uint8", chunks=chunk_shape, compression="gzip"
        )
        with open_mat(path) as mat:
            assert mat.variables["data"].block_frames(3) == block
            assert mat.variables["data"].read_frames(8, 9, 3).shape == (1, 64, 64, 3)
