"""MAT writers against readers that are not ours: scipy (v7), h5py and hdf5storage (v7.3)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import h5py
import hdf5storage
import numpy as np
import pytest
import scipy.io

from fmfbench.errors import InputError
from fmfbench.furnace import mat_write
from fmfbench.furnace.mat_write import MAT_VERSIONS, open_mat_writer
from fmfbench.sources.matlab.mat import open_mat

FRAMES = 21  # not a multiple of the chunk's frames


def make_video(frames: int = FRAMES) -> np.ndarray:
    """(H, W, 3, N) with H != W, in MATLAB's order of dimensions."""
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3, frames), dtype=np.uint8)


def blocks_of(matlab: np.ndarray, size: int) -> list[np.ndarray]:
    stored = matlab.transpose()
    return [stored[i : i + size] for i in range(0, len(stored), size)]


def write_example(path: Path, version: str, frames: int = FRAMES, size: int = 8) -> dict[str, np.ndarray]:
    video = make_video(frames)
    current = np.random.default_rng(1).normal(7000.0, 300.0, (3, frames))
    index = (np.arange(frames) >= 4).astype(np.uint8)[None]
    with open_mat_writer(path, version, "FMF-Sim test") as writer:
        writer.write("video", video.shape, "uint8", blocks_of(video, size))
        writer.write("current", current.shape, "float64", blocks_of(current, frames or 1))
        writer.write("train_test_index", index.shape, "uint8", blocks_of(index, frames or 1))
    return {"video": video, "current": current, "train_test_index": index}


@pytest.mark.parametrize("size", [1, 5, 8, 32])
def test_v7_read_by_scipy_is_what_was_written(tmp_path: Path, size: int) -> None:
    wanted = write_example(tmp_path / "a.mat", "v7", size=size)
    got = scipy.io.loadmat(tmp_path / "a.mat")
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("size", [1, 5, 8, 32])
def test_v73_read_by_hdf5storage_is_what_was_written(tmp_path: Path, size: int) -> None:
    wanted = write_example(tmp_path / "a.mat", "v7.3", size=size)
    got = hdf5storage.loadmat(str(tmp_path / "a.mat"))
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


def test_v73_has_the_form_that_matlab_gives_it(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    write_example(path, "v7.3")
    head = path.read_bytes()[:520]
    assert head[:19] == b"MATLAB 7.3 MAT-file"
    assert b"FMF-Sim test" in head[:116]
    assert head[124:128] == b"\x00\x02IM"
    assert head[512:520] == b"\x89HDF\r\n\x1a\n"
    assert path.read_bytes()[520] == 0  # superblock version
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        assert dict(file.attrs) == {}
        video = file["video"]
        assert video.shape == (FRAMES, 3, 20, 12)
        assert video.chunks == (8, 3, 20, 12)
        assert (video.compression, video.compression_opts, video.shuffle) == ("gzip", 3, False)
        kind = video.attrs.get_id("MATLAB_class").get_type()
        assert kind.get_size() == 5
        assert kind.get_strpad() == h5py.h5t.STR_NULLTERM
        assert video.attrs["MATLAB_class"] == b"uint8"
        assert file["current"].attrs["MATLAB_class"] == b"double"
        layout = file["current"].id.get_create_plist().get_layout()
        assert layout == h5py.h5d.COMPACT
        times = h5py.h5g.get_objinfo(video.id).mtime
        assert times == 0


def test_stored_chunk_equals_what_hdf5_itself_would_store(tmp_path: Path) -> None:
    block = make_video(8).transpose()
    plain = tmp_path / "plain.h5"
    with h5py.File(plain, "w") as file:
        file.create_dataset("v", data=block, chunks=block.shape, compression="gzip", compression_opts=3)
        _, stored = file["v"].id.read_direct_chunk((0, 0, 0, 0))
    assert zlib.decompress(stored) == zlib.decompress(mat_write.deflate_chunk(block)) == block.tobytes()


@pytest.mark.parametrize("version", MAT_VERSIONS)
def test_our_reader_reads_it(tmp_path: Path, version: str) -> None:
    wanted = write_example(tmp_path / "a.mat", version)
    with open_mat(tmp_path / "a.mat") as file:
        got = file.variables["video"].read_frames(3, 19, 3)
    np.testing.assert_array_equal(got, wanted["video"].transpose(3, 0, 1, 2)[3:19])


@pytest.mark.parametrize("version", MAT_VERSIONS)
@pytest.mark.parametrize("size", [4, 32])
def test_bytes_do_not_depend_on_time_path_or_block_size(tmp_path: Path, version: str, size: int) -> None:
    (tmp_path / "other").mkdir()
    write_example(tmp_path / "a.mat", version, size=8)
    write_example(tmp_path / "other" / "b.mat", version, size=size)
    one, two = (tmp_path / "a.mat").read_bytes(), (tmp_path / "other" / "b.mat").read_bytes()
    assert one == two


def test_v7_length_of_the_compressed_element_is_filled_in(tmp_path: Path) -> None:
    write_example(tmp_path / "a.mat", "v7")
    raw = (tmp_path / "a.mat").read_bytes()
    at, seen = 128, 0
    while at < len(raw):
        kind, size = struct.unpack("<II", raw[at : at + 8])
        assert kind == 15
        assert len(zlib.decompress(raw[at + 8 : at + 8 + size])) % 8 == 0
        at, seen = at + 8 + size, seen + 1
    assert (at, seen) == (len(raw), 3)


@pytest.mark.parametrize(("limit", "good"), [(12 * 20 * 3 * FRAMES, True), (12 * 20 * 3 * FRAMES - 1, False)])
def test_v7_variable_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, good: bool) -> None:
    monkeypatch.setattr(mat_write, "VARIABLE_LIMIT", limit)
    if good:
        write_example(tmp_path / "a.mat", "v7")
    else:
        with pytest.raises(InputError, match=r"got 15120 of video; write v7\.3"):
            write_example(tmp_path / "a.mat", "v7")


@pytest.mark.parametrize("version", MAT_VERSIONS)
def test_missing_blocks_are_an_error(tmp_path: Path, version: str) -> None:
    video = make_video()
    with (
        pytest.raises(InputError, match="expected 21 frames, got 20"),
        open_mat_writer(tmp_path / "a.mat", version, "x") as writer,
    ):
        writer.write("video", video.shape, "uint8", [video.transpose()[:20]])


def test_unknown_version_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"v7\.3 or v7, got 'v6'"):
        open_mat_writer(tmp_path / "a.mat", "v6", "x")
