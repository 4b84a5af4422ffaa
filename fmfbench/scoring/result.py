"""A score, and its tables: Markdown for people, CSV for spreadsheets, several files side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmfbench.files.markdown import number, table
from fmfbench.scoring.circumstances import band_title, onset_title
from fmfbench.scoring.counts import Confusion
from fmfbench.scoring.evidence import Evidence
from fmfbench.scoring.metrics import METRIC_NAMES, METRIC_TITLES
from fmfbench.scoring.provenance import provenance_notes

__all__ = [
    "Score",
    "occlusion_caption",
    "occlusion_head",
    "occlusion_rows",
    "onset_rows",
    "pixel_facts",
    "score_csv",
    "score_markdown",
    "scores_markdown",
    "title_of",
]

INTERVAL_WORTH = (
    "Intervals: 95 %, from a block bootstrap in time within recordings. On simulated errors they held the "
    "truth in 88 to 98 % of cases (data_cards/protocol.md); they say nothing of other furnaces."
)
EVENT_TITLES = {
    "event_recall": "event recall",
    "delay_median_s": "detection delay, median (s)",
    "delay_p95_s": "detection delay, 95th percentile (s)",
    "false_alarms_per_hour": "false alarms per hour of normal time",
}


PIXEL_RANKS = {"pixel_auroc", "aupro"}
RANK_TITLES = {"auroc": "AUROC", "ap": "AP", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}


@dataclass(frozen=True, kw_only=True)
class Score:
    """The five metrics of one file on one split, with the counts they come from.

    `metrics` maps accuracy, f1, fdr, mdr and miou to a float, or to None with the reason in `undefined`.
    """

    metrics: Mapping[str, float | None]
    undefined: Mapping[str, str]
    frame: Confusion
    pixel: Confusion | None
    split: str
    num_samples: int
    fingerprint: str
    file: str
    context: str | None = None
    protocol: str | None = None
    compat: str | None = None
    sample_set: str = "every frame"
    decision: str = "score > 0.5"
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    evidence: Evidence | None = None

    def to_dict(self) -> dict[str, Any]:
        """What `fmfbench score --json` prints; plain types that JSON can hold."""
        return {
            "metrics": dict(self.metrics),
            "undefined": dict(self.undefined),
            "counts": {
                "frame": self.frame.as_dict(),
                "pixel": None if self.pixel is None else self.pixel.as_dict(),
            },
            "split": self.split,
            "num_samples": self.num_samples,
            "fingerprint": self.fingerprint,
            "file": self.file,
            "context": self.context,
            "protocol": self.protocol,
            "compat": self.compat,
            "sample_set": self.sample_set,
            "decision": self.decision,
            "meta": dict(self.meta),
            "notes": list(self.notes),
        } | ({} if self.evidence is None else self.evidence.to_dict())

    def to_markdown(self) -> str:
        """Tables for people; FDR and MDR are spelled out because the paper's names mislead."""
        return score_markdown(self)


def title_of(score: Score, name: str) -> str:
    """How tables call a value."""
    if name == "aupro" and score.evidence is not None:
        return f"AUPRO, FPR to {score.evidence.ranking['aupro_limit']:g}"
    return METRIC_TITLES.get(name) or EVENT_TITLES.get(name) or RANK_TITLES[name]


def score_markdown(score: Score) -> str:
    """All that a score says, as Markdown."""
    title = f"{score.file} on split {score.split}, {score.num_samples} samples"
    if score.context == "strict":
        title += f", strict sample set of protocol {score.protocol}"
    if score.sample_set == "per-second":
        title += ", PER-SECOND SAMPLE SET: not to be compared with figures of every frame"
    if score.compat:
        title += f" (compat {score.compat}: with the released code's smoothing constants)"
    lines = [title, ""]
    if score.evidence is not None:
        lines += [f"**WARNING: {text}**" for text in score.evidence.warnings]
        lines += [""] if score.evidence.warnings else []
    lines += table(("metric", "value", "95 % interval"), _metric_rows(score))
    lines += ["", f"frames: {_counts(score.frame)}; decided by {score.decision}"]
    if score.pixel is not None:
        lines.append(f"pixels: {_counts(score.pixel)}")
    if facts := pixel_facts(score):
        lines.append(facts)
    if score.evidence is not None:
        lines += _evidence_lines(score)
    lines += [f"note: {note}" for note in score.notes]
    return "\n".join(lines)


def scores_markdown(scores: Sequence[Score]) -> str:
    """One row a file: the five metrics, AUROC and AP, and those of pixels where a file has their scores.

    Below, what to know of the models behind them.
    """
    names: tuple[str, ...] = (*METRIC_NAMES, "auroc", "ap")
    if any(PIXEL_RANKS & set(score_values(score)) for score in scores):
        names = (*names, "pixel_auroc", "aupro")
    titles = METRIC_TITLES | RANK_TITLES
    head = ("file", *(titles[name] for name in names), "warnings")
    rows = []
    for score in scores:
        values = [number(score_values(score).get(name)) for name in names]
        warned = len(score.evidence.warnings) if score.evidence else 0
        rows.append((score.file, *values, str(warned or "")))
    named = {name: None for score in scores if score.evidence for name in score.evidence.recordings}
    lines = [*table(head, rows), "", f"recordings: {', '.join(named)}"]
    lines += [f"{score.file}: {note}" for score in scores for note in provenance_notes(score.meta)]
    return "\n".join(lines)


