"""Where the decisions' threshold came from, as far as a prediction file says, and a rule that chooses one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import InputError
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.scoring.events import alarm_time as share_of_time
from fmfbench.scoring.events import as_drawn, false_alarm_rate, match_events

__all__ = ["alarm_threshold", "threshold_of"]

MOST_CANDIDATES = 1024


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
            raise InputError("expected normal time to count false alarms in, got none")
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
