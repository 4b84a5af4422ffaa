"""Whether a training's loss has flattened: how much of its whole fall the last quarter of the epochs brought."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmfbench_models.training.runlog import read_log

__all__ = ["FLAT", "describe_curve", "last_share"]

FLAT = 0.05  # of the whole fall, in the last quarter: at most that is called flattened
_FEWEST = 4


def last_share(losses: Sequence[float]) -> float | None:
    """The fall from the third to the last quarter of the epochs, as a share of that from the first epoch to the last.

    None with fewer than four epochs, or where the loss did not fall. Means of the quarters, so that one epoch's noise
    counts little.

    Example:
        >>> round(last_share([1.0, 0.5, 0.3, 0.2, 0.12, 0.10, 0.10, 0.10]), 3)
        0.011
    """
    if len(losses) < _FEWEST:
        return None
    quarter = len(losses) // 4
    last, before = losses[-quarter:], losses[-2 * quarter : -quarter]
    end, middle = sum(last) / quarter, sum(before) / quarter
    fall = losses[0] - end
    return (middle - end) / fall if fall > 0 else None


def describe_curve(run: Path) -> dict[str, Any] | None:
    """A run's curve so far: the loss of each epoch, `last_share`, and flattened, None where that cannot be said.

    None where nothing was trained by gradients.
    """
    log = run / "log.jsonl"
    losses = (
        [float(line["loss"]) for line in read_log(log) if line["kind"] == "epoch"] if log.is_file() else []
    )
    if not losses:
        return None
    share = last_share(losses)
    return {
        "epochs": len(losses),
        "losses": losses,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "last_quarter": share,
        "flattened": None if share is None else share <= FLAT,
    }
