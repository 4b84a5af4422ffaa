"""Where the decisions' threshold came from, as far as a prediction file says, and rules that choose one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import InputError
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.scoring.events import alarm_time as share_of_time
from fmfbench.scoring.events import as_drawn, false_alarm_rate, match_events

__all__ = ["Rule", "alarm_threshold", "f1_threshold", "fdr_threshold", "parse_rule", "threshold_of"]

MOST_CANDIDATES = 1024
_RULES = "f1, fdr:SHARE (as fdr:0.05), alarms:NUMBER an hour (as alarms:1), fixed"


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen on validation samples, for decisions score > threshold.

    "f1": the largest F1. "fdr": the lowest threshold with FP/(FP+TN) of at most `limit`. "alarms": the lowest with at
    most `limit` false alarms an hour, and 1 % of normal time in alarm. "fixed": 0.5, nothing is chosen.
    """

    name: str
    limit: float | None = None

    def __str__(self) -> str:
        return self.name if self.limit is None else f"{self.name}:{self.limit:g}"

    @property
    def needs_abnormal(self) -> bool:
        """Whether it cannot be followed on normal samples alone."""
        return self.name == "f1"

    def threshold(self, labels: Labels, score: NDArray[np.floating[Any]]) -> float:
        """The threshold for (N,) scores of the samples of `labels`: a number that float32 holds exactly.

        Where it can be it is in the middle between the two scores that it parts, so that rounding elsewhere does not
        move a sample.
        """
        assert labels.class_label is not None
        if self.name == "fixed":
            return 0.5
        if self.name == "f1":
            chosen = f1_threshold(labels.class_label, score)
        elif self.name == "fdr":
            chosen = fdr_threshold(labels.class_label, score, self.limit or 0.0)
        else:
            chosen = alarm_threshold(labels, score, alarms_per_hour=self.limit or 0.0)
        return _parting(score, chosen)


def parse_rule(text: str) -> Rule:
    """The rule of a text: f1, fdr:0.05, alarms:1 or fixed.

    Raises:
        InputError: none of these.

    Example:
        >>> parse_rule("fdr:0.05")
        Rule(name='fdr', limit=0.05)
    """
    name, sign, rest = text.strip().partition(":")
    try:
        limit = float(rest) if sign else None
    except ValueError:
        raise InputError(f"rule: expected one of {_RULES}, got {text!r}") from None
    if name in ("f1", "fixed") and limit is None:
        return Rule(name)
    if name not in ("fdr", "alarms") or limit is None:
        raise InputError(f"rule: expected one of {_RULES}, got {text!r}")
    if not 0 <= limit < (1 if name == "fdr" else float("inf")):
        expected = "a share from 0 to below 1" if name == "fdr" else "a number of alarms of 0 or more"
        raise InputError(f"rule: {name}: expected {expected}, got {rest}")
    return Rule(name, limit)


def f1_threshold(label: NDArray[np.integer[Any]], score: NDArray[np.floating[Any]]) -> float:
    """A score v such that score > v has the largest F1 of all thresholds; of several the highest.

    Below the lowest score there is none: where calling all samples abnormal is best, that is 0 unless a score is 0.

    Args:
        label: (N,) 0 or 1. score: (N,) in [0, 1].

    Raises:
        InputError: no sample is abnormal.

    Example:
        >>> f1_threshold(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8]))
        0.1
    """
    abnormal = np.asarray(label) == 1
    if not abnormal.any():
        raise InputError("rule f1: expected abnormal samples among those to choose on, got none")
    score = np.asarray(score, np.float64)
    values = np.unique(np.append(score, 0.0))
    predicted = len(score) - np.searchsorted(np.sort(score), values, side="right")
    hits = abnormal.sum() - np.searchsorted(np.sort(score[abnormal]), values, side="right")
    f1 = 2 * hits / (predicted + abnormal.sum())
    return float(values[len(f1) - 1 - int(np.argmax(f1[::-1]))])


def fdr_threshold(
    label: NDArray[np.integer[Any]], score: NDArray[np.floating[Any]], limit: float = 0.05
) -> float:
    """The lowest score v such that at most a share `limit` of the normal samples has score > v.

    Args:
        label: (N,) 0 or 1. score: (N,) in [0, 1]. limit: of FP / (FP + TN), the paper's false detection rate.

    Raises:
        InputError: no sample is normal.

    Example:
        >>> fdr_threshold(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8]), 0.5)
        0.1
    """
    normal = np.sort(np.asarray(score, np.float64)[np.asarray(label) == 0])
    if not len(normal):
        raise InputError("rule fdr: expected normal samples among those to choose on, got none")
    allowed = int(np.floor(limit * len(normal) * (1 + 1e-12)))  # 0.05 of 20 is 1, however it is rounded
    return float(normal[max(len(normal) - 1 - allowed, 0)])


