"""A score: its figures, the counts behind them, the receipt that says what they belong to, and all that as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from fmfbench.files.markdown import number, table
from fmfbench.files.wording import counted
from fmfbench.scoring.counts import Confusion
from fmfbench.scoring.evidence import Evidence
from fmfbench.scoring.evidence_rows import (
    count_titles,
    occlusion_caption,
    occlusion_head,
    occlusion_rows,
    onset_rows,
    reliability_head,
    reliability_rows,
)
from fmfbench.scoring.figures import figure_text, interval_text, interval_words, with_interval_text
from fmfbench.scoring.metrics import COUNT_METRICS, PIXEL_RANK_METRICS, Figure, metric
from fmfbench.scoring.provenance import corruption_of
from fmfbench.scoring.sensitivity import strict_rows

__all__ = [
    "INTERVAL_WORTH",
    "Score",
    "heading",
    "pixel_facts",
    "receipt_lines",
    "score_markdown",
    "score_text",
    "sensitivity_head",
    "sensitivity_line",
    "sensitivity_rows",
    "title_of",
]

INTERVAL_WORTH = (
    "Intervals: 95 %, from a block bootstrap in time. How often they hold the truth on simulated "
    "errors stands in data_cards/protocol.md; they say nothing of other furnaces."
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The figures of one file on one split, with the counts they come from.

    Attributes:
        figures: every metric with value, interval and reason; the official five alone without evidence.
        frame, pixel: counts over samples and pixels; `pixel` None where masks cannot be scored.
        receipt: what the figures belong to, as it stands in the JSON document.
        evidence: what stands beside the figures; None under `compat` or when it was left out.
    """

    figures: tuple[Figure, ...]
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
    receipt: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float | None]:
        """Accuracy, f1, fdr, mdr and miou: a float, or None with the reason in `undefined`."""
        return {figure.name: figure.value for figure in self._counted}

    @property
    def undefined(self) -> dict[str, str]:
        """Why each of the five that has no value has none."""
        return {figure.name: str(figure.reason) for figure in self._counted if figure.value is None}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be said beside the figures."""
        return () if self.evidence is None else self.evidence.warnings

    def figure(self, name: str) -> Figure:
        """The figure of a metric; KeyError where it was not gathered."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    def shown(self) -> tuple[Figure, ...]:
        """The figures that tables show: those of pixel scores only where the file has such."""
        dense = self.evidence is not None and self.evidence.ranking_facts.get("pixel_score") is not None
        return tuple(f for f in self.figures if dense or f.name not in PIXEL_RANK_METRICS)

    def to_dict(self) -> dict[str, Any]:
        """What `fmfbench score --json` prints; plain types that JSON can hold."""
        return {
            "metrics": self.metrics,
            "undefined": self.undefined,
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
            "receipt": dict(self.receipt),
        } | ({} if self.evidence is None else self.evidence.to_dict())

    def to_markdown(self) -> str:
        """Tables for people; FDR and MDR are spelled out because the paper's names mislead."""
        return score_markdown(self)

    def to_text(self) -> str:
        """A short aligned summary for a terminal."""
        return score_text(self)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        known = ", ".join(f"{f.name} {figure_text(f)}" for f in self._counted if f.value is not None)
        return f"<Score {self.file}, {self.split}: {known or 'nothing defined'}>"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        rows = "".join(
            f"<tr><td style='text-align:left'>{escape(f.metric.title)}</td><td>{escape(figure_text(f))}</td>"
            f"<td>{interval_text(f)}</td></tr>"
            for f in self.shown()
        )
        warned = "".join(f"<p><b>WARNING: {escape(text)}</b></p>" for text in self.warnings)
        return (
            f"<p>{escape(self.file)}, split {escape(self.split)}, {self.num_samples} samples</p>{warned}"
            f"<table><tr><th>metric</th><th>value</th><th>95 % interval</th></tr>{rows}</table>"
        )

    @property
    def _counted(self) -> list[Figure]:
        return [figure for figure in self.figures if figure.name in COUNT_METRICS]


def title_of(score: Score, name: str) -> str:
    """How tables call a value."""
    if name == "aupro" and score.evidence is not None:
        return f"AUPRO, FPR to {score.evidence.ranking_facts['aupro_limit']:g}"
    return metric(name).title


