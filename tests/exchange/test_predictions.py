"""Prediction files of every form that numpy writes, and what is refused of them.

Also tests fmfbench.exchange: arrays, mask_stream, masks, target.
Also tests fmfbench.files: problems.
"""

import json
import struct
import zipfile

import numpy as np
import pytest

from fmfbench.errors import PredictionError
from fmfbench.exchange.masks import pack_masks
from fmfbench.exchange.predictions import Target, read_predictions, write_predictions

IDS = np.array([30, 10, 20])
MASK = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(np.uint8)
TARGET = Target(sample_id=np.array([10, 20, 30]), split="test", mask_shape=(4, 5), fingerprint="abc")
BYTE_ORDERS = ["<", ">"]


def good(**changes):
    arrays = {"sample_id": IDS, "score": np.array([0.9, 0.5, 0.25]), "mask": MASK} | changes
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", BYTE_ORDERS)
@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_every_integer_type_of_ids_decisions_and_masks(save, kind, order, compressed):
    dtype = np.dtype(order + kind)
    arrays = {"sample_id": IDS.astype(dtype), "pred": np.array([1, 0, 0], dtype), "mask": MASK.astype(dtype)}
    found = read_predictions(save(arrays, compressed=compressed), TARGET)
    assert found.sample_id.tolist() == [10, 20, 30]
    assert found.decision.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(found.mask_bits, pack_masks(MASK[[1, 2, 0]]))


@pytest.mark.parametrize("order", BYTE_ORDERS)
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "g"])
def test_every_float_type_of_scores_with_a_tie_normal(save, kind, order):
    score = np.array([0.75, 0.5, 0.25]).astype(np.dtype(kind).newbyteorder(order))
    found = read_predictions(save(good(score=score)), TARGET)
    assert found.score.dtype == np.dtype(kind)
    assert found.score.tolist() == [0.5, 0.25, 0.75]
    assert found.decision.tolist() == [0, 0, 1]


def test_long_double_above_one_half_by_less_than_a_double_can_say(save):
    if np.finfo(np.longdouble).eps == np.finfo(np.float64).eps:
        pytest.skip("long double is double here")
    above = np.longdouble(0.5) + np.finfo(np.longdouble).eps
    assert float(above) == 0.5
    found = read_predictions(save(good(score=np.array([above, 0.5, 0.5]))), TARGET)
    assert found.decision.tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", ["mask", "mask_bits"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("fortran", [False, True])
def test_fortran_order_and_header_versions(*, tmp_path, npy_bytes, zip_of, name, version, fortran):
    arrays = good(mask=None) | {name: MASK if name == "mask" else pack_masks(MASK)}
    if name == "mask_bits":
        arrays["mask_shape"] = np.array([4, 5])
    path = tmp_path / "p.npz"
    path.write_bytes(
        zip_of([(f"{key}.npy", npy_bytes(array, version, fortran)) for key, array in arrays.items()])
    )
    np.testing.assert_array_equal(read_predictions(path, TARGET).mask_bits, pack_masks(MASK[[1, 2, 0]]))


@pytest.mark.parametrize("fortran", [False, True])
def test_masks_longer_than_a_block(tmp_path, npy_bytes, zip_of, fortran):
    rng = np.random.default_rng(3)
    mask = rng.random((700, 61, 67)) < 0.2
    path = tmp_path / "p.npz"
    arrays = {"sample_id": np.arange(700), "pred": np.zeros(700, bool), "mask": mask}
    members = [(f"{key}.npy", npy_bytes(array, fortran=fortran)) for key, array in arrays.items()]
    path.write_bytes(zip_of(members, zipfile.ZIP_DEFLATED))
    np.testing.assert_array_equal(read_predictions(path).mask_bits, pack_masks(mask))


@pytest.mark.parametrize(
    ("meta", "model"),
    [
        (np.array('{"model": "Fünf"}'), "Fünf"),
        (np.array(['{"model": "Fünf"}']), "Fünf"),
        (np.array('{"model": "Fünf"}'.encode()), "Fünf"),
        (np.frombuffer('{"model": "Fünf"}'.encode(), np.uint8), "Fünf"),
        (np.array('{"model": "Fünf"}', ">U30"), "Fünf"),
        (None, None),
    ],
)
def test_meta_is_json_text_in_any_of_the_usual_forms(save, meta, model):
    assert read_predictions(save(good(meta=meta)), TARGET).meta.get("model") == model


