"""v6 and v7 against scipy, other shapes and types, and headers that lie.

Also tests fmfbench.sources.matlab: inflate.
"""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmfbench.errors import SourceError
from fmfbench.sources.matlab.inflate import InflateError, inflate, inflate_whole
from fmfbench.sources.matlab.mat import open_mat

NAMES = {"f8": "double", "f4": "single", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32"}
NAMES |= {"i1": "int8", "u4": "uint32", "i8": "int64", "u8": "uint64"}
TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
CLASSES = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14, "u8": 15}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    kind=st.sampled_from(sorted(NAMES)),
    compress=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_scipy(tmp_path, shape, kind, compress, seed):
    rng = np.random.default_rng(seed)
    arrays = {
        "video": rng.integers(0, 100, shape).astype(kind),
        "label": rng.integers(0, 2, shape[:2] + shape[3:]).astype(kind),
        "flat": rng.integers(0, 100, (3, shape[3])).astype(kind),
    }
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, arrays, do_compression=compress)
    oracle = scipy.io.loadmat(path)
    with open_mat(path, workers=1) as mat:
        assert mat.version == ("v7" if compress else "v6")
        assert list(mat.variables) == list(arrays)
        for frame_ndim, name in ((3, "video"), (2, "label"), (1, "flat")):
            variable = mat.variables[name]
            assert variable.matlab_class == NAMES[kind]
            np.testing.assert_array_equal(variable.read(), oracle[name], strict=True)
            n = variable.num_frames(frame_ndim)
            a, b = sorted(rng.integers(0, n + 1, 2).tolist())
            wanted = np.moveaxis(oracle[name].reshape(*variable.frame_shape(frame_ndim), n), -1, 0)
            np.testing.assert_array_equal(variable.read_frames(a, b, frame_ndim), wanted[a:b], strict=True)
            np.testing.assert_array_equal(np.concatenate(list(variable.iter_frames(frame_ndim, 2))), wanted)


@pytest.mark.parametrize("compress", [False, True])
def test_lists_what_it_cannot_read(tmp_path, compress):
    import scipy.sparse

    path = tmp_path / "x.mat"
    arrays = {
        "z": np.array([[1 + 2j]]),
        "cells": np.array([[1, "a"]], dtype=object),
        "s": {"a": 1},
        "text": "hello",
        "thin": scipy.sparse.eye_array(3).tocsc(),
        "flag": np.array([[True, False]]),
        "none": np.zeros((0, 3)),
        "good": np.arange(6.0).reshape(2, 3),
    }
    scipy.io.savemat(path, arrays, do_compression=compress)
    with open_mat(path) as mat:
        kinds = {name: v.matlab_class for name, v in mat.variables.items()}
        assert kinds == {
            "z": "double", "cells": "cell", "s": "struct", "text": "char", "thin": "sparse",
            "flag": "logical", "none": "double", "good": "double",
        }  # fmt: skip
        for name in ("z", "cells", "s", "text", "thin"):
            assert mat.variables[name].dtype is None
            with pytest.raises(SourceError, match=rf"variable '{name}' is a? ?(complex )?{kinds[name]}"):
                mat.variables[name].read()
        np.testing.assert_array_equal(mat.variables["flag"].read(), [[1, 0]])
        assert mat.variables["none"].read().shape == (0, 3)
        np.testing.assert_array_equal(mat.variables["good"].read(), arrays["good"])


def part(kind, data):
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def variable(name="x", *, dims=(2, 3), stored="u1", values=None, klass=9, announced=None):
    """A matrix element by the format's own words, so that each can be made to lie."""
    data = (
        np.arange(abs(np.prod(dims))).reshape(np.abs(dims)).astype(stored)
        if values is None
        else np.asarray(values).astype(stored)
    )
    body = part(6, struct.pack("<II", klass, 0)) + part(5, struct.pack(f"<{len(dims)}i", *dims))
    body += part(1, name.encode())
    numbers = data.tobytes(order="F")
    body += struct.pack("<II", TYPES[stored], len(numbers) if announced is None else announced)
    body += numbers + b"\0" * (-len(numbers) % 8)
    return part(14, body)


def deflated(element, level=6):
    data = zlib.compress(element, level)
    return struct.pack("<II", 15, len(data)) + data


def write(path, *elements):
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"".join(elements))
    return path


