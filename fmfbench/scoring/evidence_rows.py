"""Evidence as rows of tables, the same in Markdown and on the page: calibration, time from an onset, occlusion."""

from __future__ import annotations

from fmfbench.files.markdown import number
from fmfbench.scoring.circumstances import band_title, onset_title
from fmfbench.scoring.evidence import Evidence
from fmfbench.scoring.metrics import COUNT_METRICS, metric

__all__ = [
    "count_titles",
    "occlusion_caption",
    "occlusion_head",
    "occlusion_rows",
    "onset_rows",
    "reliability_head",
    "reliability_rows",
]


def count_titles() -> tuple[str, ...]:
    """The titles of the metrics of counts."""
    return tuple(metric(name).title for name in COUNT_METRICS)


def reliability_head() -> tuple[str, ...]:
    return ("score", "samples", "mean score", "share abnormal", "95 % interval")


def reliability_rows(evidence: Evidence) -> list[tuple[str, ...]]:
    """The bins that hold samples; empty where the file has no scores."""
    rows: list[tuple[str, ...]] = []
    for row in evidence.bins:
        if row["samples"]:
            edges = row["interval"]
            told = edges.get("reason") or f"{edges['low']:.4f} to {edges['high']:.4f}"
            name = f"{row['low']:.1f} to {row['high']:.1f}"
            shares = number(row["mean_score"]), number(row["abnormal"])
            rows.append((name, str(row["samples"]), *shares, told))
    return rows


def onset_rows(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Time from the onset, frames, accuracy."""
    return [(onset_title(row), str(row["frames"]), number(row["accuracy"])) for row in evidence.around_onset]


def occlusion_head() -> tuple[str, ...]:
    return ("samples with", "normal", "abnormal", *count_titles())


def occlusion_caption(evidence: Evidence) -> str:
    """What the bands are, and that they are of simulated data."""
    assert evidence.occlusion is not None
    return (
        f"By what hides the anomaly, as the simulator knows it ({evidence.occlusion['source']}; not a "
        "measurement on a furnace). Accuracy of abnormal samples is 1 - MDR, of normal ones 1 - FDR. Few "
        "episodes make a band: no intervals."
    )


def occlusion_rows(evidence: Evidence) -> list[tuple[str, ...]]:
    """One row a band of a hidden quantity."""
    assert evidence.occlusion is not None
    return [
        (
            band_title(row),
            str(row["num_samples"] - row["abnormal"]),
            str(row["abnormal"]),
            *(number(row["metrics"][name]) for name in COUNT_METRICS),
        )
        for row in evidence.occlusion["bands"]
    ]