def heading(score: Score) -> str:
    """What was scored, in a line, with what sets it apart from other scores."""
    title = f"{score.file} on split {score.split}, {score.num_samples} samples"
    if score.context == "strict":
        title += f", strict sample set of protocol {score.protocol}"
    if score.sample_set == "per-second":
        title += ", PER-SECOND SAMPLE SET: not to be compared with figures of every frame"
    if (preset := corruption_of(score.meta)) is not None:
        title += f", CORRUPTED INPUT ({preset})"
    if score.compat:
        title += f" (compat {score.compat}: with the released code's smoothing constants)"
    return title


def score_text(score: Score) -> str:
    """A short aligned summary; digits are as many as the interval supports.

    Example:
        predictions.npz on split test, 3300 samples

        accuracy               0.81  0.69 to 0.90
        F1                    0.789  0.715 to 0.851
    """
    lines = [heading(score), ""]
    lines += [f"WARNING: {text}" for text in score.warnings]
    lines += [""] if score.warnings else []
    rows = [(title_of(score, f.name), figure_text(f), interval_words(f)) for f in score.shown()]
    wide = max(len(row[0]) for row in rows)
    numbers = max((len(row[1]) for row in rows if not row[1].startswith("undefined")), default=0)
    lines += [f"{name:<{wide}}  {value:>{numbers}}  {interval}".rstrip() for name, value, interval in rows]
    evidence = score.evidence
    if evidence is not None:
        events = evidence.event_facts
        lines += [
            "",
            f"events: {events['detected']} of {events['events']} detected, "
            f"{counted(events['false_alarms'], 'false alarm')} in "
            f"{events['normal_hours']:.3g} h of normal time; threshold {_threshold(evidence.threshold)}",
        ]
        if len(evidence.recordings) > 1 and "accuracy" in evidence.worst:
            name = evidence.worst["accuracy"]
            value = evidence.recordings[name]["metrics"]["accuracy"]
            lines.append(f"worst of {len(evidence.recordings)} recordings: {name}, accuracy {value:.3f}")
        if (told := sensitivity_line(score)) is not None:
            lines.append(told)
    lines += [f"note: {note}" for note in score.notes]
    lines += [
        *receipt_lines(score.receipt),
        "intervals are 95 %; every table: --markdown or --report score.html",
    ]
    return "\n".join(lines)


def receipt_lines(receipt: Mapping[str, Any]) -> list[str]:
    """The receipt in two lines; hashes by their first 16 digits, the JSON document has them whole."""
    if not receipt:
        return []
    made = f"receipt: fmfbench {receipt['fmfbench']}, protocol card {receipt['protocol_card']}"
    made += f", interval rule {receipt['interval_rule']}"
    made += (
        f", predictions {str(receipt['predictions_sha256'])[:16]}, data {str(receipt['fingerprint'])[:16]}"
    )
    if receipt["sources_digest"]:
        made += f", sources {str(receipt['sources_digest'])[:16]}"
    return [made, f"{receipt['date']}: {receipt['command']}"]


def score_markdown(score: Score) -> str:
    """All that a score says, as Markdown."""
    lines = [heading(score), ""]
    lines += [f"**WARNING: {text}**" for text in score.warnings]
    lines += [""] if score.warnings else []
    lines += table(("metric", "value", "95 % interval"), _metric_rows(score))
    lines += ["", f"frames: {_counts(score.frame)}; decided by {score.decision}"]
    if score.pixel is not None:
        lines.append(f"pixels: {_counts(score.pixel)}")
    if facts := pixel_facts(score):
        lines.append(facts)
    if score.evidence is not None:
        lines += _evidence_lines(score, score.evidence)
    lines += [f"note: {note}" for note in score.notes]
    lines += receipt_lines(score.receipt)
    return "\n".join(lines)


def _metric_rows(score: Score) -> list[tuple[str, str, str]]:
    rows = []
    for figure in score.shown():
        shown = number(figure.value) if figure.value is not None else f"undefined: {figure.reason}"
        interval = f"{figure.low:.4f} to {figure.high:.4f}" if figure.low is not None else ""
        if not interval and interval_words(figure):
            interval = str(figure.reason)
        rows.append((title_of(score, figure.name), shown, interval))
    return rows


