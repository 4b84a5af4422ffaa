"""What strangers write into a file's meta is shown short and in one line."""

import pytest

from fmfbench.scoring.provenance import backbone_text, corruption_of, provenance_notes


def test_long_texts_are_cut() -> None:
    assert backbone_text("x" * 301) == "x" * 300
    assert backbone_text({"trunk": "y" * 400, "weights": "random"}) == "y" * 300
    assert corruption_of({"corrupt": "z" * 81}) == "z" * 80
    assert corruption_of({"corrupt": ["a\nb", 1]}) == '["a\\nb", 1]'


@pytest.mark.parametrize("nothing", [None, False, "", [], {}, "  "])
def test_what_says_nothing_of_corruption(nothing: object) -> None:
    assert corruption_of({"corrupt": nothing}) is None


@pytest.mark.parametrize(
    ("value", "noted"), [(0, False), (1, True), (-1, False), (True, False), ("3", False)]
)
def test_samples_seen_in_training_are_said_where_they_are_counted(value: object, noted: bool) -> None:
    assert any("not unseen" in note for note in provenance_notes({"seen_in_training": value})) == noted
