"""The tables' files; All of Table II.

Also tests fmfbench_models.reproduce: markdown.
Also tests fmfbench_cli: reproduce.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest_reproduce import SIZE, TINY, rows_of

from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.score import score
from fmfbench_models import create_model, list_models, load_checkpoint
from fmfbench_models.registry import registration
from fmfbench_models.reproduce import TABLES, preset_names, reproduce
from fmfbench_models.reproduce.experiment import (
    load_experiment,
    load_preset,
    load_training,
    training_options,
    variant_of,
)


def test_every_file_of_a_table_can_be_read_and_names_what_exists():
    for name in TABLES:
        experiment = load_experiment(name)
        assert len({row.name for row in experiment.rows}) == len(experiment.rows) > 2
        assert len({row.slug({}) for row in experiment.rows}) == len(experiment.rows)
        for row in experiment.rows:
            assert set(row.paper) <= set(experiment.metrics)
            assert set(row.doubtful) <= set(row.paper)
    assert [load_preset(name).name for name in preset_names()] == ["full", "nano", "tiny"]
    assert {len(row.fuse) for name in TABLES for row in load_experiment(name).rows} == {0, 2}


def implied(acc, fdr, mdr):
    """F1 from the other three, by way of the share of abnormal samples that they decide."""
    p = (1 - acc - fdr) / (mdr - fdr)
    return 2 * p * (1 - mdr) / (2 * p * (1 - mdr) + (1 - p) * fdr + p * mdr)


def test_the_papers_figures_agree_with_each_other_but_where_they_are_marked():
    share = 0.5285
    wrong = set()
    for row in load_experiment("table2").rows:
        if not row.paper:
            continue
        acc, f1, fdr, mdr = (row.paper[name] for name in ("accuracy", "f1", "fdr", "mdr"))
        accuracy = 1 - share * mdr - (1 - share) * fdr
        hits = share * (1 - mdr)
        harmonic = 2 * hits / (2 * hits + (1 - share) * fdr + share * mdr)
        if abs(accuracy - acc) > 0.0012 or abs(harmonic - f1) > 0.002:
            wrong.add(row.name)
    marked = {row.name for row in load_experiment("table2").rows if row.doubtful}
    assert wrong == marked == {"expert", "dcnn_svm", "ssfeggan"}
    for name in ("dcnn_svm", "ssfeggan"):
        (row,) = [row for row in load_experiment("table2").rows if row.name == name]
        told = float(row.doubtful["f1"].split()[-1])
        assert implied(*(row.paper[key] for key in ("accuracy", "fdr", "mdr"))) == pytest.approx(
            told, abs=0.002
        )


def test_the_same_model_has_the_same_figures_in_all_of_the_papers_tables():
    seen = {}
    for name in TABLES:
        for row in load_experiment(name).rows:
            for metric, value in row.paper.items():
                if metric not in row.doubtful:
                    assert seen.setdefault((row.slug({}), metric), value) == value
    assert len(seen) > 90


def test_recipes_shrink_in_proportion_and_the_variant_leaves_sizes_to_the_data():
    full, tiny = load_preset("full"), load_preset("tiny")
    assert training_options(load_training("vit"), full, 30) == {"epochs": 30, "lr_steps": [20]}
    assert training_options(load_training("vit"), full, 6) == {"epochs": 6, "lr_steps": [4]}
    assert training_options(load_training("vit"), full, 1)["lr_steps"] == [1]
    options = training_options(load_training("fmformer-visual"), tiny, 1)
    assert options["modality"] == "visual"
    assert options["dim"] == registration("fmformer").tiny["dim"]
    assert not {"size", "num_frames", "current_length"} & set(options)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("size", preset_names())
def test_a_preset_changes_sizes_and_never_what_a_model_takes_and_gives(name, size):
    record = registration(name)
    _, config = variant_of(record, load_preset(size))
    sizes = {"num_frames": 4, "size": [24, 32]} if size == "tiny" else {}
    sizes = {key: value for key, value in sizes.items() if key in vars(record.config())}
    with torch.device("meta"):
        model = create_model(name, **sizes, **config)
    assert (model.modality, model.dense) == (record.modality, record.dense)
    usual = record.config()
    for key in ("class_task", "dense_task", "variant", "interaction", "fusion", "block"):
        assert getattr(model.config, key, None) == getattr(usual, key, None)


def test_table2_has_every_model_and_none_has_failed(everything):
    found = json.loads((everything[0] / f"table2-{SIZE}.json").read_text())
    rows = rows_of(found)
    assert {name for row in rows.values() for name in row["models"]} >= set(list_models())
    for row in rows.values():
        present = set(row["models"]) <= set(list_models())
        assert row["status"] == ("done" if present else "not available"), row
        if present:
            fitted = all(registration(name).training == "fitted" for name in row["models"])
            assert row["parameters"] > 0 or fitted
            assert row["metrics"]["accuracy"]["value"] is not None
            assert row["train_seconds"] > 0
            assert row["worst_recording"]["recording"] in found["data"]["recordings"]
    assert rows["fmformer"]["metrics"]["miou"]["value"] is not None
    assert rows["informer"]["metrics"]["miou"]["value"] is None
    with_trunk = {name for name, row in rows.items() if row["backbone"]}
    assert with_trunk == {"clipbert", "bilm", "st_mae", "patch_memory", "pca_residual"}
    assert rows["bilm"]["backbone"] == "ResNet18, first weights drawn at random"
    assert rows["st_mae"]["backbone"] == "Vgg19, first weights drawn at random"


def test_a_rows_figures_are_those_of_its_prediction_file(everything, sim_store):
    out, _ = everything
    found = rows_of(json.loads((out / f"table2-{SIZE}.json").read_text()))["vit"]
    run = out / "runs" / SIZE / "vit" / "seed0"
    apart = score(out / "predictions" / SIZE / "vit-seed0.npz", sim_store)
    assert {name: cell["value"] for name, cell in found["metrics"].items()}.items() <= apart.metrics.items()
    assert found["parameters"] == load_checkpoint(run).num_parameters()
    low = min(value["metrics"]["accuracy"] for value in apart.evidence.recordings.values())
    assert found["worst_recording"]["accuracy"] == low


def test_what_is_simulated_is_called_so_wherever_a_figure_stands(everything):
    out, printed = everything
    assert printed == (out / f"table2-{SIZE}.md").read_text() + "\n"
    title, _, notice = printed.splitlines()[:3]
    assert "FMF-Sim, simulated" in title
    assert notice.startswith("**SIMULATED DATA")
    head = next(line for line in printed.splitlines() if line.startswith("| method"))
    assert head.count("FMF-Sim |") + head.count("FMF-Sim  ") >= 1
    for cell in head.split("|"):
        if cell.strip().startswith(("Acc", "F1", "FDR", "MDR", "mIoU")):
            assert cell.strip().endswith(("FMF-Sim", "paper, real data"))
    found = json.loads((out / f"table2-{SIZE}.json").read_text())
    assert found["data"]["simulated"] is True
    assert "FMF-Sim" in found["measured_on"]
    assert "[1] Expert system, MDR in the paper: the same figure as Informer's" in printed
    assert "Expert system (r)" in printed


def test_a_second_call_does_nothing_again_and_other_tables_share_its_runs(everything, sim_store):
    out, _ = everything
    files = [path for path in out.rglob("*") if path.is_file() and "table" not in path.name]
    before = {path: path.stat().st_mtime_ns for path in files}
    reproduce("table2", sim_store, out, **TINY)
    found = rows_of(reproduce("table4", sim_store, out, **TINY))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [row["status"] for row in found.values()] == ["done"] * 3
    visual, current, both = (read_predictions(out / "predictions" / SIZE / f"{name}-seed0.npz") for name in (
        "fmformer-visual", "fmformer-current", "fmformer-visual--fmformer-current"))  # fmt: skip

    def logit(scores):
        scores = scores.astype(np.float64)
        return np.log(scores / (1 - scores))

    np.testing.assert_allclose(logit(both.score), logit(visual.score) + logit(current.score), atol=1e-4)
    counts = {name: row["parameters"] for name, row in found.items()}
    assert counts["linear-fusion"] == counts["fmformer-visual"] + counts["fmformer-current"]


def test_table5_has_a_model_trained_without_linear_fusion(everything, sim_store):
    """Row 3 is a training of its own, not row 4 with a head cut off; row 1 adds the logits of two trained models."""
    out, _ = everything
    found = rows_of(reproduce("table5", sim_store, out, **TINY))
    assert {row["status"] for row in found.values()} == {"done"}
    runs = out / "runs" / SIZE
    facts = json.loads((runs / "fmformer-video-head" / "seed0" / "run.json").read_text())
    assert (facts["config"]["fusion"], facts["config"]["interaction"]) == ("v_only", "both")
    one, other = (
        load_checkpoint(runs / name / "seed0").state_dict() for name in ("fmformer", "fmformer-video-head")
    )
    assert one.keys() == other.keys()
    assert not torch.equal(one["video.position"], other["video.position"])
    masks = {
        name: unpack_masks(read.mask_bits, read.mask_shape)
        for name in ("fmformer-visual", "fmformer-visual--fmformer-current")
        if (read := read_predictions(out / "predictions" / SIZE / f"{name}-seed0.npz"))
    }
    np.testing.assert_array_equal(masks["fmformer-visual"], masks["fmformer-visual--fmformer-current"])
    assert (
        "the last epoch is scored, as in the paper (--no-validate)" in (out / f"table5-{SIZE}.md").read_text()
    )


def test_fig6_predicts_on_other_windows_with_the_same_weights(everything, sim_store):
    out, _ = everything
    found = reproduce("fig6", sim_store, out, models=["video-2", "current-60"], **TINY)
    rows = rows_of(found)
    assert rows["video-2"]["status"] == rows["current-60"]["status"] == "done"
    assert rows["video-20"]["status"] == "not asked for"
    metas = [
        read_predictions(out / "predictions" / SIZE / f"fmformer--{name}-seed0.npz").meta["protocol_fields"]
        for name in ("num_frames-2", "current_seconds-60.0")
    ]
    assert [(meta["num_frames"], meta["current_seconds"]) for meta in metas] == [(2, 20.0), (4, 60.0)]
    text = (out / f"fig6-{SIZE}.md").read_text()
    assert "plot without figures" in text
    assert "paper, real" not in next(line for line in text.splitlines() if line.startswith("| method"))
    assert rows["video-2"]["length"] == {"of": "video", "seconds": 0.16}
    assert rows["current-60"]["length"] == {"of": "current", "seconds": 60.0}
    assert found["trained_lengths"] == {"video": 0.48, "current": 20.0}
    assert f"](fig6-{SIZE}.png)" in text
    assert (out / f"fig6-{SIZE}.png").read_bytes()[:4] == b"\x89PNG"
    assert not (out / f"table2-{SIZE}.png").exists()
