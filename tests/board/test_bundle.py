"""Bundles made inconsistent in every way that could be thought of: all refused with a reason, nothing written."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
from conftest_board import members_of, put_together

from fmfbench.board.board import make_board
from fmfbench.board.bundle import read_bundle
from fmfbench.errors import InputError
from fmfbench.exchange.labels import read_labels

JSON_MEMBERS = ("receipt.json", "score.json", "card.json")


def leaves(value, where=()):
    """Paths to every number, text, truth value and null of a document."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*where, key))]
    if isinstance(value, list):
        return [leaf for i, inner in enumerate(value) for leaf in leaves(inner, (*where, i))]
    return [where]


def changed(document, where, rng):
    """The document with one leaf changed to something else of the same kind."""
    document = json.loads(json.dumps(document))
    inner = document
    for key in where[:-1]:
        inner = inner[key]
    old = inner[where[-1]]
    if isinstance(old, bool):
        new = not old
    elif isinstance(old, int):
        new = old + int(rng.integers(1, 5))
    elif isinstance(old, float):
        new = old + float(rng.choice([-1, 1])) * 10.0 ** -float(rng.integers(2, 6))
    elif old is None:
        new = 0.25
    else:
        new = old + "x" if rng.random() < 0.5 or not old else old[:-1]
    inner[where[-1]] = new
    return document


def encoded(document):
    return json.dumps(document, indent=1).encode()


def edit(members, name, rng, skip=lambda where: False):
    document = json.loads(members[name])
    places = [where for where in leaves(document) if not skip(where)]
    return members | {name: encoded(changed(document, places[int(rng.integers(len(places)))], rng))}


def wrong_leaf(members, other, rng, out):
    name = JSON_MEMBERS[int(rng.integers(3))]
    return put_together(out, edit(members, name, rng))


def wrong_score_with_right_hashes(members, other, rng, out):
    # what may differ: the name of the file, and what a receipt says of command and date
    members = edit(members, "score.json", rng, lambda where: where[0] in ("file", "receipt"))
    return put_together(out, members, rehash=True)


def wrong_receipt_everywhere(members, other, rng, out):
    """Receipt and score agree, hashes are right; data, versions or predictions are others."""
    receipt, score = (json.loads(members[name]) for name in ("receipt.json", "score.json"))
    key = ["fmfbench", "protocol_card", "predictions_sha256", "fingerprint", "sources_digest", "split",
           "sample_set", "corrupt", "threshold", "threshold_origin"][int(rng.integers(10))]  # fmt: skip
    new = changed(receipt["receipt"], (key,), rng)
    if key == "sources_digest":  # the labels know none, so any is a claim: taken out instead
        new.pop(key)
    receipt["receipt"] = score["receipt"] = new
    return put_together(
        out, members | {"receipt.json": encoded(receipt), "score.json": encoded(score)}, rehash=True
    )


def wrong_options(members, other, rng, out):
    receipt = json.loads(members["receipt.json"])
    key = sorted(receipt["options"])[int(rng.integers(len(receipt["options"])))]
    receipt["options"][key] = {
        "context": "full", "protocol": "paper", "resamples": 41, "block_seconds": 7.0, "seed": 1,
        "per_second": True, "aupro_limit": 0.2,
    }[key]  # fmt: skip
    return put_together(out, members | {"receipt.json": encoded(receipt)})


def swapped_member(members, other, rng, out):
    name = sorted(members)[int(rng.integers(4))]
    return put_together(out, members | {name: other[name]})


def swapped_member_with_right_hashes(members, other, rng, out):
    name = ("predictions.npz", "score.json", "card.json")[int(rng.integers(3))]
    return put_together(out, members | {name: other[name]}, rehash=True)


def changed_predictions(members, other, rng, out):
    with np.load(io.BytesIO(members["predictions.npz"])) as found:
        arrays = dict(found)
    row = int(rng.integers(len(arrays["score"])))
    arrays["score"] = arrays["score"].copy()
    arrays["score"][row] = 1 - arrays["score"][row]
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return put_together(out, members | {"predictions.npz": stream.getvalue()}, rehash=bool(rng.integers(2)))


def flipped_in_a_member(members, other, rng, out):
    name = sorted(members)[int(rng.integers(4))]
    data = bytearray(members[name])
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return put_together(out, members | {name: bytes(data)})


def wrong_names(members, other, rng, out):
    name = sorted(members)[int(rng.integers(4))]
    new = dict(members)
    data = new.pop(name)
    kind = int(rng.integers(5))
    if kind == 1:
        new |= {name: data, "more.txt": b"x"}
    elif kind == 2:
        new[name.upper()] = data
    elif kind == 3:
        new[f"../{name}"] = data
    elif kind == 4:
        new[f"folder/{name}"] = data
    return put_together(out, new)


def doubled(members, other, rng, out):
    name = sorted(members)[int(rng.integers(4))]
    with zipfile.ZipFile(out, "w") as archive:
        for key, data in members.items():
            archive.writestr(key, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, other[name])
    return out


