"""MAT files from other people's programs: each gives its documented content, or says in one line why not.

Also tests fmfbench.sources.matlab: file_bytes, variable.
"""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from fmfbench.errors import SourceError
from fmfbench.sources.matlab.file_bytes import FileBytes
from fmfbench.sources.matlab.mat import open_mat

DATA = Path(__file__).parents[2] / "data"
HEIGHT, WIDTH = 24, 32


def sample_video(n):
    frame, r, c, k = np.ogrid[:n, :HEIGHT, :WIDTH, :3]
    return ((r + 3 * c + 17 * k + 5 * frame) % 256).astype(np.uint8)


def sample_label(n):
    label = np.zeros((n, HEIGHT, WIDTH), np.uint8)
    label[3:8, 5:12, 8:20] = 1
    return label


def sample_current(n):
    phase, i = np.ogrid[:3, :n]
    return 6000 + 500 * np.sin((phase + 1) * i / 3)


# file: frames, and what else differs from the plain sample
V1 = {
    "v1_hdf5storage_v73.mat": {},
    "v1_matio_py_v7.mat": {},
    "v1_matio_v6.mat": {"label": "logical"},
    "v1_matio_v7.mat": {},
    "v1_matio_v73_deflate.mat": {},
    "v1_octave_v6.mat": {"current": "single"},
    "v1_octave_v7.mat": {"current": "single"},
    "v1_octave_v7_N0.mat": {"current": "single", "n": 0},
    "v1_octave_v7_N1.mat": {"current": "single", "n": 1},
    "v1_octave_v7_double255_label.mat": {"current": "single", "label": "double", "scale": 255},
    "v1_octave_v7_extra_char.mat": {"current": "single", "extra": "note"},
    "v1_octave_v7_logical_index.mat": {"current": "single", "index": "logical"},
    "v1_octave_v7_logical_label.mat": {"current": "single", "label": "logical"},
    "v1_octave_v7_nan_current.mat": {"gaps": True},
    "v1_octave_v7_transposed_index.mat": {"current": "single", "index_shape": (10, 1)},
}
V2 = {
    "plain_hdf5_no_userblock.mat": {"label": "logical"},
    "v2_h5py_v73_Tlong_chunks.mat": {"label": "logical"},
    "v2_h5py_v73_ragged_chunks.mat": {"label": "double"},
    "v2_hdf5storage_v73.mat": {},
    "v2_hdf5storage_v73_bool_label.mat": {"label": "logical"},
    "v2_hdf5storage_v73_empty.mat": {"n": 0},
    "v2_matio_py_v73.mat": {"label": "logical"},
    "v2_matio_py_v73_N0.mat": {"n": 0},
    "v2_matio_py_v73_N1.mat": {"n": 1},
    "v2_matio_py_v73_nocomp.mat": {},
    "v2_matio_v5_not_hdf5.mat": {},
    "v2_matio_v73_N1.mat": {"n": 1},
    "v2_matio_v73_deflate.mat": {},
    "v2_matio_v73_double_label.mat": {"label": "double"},
    "v2_matio_v73_logical_label.mat": {"label": "logical"},
    "v2_matio_v73_no_label.mat": {"label": None},
    "v2_matio_v73_plain.mat": {},
    "v2_matio_v73_single_label.mat": {"label": "single"},
    "v2_tree/pixel-level/videos/SaveToAvi-demo.mat": {},
}
# names and kinds are for the layouts to judge: the reader tells what is there
TOLD = {
    "v1_octave_v7_wrong_name.mat": "'Video' 24x32x3x10 uint8, 'current' 3x10 single, 'label' 24x32x10 uint8",
    "v1_octave_v7_missing_label.mat": "'video' 24x32x3x10 uint8, 'current' 3x10 single, 'train_test_index'",
    "v1_octave_v7_label_WHN.mat": "'label' 32x24x10 uint8",
    "v1_octave_v7_double01_video.mat": "'video' 24x32x3x10 double",
    "v1_octave_v7_in_struct.mat": "'s' 1x1 struct",
    "bad_v7_cut_after_first_variable.mat": "'video' 24x32x3x10 uint8",
    "bad_v73_corrupt_chunk.mat": "'data' 24x32x3x10 uint8, 'label' 24x32x10 uint8",
}
REFUSED = {
    "bad_empty.mat": "empty (0 bytes)",
    "bad_text.mat": "expected a MAT file, got a text file",
    "bad_v6_truncated_in_video.mat": "cut off: variable 'video' needs 23240 bytes, the file has 10000",
    "bad_v73_truncated_half.mat": "cut off: it has 6971 bytes, its HDF5 header says 13943",
    "bad_v73_truncated_tail64.mat": "cut off: it has 13879 bytes, its HDF5 header says 13943",
    "bad_v73_userblock_only.mat": "only the header of a v7.3 file (512 bytes)",
    "bad_v7_header_only.mat": "holds no variables",
    "bad_v7_truncated_half.mat": "cut off: variable 'video' needs 1131 bytes, the file has 729",
    "octave_hdf5_not_v73.h5": "Octave's own HDF5",
}


