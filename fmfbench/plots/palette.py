"""One colour language for every picture and page: what a colour means does not depend on where it is seen.

Told apart by readers with the usual colour deficiencies, on white and on a dark video frame alike. Each meaning has a
word too (`LEGEND`): no picture relies on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = [
    "AMBER",
    "COARSE",
    "FALSE",
    "GAP",
    "HEAT",
    "INK",
    "LEGEND",
    "PALE",
    "PHASES",
    "PHASE_NAMES",
    "PREDICTED",
    "RULE",
    "SPLITS",
    "SPLIT_INKS",
    "TRUTH",
    "css_variables",
    "legend_html",
    "rgb",
]

TRUTH = "#00b050"  # labelled abnormal: outlines, events, bars
PREDICTED = "#008cf0"  # predicted abnormal: outlines, alarms, scores' decisions
FALSE = "#d81b74"  # an error: a false alarm, a missed event
COARSE = "#e5b800"  # drawn by hand or propagated, not yet refined: boxes
PHASES = ("#e07b00", "#7b45c4", "#6b4a2f")  # the three currents, a b c
PHASE_NAMES = ("phase a", "phase b", "phase c")
SPLITS = {"train": "#cfdcea", "test": "#fdeec9", "unused": "#e4e4e4"}  # backgrounds
SPLIT_INKS = {"train": "#3f6a96", "test": "#9a6b00", "unused": "#777777"}  # their names as text or lines
GAP = "#6e6e6e"  # no frames
HEAT = "#ffb000"  # a pixel score of 1 in a heat map
AMBER = "#fff0d0"  # behind a warning
INK, RULE, PALE = "#222222", "#c8c8c8", "#f4f4f4"  # text, lines, table heads

LEGEND: Mapping[str, str] = {
    "labelled abnormal": TRUTH,
    "predicted abnormal": PREDICTED,
    "false alarm or missed event": FALSE,
    "train": SPLITS["train"],
    "test": SPLITS["test"],
    "unused": SPLITS["unused"],
    "gap": GAP,
    **dict(zip(PHASE_NAMES, PHASES, strict=True)),
}


def rgb(colour: str) -> tuple[int, int, int]:
    """(red, green, blue), 0 to 255, of '#rrggbb'.

    Example:
        >>> rgb("#00b050")
        (0, 176, 80)
    """
    value = int(colour[1:], 16)
    return value >> 16, value >> 8 & 255, value & 255


def legend_html(names: Sequence[str]) -> str:
    """Swatches with their words, for a page; the words are keys of `LEGEND`."""
    items = "".join(
        f'<span class="key-item"><span class="sw" style="background:{LEGEND[name]}"></span>{escape(name)}</span>'
        for name in names
    )
    return f'<p class="key">{items}</p>'


def css_variables() -> str:
    """The palette as CSS custom properties, for a page's style."""
    named = {"truth": TRUTH, "predicted": PREDICTED, "false": FALSE, "coarse": COARSE, "gap": GAP, "ink": INK}
    named |= {"rule": RULE, "pale": PALE, "amber": AMBER}
    named |= {f"split-{name}": colour for name, colour in SPLITS.items()}
    named |= {f"phase-{number}": colour for number, colour in enumerate(PHASES)}
    return ":root{" + "".join(f"--{name}:{colour};" for name, colour in named.items()) + "}"
