"""What a prediction file is asked to cover, and whether its meta says that it was made for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.files.problems import Problems

__all__ = ["Target", "check_meta", "fingerprint_in"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a file is asked to cover.

    `sample_id` (N,) int64, ascending; `mask_shape` (H, W), or None where masks cannot be scored;
    `fingerprint` of the data; `strict_protocol` names the protocol of a strict sample set, None asks for all;
    `per_second` says that only the last sample of each second is asked for; `guard_seconds` is the guard of a derived
    split that depends on one.
    """

    sample_id: NDArray[np.int64]
    split: str
    mask_shape: tuple[int, int] | None = None
    fingerprint: str | None = None
    strict_protocol: str | None = None
    per_second: bool = False
    guard_seconds: float | None = None


def check_meta(meta: Mapping[str, Any], target: Target, problems: Problems) -> None:
    """Add to `problems` what a file says of itself that is not what it is asked for."""
    made_for = fingerprint_in(meta)
    if target.fingerprint is not None and made_for not in (None, target.fingerprint):
        problems.add(
            f"was made for the data with fingerprint {ascii(made_for)[1:-1][:64]}, these have "
            f"{target.fingerprint}; score it on the data it was made for"
        )
    made_of = meta.get("split")
    if problems.found and isinstance(made_of, str) and made_of != target.split:
        problems.add(
            f"says that it was made for split {ascii(made_of)[1:-1][:80]}; score it with that --split"
        )
    guard = meta.get("guard_seconds")
    if problems.found and _differs(guard, target.guard_seconds):
        problems.add(
            f"was made with a guard of {guard:g} s, and the samples asked for have one of "
            f"{target.guard_seconds:g} s; score it with the protocol it was made with: --protocol NAME, or, with "
            f"fields of its own, in Python as protocol=meta['protocol_fields']"
        )
    every_second = meta.get("sample_set") == "per-second"
    if every_second and not target.per_second:
        problems.add("holds the per-second sample set; ask for it with --per-second")
    if target.per_second and meta.get("sample_set", "per-second") != "per-second":
        problems.add(f"was made for sample set {ascii(meta['sample_set'])[:40]}; expected per-second")
    strict = meta.get("context") == "strict"
    protocol = _protocol(meta)
    if strict and target.strict_protocol is None:
        problems.add(
            f"holds the strict sample set of protocol {protocol}; ask for it with --context strict "
            f"--protocol {protocol}"
        )
    if target.strict_protocol is not None:
        if meta.get("context", "strict") != "strict":
            problems.add(f"was made with context {ascii(meta['context'])[:40]}; expected strict")
        elif "protocol" in meta and protocol != target.strict_protocol:
            problems.add(
                f"was made with protocol {protocol}, the strict samples asked for are those of "
                f"{target.strict_protocol}; name the same protocol"
            )


def fingerprint_in(meta: Mapping[str, Any]) -> str | None:
    """The fingerprint of the data that a file says it was made for."""
    value = meta.get("fingerprint", meta.get("dataset_fingerprint"))
    return None if value is None else str(value)


def _protocol(meta: Mapping[str, Any]) -> str:
    """The name of the window protocol that a file says it was made with."""
    value = meta.get("protocol", "paper")
    return ascii(str(value.get("name", "?") if isinstance(value, dict) else value)[:40])[1:-1]


def _differs(stated: Any, asked: float | None) -> bool:
    return asked is not None and isinstance(stated, (int, float)) and stated != asked
