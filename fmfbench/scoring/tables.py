"""Several scores side by side: Markdown for people, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from fmfbench.files.markdown import number, table
from fmfbench.scoring.metrics import COUNT_METRICS, PIXEL_RANK_METRICS, RANK_METRICS, metric
from fmfbench.scoring.provenance import corruption_of, provenance_notes
from fmfbench.scoring.result import Score

__all__ = ["score_csv", "scores_markdown"]


def scores_markdown(scores: Sequence[Score]) -> str:
    """One row a file: the five metrics, AUROC and AP, and those of pixels where a file has their scores.

    Below, what to know of the models behind them.
    """
    names = (*COUNT_METRICS, *RANK_METRICS)
    if any(figure.name in PIXEL_RANK_METRICS for score in scores for figure in score.shown()):
        names = (*names, *PIXEL_RANK_METRICS)
    corrupted = any(corruption_of(score.meta) for score in scores)
    head = ("file", *(["input"] if corrupted else []), *(metric(name).title for name in names), "warnings")
    rows = []
    for score in scores:
        known = {figure.name: figure.value for figure in score.shown()}
        preset = corruption_of(score.meta)
        made = [f"CORRUPTED INPUT: {preset}" if preset else "clean"] if corrupted else []
        rows.append(
            (score.file, *made, *(number(known.get(name)) for name in names), str(len(score.warnings) or ""))
        )
    named = {name: None for score in scores if score.evidence for name in score.evidence.recordings}
    lines = [*table(head, rows), "", f"recordings: {', '.join(named)}"]
    lines += [f"{score.file}: {note}" for score in scores for note in provenance_notes(score.meta)]
    return "\n".join(lines)


def score_csv(scores: Sequence[Score]) -> str:
    """One row a file and metric: file, split, samples, metric, value, low, high, undefined.

    With files predicted on corrupted input among them, which preset too (empty: clean).
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    corrupted = any(corruption_of(score.meta) for score in scores)
    head = ("file", "split", "num_samples", "metric", "value", "low", "high", "undefined")
    writer.writerow((*head, "corrupt") if corrupted else head)
    for score in scores:
        for figure in score.shown():
            edges = (figure.low, figure.high)
            writer.writerow(
                (
                    score.file,
                    score.split,
                    score.num_samples,
                    figure.name,
                    "" if figure.value is None else repr(figure.value),
                    *("" if edge is None else repr(edge) for edge in edges),
                    figure.reason if figure.value is None else "",
                    *([corruption_of(score.meta) or ""] if corrupted else []),
                )
            )
    return stream.getvalue()