def _parting(score: NDArray[np.floating[Any]], value: float) -> float:
    """In the middle between `value` and the next higher score, or 1 where there is none, as float32 has it."""
    higher = np.asarray(score, np.float64)[np.asarray(score, np.float64) > value]
    after = float(higher.min()) if len(higher) else 1.0
    middle = float(np.float32((value + after) / 2))
    return middle if value <= middle < after else float(np.float32(value))


def alarm_threshold(
    labels: Labels,
    score: NDArray[np.floating[Any]],
    *,
    alarms_per_hour: float = 1.0,
    alarm_time: float = 0.01,
) -> float:
    """The lowest threshold, for the rule score > threshold, within bounds of false alarms and of alarm time.

    It and every higher candidate keep both: false alarms an hour of normal time, and the share of normal time that is
    predicted abnormal.

    Both are bounded: few alarms alone are had by one that never stops. Meant for a validation split; on the scored
    split its figures would be tuned on test.

    Args:
        labels: of N samples.
        score: (N,) probability of abnormal.
        alarms_per_hour, alarm_time: the bounds, as the event metrics count them.

    Raises:
        InputError: bounds below 0, or no normal time to count in.
    """
    if alarms_per_hour < 0 or alarm_time < 0:
        raise InputError(
            f"expected bounds of 0 or more, got {alarms_per_hour} an hour and {alarm_time} of the time"
        )
    assert labels.class_label is not None
    values = np.unique(np.asarray(score, np.float64))
    if len(values) > MOST_CANDIDATES:
        values = values[np.linspace(0, len(values) - 1, MOST_CANDIDATES).astype(np.intp)]
    best: float | None = None
    for candidate in values[::-1].tolist():
        decision = (score > candidate).astype(np.uint8)
        drawn = as_drawn(match_events(labels.class_label, decision, labels.recording, labels.frame_time))
        rate, share = float(false_alarm_rate(drawn)[0]), float(share_of_time(drawn)[0])
        if not np.isfinite(rate):
            raise InputError(
                "expected normal time between events and 2 s from them, to count false alarms in, got none; take "
                "another rule (f1, fdr), or more samples"
            )
        if rate > alarms_per_hour or share > alarm_time:
            break
        best = candidate
    assert best is not None  # nothing is above the highest score
    return best


def threshold_of(found: Predictions) -> tuple[dict[str, Any], list[str]]:
    """Where the decisions' threshold came from, as far as the file says, and what is wrong with that."""
    stated = found.meta.get("threshold")
    origin = found.meta.get("threshold_origin", found.meta.get("threshold_from"))
    if isinstance(stated, dict):
        origin = stated.get("origin", stated.get("from", origin))
        stated = stated.get("value")
    value = None
    if isinstance(stated, (int, float)) and not isinstance(stated, bool) and abs(stated) < 1e300:
        value = float(stated)
    as_half = found.pred is None or (
        found.score is not None and np.array_equal(found.pred, (found.score > 0.5).astype(np.uint8))
    )
    warnings = []
    if found.pred is None and value not in (None, 0.5):
        warnings.append(
            f"THE STATED THRESHOLD {value:g} WAS NOT USED: without pred the decision is score > 0.5"
        )
    kind = _threshold_kind(origin)
    scores_tuned = kind == "test" and value in (None, 0.5)
    if as_half and (origin is None or (found.pred is None and not scores_tuned)):
        return {"value": 0.5, "origin": "fixed"}, warnings
    if kind == "test":
        warnings.insert(
            0, "THRESHOLD TUNED ON TEST: accuracy, F1, FDR and MDR are not those of an unseen split"
        )
    elif kind == "not stated":
        why = "pred comes without scores" if found.score is None else "pred is not score > 0.5"
        if as_half:
            why = f"meta.threshold_origin says {str(origin)[:40]!a}"
        warnings.append(
            f"THRESHOLD OF UNKNOWN ORIGIN: {why}; state meta.threshold_origin as fixed, validation or test"
        )
    if value is not None and found.score is not None and found.pred is not None:
        differ = int(np.count_nonzero(found.pred != (found.score > value)))
        if differ:
            warnings.append(f"PRED IS NOT SCORE > {value:g}: they differ on {differ} samples")
    return {"value": value, "origin": "TUNED ON TEST" if kind == "test" else kind}, warnings


def _threshold_kind(origin: Any) -> str:
    """fixed, validation, test or "not stated", by whole words: an "evaluation split" is none of them."""
    words = re.findall("[a-z]+", str(origin).lower()) if origin is not None else []
    known = {"test": ("test", "testing"), "validation": ("val", "valid", "validation"), "fixed": ("fixed",)}
    return next((kind for kind, names in known.items() if set(names) & set(words)), "not stated")
