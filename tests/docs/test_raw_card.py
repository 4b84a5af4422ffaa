"""The card of raw recordings names every option, format and kind that there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from fmfbench_cli.main import main

from fmfbench.sources.kinds import KINDS
from fmfbench.sources.layout import LAYOUTS, REGISTERED
from fmfbench.sources.table.cells import MISSING
from fmfbench.sources.table.currents import TABLE_SUFFIXES
from fmfbench.sources.video.reader import VIDEO_SUFFIXES

ROOT = Path(__file__).parents[2]
CARD = (ROOT / "data_cards" / "raw.md").read_text()


def test_every_option_of_convert_is_in_the_card() -> None:
    context = main.make_context("fmfbench", ["convert", "--help"], resilient_parsing=True)
    command = main.get_command(context, "convert")
    assert command is not None
    options = {name for p in command.params for name in p.opts if name.startswith("--")} - {"--help"}
    assert {"--allow-damaged", "--offset", "--current-hz"} <= options
    assert not {name for name in options if name not in CARD}


@pytest.mark.parametrize("suffix", sorted({*VIDEO_SUFFIXES, *TABLE_SUFFIXES} - {".xls"}))
def test_every_suffix_is_in_the_card(suffix: str) -> None:
    assert suffix in CARD


def test_every_kind_of_file_layout_and_mapped_name_is_in_the_card() -> None:
    assert not [kind for kind in KINDS if f"`{kind}`" not in CARD]
    mapped = next(layout.mapped for layout in REGISTERED if layout.name == "recording")
    assert not [name for name in mapped if f"{name}=" not in CARD]
    assert "recording" in LAYOUTS
    assert {"na", "null", "bad", "#div/0!", "1.#qnan"} <= MISSING


@pytest.mark.parametrize("page", ["README.md", "data_cards/annotation.md"])
def test_pages_for_newcomers_name_the_video_formats_and_the_doctor(page: str) -> None:
    text = (ROOT / page).read_text()
    assert "fmfbench doctor" in text
    assert "raw.md" in text
    assert all(suffix in text for suffix in (".mp4", ".mov", ".mkv", ".ts", ".csv", ".xlsx"))