def test_an_unknown_array_is_left_unread_and_noted(save):
    found = read_predictions(save(good(logits=np.array([object()], object))), TARGET)
    assert len(found.notes) == 1
    assert "logits" in found.notes[0]


REFUSED = {
    "no ids": ({"sample_id": None}, "sample_id (N,) is missing"),
    "float ids": ({"sample_id": IDS.astype(float)}, "write (N,) of an integer type"),
    "bool ids": ({"sample_id": np.array([True, False, True])}, "integer type"),
    "ids of two axes": ({"sample_id": np.stack([IDS, IDS], 1)}, "(3, 2)"),
    "scalar ids": ({"sample_id": np.array(3)}, "shape ()"),
    "missing": (
        {"sample_id": IDS[:2], "score": np.zeros(2), "mask": MASK[:2]},
        "1 samples of split test are missing: 20; predict every sample",
    ),
    "extra": ({"sample_id": [10, 20, 31]}, "1 sample ids are not in split test: 31"),
    "negative id": ({"sample_id": [10, 20, -30]}, "not in split test: -30"),
    "id beyond int64": ({"sample_id": np.array([10, 20, 2**64 - 1], "u8")}, str(2**64 - 1)),
    "twice": (
        {"sample_id": np.array([10, 20, 30, 20]), "score": np.zeros(4), "mask": MASK[[0, 1, 2, 0]]},
        "1 sample ids stand more than once: 20",
    ),
    "nothing predicted": ({"score": None}, "neither score nor pred"),
    "NaN": ({"score": [0.1, np.nan, 0.2]}, "1 scores are NaN: 10"),
    "above one": ({"score": [0.1, 1.0000001, -0.1]}, "2 scores are outside [0,1]: 10, 20"),
    "infinite": ({"score": [np.inf, 0.1, -np.inf]}, "2 scores are outside [0,1]: 20, 30"),
    "integer scores": ({"score": [0, 1, 1]}, "score has type int64; write a float type"),
    "complex scores": ({"score": np.zeros(3, complex)}, "expected plain numbers or text, got elements"),
    "score too short": ({"score": np.zeros(2)}, "score has shape (2,), sample_id (3,)"),
    "score of two axes": ({"score": np.zeros((3, 2))}, "score has shape (3, 2)"),
    "decision of 2": ({"pred": [0, 2, 1]}, "1 decisions in pred are neither 0 nor 1: 10"),
    "decision of -1": ({"pred": [0, -1, 1]}, "neither 0 nor 1: 10"),
    "float decision": ({"pred": [0.0, 1.0, 1.0]}, "pred has type float64"),
    "mask of 2": ({"mask": MASK + (np.arange(3) == 2).astype("u1")[:, None, None] * 2}, "0 and 1: 20"),
    "mask of -1": ({"mask": -MASK.astype("i1")}, "3 masks hold values other"),
    "float mask": ({"mask": MASK.astype(float)}, "mask has shape (3, 4, 5) and type float64"),
    "transposed mask": ({"mask": MASK.transpose(0, 2, 1)}, "write masks upright, not transposed"),
    "mask of other size": ({"mask": np.zeros((3, 8, 10), bool)}, "frames of 8 x 10, the data's are 4 x 5"),
    "mask without samples' axis": ({"mask": MASK[0]}, "write (N, H, W)"),
    "too few masks": ({"mask": MASK[:2]}, "mask has 2 rows, sample_id 3"),
    "both masks": ({"mask_bits": pack_masks(MASK), "mask_shape": [4, 5]}, "both mask and mask_bits"),
    "bits without shape": ({"mask": None, "mask_bits": pack_masks(MASK)}, "mask_bits needs mask_shape"),
    "bits of other length": (
        {"mask": None, "mask_bits": np.zeros((3, 4), "u1"), "mask_shape": [4, 5]},
        "mask_bits has 4 bytes a sample; frames of 4 x 5 need 3",
    ),
    "bits of other type": (
        {"mask": None, "mask_bits": np.zeros((3, 3), "i1"), "mask_shape": [4, 5]},
        "of uint8",
    ),
    "padding bits": (
        {"mask": None, "mask_bits": pack_masks(MASK) | 1, "mask_shape": [4, 5]},
        "3 rows of mask_bits have bits set behind the last pixel: 10, 20, 30",
    ),
    "shape of three": (
        {"mask": None, "mask_bits": pack_masks(MASK), "mask_shape": [4, 5, 1]},
        "mask_shape has shape (3,)",
    ),
    "shape of zero": (
        {"mask": None, "mask_bits": pack_masks(MASK), "mask_shape": [4, 0]},
        "mask_shape is (4, 0)",
    ),
    "meta not JSON": ({"meta": np.array("{model}")}, "meta is not JSON"),
    "meta a list": ({"meta": np.array("[1]")}, "meta is a JSON list"),
    "meta too deep": ({"meta": np.array("[" * 200_000)}, "meta is not JSON"),
    "meta of two": ({"meta": np.array(["{}", "{}"])}, "write one JSON text"),
    "meta not text": ({"meta": np.array(7)}, "write one JSON text"),
    "meta not UTF-8": ({"meta": np.array(b"\xff")}, "meta is not JSON"),
    "other data": ({"meta": np.array('{"fingerprint": "xyz"}')}, "fingerprint xyz, these have abc"),
    "strict": (
        {"meta": np.array('{"context": "strict", "protocol": "short"}')},
        "strict sample set of protocol short; ask for it with --context strict --protocol short",
    ),
    "objects": ({"score": np.array([0.1, None, 0.2], object)}, "pickled objects, which are never read"),
    "structured": ({"score": np.zeros(3, [("a", "f8")])}, "header of a plain array, got"),
    "dates": ({"sample_id": np.zeros(3, "M8[s]")}, "header of a plain array, got"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(save, case):
    changes, words = REFUSED[case]
    arrays = good(**{name: value if value is None else np.asarray(value) for name, value in changes.items()})
    with pytest.raises(PredictionError) as caught:
        read_predictions(save(arrays), TARGET)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_problems_come_in_one_error(save):
    arrays = {
        "sample_id": np.array([10, 30, 30, 99]),
        "score": np.array([np.nan, 2.0, 0.1, 0.1]),
        "pred": np.array([0, 1, 7, 1]),
        "mask": np.full((4, 4, 5), 3),
        "meta": np.array('{"fingerprint": "xyz"}'),
    }
    with pytest.raises(PredictionError) as caught:
        read_predictions(save(arrays), TARGET)
    text = str(caught.value)
    assert "8 problems" in text
    for words in ("more than once: 30", "missing: 20", "not in split test: 99", "NaN: 10", "[0,1]: 30",
                  "neither 0 nor 1: 30", "4 masks", "xyz"):  # fmt: skip
        assert words in text


def test_more_than_five_ids_are_counted_and_five_named(save):
    target = Target(sample_id=np.arange(100), split="test")
    with pytest.raises(PredictionError, match=r"92 samples .* missing: 8, 9, 10, 11, 12, \.\.\.; "):
        read_predictions(save({"sample_id": np.arange(8), "score": np.zeros(8)}), target)


@pytest.mark.parametrize(
    ("meta", "asked", "words"),
    [
        ({"context": "strict", "protocol": "short"}, "short", None),
        ({"context": "strict", "protocol": {"name": "short"}}, "short", None),
        ({}, "short", None),
        ({"context": "full"}, "short", "expected strict"),
        ({"context": "strict", "protocol": "paper"}, "short", "name the same protocol"),
        ({"context": "full"}, None, None),
        ({"context": "masked", "fingerprint": "abc"}, None, None),
    ],
)
def test_strict_sample_sets_are_matched_by_name(save, meta, asked, words):
    target = Target(sample_id=np.array([10, 20, 30]), split="test", mask_shape=(4, 5), fingerprint="abc",
                    strict_protocol=asked)  # fmt: skip
    path = save(good(meta=np.array(json.dumps(meta))))
    if words is None:
        read_predictions(path, target)
    else:
        with pytest.raises(PredictionError, match=words):
            read_predictions(path, target)


def test_masks_of_data_without_masks_are_left_unread(save):
    target = Target(sample_id=np.array([10, 20, 30]), split="test")
    found = read_predictions(save(good(mask=np.full((3, 4, 5), 9))), target)
    assert found.mask_bits is None
    assert "not read" in found.notes[0]


def test_what_is_written_is_read(tmp_path):
    path = write_predictions(
        tmp_path / "p", sample_id=IDS, score=[0.1, 0.2, 0.75], mask=MASK, meta={"seed": 3}
    )
    assert path == tmp_path / "p"
    found = read_predictions(path, TARGET)
    assert found.score.tolist() == [0.2, 0.75, 0.1]
    assert found.meta == {"seed": 3}
    np.testing.assert_array_equal(found.mask_bits, pack_masks(MASK[[1, 2, 0]]))
    again = write_predictions(
        tmp_path / "q",
        sample_id=IDS,
        score=[0.1, 0.2, 0.75],
        mask_bits=pack_masks(MASK),
        mask_shape=(4, 5),
        meta={"seed": 3},
    )
    assert path.read_bytes() == again.read_bytes()
    with np.load(path, allow_pickle=False) as plain:
        assert plain["mask_shape"].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": [0.1, np.nan, 0.2]}, "nothing written: 1 scores are NaN: 10"),
        ({"score": None}, "neither score nor pred"),
        ({"sample_id": [1, 1, 2]}, "more than once"),
        ({"sample_id": [-1, 1, 2]}, "negative"),
        ({"mask": MASK * 2}, "expected mask values 0 and 1"),
        ({"mask": MASK[0]}, "expected mask"),
        ({"mask_bits": pack_masks(MASK), "mask_shape": (4, 5)}, "got both"),
        ({"score": [0.1, None, 0.2]}, "Python objects"),
        ({"meta": {"seed": float("nan")}}, "JSON"),
        ({"meta": {"seed": object()}}, "JSON"),
    ],
)
def test_what_would_be_refused_is_not_written(tmp_path, changes, words):
    with pytest.raises(PredictionError, match=words):
        write_predictions(
            tmp_path / "p.npz", **{"sample_id": IDS, "score": [0.1, 0.2, 0.3], "mask": MASK} | changes
        )
    assert not list(tmp_path.iterdir())


