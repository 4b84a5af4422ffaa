"""Cross-modal rows whole, with the video lost, with the current lost; their best single modality beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest_reproduce import SIZE, TINY, rows_of
from conftest_run import call

import fmfbench
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.score import score
from fmfbench.windows.corrupt import corruption
from fmfbench_models.inference.predict import predict
from fmfbench_models.reproduce import plan, reproduce, work
from fmfbench_models.reproduce.experiment import load_experiment
from fmfbench_models.reproduce.markdown import worlds_markdown
from fmfbench_models.reproduce.worlds import build_worlds, inputs_of, lost_rows

NAMES = ["fmformer-visual", "fmformer-current", "gated"]


@pytest.fixture(scope="module")
def made(sim_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("worlds") / "out"
    return out, reproduce("table2", sim_store, out, models=NAMES, **TINY)


def test_a_lost_modality_is_what_predict_corrupts(made, sim_store, tmp_path):
    out, document = made
    data = fmfbench.open_dataset(sim_store)
    (row,) = document["worlds"]["rows"]
    assert row["name"] == "gated"
    for world in ("video-missing", "current-missing"):
        source, transform = corruption(data, world)
        run = out / "runs" / SIZE / "gated" / "seed0"
        apart = predict(run, source, tmp_path / f"{world}.npz", transform=transform, device="cpu",
                        meta={"corrupt": world})  # fmt: skip
        kept = read_predictions(out / "predictions" / SIZE / f"gated--{world}-seed0.npz")
        np.testing.assert_array_equal(kept.score, read_predictions(apart).score)
        assert kept.meta["corrupt"] == world
        scored = score(apart, data)
        found = row["worlds"][world]["metrics"]
        assert {name: found[name]["value"] for name in found}.items() <= scored.metrics.items()
    assert row["worlds"]["whole"]["metrics"]["f1"] == {
        key: rows_of(document)["gated"]["metrics"]["f1"][key] for key in ("value", "low", "high")
    }


def test_the_yardstick_still_has_its_input(made):
    out, document = made
    rows = rows_of(document)
    of = {name: rows[name]["metrics"]["accuracy"]["value"] for name in NAMES}
    single = document["worlds"]["single"]
    assert single["video-missing"]["name"] == "fmformer-current"
    assert single["current-missing"]["name"] == "fmformer-visual"
    assert single["whole"]["metrics"]["accuracy"]["value"] == max(
        of["fmformer-current"], of["fmformer-visual"]
    )
    for world, found in document["worlds"]["rows"][0]["worlds"].items():
        own = found["metrics"]["accuracy"]["value"]
        assert found["behind"] == pytest.approx(single[world]["metrics"]["accuracy"]["value"] - own)
    text = (out / f"table2-{SIZE}.md").read_text()
    assert "## With a sensor lost" in text
    assert "current lost: FmFormer (fmformer-visual, video)" in text


def test_worlds_resume_and_are_counted_beforehand(made, sim_store, monkeypatch, tmp_path):
    out, before = made
    for name in ("train", "predict", "score"):
        monkeypatch.setattr(work, name, None)
    assert reproduce("table2", sim_store, out, models=NAMES, **TINY) == before
    steps = plan("table2", sim_store, out, models=NAMES, **TINY)["steps"]
    assert [step["state"] for step in steps] == ["done"] * 5
    new = {s["row"]: s for s in plan("table2", sim_store, tmp_path / "new", models=NAMES, **TINY)["steps"]}
    lost = new["gated@video-missing"]
    assert (lost["train_seconds"], lost["steps"]) == (0, 0)
    assert lost["predict_seconds"] == new["gated"]["predict_seconds"] > 0
    assert len(plan("table2", sim_store, tmp_path / "new", models=NAMES, worlds=False, **TINY)["steps"]) == 3


def test_a_world_that_fails_is_said(made, sim_store, monkeypatch, tmp_path):
    real = work.predict

    def fails(model, data, out, **options):
        if options["meta"].get("corrupt") == "current-missing":
            raise RuntimeError("no current, no answer")
        return real(model, data, out, **options)

    monkeypatch.setattr(work, "predict", fails)
    arguments = ["table4", "--data", sim_store, "--out", tmp_path / "out", "--models", "linear-fusion"]
    done = call("reproduce", *arguments, "--preset", "tiny", "--device", "cpu", code=1)
    assert "linear-fusion@current-missing" in done.stderr
    document = json.loads((tmp_path / "out" / f"table4-{SIZE}.json").read_text())
    (row,) = document["worlds"]["rows"]
    assert [found["status"] for found in row["worlds"].values()] == ["done", "done", "failed"]
    assert document["worlds"]["single"]["current-missing"] is None  # no row of one modality was asked for
    assert "current lost, seed 0: no current, no answer" in done.stdout


def cell(value, half=0.01):
    return {
        "value": value,
        "low": None if half is None else value - half,
        "high": None if half is None else value + half,
    }


def row(name, inputs, value, half=0.01, status="done"):
    return {"name": name, "label": name, "inputs": inputs, "status": status, "errors": {},
            "metrics": {"accuracy": cell(value, half), "f1": cell(value, half)}}  # fmt: skip


@pytest.mark.parametrize(
    ("whole", "without_video", "without_current", "half", "keeps"),
    [
        (0.95, 0.69, 0.89, 0.01, True),  # 0.01 behind current (0.70) and video (0.90)
        (0.95, 0.70, 0.875, 0.01, False),  # 0.025 behind video
        (0.95, 0.67, 0.90, 0.01, False),  # 0.03 behind current
        (0.95, 0.70, 0.90, 0.03, False),  # whole above, intervals overlap
        (0.89, 0.70, 0.90, 0.001, False),  # within the margin whole, but not above
        (0.95, 0.70, 0.90, None, False),  # nothing says how sure
    ],
)
def test_what_keeps_up_is_behind_by_the_margin_at_most_and_above_when_whole(
    whole, without_video, without_current, half, keeps
):
    rows = [row("v", "visual", 0.9, half), row("v2", "visual", 0.8), row("c", "current", 0.7, half)]
    rows.append(row("both", "both", whole, half))
    lost = {
        ("both", "video-missing"): row("both", "both", without_video),
        ("both", "current-missing"): row("both", "both", without_current),
    }
    found = build_worlds(rows, lost)
    assert found["rows"][0]["keeps"] is keeps
    assert [found["single"][world]["name"] for world in found["single"]] == ["v", "c", "v"]
    text = "\n".join(worlds_markdown(found, "ours"))
    assert ("| yes " in text, "| no " in text) == (keeps, not keeps)


def test_what_is_missing_decides_nothing():
    lost = {("both", world): row("both", "both", 0.5) for world in ("video-missing", "current-missing")}
    rows = [row("v", "visual", 0.9), row("both", "both", 0.95)]
    found = build_worlds(rows, lost)
    assert found["single"]["video-missing"] is None
    assert found["rows"][0]["keeps"] is None
    assert build_worlds([row("both", "both", 0.95, status="not asked for")], lost) is None
    assert build_worlds(rows[:1], lost) is None


def test_which_rows_cross_and_which_tables_have_worlds():
    table2 = load_experiment("table2")
    crossing = {row.name for row in table2.rows if inputs_of(row) == "both"}
    assert {"fmformer", "bilm", "gated", "late_fusion", "dcnn_svm"} <= crossing
    assert not {"fmformer-visual", "fmformer-current", "vit", "informer"} & crossing
    lost = lost_rows(table2, table2.rows)
    assert len(lost) == 2 * len(crossing)
    for under in lost:
        plain = next(row for row in table2.rows if row.name == under.name.split("@")[0])
        assert under.trainings == plain.trainings
        assert under.slug({}) == f"{plain.slug({})}--{under.world}"
    (fused,) = (row for row in load_experiment("table4").rows if row.fuse)
    assert fused.under("video-missing").trainings == fused.trainings
    assert lost_rows(load_experiment("fig6"), load_experiment("fig6").rows) == ()
