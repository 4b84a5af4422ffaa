"""pixel_score in a prediction file: written, checked and read again without holding it."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from fmfbench.errors import PredictionError
from fmfbench.exchange.predictions import Target, read_predictions, write_predictions

IDS = np.array([30, 10, 20])
VALUES = np.random.default_rng(0).random((3, 4, 5))
TARGET = Target(sample_id=np.array([10, 20, 30]), split="test", mask_shape=(4, 5), fingerprint="abc")


def arrays(values, **changes):
    return {"sample_id": IDS, "score": np.array([0.9, 0.5, 0.25]), "pixel_score": values} | changes


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f2", "f4", "u1"])
def test_every_type_and_byte_order(save, kind, order, compressed):
    values = np.round(VALUES * 255) if kind == "u1" else VALUES
    values = values.astype(np.dtype(order + kind))
    found = read_predictions(save(arrays(values), compressed=compressed), TARGET).pixel_score
    assert (found.shape, found.dtype) == ((3, 4, 5), np.dtype(kind))
    assert np.array_equal(found.load(), values[[1, 2, 0]])
    assert np.array_equal(found.load(), values[[1, 2, 0]])  # as often as wanted


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_fortran_order_longer_than_a_block(*, tmp_path, npy_bytes, zip_of, version, fortran):
    values = np.random.default_rng(3).random((300, 61, 67)).astype(np.float16)
    members = {"sample_id": np.arange(300)[::-1].copy(), "pred": np.zeros(300, bool), "pixel_score": values}
    path = tmp_path / "p.npz"
    content = [(f"{key}.npy", npy_bytes(array, version, fortran)) for key, array in members.items()]
    path.write_bytes(zip_of(content, zipfile.ZIP_DEFLATED))
    assert np.array_equal(read_predictions(path).pixel_score.load(), values[::-1])


BAD = VALUES.copy()
BAD[1, 2, 3] = np.nan
REFUSED = {
    "NaN": (BAD.astype("f4"), "1 samples have NaN in pixel_score: 10; write a probability for every pixel"),
    "NaN in half": (BAD.astype("f2"), "1 samples have NaN in pixel_score: 10"),
    "infinite": (np.where(np.isnan(BAD), np.inf, BAD).astype("f4"), "1 samples have values outside [0,1]"),
    "above one": (VALUES.astype("f4") + np.array([0, 1, 1], "f4")[:, None, None], "2 samples have values outside"),
    "just above one": (np.full((3, 4, 5), 1.0009766, "f2"), "3 samples have values outside [0,1]"),
    "below zero": (-VALUES.astype("f2"), "3 samples have values outside [0,1] in pixel_score: 10, 20, 30"),
    "double": (VALUES, "type float64; write (N, H, W) of float16 or float32 in [0,1], or of uint8"),
    "int8": (np.zeros((3, 4, 5), "i1"), "type int8; write (N, H, W)"),
    "uint16": (np.zeros((3, 4, 5), "u2"), "type uint16"),
    "bool": (np.zeros((3, 4, 5), bool), "type bool"),
    "two axes": (np.zeros((3, 20), "f4"), "shape (3, 20)"),
    "transposed": (VALUES.transpose(0, 2, 1).astype("f4"), "pixel_score is for frames of 5 x 4, the data's are 4 x 5"),
    "too few": (VALUES[:2].astype("f4"), "pixel_score has 2 rows, sample_id 3; write the scores of every sample"),
    "objects": (np.full((3, 4, 5), None), "pickled objects, which are never read"),
    "no pixels": (np.zeros((3, 0, 5), "f4"), "shape (3, 0, 5); write the height and width"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(save, case):
    values, words = REFUSED[case]
    with pytest.raises(PredictionError) as caught:
        read_predictions(save(arrays(values)), TARGET)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("kind", ["f2", "f4", "u1"])
def test_zero_one_and_minus_zero_are_accepted(save, kind):
    values = np.zeros((3, 4, 5), kind)
    values[0] = 255 if kind == "u1" else 1
    if kind != "u1":
        values[1] = -values[1]
        assert np.signbit(values[1]).all()
    read_predictions(save(arrays(values)), TARGET)


def test_it_comes_among_all_the_problems_of_a_file(save):
    with pytest.raises(PredictionError, match=r"2 problems: .*scores are NaN: 10.*NaN in pixel_score: 10"):
        read_predictions(save(arrays(BAD.astype("f4"), score=np.array([0.1, np.nan, 0.1]))), TARGET)


def test_masks_and_pixel_scores_must_be_of_the_same_frames(save):
    mask = np.zeros((3, 5, 4), bool)
    with pytest.raises(PredictionError, match="pixel_score is for frames of 4 x 5, the masks for 5 x 4"):
        read_predictions(save(arrays(VALUES.astype("f4"), mask=mask)))
    read_predictions(save(arrays(VALUES.astype("f4"), mask=mask.transpose(0, 2, 1))))


def test_data_without_masks_leave_them_unread(save):
    target = Target(sample_id=np.array([10, 20, 30]), split="test")
    found = read_predictions(save(arrays(BAD.astype("f4"))), target)
    assert found.pixel_score is None
    assert "pixel_score was not read" in found.notes[0]


@pytest.mark.parametrize("kind", ["f2", "f4", "u1", ">f4"])
def test_what_is_written_is_read_and_the_same_bytes_again(tmp_path, kind):
    values = (VALUES * 255 if kind == "u1" else VALUES).astype(kind)
    paths = [
        write_predictions(
            tmp_path / name, sample_id=IDS, score=[0.1, 0.2, 0.75], pixel_score=values, meta={"seed": 3}
        )
        for name in "pq"
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert np.array_equal(read_predictions(paths[0], TARGET).pixel_score.load(), values[[1, 2, 0]])
    with np.load(paths[0], allow_pickle=False) as plain:  # any reader of .npz
        assert np.array_equal(plain["pixel_score"], values)
        assert plain["score"].tolist() == [0.1, 0.2, 0.75]


def test_without_them_a_file_has_the_bytes_it_always_had(tmp_path):
    path = write_predictions(tmp_path / "p.npz", sample_id=IDS, score=[0.1, 0.2, 0.75])
    stream = io.BytesIO()
    np.savez_compressed(stream, sample_id=IDS, score=np.array([0.1, 0.2, 0.75]))
    assert path.read_bytes() == stream.getvalue()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (BAD.astype("f4"), "nothing written: 1 samples have NaN in pixel_score"),
        (VALUES, "nothing written: pixel_score has shape .* float64; write"),
        (VALUES.astype("f4")[:2], "nothing written: pixel_score has 2 rows"),
        (np.full((3, 4, 5), None), "nothing written: pixel_score has shape"),
        ([[0.5]], "nothing written: pixel_score has shape"),
    ],
)
def test_what_would_be_refused_is_not_written(tmp_path, values, words):
    with pytest.raises(PredictionError, match=words):
        write_predictions(tmp_path / "p.npz", sample_id=IDS, score=[0.1, 0.2, 0.3], pixel_score=values)
    assert not list(tmp_path.iterdir())


def test_neither_reading_nor_writing_nor_counting_holds_them(tmp_path):
    """40 MB of scores in a tenth of that."""
    from fmfbench.scoring.pixel_ranks import rank_pixels

    shape = (2500, 64, 64)
    values = np.lib.format.open_memmap(tmp_path / "values.npy", "w+", np.float32, shape)
    row = np.random.default_rng(0).random(shape[1:]).astype("f4")
    for i in range(shape[0]):
        values[i] = np.roll(row, i, 1)
    bits = np.zeros((shape[0], 512), np.uint8)
    bits[::7, :64] = 0xFF
    ids = np.arange(shape[0])
    rank_pixels(  # what is imported and set up once is not counted
        read_predictions(
            write_predictions(tmp_path / "a.npz", sample_id=[0], score=[0.1], pixel_score=values[:1])
        ).pixel_score,
        bits[:1],
    )
    tracemalloc.start()
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, score=np.zeros(len(ids)), pixel_score=values)
    found = read_predictions(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
    half = write_predictions(
        tmp_path / "h.npz", sample_id=ids, score=np.zeros(len(ids)), pixel_score=values[:].astype("f2")
    )
    stored = read_predictions(half).pixel_score
    tracemalloc.start()
    rank_pixels(stored, bits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20  # and not a sample more for twice the samples
    assert found.pixel_score.shape == shape
