"""Sentences about the figures: what they count as better than no model."""

from __future__ import annotations

import pytest

from fmfbench_models.reproduce.saying import size_sentences, trivial_sentences

PERSISTENCE = "NOT BETTER THAN LAST-SECOND PERSISTENCE: accuracy 0.8279 against 0.9842"


def row(name, *warnings, status="done"):
    return {"name": name, "label": name.upper(), "status": status, "warnings": list(warnings)}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row("good"), row("fair", PERSISTENCE)], "Every row made is better"),
        ([row("poor", "NOT BETTER THAN ALWAYS ABNORMAL: f1 0.5 against 0.7", PERSISTENCE)], "POOR"),
        (
            [row("later", "NOT BETTER THAN TRAIN PRIOR: f1 0.5 against 0.7", status="to do")],
            "Every row made is better",
        ),
    ],
)
def test_the_label_of_the_second_before_is_no_bar(rows, told):
    (sentence,) = trivial_sentences({"rows": rows})
    assert told in sentence
    assert ("no label: POOR" in sentence) == (told == "POOR")


@pytest.mark.parametrize(("every", "told"), [(1, "all training samples"), (80, "one training sample in 80")])
def test_how_much_was_learned_from_is_said(every, told):
    table2 = {"preset": "nano", "epochs": 24, "every": every, "rows": []}
    (sentence,) = size_sentences(table2, {"curves": []})
    assert f"24 epochs of {told} (the paper: 30 of all)" in sentence
