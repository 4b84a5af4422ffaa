"""`reproduce --loro`: a model for each recording, scores pooled by fold.

Also tests fmfbench_models.reproduce: pooling.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest_reproduce import TINY, rows_of
from conftest_run import invoke

import fmfbench
from fmfbench.errors import InputError, PredictionError
from fmfbench.exchange.predictions import read_predictions, write_predictions
from fmfbench.scoring.score import score
from fmfbench_models.inference.predict import predict
from fmfbench_models.reproduce import plan, reproduce, work
from fmfbench_models.reproduce.pooling import pool

SIZE = "tiny-1ep-loro"
NAMES = ["fmformer-visual", "itransformer"]


@pytest.fixture(scope="module")
def made(sim_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("loro") / "out"
    return out, reproduce("table2", sim_store, out, models=NAMES, loro=True, **TINY)


def test_each_recording_is_judged_by_the_model_that_never_saw_it(made, sim_store, tmp_path):
    out, document = made
    data = fmfbench.open_dataset(sim_store)
    assert document["left_out"] == list(data.recordings)
    pooled = read_predictions(out / "predictions" / SIZE / "itransformer-seed0.npz")
    np.testing.assert_array_equal(pooled.sample_id, data.sample_ids("train"))
    for name in data.recordings:
        run = out / "runs" / "tiny-1ep" / f"itransformer--loro-{name}" / "seed0"
        assert json.loads((run / "run.json").read_text())["fold"] == f"loro:{name}"
        apart = read_predictions(
            predict(run, data, tmp_path / "p.npz", split=f"loro-val:{name}", device="cpu")
        )
        rows = np.searchsorted(pooled.sample_id, apart.sample_id)
        np.testing.assert_array_equal(pooled.score[rows], apart.score)
    assert "seen_in_training" not in pooled.meta
    scored = score(out / "predictions" / SIZE / "itransformer-seed0.npz", data, "train")
    row = rows_of(document)["itransformer"]
    assert {name: cell["value"] for name, cell in row["metrics"].items()}.items() <= scored.metrics.items()
    found = scored.to_dict()["recordings"]
    assert row["folds"] == {
        name: {metric: found[name]["metrics"][metric] for metric in ("accuracy", "f1")} for name in found
    }
    assert document["data"]["test_samples"] == len(data.sample_ids("train"))
    assert document["worlds"] is None
    text = (out / f"table2-{SIZE}.md").read_text()
    assert "the test split has no part in them" in text
    assert "one recording left out at a time" in text.splitlines()[0]
    assert "## By the recording left out" in text


def test_it_resumes_and_its_cost_is_of_all_folds(made, sim_store, tmp_path, monkeypatch):
    out, before = made
    steps = {
        s["row"]: s
        for s in plan("table2", sim_store, tmp_path / "new", models=NAMES, loro=True, **TINY)["steps"]
    }
    data = fmfbench.open_dataset(sim_store)
    counts = [len(data.sample_ids(f"loro-fit:{name}")[::8]) // 16 for name in data.recordings]
    assert steps["itransformer"]["steps"] == sum(counts) > max(counts)
    for name in ("train", "predict", "score"):
        monkeypatch.setattr(work, name, None)
    assert reproduce("table2", sim_store, out, models=NAMES, loro=True, **TINY) == before


def test_a_death_in_the_second_fold_costs_that_fold_alone(made, sim_store, tmp_path, monkeypatch):
    real, calls = work.train, []

    def dies(*arguments, **keywords):
        calls.append(keywords["split"])
        if len(calls) == 2:
            raise SystemExit("dead")
        return real(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(work, "train", dies)
        with pytest.raises(SystemExit):
            reproduce("table2", sim_store, tmp_path / "out", models=["itransformer"], loro=True, **TINY)
        again = reproduce("table2", sim_store, tmp_path / "out", models=["itransformer"], loro=True, **TINY)
    assert calls == [f"loro:FMF-Sim-{n}" for n in (1, 2, 2, 3)]
    assert rows_of(again)["itransformer"]["metrics"] == rows_of(made[1])["itransformer"]["metrics"]


def test_what_cannot_be_left_out_is_refused(sim_store, tmp_path):
    alone = tmp_path / "alone.zarr"
    source = Path(sim_store).parent / "furnace"
    fmfbench.convert(source, alone, only=["FMF-Sim-1"])
    for call in (reproduce, plan):
        with pytest.raises(InputError, match="two recordings with train samples or more, got 1"):
            call("table2", alone, tmp_path / "out", loro=True, **TINY)
        with pytest.raises(InputError, match="expected a table, got fig6"):
            call("fig6", sim_store, tmp_path / "out", loro=True, **TINY)
    done = invoke("reproduce", "fig6", "--data", sim_store, "--out", tmp_path / "out", "--loro")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_pooling_refuses_what_does_not_go_together(tmp_path):
    def file(name, ids, **arrays):
        return write_predictions(
            tmp_path / name, sample_id=ids, meta={"model": "m", "threshold": 0.5}, **arrays
        )

    one = file("a.npz", [4, 1], score=[0.2, 0.9], mask=np.ones((2, 3, 5), np.uint8))
    two = file("b.npz", [2], score=[0.6], mask=np.zeros((1, 3, 5), np.uint8))
    found = read_predictions(pool({"x": one, "y": two}, tmp_path / "out.npz", {"split": "train"}))
    assert found.sample_id.tolist() == [1, 2, 4]
    np.testing.assert_allclose(found.score, [0.9, 0.6, 0.2])
    assert found.mask_shape == (3, 5)
    assert found.mask_bits.sum(1).tolist() == [255 + 254, 0, 255 + 254]
    assert (found.meta["model"], found.meta["split"], found.meta["folds"]) == (
        "m",
        "train",
        {"x": {}, "y": {}},
    )
    with pytest.raises(PredictionError, match="1 in two of them, first 4"):
        pool({"x": one, "y": file("c.npz", [4], score=[0.1])}, tmp_path / "no.npz", {})
    with pytest.raises(
        PredictionError, match="mask_bits in the predictions of every fold or of none, got 1 of 2"
    ):
        pool({"x": one, "y": file("d.npz", [9], score=[0.1])}, tmp_path / "no.npz", {})
    with pytest.raises(PredictionError, match="masks of one size"):
        pool(
            {"x": one, "y": file("e.npz", [9], score=[0.1], mask=np.zeros((1, 5, 3), np.uint8))},
            tmp_path / "no.npz",
            {},
        )
    with pytest.raises(PredictionError, match="one fold at least, got none"):
        pool({}, tmp_path / "no.npz", {})
    assert not (tmp_path / "no.npz").exists()
    decided = write_predictions(tmp_path / "f.npz", sample_id=[7], score=[0.4], pred=[1],
                                meta={"model": "m", "threshold": 0.3})  # fmt: skip
    plain = file("g.npz", [3], score=[0.6])
    found = read_predictions(pool({"x": decided, "y": plain}, tmp_path / "out.npz", {}))
    assert found.decision.tolist() == [1, 1]
    assert "threshold" not in found.meta
    assert found.meta["folds"] == {"x": {"threshold": 0.3}, "y": {"threshold": 0.5}}
