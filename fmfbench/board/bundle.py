"""A bundle: one zip with predictions, the score they gave, the model's card, and a receipt that hashes each.

What it proves: that these predictions give this score on the data of this fingerprint, for whoever has the labels and
scores them again. What it does not: who made them, with which model, and whether the labels were looked at.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fmfbench.errors import InputError, PredictionError
from fmfbench.files.atomic import replace_file
from fmfbench.files.problems import check_ending, check_target
from fmfbench.files.zips import ZIP_TROUBLE, BoundedFile, check_layout, checked_members
from fmfbench.scoring.receipt import PASSING
from fmfbench.scoring.result import Score

__all__ = ["FACTS", "Bundle", "differences", "lacks", "read_bundle", "unpacked", "write_bundle"]

SCHEMA = 1
FACTS = ("parameters", "train_seconds", "latency_ms")  # claims of a card that a board shows
PREDICTIONS, SCORE, CARD, RECEIPT = "predictions.npz", "score.json", "card.json", "receipt.json"
_HASHED = (PREDICTIONS, SCORE, CARD)
_MAX_JSON = 1 << 24
_MAX_PREDICTIONS = 1 << 33
_MOST_GROWTH = 1100  # deflate's own limit is 1032
_BLOCK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same members give the same bytes
_TOLERANCE = 1e-9
_LONGEST_NAME = 80
_RECEIPT_KEYS = {
    "fmfbench",
    "protocol_card",
    "interval_rule",
    "predictions_sha256",
    "fingerprint",
    "sources_digest",
    "split",
    "sample_set",
    "corrupt",
    "threshold",
    "threshold_origin",
    "command",
    "date",
}
_OPTIONS = {
    "context": (str, type(None)),
    "protocol": (str, type(None)),
    "resamples": (int,),
    "block_seconds": (int, float, type(None)),
    "seed": (int,),
    "per_second": (bool,),
    "aupro_limit": (int, float),
}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What a bundle says, its members having been found to agree with its receipt.

    `receipt`, `score` and `card` as their JSON says; `options` those that give the score again.
    """

    path: Path
    receipt: Mapping[str, Any]
    score: Mapping[str, Any]
    card: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The name of the model: a claim, which no receipt proves."""
        name = self.card.get("model")
        shown = " ".join(name.split()) if isinstance(name, str) else ""
        return "".join(c if c.isprintable() else "?" for c in shown)[:_LONGEST_NAME] or self.path.stem


def write_bundle(
    out: Path,
    predictions: Path,
    score: Score,
    options: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle; it takes the place of `out` when it is whole.

    Args:
        out: the file to write, ending in .fmfb.
        predictions: the file that was scored.
        score: what it gave, with evidence.
        options: of `fmfbench.scoring.score.score`, that gave it.
        facts: of the model and its training: parameters, train_seconds, latency_ms, run.

    Raises:
        InputError: a score without evidence (compat), or with a truth, which a board does not have.
        PredictionError: `out` cannot be written, or the predictions changed since they were scored.
    """
    check_target(out)
    check_ending(out, (".fmfb",), "a bundle")
    if score.evidence is None or score.evidence.occlusion is not None:
        raise InputError(
            f"{out}: expected a score with its evidence and without --compat and --truth, got one that a board "
            "cannot repeat"
        )
    content = predictions.read_bytes()
    if hashlib.sha256(content).hexdigest() != score.receipt["predictions_sha256"]:
        raise PredictionError(f"{predictions}: expected the bytes that were scored, got others; score again")
    card = {
        "model": str(score.meta.get("model", predictions.stem)),
        "meta": dict(score.meta),
        **(facts or {}),
    }
    members = {
        PREDICTIONS: content,
        SCORE: _json_bytes(score.to_dict()),
        CARD: _json_bytes(card),
    }
    receipt = {
        "schema": SCHEMA,
        "receipt": dict(score.receipt),
        "options": {name: options[name] for name in _OPTIONS},
        "members": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
        },
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in ({RECEIPT: _json_bytes(receipt)} | members).items():
            packed = zipfile.ZIP_STORED if name == PREDICTIONS else zipfile.ZIP_DEFLATED
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, packed)
    replace_file(out, stream.getvalue())
    return out


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and hold its members against its receipt; nothing is scored yet.

    Raises:
        PredictionError: one line: it is not a bundle, or its parts do not agree.
    """
    with _opened(path) as (archive, members):
        texts = {name: _read(archive, members[name], path, _MAX_JSON) for name in (RECEIPT, SCORE, CARD)}
        hashes = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
        hashes[PREDICTIONS] = _hash(archive, members[PREDICTIONS], path)
        sizes = {name: info.file_size for name, info in members.items()}
    receipt, score, card = (_parse(texts[name], f"{path}: {name}") for name in (RECEIPT, SCORE, CARD))
    _check_receipt(path, receipt, sizes, hashes)
    inner = receipt["receipt"]
    if inner["predictions_sha256"] != hashes[PREDICTIONS]:
        raise PredictionError(f"{path}: expected the receipt of the predictions it holds, got that of others")
    if score.get("receipt") != inner:
        raise PredictionError(f"{path}: expected one receipt in {SCORE} and {RECEIPT}, got two")
    if card.get("meta") != score.get("meta"):
        raise PredictionError(
            f"{path}: expected {CARD} and {SCORE} to tell of the same predictions, got different ones"
        )
    return Bundle(path=path, receipt=inner, score=score, card=card, options=receipt["options"])


@contextmanager
def unpacked(bundle: Bundle) -> Iterator[Path]:
    """The prediction file of a bundle, in a folder that is gone afterwards; its name is that of the score."""
    with TemporaryDirectory(prefix="fmfbench-board-") as folder, _opened(bundle.path) as (archive, members):
        out = Path(folder) / "predictions.npz"
        digest = hashlib.sha256()
        with archive.open(members[PREDICTIONS]) as stream, out.open("wb") as file:
            while block := stream.read(_BLOCK):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != bundle.receipt["predictions_sha256"]:
            raise PredictionError(f"{bundle.path}: changed while it was read")
        yield out


def differences(claimed: Any, found: Any, where: str = "", *, any_version: bool = False) -> list[str]:
    """Where two JSON documents of a score differ, other than in what may.

    What may: command, date, the file's name, and with `any_version` the program's version and its interval rule.

    Numbers are equal to one part in a billion: another processor may round the last digit otherwise. Trivial baselines
    are compared as far as both documents have them (labels of one split alone know no train prior).
    """
    if isinstance(claimed, Mapping) and isinstance(found, Mapping):
        keys = set(claimed) | set(found)
        if where == "receipt":
            keys -= {*PASSING, "fmfbench", "interval_rule"} if any_version else set(PASSING)
            if None in (claimed.get("sources_digest"), found.get("sources_digest")):
                keys -= {"sources_digest"}  # a label file need not know it
        elif where == "":
            keys -= {"file"}
        elif where == "floor":
            keys &= set(claimed) & set(found)
        told = []
        for key in sorted(keys):
            inner = f"{where}.{key}" if where else key
            if key not in claimed or key not in found:
                told.append(inner)
            elif where == "" and key == "warnings":
                told += [] if _warnings(claimed[key]) == _warnings(found[key]) else [inner]
            else:
                told += differences(claimed[key], found[key], inner, any_version=any_version)
        return told
    if isinstance(claimed, list) and isinstance(found, list) and len(claimed) == len(found):
        return [
            text
            for i, (a, b) in enumerate(zip(claimed, found, strict=True))
            for text in differences(a, b, f"{where}.{i}")
        ]
    if (
        isinstance(claimed, (int, float))
        and isinstance(found, (int, float))
        and bool not in (type(claimed), type(found))
    ):
        close = math.isclose(claimed, found, rel_tol=_TOLERANCE, abs_tol=1e-12)
        return [] if close else [where]
    return [] if type(claimed) is type(found) and claimed == found else [where]


def lacks(claimed: Any, where: str) -> bool:
    """Whether a JSON document of a score has nothing at `where`, a name that `differences` gave.

    The program that made it may not have known of it.

    >>> lacks({"metrics": {"f1": 0.5}}, "metrics.ece"), lacks({"metrics": {"f1": 0.5}}, "metrics.f1")
    (True, False)
    """
    if isinstance(claimed, Mapping):
        for key, value in claimed.items():
            if where == str(key):
                return False
            if where.startswith(f"{key}.") and not lacks(value, where.removeprefix(f"{key}.")):
                return False
        return True
    return not isinstance(claimed, list)


def _warnings(texts: Any) -> Any:
    return [t for t in texts if "TRAIN PRIOR" not in str(t)] if isinstance(texts, list) else texts


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """The archive and its members, found to be those of a bundle; every trouble is one PredictionError."""
    if not path.is_file():
        raise PredictionError(f"{path}: expected a bundle, got {'a folder' if path.is_dir() else 'nothing'}")
    file = BoundedFile(path)
    try:
        with zipfile.ZipFile(file) as archive:
            members = checked_members(archive, path, 4)
            if set(members) != {RECEIPT, *_HASHED}:
                listed = ", ".join(ascii(name[:40]) for name in sorted(members)) or "nothing"
                raise PredictionError(f"{path}: expected {RECEIPT}, {', '.join(_HASHED)}, got {listed}")
            check_layout(archive, path)
            for name, info in members.items():
                most = _MAX_PREDICTIONS if name == PREDICTIONS else _MAX_JSON
                if info.file_size > most or info.file_size > _MOST_GROWTH * info.compress_size + 1024:
                    raise PredictionError(
                        f"{path}: {name}: expected at most {most} bytes, packed at most {_MOST_GROWTH} to 1, "
                        f"got {info.file_size} announced"
                    )
            yield archive, members
    except PredictionError:
        raise
    except ZIP_TROUBLE as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise PredictionError(
            f"{path}: expected a bundle of `fmfbench score --bundle`, got a file that is none: {told}"
        ) from None
    finally:
        file.close()


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, most: int) -> bytes:
    with archive.open(info) as stream:
        data = stream.read(most + 1)
    if len(data) != info.file_size:
        raise PredictionError(
            f"{path}: {info.filename}: expected {info.file_size} bytes, which the archive announces, got others"
        )
    return data


def _hash(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> str:
    digest, length = hashlib.sha256(), 0
    with archive.open(info) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            length += len(block)
    if length != info.file_size:
        raise PredictionError(
            f"{path}: {info.filename}: expected {info.file_size} bytes, which the archive announces, got others"
        )
    return digest.hexdigest()


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode("ascii")


def _parse(text: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        json.dumps(value, allow_nan=False)  # an exponent beyond a double becomes infinite
    except (ValueError, RecursionError) as error:
        raise PredictionError(f"{where}: expected JSON, got {ascii(str(error))[1:-1][:100]}") from None
    if not isinstance(value, dict):
        raise PredictionError(f"{where}: expected a JSON object, got a {type(value).__name__}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name}, which is no JSON")


def _check_receipt(
    path: Path, receipt: dict[str, Any], sizes: dict[str, int], hashes: dict[str, str]
) -> None:
    if set(receipt) != {"schema", "receipt", "options", "members"} or type(receipt["schema"]) is not int:
        raise PredictionError(
            f"{path}: {RECEIPT}: expected schema, receipt, options and members alone, got other keys"
        )
    if receipt["schema"] != SCHEMA:
        raise PredictionError(f"{path}: expected a bundle of schema {SCHEMA}, got {receipt['schema']!r}")
    members = {name: {"bytes": sizes[name], "sha256": hashes[name]} for name in _HASHED}
    if receipt["members"] != members:
        told = receipt["members"] if isinstance(receipt["members"], dict) else {}
        wrong = [name for name in _HASHED if told.get(name) != members[name]] or ["members"]
        raise PredictionError(
            f"{path}: expected the bytes that the receipt names, got others in {', '.join(wrong)}"
        )
    inner, options = receipt["receipt"], receipt["options"]
    keys = set(inner) | {"interval_rule"} if isinstance(inner, dict) else set()  # the first rule is not told
    if keys != _RECEIPT_KEYS:
        raise PredictionError(
            f"{path}: expected a receipt of exactly {', '.join(sorted(_RECEIPT_KEYS))}, got another"
        )
    sources = inner["sources_digest"]
    if not (sources is None or (isinstance(sources, str) and re.fullmatch("[0-9a-f]{64}", sources))):
        raise PredictionError(
            f"{path}: expected a sha256 or null as sources digest, got {ascii(sources)[:80]}"
        )
    good = (
        isinstance(options, dict)
        and set(options) == set(_OPTIONS)
        and all(
            isinstance(options[name], kinds) and (bool in kinds or not isinstance(options[name], bool))
            for name, kinds in _OPTIONS.items()
        )
    )
    if not good:
        raise PredictionError(f"{path}: expected the options of a score ({', '.join(_OPTIONS)}), got others")