def test_every_sample_has_its_verdict_here():
    files = {str(p.relative_to(DATA).as_posix()) for p in DATA.rglob("*") if p.suffix in (".mat", ".h5")}
    assert files == {*V1, *V2, *TOLD, *REFUSED}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", [*V1, *V2])
def test_good_sample_gives_its_documented_content(name, workers):
    facts = V1.get(name) or V2.get(name, {})
    n, kind = facts.get("n", 10), facts.get("label", "uint8")
    with open_mat(DATA / name, workers=workers) as mat:
        video = mat.variables["video" if name in V1 else "data"]
        assert video.num_frames(3) == n
        assert (video.matlab_class, video.dtype) == ("uint8", np.uint8)
        frames = video.read_frames(0, n, 3)
        assert frames.dtype == np.uint8
        assert frames.flags.c_contiguous
        np.testing.assert_array_equal(frames, sample_video(n), strict=True)
        np.testing.assert_array_equal(video.read().reshape(HEIGHT, WIDTH, 3, n), np.moveaxis(frames, 0, -1))
        assert ("label" in mat.variables) == (kind is not None)
        if kind is not None:
            label = mat.variables["label"]
            assert label.matlab_class == kind
            values = label.read_frames(0, label.num_frames(2), 2)
            assert values.dtype == label.dtype == {"double": "f8", "single": "f4"}.get(kind, "u1")
            np.testing.assert_array_equal(values, sample_label(n) * facts.get("scale", 1))
        if name in V1:
            check_v1_signals(mat, facts, n)


def check_v1_signals(mat, facts, n):
    current, index = mat.variables["current"], mat.variables["train_test_index"]
    assert current.matlab_class == facts.get("current", "double")
    wanted = sample_current(n)
    if facts.get("gaps"):
        wanted[1, 3], wanted[2, 8] = np.nan, np.inf
    # the sample with gaps is double, but its numbers went through single
    tolerance = 1e-7 if current.dtype == np.float32 or facts.get("gaps") else 1e-12
    np.testing.assert_allclose(current.read(), wanted, rtol=tolerance)
    np.testing.assert_array_equal(current.read_frames(0, n, 1), current.read().T)
    assert index.matlab_class == facts.get("index", "double")
    np.testing.assert_array_equal(
        index.read(),
        (np.arange(n) >= 7).reshape(facts.get("index_shape", (1, n))).astype(index.dtype),
        strict=True,
    )
    if "extra" in facts:
        assert mat.variables[facts["extra"]].matlab_class == "char"
        with pytest.raises(SourceError, match="is a char: expected real numbers"):
            mat.variables[facts["extra"]].read()


@pytest.mark.parametrize(("name", "text"), TOLD.items())
def test_odd_sample_is_described(name, text):
    with open_mat(DATA / name) as mat:
        assert text in mat.describe()
        if "s" in mat.variables:
            with pytest.raises(SourceError, match="variable 's' is a struct"):
                mat.variables["s"].num_frames(3)


@pytest.mark.parametrize(("name", "text"), REFUSED.items())
def test_bad_sample_is_refused_in_one_line(name, text):
    with pytest.raises(SourceError) as caught:
        open_mat(DATA / name)
    message = str(caught.value)
    assert text in message
    assert message.startswith(str(DATA / name) + ": ")
    assert "\n" not in message


