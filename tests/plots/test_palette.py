"""One colour language: enough contrast on a page and on a dark frame, one meaning a colour, one palette."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fmfbench.furnace.gallery import PHASE_COLOURS
from fmfbench.plots import palette

PLOTS = Path(palette.__file__).parent


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    channels = [value / 255 for value in palette.rgb(colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [palette.TRUTH, palette.PREDICTED, palette.FALSE])
def test_marks_are_seen_on_white_and_on_dark_frames(colour):
    assert contrast(colour, "#ffffff") > 2.7
    assert contrast(colour, "#101010") > 3


@pytest.mark.parametrize("colour", [palette.INK, *palette.SPLIT_INKS.values()])
def test_words_are_read_on_white(colour):
    assert contrast(colour, "#ffffff") > 4.4


def test_a_colour_has_one_meaning():
    colours = list(palette.LEGEND.values())
    assert len(set(colours)) == len(colours)


def test_the_gallery_of_the_simulator_has_the_same_phases():
    assert PHASE_COLOURS == palette.PHASES


def test_no_other_module_of_the_room_has_colours_of_its_own():
    for path in PLOTS.glob("*.py"):
        if path.name != "palette.py":
            named = [c for c in re.findall(r"#[0-9a-fA-F]{6}\b", path.read_text()) if len(set(c[1:])) > 2]
            assert not named, f"{path.name}: {named}"


def test_a_legend_says_every_word():
    text = palette.legend_html(("train", "gap"))
    assert ">train<" in text
    assert palette.SPLITS["train"] in text
    assert palette.GAP in text
    with pytest.raises(KeyError):
        palette.legend_html(("nothing",))
