"""How far a score hangs on windows that reach into other splits: the same predictions on the strict samples alone.

A window that holds nothing of another split is the same under `full`, `masked` and `strict`. So what a file says of the
strict samples is what any of the three contexts would give there, and differs from the whole score only by the samples.
What `masked` gives on the other samples only the model can tell: `fmfbench predict --context masked`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fmfbench.errors import InputError
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.scoring.bootstrap import block_weights
from fmfbench.scoring.evidence import Tally, error_blocks, no_pixels_reason
from fmfbench.scoring.figures import count_figures
from fmfbench.scoring.metrics import Figure, bearing_blocks, count_metrics, count_replicates
from fmfbench.store.reader import StoreReader
from fmfbench.windows.protocol import get_protocol
from fmfbench.windows.reader import strict_ids

__all__ = ["CONTEXTS", "NO_STORE", "context_of", "strict_part", "strict_rows"]

CONTEXTS = ("full", "masked", "strict")
NO_STORE = "scored without the store, which knows the windows"


def context_of(meta: Mapping[str, object]) -> str | None:
    """The context that a file says its windows had; None where it says none of the three."""
    found = meta.get("context")
    return found if isinstance(found, str) and found in CONTEXTS else None


def strict_part(
    found: Predictions,
    labels: Labels,
    counts: Tally,
    data: Any,
    split: str,
    *,
    resamples: int,
    block_seconds: float | None,
    seed: int,
) -> dict[str, Any]:
    """The metrics of counts on the samples whose windows stay inside the split.

    Args:
        found, labels, counts: of a file on every sample of the split.
        data: the store that knows the windows; anything else gives a reason.
        split: the part that was scored.

    Returns:
        `context` that the file states, and `strict`: samples, samples left out, metrics, undefined and intervals; or
        None, with a `reason`.
    """
    context = context_of(found.meta)
    rows = _strict(found, labels, data, split)
    if isinstance(rows, str):
        return {"context": context, "strict": None, "reason": rows}
    inside = labels.take(rows)
    part = Tally(frame=counts.frame[rows], pixel=None if counts.pixel is None else counts.pixel[rows])
    values, undefined = count_metrics(part.frame_total, part.pixel_total, no_pixels_reason(labels))
    blocks = error_blocks([part], inside, block_seconds)
    sums = part.by_block(blocks)
    drawn = count_replicates(block_weights(blocks, resamples, seed) @ sums)
    figures = count_figures(values, undefined, drawn, blocks, bearing_blocks(sums))
    return {
        "context": context,
        "strict": {
            "num_samples": len(inside),
            "left_out": len(labels) - len(inside),
            "metrics": values,
            "undefined": undefined,
            "intervals": {figure.name: figure.interval() for figure in figures},
        },
        "reason": None,
    }


def strict_rows(sensitivity: Mapping[str, Any]) -> list[Figure]:
    """The figures of the strict samples, as tables show them; empty where there are none."""
    strict = sensitivity.get("strict")
    if not strict:
        return []
    return [
        Figure(
            name=name,
            value=value,
            low=strict["intervals"][name]["low"],
            high=strict["intervals"][name]["high"],
            reason=strict["undefined"].get(name, strict["intervals"][name].get("reason")),
        )
        for name, value in strict["metrics"].items()
    ]


def _strict(found: Predictions, labels: Labels, data: Any, split: str) -> Any:
    """(N,) which samples are strict, or the reason why that is not known."""
    if not isinstance(data, StoreReader):
        return NO_STORE
    stated = found.meta.get("protocol_fields", found.meta.get("protocol"))
    if not isinstance(stated, (str, dict)):
        return "the file does not state its window protocol"
    try:
        ids = strict_ids(data, split, get_protocol(stated))
    except (InputError, TypeError, ValueError):
        return "the file's window protocol is none that this store serves"
    rows = np.isin(labels.sample_id, ids)
    return rows if rows.any() else "no window stays inside the split"