def score_csv(scores: Sequence[Score]) -> str:
    """One row a file and metric: file, split, metric, value, low, high, undefined."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("file", "split", "num_samples", "metric", "value", "low", "high", "undefined"))
    for score in scores:
        for name, value in score_values(score).items():
            low_high = interval_of(score, name)
            writer.writerow(
                (
                    score.file,
                    score.split,
                    score.num_samples,
                    name,
                    "" if value is None else repr(value),
                    "" if low_high is None else repr(low_high[0]),
                    "" if low_high is None else repr(low_high[1]),
                    reason_of(score, name) if value is None else "",
                )
            )
    return stream.getvalue()


def score_values(score: Score) -> dict[str, float | None]:
    """The five metrics, and AUROC, AP and the event metrics where they were gathered; pixel AUROC and AUPRO of a
    file with pixel scores."""
    values = dict(score.metrics)
    if score.evidence is not None:
        ranking = score.evidence.ranking
        values |= {name: ranking[name] for name in ("auroc", "ap")}
        if ranking["pixel_score"] is not None:
            values |= {name: ranking[name] for name in ("pixel_auroc", "aupro")}
        values |= {name: score.evidence.events[name] for name in EVENT_TITLES}
    return values


def reason_of(score: Score, name: str) -> str:
    """Why a value is undefined."""
    reasons = dict(score.undefined)
    if score.evidence is not None:
        reasons |= score.evidence.ranking["undefined"] | score.evidence.events["undefined"]
    return str(reasons.get(name, ""))


def interval_of(score: Score, name: str) -> tuple[float, float] | None:
    """The interval of a value, or None."""
    if score.evidence is None:
        return None
    known: dict[str, Any] = {
        **score.evidence.intervals,
        **score.evidence.ranking["intervals"],
        **score.evidence.events["intervals"],
    }
    found = known.get(name)
    return None if not found or found["low"] is None else (found["low"], found["high"])


def _metric_rows(score: Score) -> list[tuple[str, str, str]]:
    rows = []
    for name, value in score_values(score).items():
        title = title_of(score, name)
        shown = number(value) if value is not None else f"undefined: {reason_of(score, name)}"
        found = interval_of(score, name)
        rows.append((title, shown, f"{found[0]:.4f} to {found[1]:.4f}" if found else ""))
    return rows


def _evidence_lines(score: Score) -> list[str]:
    evidence = score.evidence
    assert evidence is not None
    events, boot = evidence.events, evidence.bootstrap
    lines = [
        f"events: {events['detected']} of {events['events']} detected; {events['false_alarms']} of "
        f"{events['alarms']} alarms false in {events['normal_hours']:.3f} h of normal time",
        f"threshold: {_threshold(evidence.threshold)}",
        f"bootstrap: {boot['blocks']} blocks of {boot['block_seconds']:.1f} s, errors correlated over "
        f"{boot['correlation_seconds']:.2f} s",
        INTERVAL_WORTH,
        "",
    ]
    head = ("", "samples", *(METRIC_TITLES[name] for name in METRIC_NAMES))
    worst = evidence.worst if len(evidence.recordings) > 1 else {}
    rows = []
    for name, row in evidence.recordings.items():
        values = [
            number(row["metrics"][metric]) + (" (worst)" if worst.get(metric) == name else "")
            for metric in METRIC_NAMES
        ]
        rows.append((f"recording {name}", str(row["num_samples"]), *values))
    for name, floor in evidence.floor.items():
        rows.append((f"floor: {name}", str(score.num_samples), *(number(floor[m]) for m in METRIC_NAMES)))
    lines += [*table(head, rows), ""]
    lines += table(
        ("time from an onset (its first scored frame)", "frames", "accuracy"), onset_rows(evidence)
    )
    if evidence.occlusion is not None:
        lines += ["", occlusion_caption(evidence), "", *table(occlusion_head(), occlusion_rows(evidence))]
    return lines


def onset_rows(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Time from the onset, frames, accuracy."""
    return [(onset_title(row), str(row["frames"]), number(row["accuracy"])) for row in evidence.around_onset]


def occlusion_head() -> tuple[str, ...]:
    return ("samples with", "normal", "abnormal", *(METRIC_TITLES[name] for name in METRIC_NAMES))


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
            *(number(row["metrics"][name]) for name in METRIC_NAMES),
        )
        for row in evidence.occlusion["bands"]
    ]


def _threshold(threshold: Mapping[str, Any]) -> str:
    value = "of unknown value" if threshold["value"] is None else f"{threshold['value']:g}"
    return f"{value}, {threshold['origin']}"


def pixel_facts(score: Score) -> str | None:
    """What pixel AUROC and AUPRO were counted from, in a line; None where the file has no pixel scores."""
    ranking = {} if score.evidence is None else score.evidence.ranking
    if ranking.get("pixel_score") is None:
        return None
    return (
        f"pixel scores: {ranking['pixel_score']}, {ranking['regions']} abnormal regions; AUPRO is the mean share of "
        f"a region that is found, over false positive rates of pixels from 0 to {ranking['aupro_limit']:g}"
    )


def _counts(counts: Confusion) -> str:
    return f"TP {counts.tp}, FP {counts.fp}, FN {counts.fn}, TN {counts.tn}"