def _evidence_lines(score: Score, evidence: Evidence) -> list[str]:
    events, boot = evidence.event_facts, evidence.bootstrap
    lines = [
        f"events: {events['detected']} of {events['events']} detected; {counted(events['alarms'], 'alarm')}; "
        f"{counted(events['false_alarms'], 'false alarm')} in {events['normal_hours']:.3f} h of normal time",
        f"threshold: {_threshold(evidence.threshold)}",
        f"bootstrap: {boot['blocks']} blocks of {boot['block_seconds']:.1f} s, errors correlated over "
        f"{boot['correlation_seconds']:.2f} s",
        INTERVAL_WORTH,
        "",
    ]
    worst = evidence.worst if len(evidence.recordings) > 1 else {}
    rows = []
    for name, row in evidence.recordings.items():
        values = [
            number(row["metrics"][each]) + (" (worst)" if worst.get(each) == name else "")
            for each in COUNT_METRICS
        ]
        rows.append((f"recording {name}", str(row["num_samples"]), *values))
    for name, values in evidence.baselines.items():
        cells = (number(values[each]) for each in COUNT_METRICS)
        rows.append((f"trivial baseline: {name}", str(score.num_samples), *cells))
    lines += [*table(("", "samples", *count_titles()), rows), ""]
    lines += table(
        ("time from an onset (its first scored frame)", "frames", "accuracy"), onset_rows(evidence)
    )
    if bins := reliability_rows(evidence):
        lines += ["", *table(reliability_head(), bins)]
    if strict := sensitivity_rows(score):
        lines += ["", *table(sensitivity_head(), strict)]
    if evidence.occlusion is not None:
        lines += ["", occlusion_caption(evidence), "", *table(occlusion_head(), occlusion_rows(evidence))]
    return lines


def sensitivity_head() -> tuple[str, ...]:
    return ("samples", "number", *count_titles())


def sensitivity_rows(score: Score) -> list[tuple[str, ...]]:
    """All samples, and those whose windows stay inside the split; empty where that is not known."""
    evidence = score.evidence
    figures = [] if evidence is None else strict_rows(evidence.sensitivity)
    if not figures or evidence is None:
        return []
    context = evidence.sensitivity["context"] or "context not stated"
    whole = [score.figure(name) for name in COUNT_METRICS]
    rows = (
        (f"all ({context})", score.num_samples, whole),
        (
            "strict: the same under full, masked and strict",
            evidence.sensitivity["strict"]["num_samples"],
            figures,
        ),
    )
    return [(name, str(count), *(with_interval_text(f) for f in shown)) for name, count, shown in rows]


def sensitivity_line(score: Score) -> str | None:
    """In a line, what of the score is of windows that reach into other splits."""
    figures = [] if score.evidence is None else strict_rows(score.evidence.sensitivity)
    if not figures or score.evidence is None:
        return None
    strict = score.evidence.sensitivity["strict"]
    named = {figure.name: figure for figure in figures}
    told = ", ".join(
        f"{metric(name).short} {with_interval_text(named[name])}"
        for name in ("accuracy", "miou")
        if named[name].value is not None
    )
    return (
        f"strict: {strict['num_samples']} samples see nothing of other splits"
        f"{', all of them' if not strict['left_out'] else f': {told}'}"
    )


def pixel_facts(score: Score) -> str | None:
    """What pixel AUROC and AUPRO were counted from, in a line; None where the file has no pixel scores."""
    facts = {} if score.evidence is None else score.evidence.ranking_facts
    if facts.get("pixel_score") is None:
        return None
    return (
        f"pixel scores: {facts['pixel_score']}, {facts['regions']} abnormal regions; AUPRO is the mean share of "
        f"a region that is found, over false positive rates of pixels from 0 to {facts['aupro_limit']:g}"
    )


def _threshold(threshold: Mapping[str, Any]) -> str:
    value = "of unknown value" if threshold["value"] is None else f"{threshold['value']:g}"
    return f"{value}, {threshold['origin']}"


def _counts(counts: Confusion) -> str:
    return f"TP {counts.tp}, FP {counts.fp}, FN {counts.fn}, TN {counts.tn}"
