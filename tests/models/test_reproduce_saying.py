"""Sentences about the figures: what they count as better than no model.

Also tests fmfbench_models.reproduce: markdown.
"""

from __future__ import annotations

import pytest

from fmfbench_models.reproduce.markdown import NOT_BETTER, warnings
from fmfbench_models.reproduce.saying import left_out_sentences, size_sentences, trivial_sentences

PERSISTENCE = "NOT BETTER THAN LAST-SECOND PERSISTENCE: accuracy 0.8279 against 0.9842"


def row(name, *warnings, status="done", variant="nano", accuracies=()):
    seeds = {str(seed): {"metrics": {"accuracy": value}} for seed, value in enumerate(accuracies)}
    return {"name": name, "label": name.upper(), "status": status, "warnings": list(warnings), "variant": variant,
            "per_seed": seeds, "reinterpretation": False}  # fmt: skip


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


def test_a_baseline_that_no_row_beats_is_told_once():
    poor = ("NOT BETTER THAN ALWAYS ABNORMAL: f1 0.5 against 0.7", PERSISTENCE)
    rows = [row("good", PERSISTENCE), row("poor", "odd masks", *poor), row("later", status="to do")]
    assert warnings(rows) == [
        f"every row here: {NOT_BETTER}last-second persistence",
        "POOR (poor): odd masks",
        f"POOR (poor): {NOT_BETTER}always abnormal",
    ]
    assert warnings([*rows, row("best")]) == [
        f"GOOD (good): {NOT_BETTER}last-second persistence",
        "POOR (poor): odd masks",
        f"POOR (poor): {NOT_BETTER}always abnormal, last-second persistence",
    ]
    assert warnings(rows[:1]) == [f"GOOD (good): {NOT_BETTER}last-second persistence"]
    assert warnings([]) == []


@pytest.mark.parametrize(("every", "told"), [(1, "all training samples"), (80, "one training sample in 80")])
def test_how_much_was_learned_from_is_said(every, told):
    table2 = {"preset": "nano", "epochs": 24, "every": every, "rows": []}
    (sentence,) = size_sentences(table2, {"curves": []})
    assert f"24 epochs of {told} (the paper: 30 of all)" in sentence


def test_rows_that_have_no_configuration_of_the_preset_are_named():
    default = "default (it has no nano)"
    rows = [row("small"), row("big", variant=default), row("later", variant=default, status="to do")]
    (sentence,) = size_sentences({"preset": "nano", "epochs": 24, "every": 80, "rows": rows}, {"curves": []})
    assert "all rows are of preset nano but BIG, which have no such configuration" in sentence
    assert "LATER" not in sentence
    (sentence,) = size_sentences(
        {"preset": "nano", "epochs": 24, "every": 80, "rows": rows[:1]}, {"curves": []}
    )
    assert "all rows are of preset nano; 24 epochs" in sentence


def test_a_recording_left_out_is_held_against_the_same_seed():
    """Not against the mean of seeds of which no recording was left out."""
    whole = {"rows": [row("one", accuracies=(0.8, 0.6, 0.4)), row("two", accuracies=(0.9,))]}
    left_out = {"rows": [row("one", accuracies=(0.7,)), row("two", status="to do")]}
    (sentence,) = left_out_sentences(whole, left_out, {})
    assert "ONE (one) 0.7000 against 0.8000" in sentence
    assert "TWO" not in sentence
