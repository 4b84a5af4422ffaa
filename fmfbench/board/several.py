"""Several prediction files on one page: scored, and compared all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmfbench.board.page import scores_page
from fmfbench.exchange.labels import Labels
from fmfbench.files.problems import check_ending, check_target
from fmfbench.plots.page import write_page
from fmfbench.scoring.evidence import tally
from fmfbench.scoring.metrics import COUNT_METRICS, metric
from fmfbench.scoring.provenance import corruption_of
from fmfbench.scoring.result import Score
from fmfbench.scoring.score import read_for
from fmfbench.scoring.simultaneous import compare_all
from fmfbench.store.reader import StoreReader

__all__ = ["write_scores_page"]


def write_scores_page(
    path: Path,
    files: Sequence[Path],
    scores: Sequence[Score],
    data: StoreReader | Labels,
    *,
    resamples: int = 2000,
    block_seconds: float | None = None,
    seed: int = 0,
    across_corruption: bool = False,
    studio: str | None = None,
    **asked: Any,
) -> Path:
    """Write one page of several scores, with every pair on clean input compared.

    Args:
        path: the .html file to write.
        files: the prediction files.
        scores: their scores, with evidence, in the same order.
        data: what they were scored against.
        resamples, block_seconds, seed: of the comparison.
        across_corruption: compare those on corrupted input too.
        studio: where `fmfbench studio` serves the store.
        asked: context, protocol and per_second of the scores.

    Raises:
        PredictionError: the page cannot be written there.
    """
    check_target(path)
    check_ending(path, (".html", ".htm"), "a page")
    tallies = {}
    labels = None
    compared = [
        (file, score, str(score.meta.get("model", score.file))[:80])
        for file, score in zip(files, scores, strict=True)
        if corruption_of(score.meta) is None or across_corruption
    ]
    claims = Counter(name for _, _, name in compared)
    for file, score, name in compared:
        found, labels = read_for(file, data, score.split, **asked)
        label = f"{name} ({Path(score.file).stem})" if claims[name] > 1 else name
        tallies[label] = tally(labels, found.decision, found.mask_bits)
    pairs = {}
    if labels is not None and len(labels) and len(tallies) > 1:
        names = [name for name in COUNT_METRICS if metric(name).overall]
        found_pairs = compare_all(
            tallies, labels, names, resamples=resamples, seed=seed, block_seconds=block_seconds
        )
        pairs = {name: each for name, each in found_pairs.items() if len(each.names) > 1}
    return write_page(path, scores_page(scores, pairs, studio=studio))
