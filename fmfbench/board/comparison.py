"""Who can be told apart, on a board's page: a diagram and a matrix of all pairs for each metric."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from fmfbench.plots.page import table_html
from fmfbench.plots.palette import FALSE, INK, PREDICTED, TRUTH
from fmfbench.scoring.metrics import metric

__all__ = ["comparison_html"]

_FEW_MODELS = 4  # whose paired differences are shown at once


def comparison_html(comparison: Mapping[str, Mapping[str, Any]]) -> str:
    """For each metric the models on one scale, and all paired differences."""
    if not comparison:
        return (
            "<h2>Who can be told apart</h2><p>Fewer than two models on clean input: nothing to compare.</p>"
        )
    options = "".join(f'<option value="{name}">{escape(metric(name).title)}</option>' for name in comparison)
    parts = [
        "<h2>Who can be told apart</h2><p>All pairs at once, on shared resamples of blocks of time: in 95 % of "
        "cases no pair of equally good models is told apart. Models joined by a bar cannot be told apart. In the "
        "matrix: row less column with its interval; coloured where the row is better or worse.</p>",
        f'<p class="noprint"><label>metric <select data-pairs>{options}</select></label></p>',
    ]
    for place, (name, pairs) in enumerate(comparison.items()):
        hidden = " hidden" if place else ""
        parts.append(f'<div class="pairs" id="pairs-{name}"{hidden}>{_diagram(pairs)}{_matrix(pairs)}</div>')
    return "\n".join(parts)


def _diagram(pairs: Mapping[str, Any]) -> str:
    """Models on one scale, best on top, with bars along those that cannot be told apart."""
    names, values = pairs["models"], pairs["values"]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    longest = max(len(name) for name in names)
    left, wide, line = 66 + round(6.6 * min(longest, 30)), 240, 22
    groups = pairs["cannot_be_told_apart"]
    width = left + wide + 20 + 16 * len(groups)
    height = 24 + line * len(names)
    parts = []
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        y = 16 + line * place
        x = left + (value - low) / span * wide
        shown = name if len(name) <= 30 else name[:29] + "…"
        parts.append(f'<text x="{left - 56}" y="{y + 4}" text-anchor="end">{escape(shown)}</text>')
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{value:.3f}</text>')
        parts.append(f'<path d="M{left} {y}H{left + wide}" stroke="var(--rule)"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{PREDICTED}"/>')
    for number, group in enumerate(groups):
        x = left + wide + 16 + 16 * number
        top, bottom = (16 + line * names.index(group[end]) for end in (0, -1))
        parts.append(
            f'<path d="M{x} {top - 6}V{bottom + 6}" stroke="{INK}" stroke-width="5"><title>cannot be told apart: '
            f"{escape(', '.join(group))}</title></path>"
        )
    told = f"models by {escape(pairs['metric'])}, with bars along those that cannot be told apart"
    return (
        f'<div class="scroll"><svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{told}">{"".join(parts)}</svg></div>'
    )


def _matrix(pairs: Mapping[str, Any]) -> str:
    names = pairs["models"]
    higher = metric(pairs["metric"]).higher_is_better
    rows = []
    for a, name in enumerate(names):
        cells = [escape(name)]
        for b in range(len(names)):
            if a == b:
                cells.append("")
                continue
            value, low, high = (pairs[key][a][b] for key in ("difference", "low", "high"))
            better = (low > 0) if higher else (high < 0)
            worse = (high < 0) if higher else (low > 0)
            colour = TRUTH if better else FALSE if worse else "transparent"
            word = "better" if better else "worse" if worse else "cannot be told apart"
            needed = pairs["needed_samples"][a][b]
            word += f"; a difference of this size would need {needed:,} samples" if needed else ""
            cells.append(
                f'<div style="border-left:6px solid {colour};padding-left:4px" title="{word}">{value:+.3f}'
                f"<br>{low:+.3f} to {high:+.3f}</div>"
            )
        rows.append(cells)
    table = table_html(("row less column", *names), rows, raw=range(len(names) + 1))
    least = pairs["needed_for_a_hundredth"]
    told = (
        ""
        if least is None
        else (
            '<p class="key">To tell a difference of 0.01 apart, the middle one of these pairs would need '
            f"{least:,} samples of such recordings; what each pair would need for its own difference stands in its "
            "tooltip.</p>"
        )
    )
    shown = " open" if len(names) <= _FEW_MODELS else ""
    return f'{told}<details class="matrix"{shown}><summary>all paired differences</summary>{table}</details>'