def cut_or_padded(members, other, rng, out):
    data = bytearray(put_together(out, members).read_bytes())
    place, junk = int(rng.integers(1, len(data))), rng.bytes(int(rng.integers(1, 40)))
    match int(rng.integers(4)):
        case 0:
            del data[place:]
        case 1:
            data[place:place] = junk
        case 2:
            data[:0] = junk
        case 3:
            data += junk
    out.write_bytes(bytes(data))
    return out


def bomb(members, other, rng, out):
    name = JSON_MEMBERS[int(rng.integers(3))]
    return put_together(out, members | {name: b" " * (1 << 26)}, rehash=name != "receipt.json")


def no_json(members, other, rng, out):
    name = JSON_MEMBERS[int(rng.integers(3))]
    text = [b"[]", b"7", b"", b"{", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": 1, "a": 2}', b"[" * 200_000, b"\xff\xfe{}",
            b'{"schema": 1}'][int(rng.integers(10))]  # fmt: skip
    return put_together(out, members | {name: text}, rehash=name != "receipt.json")


def pickled(members, other, rng, out):
    with np.load(io.BytesIO(members["predictions.npz"])) as found:
        arrays = dict(found)
    arrays["score"] = np.array([pickle.dumps(print)] * len(arrays["score"]), object)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    members = members | {"predictions.npz": stream.getvalue()}
    receipt, score = (json.loads(members[name]) for name in ("receipt.json", "score.json"))
    import hashlib

    sha = hashlib.sha256(stream.getvalue()).hexdigest()
    receipt["receipt"]["predictions_sha256"] = score["receipt"]["predictions_sha256"] = sha
    return put_together(
        out, members | {"receipt.json": encoded(receipt), "score.json": encoded(score)}, rehash=True
    )


def other_method(members, other, rng, out):
    with zipfile.ZipFile(out, "w", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA][int(rng.integers(2))]) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out


def two_heads(members, other, rng, out):
    """The directory and the head of a member tell of different things."""
    data = bytearray(put_together(out, members).read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        infos = archive.infolist()
    info = infos[int(rng.integers(4))]
    place = info.header_offset + int(rng.choice([4, 6, 8, 10, 12, 14, 30]))  # version .. checksum, name
    if place == info.header_offset + 4:
        place = info.header_offset  # the signature
    data[place] ^= 1
    out.write_bytes(bytes(data))
    return out


def not_a_zip(members, other, rng, out):
    kinds = [b"", b"PK", b"\x80\x04\x95", rng.bytes(500), members["predictions.npz"], zlib.compress(b"x" * 100),
             struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 1 << 31, 0, 0)]  # fmt: skip
    out.write_bytes(kinds[int(rng.integers(len(kinds)))])
    return out


WAYS = (
    wrong_leaf,
    wrong_score_with_right_hashes,
    wrong_receipt_everywhere,
    wrong_options,
    swapped_member,
    swapped_member_with_right_hashes,
    changed_predictions,
    flipped_in_a_member,
    wrong_names,
    doubled,
    cut_or_padded,
    bomb,
    no_json,
    pickled,
    other_method,
    two_heads,
    not_a_zip,
)


def refused(path, labels, folder):
    """The reason for which a board of one bundle is refused; nothing may have been written."""
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        make_board([path], labels, folder / "board", reports=False, resamples=40)
    assert time.process_time() - start < 20
    assert sorted(folder.iterdir()) == [path]
    told = str(caught.value)
    assert "\n" not in told
    assert told.isprintable()
    assert path.name in told
    return told


def campaign(numbers, bundles, board_labels, tmp_path):
    labels = read_labels(board_labels)
    members, other = members_of(bundles[0]), members_of(bundles[1])
    for number in numbers:
        way = WAYS[number % len(WAYS)]
        folder = tmp_path / str(number)
        folder.mkdir()
        path = way(members, other, np.random.default_rng(number), folder / "x.fmfb")
        try:
            refused(path, labels, folder)
        except BaseException as error:
            raise AssertionError(f"bundle {number}, {way.__name__}") from error


def test_a_seeded_tenth(bundles, board_labels, tmp_path):
    campaign(range(0, 510, 10), bundles, board_labels, tmp_path)


@pytest.mark.long
def test_all_five_hundred(bundles, board_labels, tmp_path):
    campaign(range(510), bundles, board_labels, tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(bundles, tmp_path, seed):
    """A few bytes of a zip's directory say nothing (who made it, attributes): what is read must then be the same."""
    rng = np.random.default_rng(seed)
    plain, original = bundles[0].read_bytes(), read_bundle(bundles[0])
    path, harmless = tmp_path / "x.fmfb", 0
    for place in [*rng.integers(len(plain), size=40).tolist(), *range(len(plain) - 300, len(plain), 7)]:
        data = bytearray(plain)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(data))
        try:
            found = read_bundle(path)
        except InputError:
            continue
        harmless += 1
        assert (found.receipt, found.score, found.card) == (original.receipt, original.score, original.card)
    assert harmless < 30