def test_writing_into_no_folder(tmp_path):
    with pytest.raises(PredictionError, match="existing folder"):
        write_predictions(tmp_path / "none" / "p.npz", sample_id=[1], score=[0.1])


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("shape", [(3, 1), (1, 3)])
def test_vectors_of_matlab_are_vectors(*, tmp_path, npy_bytes, zip_of, shape, fortran):
    plain = good(pred=np.array([0, 1, 1]), mask=None, mask_bits=pack_masks(MASK), mask_shape=np.array([4, 5]))
    plain["meta"] = np.frombuffer(b'{"model": "m"}', np.uint8)
    turned = {
        "sample_id": shape,
        "score": shape,
        "pred": shape,
        "mask_shape": (2, 1) if shape[0] == 3 else (1, 2),
        "meta": (-1, 1) if shape[0] == 3 else (1, -1),
    }
    (tmp_path / "p.npz").write_bytes(
        zip_of(
            (f"{name}.npy", npy_bytes(a.reshape(turned[name]) if name in turned else a, fortran=fortran))
            for name, a in plain.items()
            if a is not None
        )
    )
    found = read_predictions(tmp_path / "p.npz", TARGET)
    path = write_predictions(
        tmp_path / "q.npz", sample_id=IDS, score=plain["score"], pred=[0, 1, 1], mask=MASK
    )
    expected = read_predictions(path, TARGET)
    for name in ("sample_id", "score", "pred", "mask_bits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.mask_shape == (4, 5)
    assert found.meta == {"model": "m"}


def test_one_sample_as_a_matrix(save):
    found = read_predictions(save({"sample_id": np.array([[7]]), "score": np.array([[0.25]])}))
    assert (found.sample_id.tolist(), found.score.tolist()) == ([7], [0.25])


@pytest.mark.parametrize("shape", ["(3L,)", "(3L, )", "(3L, 1L)", "( 3 , )", "(1L,3L)"])
def test_headers_of_python_2_are_read(tmp_path, zip_of, npy_bytes, shape):
    text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}"
    header = text + " " * (-(len(text) + 11) % 16) + "\n"
    content = (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + IDS.astype("<i8").tobytes()
    )
    members = [("sample_id.npy", content), ("score.npy", npy_bytes(np.zeros(3)))]
    (tmp_path / "p.npz").write_bytes(zip_of(members))
    assert read_predictions(tmp_path / "p.npz").sample_id.tolist() == sorted(IDS.tolist())


