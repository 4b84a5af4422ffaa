"""Prediction files from strangers: a one-line error, in bounded time and memory, and nothing else happens.

Also tests fmfbench.files: npz.
"""

import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from fmfbench.errors import PredictionError
from fmfbench.exchange.prediction_reader import Target
from fmfbench.exchange.predictions import read_predictions

COUNT = 40
TARGET = Target(sample_id=np.arange(COUNT), split="test", mask_shape=(6, 10), fingerprint="abc")
MOST_SECONDS = 2.0
MOST_BYTES = 16 << 20


class Payload:
    def __reduce__(self):
        return (open, ("executed", "w"))


def base_arrays():
    rng = np.random.default_rng(0)
    return {
        "sample_id": np.arange(COUNT),
        "score": rng.random(COUNT).astype(np.float32),
        "mask": (rng.random((COUNT, 6, 10)) < 0.2).astype(np.uint8),
        "pixel_score": rng.random((COUNT, 6, 10)).astype(np.float16),
        "meta": np.array('{"model": "x", "fingerprint": "abc"}'),
    }


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Read bytes as a prediction file; check time, memory, silence on disk; give the error or None."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = tmp_path / "p.npz"

    def run(content, measure=False):
        path.write_bytes(content)
        if measure:
            tracemalloc.start()
        start = time.process_time()  # others may be at work beside it
        try:
            found, error = read_predictions(path, TARGET), None
        except PredictionError as caught:
            found, error = None, caught
        finally:
            seconds = time.process_time() - start
            peak = tracemalloc.get_traced_memory()[1] if measure else 0
            tracemalloc.stop()
        assert seconds < MOST_SECONDS
        assert peak < MOST_BYTES
        assert not list(folder.iterdir())
        if error is not None:
            assert "\n" not in str(error)
            assert str(error).isprintable()
        else:
            assert found.sample_id.tolist() == list(range(COUNT))
            assert ((found.score >= 0) & (found.score <= 1)).all()
            if found.pixel_score is not None:
                assert ((found.pixel_score.load() >= 0) & (found.pixel_score.load() <= 1)).all()
        return error

    return run


@pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def base(request, zip_of, npy_bytes):
    return zip_of([(f"{name}.npy", npy_bytes(a)) for name, a in base_arrays().items()], request.param)


def mutations(content, rng, count):
    """Bytes changed, cut, doubled, moved or put in, anywhere in the file."""
    for number in range(count):
        data = bytearray(content)
        place = int(rng.integers(len(data)))
        length = int(rng.integers(1, 40))
        match number % 6:
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                for position in rng.integers(len(data), size=length):
                    data[position] = rng.integers(256)
            case 2:
                del data[place:]
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = rng.bytes(length)
            case 5:
                other = int(rng.integers(len(data)))
                data[place : place + length] = data[other : other + length]
        yield bytes(data)


def test_five_hundred_mutated_files(attempt, base):
    rng = np.random.default_rng(1)
    errors = [attempt(content) for content in mutations(base, rng, 420)]
    assert attempt(base) is None
    refused = sum(error is not None for error in errors)
    assert refused > 250


def test_mutated_npy_headers(attempt, zip_of, npy_bytes):
    """Here the zip's checksums are right, so that only the header's own checks stand in the way."""
    rng = np.random.default_rng(2)
    plain = {f"{name}.npy": npy_bytes(array) for name, array in base_arrays().items()}
    assert attempt(zip_of(plain.items())) is None
    for name, content in plain.items():
        for mutated in mutations(content[:128], rng, 60):
            attempt(zip_of((plain | {name: mutated + content[128:]}).items()))


def with_header(text, body=b"", version=1):
    header = text.encode() if isinstance(text, str) else text
    width = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(header)) + header + body


IDS = "{'descr': '<i8', 'fortran_order': False, 'shape': (40,), }"
HEADERS = {
    "terabytes": IDS.replace("40", "1000000000000"),
    "more than 64 bits": IDS.replace("40,", "99999999999,99999999999,99999999999"),
    "a number of 4000 digits": IDS.replace("40", "9" * 4000),
    "negative": IDS.replace("40", "-40"),
    "hundred axes": IDS.replace("40,", "1," * 100),
    "no comma": IDS.replace("40,", "40"),
    "expression": IDS.replace("40,", "20 + 20,"),
    "a call": IDS.replace("(40,)", "__import__('os').getcwd()"),
    "deep": "(" * 4000,
    "deep minus": "-" * 4000 + "1",
    "objects": IDS.replace("<i8", "|O"),
    "unknown type": IDS.replace("<i8", "<i3"),
    "void": IDS.replace("<i8", "|V8"),
    "empty text": IDS.replace("<i8", "<U0"),
    "huge text": IDS.replace("<i8", "<U999999999"),
    "structured": IDS.replace("'<i8'", "[('a', '<i8')]"),
    "shape twice": IDS.replace("}", "'shape': (40,)}"),
    "shape for order": IDS.replace("'fortran_order': False", "'shape': (40,)"),
    "one key more": IDS.replace("}", "'more': (40,)}"),
    "not ASCII": IDS.replace("40", "４0").encode(),
    "empty": "",
    "longer than its member": b"\xff" * 10,
}


@pytest.mark.parametrize("case", HEADERS)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_false_headers(attempt, zip_of, npy_bytes, case, version):
    plain = {f"{name}.npy": npy_bytes(array) for name, array in base_arrays().items()}
    body = np.arange(COUNT).tobytes()
    good = plain | {"sample_id.npy": with_header(IDS, body, version)}
    assert attempt(zip_of(good.items())) is None
    bad = plain | {"sample_id.npy": with_header(HEADERS[case], body, version)}
    assert "sample_id" in str(attempt(zip_of(bad.items()), measure=True))