@pytest.mark.parametrize("workers", [1, 2])
def test_corrupt_chunk_is_named(workers):
    with open_mat(DATA / "bad_v73_corrupt_chunk.mat", workers=workers) as mat:
        for read in (mat.variables["data"].read, lambda: list(mat.variables["data"].iter_frames(3))):
            with pytest.raises(SourceError, match=r"bad_v73_corrupt_chunk.mat: variable 'data': "):
                read()
        np.testing.assert_array_equal(mat.variables["label"].read_frames(0, 10, 2), sample_label(10))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\0" * 100, "100 bytes, shorter than a MAT header"),
        (b"\0" * 124 + b"\1\0MI" + b"\0" * 64, "big-endian"),
        (b"\0" * 124 + b"\0\3IM" + b"\0" * 64, "got other bytes"),
        (b"\0" * 124 + b"\0\2IM" + b"\0" * 600, "v7.3 header but no HDF5 data"),
        (b"\0" * 124 + b"\0\1IM" + b"\0" * 64, "got type 0"),
        (b"\0" * 124 + b"\0\1IM" + b"\0" * 3, "within the tag"),
        (struct.pack("<5i", 0, 2, 2, 0, 2) + b"x\0" + b"\1\2" * 40, "version 4"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "cannot be read"),
    ],
)  # fmt: skip
def test_other_bytes_are_refused(tmp_path, content, text):
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=text) as caught:
        open_mat(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.mat", tmp_path):
        with pytest.raises(SourceError, match="cannot be"):
            open_mat(path)


@pytest.mark.parametrize(
    "name", ["v1_octave_v6.mat", "v1_octave_v7.mat", "v1_matio_v73_deflate.mat", "v1_hdf5storage_v73.mat"]
)
@pytest.mark.parametrize("workers", [1, 3])
def test_any_range_and_any_block(name, workers):
    wanted = sample_video(10)
    with open_mat(DATA / name, workers=workers) as mat:
        video = mat.variables["video"]
        for a in (9, 0, 3, 8, 5):  # backwards too
            for b in range(a, 11):
                np.testing.assert_array_equal(video.read_frames(a, b, 3), wanted[a:b], strict=True)
        for block in (None, 1, 3, 4, 10, 99):
            for start, stop in ((0, None), (2, None), (3, 9), (10, None), (4, 4)):
                blocks = list(video.iter_frames(3, block, start, stop))
                assert all(0 < len(part) <= (block or 10) for part in blocks)
                joined = np.concatenate([wanted[:0], *blocks])
                np.testing.assert_array_equal(joined, wanted[start:stop], strict=True)
        for a, b in ((-1, 3), (4, 3), (0, 11)):
            with pytest.raises(IndexError):
                video.read_frames(a, b, 3)


def test_leaving_off_in_the_middle_and_closing_twice(tmp_path):
    path = tmp_path / "copy.mat"
    shutil.copy(DATA / "v1_matio_v73_deflate.mat", path)
    with open_mat(path, workers=2) as mat:
        frames = mat.variables["video"].iter_frames(3, 2)
        next(frames)
        frames.close()
    mat.close()
    path.unlink()  # nothing holds it open


@pytest.mark.parametrize("frame_ndim", [1, 2])
def test_other_ranks_are_refused(frame_ndim):
    with (
        open_mat(DATA / "v1_octave_v7.mat") as mat,
        pytest.raises(SourceError, match="dimensions and one of frames, got 24x32x3x10"),
    ):
        mat.variables["video"].num_frames(frame_ndim)


def test_files_without_positioned_reads(tmp_path):
    """Where the system has no pread, one lock keeps seek and read together."""
    path = tmp_path / "x"
    path.write_bytes(bytes(range(100)))
    with path.open("r+b", buffering=0) as handle:
        file = FileBytes(handle)
        for positioned in (True, False):
            file._positioned = positioned
            assert file.read_at(10, 5) == bytes(range(10, 15))
            assert file.read_at(98, 5) == bytes([98, 99])
            assert file.read_at(200, 5) == file.read_at(-1, 5) == file.read_at(1 << 63, 5) == b""
            file.write_at(20, b"abc")
            assert file.read_at(19, 5) == b"\x13abc\x17"
            file.write_at(20, bytes([20, 21, 22]))