@pytest.mark.parametrize("wrap", [bytes, deflated], ids=["v6", "v7"])
@pytest.mark.parametrize("kind", sorted(CLASSES))
@pytest.mark.parametrize("stored", ["u1", "i2", "u2", "i4", "f8"])
def test_values_stored_in_another_type(tmp_path, wrap, kind, stored):
    path = write(tmp_path / "x.mat", wrap(variable(stored=stored, klass=CLASSES[kind])))
    with open_mat(path) as mat:
        values = mat.variables["x"].read()
        np.testing.assert_array_equal(values, np.arange(6).reshape(2, 3).astype(kind), strict=True)
        np.testing.assert_array_equal(values, scipy.io.loadmat(path)["x"])


@pytest.mark.parametrize(
    ("kind", "stored", "value"),
    [
        ("u1", "i2", 256),
        ("u1", "i2", -1),
        ("i1", "u1", 128),
        ("u1", "f8", 0.5),
        ("u1", "f8", np.nan),
        ("u8", "i8", -1),
        ("i8", "u8", 2**63),
        ("u8", "f8", 2.0**64),
    ],
)
def test_values_that_do_not_fit_their_class_are_refused(tmp_path, kind, stored, value):
    path = write(tmp_path / "x.mat", variable(stored=stored, klass=CLASSES[kind], values=[[value, 0, 0]] * 2))
    with open_mat(path) as mat, pytest.raises(SourceError, match="values that do not fit"):
        mat.variables["x"].read_frames(0, 3, 1)


def test_small_elements_and_short_names(tmp_path):
    tiny = part(6, struct.pack("<II", 6, 0)) + part(5, struct.pack("<2i", 1, 1))
    tiny += struct.pack("<HH4s", 1, 1, b"k") + struct.pack("<HH4s", 2, 1, b"\7")
    with open_mat(write(tmp_path / "x.mat", part(14, tiny))) as mat:
        np.testing.assert_array_equal(mat.variables["k"].read(), [[7.0]], strict=True)


LIES = {
    "terabytes": (variable(dims=(64, 64, 3, 10**8), values=[[0]]), "expected 1228800000000 bytes"),
    "terabytes twice": (
        variable(dims=(1 << 30, 2), values=[[0]], announced=1 << 31),
        "reach beyond|cannot hold them|cut off",
    ),
    "negative": (variable(dims=(-2, -3)), "dimensions -2x-3"),
    "too few values": (
        variable(dims=(2, 3), values=[[1, 2]]),
        "expected 6 bytes of uint8, got 2 announced by its header",
    ),
    "type of values": (variable().replace(struct.pack("<II", 2, 6), struct.pack("<II", 8, 6)), "type 8"),
    "no flags": (part(14, part(5, b"\0" * 8)), "flags are missing"),
    "no dimensions": (
        part(14, part(6, struct.pack("<II", 9, 0)) + part(9, b"\0" * 8)),
        "dimensions are missing",
    ),
    "no name": (part(14, variable()[8:48]), "ends before its values|name is missing"),
    "empty": (part(14, b""), "ends before its values"),
}


@pytest.mark.parametrize("wrap", [bytes, deflated], ids=["v6", "v7"])
@pytest.mark.parametrize("lie", LIES)
def test_lying_headers_cost_nothing(tmp_path, wrap, lie):
    element, text = LIES[lie]
    path = write(tmp_path / "x.mat", wrap(element))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=text) as caught, open_mat(path) as mat:
            mat.variables["x"].read_frames(0, 1, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 4 << 20


def test_damaged_extra_does_no_harm_and_same_name_does(tmp_path):
    bad, good = variable("bad", dims=(2, 10**6), values=[[1]]), variable("good")
    with open_mat(write(tmp_path / "x.mat", bad, good)) as mat:
        assert mat.variables["good"].read().sum() == 15
        with pytest.raises(SourceError, match="'bad'"):
            mat.variables["bad"].num_frames(1)
    with pytest.raises(SourceError, match="there twice"):
        open_mat(write(tmp_path / "x.mat", good, good))


def test_unnamed_workspace_is_skipped(tmp_path):
    with open_mat(write(tmp_path / "x.mat", variable(""), variable("#refs#"), variable("x"))) as mat:
        assert list(mat.variables) == ["x"]


def noise(n=40):
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3, n), np.uint8)