def test_pickles_are_not_opened(attempt, zip_of, npy_bytes):
    pickled = np.lib.format.magic(1, 0)
    header = IDS.replace("<i8", "|O").encode()
    pickled += struct.pack("<H", len(header)) + header + pickle.dumps([Payload()] * COUNT)
    for name in base_arrays():
        members = {f"{key}.npy": npy_bytes(array) for key, array in base_arrays().items()}
        error = attempt(zip_of((members | {f"{name}.npy": pickled}).items()))
        assert "pickled objects, which are never read" in str(error)
    assert "expected an .npz" in str(attempt(pickle.dumps(Payload())))
    assert "expected an .npz" in str(attempt(pickled))


@pytest.mark.parametrize(
    "name", ["../p.npy", "/etc/p.npy", "a/b.npy", "..\\p.npy", "C:p.npy", "..npy", ".npy"]
)
def test_names_that_are_paths(attempt, zip_of, npy_bytes, name):
    members = [(f"{key}.npy", npy_bytes(array)) for key, array in base_arrays().items()]
    assert "expected plain names of members" in str(attempt(zip_of([*members, (name, b"x")])))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", ["score.npy", "score"])
def test_two_of_a_name(attempt, zip_of, npy_bytes, twin):
    members = [(f"{key}.npy", npy_bytes(array)) for key, array in base_arrays().items()]
    assert "expected each array once" in str(attempt(zip_of([*members, (twin, members[1][1])])))


def test_many_members(attempt, zip_of):
    assert "at most 64 arrays, got 1000" in str(attempt(zip_of([(f"{n}.npy", b"") for n in range(1000)])))


def test_a_directory_of_many_megabytes(attempt, zip_of):
    error = attempt(zip_of([(f"{n:060d}.npy", b"") for n in range(50_000)]), measure=True)
    assert "got a zip directory of more" in str(error)


def test_encrypted_and_rare_methods(attempt, base, zip_of):
    encrypted = bytearray(base)
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = encrypted.find(mark)
        encrypted[place + offset] |= 1
    assert "encrypted" in str(attempt(bytes(encrypted)))
    assert "zip method 12" in str(attempt(zip_of([("sample_id.npy", b"x")], zipfile.ZIP_BZIP2)))
    assert "zip method 14" in str(attempt(zip_of([("sample_id.npy", b"x")], zipfile.ZIP_LZMA)))


def test_a_zip_in_the_zip_is_only_an_unknown_array(attempt, base, zip_of, npy_bytes):
    members = [(f"{key}.npy", npy_bytes(array)) for key, array in base_arrays().items()]
    assert attempt(zip_of([*members, ("inner.npz", base)])) is None


def test_bombs_are_not_unpacked(attempt, zip_of, npy_bytes):
    zeros = bytes(1 << 26)
    members = {f"{key}.npy": npy_bytes(array) for key, array in base_arrays().items()}

    def bomb(name, header):
        return zip_of((members | {name: with_header(header, zeros)}).items(), zipfile.ZIP_DEFLATED)

    ids = bomb("sample_id.npy", IDS.replace("40", str((1 << 26) // 8)))
    assert "rows; split test has 40" in str(attempt(ids, measure=True))
    mask = IDS.replace("<i8", "|u1").replace("40,", "40, 2, 838860")
    assert "sample_id" not in (text := str(attempt(bomb("mask.npy", mask), measure=True)))
    assert "mask" in text
    pixels = IDS.replace("<i8", "<f4").replace("40,", "40, 2, 209715")
    assert "pixel_score" in str(attempt(bomb("pixel_score.npy", pixels), measure=True))
    meta = IDS.replace("<i8", f"<U{1 << 24}").replace("40,", "")
    assert "meta is 67108864 bytes long" in str(attempt(bomb("meta.npy", meta), measure=True))
    assert attempt(bomb("unknown.npy", IDS), measure=True) is None


def test_sizes_that_lie_in_the_directory(attempt, base):
    """The directory announces more or fewer bytes for a member than its data give."""
    for change in (-8, 8, 1 << 20, (1 << 32) - 2):
        data = bytearray(base)
        place = data.find(b"PK\x01\x02") + 24
        size = struct.unpack_from("<I", data, place)[0]
        struct.pack_into("<I", data, place, (size + change) % (1 << 32))
        assert "sample_id" in str(attempt(bytes(data), measure=True))


def test_bad_checksum(attempt, base):
    data = bytearray(base)
    place = data.find(b"PK\x01\x02") + 16
    data[place] ^= 1
    assert "CRC" in str(attempt(bytes(data)))


def test_things_that_are_not_files(tmp_path):
    for path, found in ((tmp_path, "a folder"), (tmp_path / "none", "nothing")):
        with pytest.raises(PredictionError, match=f"got {found}"):
            read_predictions(path)
    for content in (b"", b"PK", b"PK\x05\x06" + bytes(18), bytes(1000)):
        (tmp_path / "p").write_bytes(content)
        with pytest.raises(PredictionError):
            read_predictions(tmp_path / "p")


@pytest.mark.parametrize("name", ["sample_id", "score", "mask", "pred"])
def test_0d_arrays(attempt, zip_of, npy_bytes, name):
    members = {f"{key}.npy": npy_bytes(array) for key, array in base_arrays().items()}
    assert name in str(attempt(zip_of((members | {f"{name}.npy": npy_bytes(np.array(1))}).items())))