@pytest.mark.parametrize("shape", ["(3LL,)", "(L,)", "(3 L,)", "(-3,)", "(3L)", "(3,,)", "(0x3,)"])
def test_shapes_that_are_none_are_refused(tmp_path, zip_of, npy_bytes, shape):
    text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}\n"
    content = (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + IDS.astype("<i8").tobytes()
    )
    members = [("sample_id.npy", content), ("score.npy", npy_bytes(np.zeros(3)))]
    (tmp_path / "p.npz").write_bytes(zip_of(members))
    with pytest.raises(PredictionError):
        read_predictions(tmp_path / "p.npz")


def test_what_a_training_loop_has_at_hand_can_be_written(tmp_path):
    torch = pytest.importorskip("torch")
    score = np.array([0.25, 0.75, 0.5], np.float32)
    plain = write_predictions(tmp_path / "plain.npz", sample_id=IDS, score=score, mask=MASK).read_bytes()
    tensor = torch.tensor(score, requires_grad=True)
    mask = torch.tensor(MASK)
    for number, arrays in enumerate(
        (
            {"sample_id": torch.tensor(IDS), "score": tensor, "mask": mask},
            {"sample_id": IDS, "score": tensor * 1.0, "mask": mask.bool()},
            {"sample_id": IDS[:, None], "score": tensor[:, None], "mask": MASK},
            {"sample_id": IDS, "score": tensor.bfloat16(), "mask": list(mask)},
            {
                "sample_id": [IDS[:2], IDS[2:]],
                "score": [tensor[:2], tensor[2:]],
                "mask": [MASK[:2], mask[2:]],
            },
            {"sample_id": tuple(torch.tensor(IDS).split(2)), "score": list(tensor), "mask": list(MASK)},
            {"sample_id": IDS, "score": [tensor[:1, None], tensor[1:, None]], "mask": mask},
        )
    ):
        path = write_predictions(tmp_path / f"{number}.npz", **arrays)
        with np.load(path) as found, np.load(tmp_path / "plain.npz") as expected:
            for name in expected.files:
                np.testing.assert_array_equal(found[name], expected[name])
                assert found[name].dtype == expected[name].dtype or name in ("mask_bits",)
    assert len(plain) > 0