@pytest.mark.parametrize("damage", ["short", "checksum", "bit", "longer"])
def test_damaged_stream_is_refused(tmp_path, damage):
    element = variable("video", dims=(24, 32, 3, 40), values=noise())
    stream = bytearray(zlib.compress(element))
    if damage == "short":
        stream = stream[:-6]
    elif damage == "checksum":
        stream[-1] ^= 1
    elif damage == "bit":
        stream[len(stream) // 2] ^= 4
    else:
        stream = bytearray(zlib.compress(element + b"\0" * 1000))
    path = write(tmp_path / "x.mat", struct.pack("<II", 15, len(stream)) + bytes(stream))
    with (
        open_mat(path) as mat,
        pytest.raises(SourceError, match=r"'video': (the )?compressed data(:| is| ends| goes)"),
    ):
        list(mat.variables["video"].iter_frames(3, 7))


@pytest.mark.parametrize("compress", [False, True])
def test_every_cut_is_found(tmp_path, compress):
    whole = tmp_path / "whole.mat"
    scipy.io.savemat(whole, {"a": noise(2), "b": np.arange(12.0).reshape(3, 4)}, do_compression=compress)
    data = whole.read_bytes()
    with open_mat(whole) as mat:
        first = 128 + 8 + mat.variables["a"].stored_bytes
    path = tmp_path / "cut.mat"
    for length in {*range(260), *range(260, len(data), 97), first - 1, first + 1, len(data) - 1} - {first}:
        path.write_bytes(data[:length])
        with pytest.raises(SourceError):
            open_mat(path)
    path.write_bytes(data[:first])  # at a variable's end nothing shows but that the other one is missing
    with open_mat(path) as mat:
        assert mat.describe() == "'a' 24x32x3x2 uint8"


@pytest.mark.parametrize("compress", [False, True])
def test_memory_does_not_grow_with_the_file(tmp_path, compress):
    path = tmp_path / "long.mat"
    frames = np.zeros((64, 48, 3, 4000), np.uint8, order="F")
    frames[..., ::7] = 9
    scipy.io.savemat(path, {"video": frames}, do_compression=compress)
    total = int(frames.sum())
    del frames
    tracemalloc.start()
    try:
        with open_mat(path, workers=1) as mat:
            video = mat.variables["video"]
            opened = tracemalloc.get_traced_memory()[1]
            assert sum(int(block.sum()) for block in video.iter_frames(3, 100)) == total
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert opened < 1 << 20  # listing inflates only the first bytes
    assert peak < 6 << 20  # of 36 MB


def test_forward_reads_go_on_in_the_stream(tmp_path, monkeypatch):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"video": noise()}, do_compression=True)
    from fmfbench.sources.matlab import v5

    begun = []
    make = v5.new_inflater
    monkeypatch.setattr(v5, "new_inflater", lambda: begun.append(1) or make())
    with open_mat(path) as mat:
        video = mat.variables["video"]
        video.read_frames(3, 5, 3)
        before = len(begun)
        for a in range(5, 40, 5):
            video.read_frames(a, a + 5, 3)
        assert len(begun) == before
        video.read_frames(0, 1, 3)
        assert len(begun) == before + 1


@given(data=st.binary(max_size=5000), cut=st.integers(1, 700))
@settings(max_examples=50, deadline=None)
def test_inflate_gives_what_zlib_gives(data, cut):
    stream = zlib.compress(data * 3)
    pieces = [stream[i : i + cut] for i in range(0, len(stream), cut)]
    assert b"".join(inflate(pieces, 3 * len(data))) == data * 3
    assert inflate_whole(stream, 3 * len(data)) == data * 3
    for wrong in (3 * len(data) + 1, 3 * len(data) - 1):
        assert wrong < 0 or inflate_whole(stream, wrong) is None
        if wrong >= 0:
            with pytest.raises(InflateError):
                list(inflate(pieces, wrong))
    with pytest.raises(InflateError):
        list(inflate(pieces[:-1], 3 * len(data)))


def test_inflate_stops_at_the_size_announced():
    bomb = zlib.compress(bytes(100 << 20))
    tracemalloc.start()
    try:
        assert inflate_whole(bomb, 1000) is None
        with pytest.raises(InflateError, match="expected 1000 bytes, got more"):
            list(inflate([bomb], 1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
