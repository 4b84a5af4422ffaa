"""What a refusal names is tried, where it leaves no choice to a person and was not given already."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from fmfbench.conversion import ways
from fmfbench.sources.source import Options

RATE = Fraction(25)
GIVEN = {
    "--only NAME": replace(Options(), only=("NAME",)),
    "--map OURS=THEIRS": replace(Options(), names={"video": "frames"}),
    "--current-hz": replace(Options(), current_hz=Fraction(4)),
    "--fps": replace(Options(), fps=RATE, steady=True),
    "--allow-damaged": replace(Options(), allow_damaged=True),
}


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the files themselves would tell."""
    monkeypatch.setattr(ways, "_mappings", lambda path: [GIVEN["--map OURS=THEIRS"].names])
    monkeypatch.setattr(ways, "_row_rate", lambda path, options: Fraction(4))
    monkeypatch.setattr(ways, "_steady", lambda path, options: replace(options, fps=RATE, steady=True))


@pytest.mark.parametrize("option", GIVEN)
def test_the_option_that_is_named_is_tried_once(option: str, tmp_path: Path) -> None:
    file = tmp_path / "x.mat"
    file.touch()
    said = f"expected other things, got these; try {option} here"
    assert list(ways._remedies(file, Options(), said)) == [GIVEN[option]]
    assert list(ways._remedies(file, GIVEN[option], said)) == []
    assert list(ways._remedies(file, Options(), "expected other things, got these")) == []


def test_names_are_mapped_in_a_file_alone(tmp_path: Path) -> None:
    assert list(ways._remedies(tmp_path, Options(), "--map OURS=THEIRS")) == []


@pytest.mark.parametrize("option", ["--current-hz", "--fps"])
def test_where_nothing_fits_nothing_is_tried(option: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ways, "_row_rate", lambda path, options: None)
    monkeypatch.setattr(ways, "_steady", lambda path, options: None)
    assert list(ways._remedies(tmp_path, Options(), option)) == []