def test_batches_of_pixel_scores_are_joined(tmp_path):
    torch = pytest.importorskip("torch")
    dense = torch.rand((3, 4, 5), requires_grad=True)
    path = write_predictions(
        tmp_path / "p.npz", sample_id=IDS, score=np.zeros(3), pixel_score=[dense[:1], dense[1:]]
    )
    with np.load(path) as found:
        np.testing.assert_array_equal(found["pixel_score"], dense.detach().numpy())


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1},
        "0.5",
        object(),
        [np.zeros(2), np.zeros((1, 4, 4))],
        [[0.1, "x"], [0.2]],
        [0.1, None, 0.2],
        {1.0, 2.0},
        lambda: 0.5,
        iter([0.1, 0.2, 0.3]),
        [1 + 2j, 0, 0],
        np.array([0.1, 0.2, 0.3], "U3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_taken_is_one_line(tmp_path, value):
    with pytest.raises(PredictionError) as caught:
        write_predictions(tmp_path / "p.npz", sample_id=IDS, score=value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_tensors_without_values_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    for value in (torch.zeros(3, device="meta"), torch.zeros(3).to_sparse()):
        with pytest.raises(PredictionError, match="score: expected an array"):
            write_predictions(tmp_path / "p.npz", sample_id=IDS, score=value)
