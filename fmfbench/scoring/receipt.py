"""What a score belongs to: versions, hashes, sample set, threshold and command, so that a number can be traced."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fmfbench.exchange.labels import Labels
from fmfbench.scoring.provenance import corruption_of
from fmfbench.version import installed_version

__all__ = ["INTERVAL_RULE", "PASSING", "PROTOCOL_CARD", "command_text", "file_sha256", "make_receipt"]

PROTOCOL_CARD = 2  # of data_cards/protocol.md
INTERVAL_RULE = 3  # raised whenever an interval of any score changes
PASSING = ("command", "date")  # the keys in which two receipts of one score may differ


def make_receipt(
    path: Path,
    labels: Labels,
    meta: Mapping[str, Any],
    threshold: Mapping[str, Any],
    *,
    split: str,
    sample_set: str,
    command: str,
) -> dict[str, Any]:
    """The receipt of a score.

    Args:
        path: the prediction file.
        labels: of the scored samples.
        meta: of the prediction file.
        threshold: {"value", "origin"} as `threshold_of` finds them.
        split, sample_set: what was asked for.
        command: what gives the same score again, with names of files and no paths.
    """
    return {
        "fmfbench": installed_version(),
        "protocol_card": PROTOCOL_CARD,
        "interval_rule": INTERVAL_RULE,
        "predictions_sha256": file_sha256(path),
        "fingerprint": labels.fingerprint,
        "sources_digest": labels.sources_digest,
        "split": split,
        "sample_set": sample_set,
        "corrupt": corruption_of(meta),
        "threshold": threshold["value"],
        "threshold_origin": threshold["origin"],
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
    }


def command_text(
    path: Path, data: Any, split: str, options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> str:
    """`fmfbench score FILE --data STORE ...` with the options that are not the defaults; files by their names."""
    if isinstance(data, Labels):
        source = ["--labels", data.file or "labels.npz"]
    else:
        source = ["--data", Path(getattr(data, "path", "STORE")).name]
    words = ["fmfbench", "score", path.name, *source, "--split", split]
    for name, value in options.items():
        if value == defaults[name]:
            continue
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, _word(value)]
    return " ".join("".join(c if c.isprintable() else "?" for c in shlex.quote(word)) for word in words)


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _word(value: Any) -> str:
    if isinstance(value, Path):
        return value.name
    return str(getattr(value, "name", value))
