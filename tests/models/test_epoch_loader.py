"""Samples that change with the epoch: other shares, as many of both classes, and the same on any number of workers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fmfbench
from fmfbench.errors import InputError, TrainingError
from fmfbench.torch import WindowDataset, make_loader
from fmfbench_models.recipe import Recipe
from fmfbench_models.training.epoch_loader import EpochLoader, epoch_ids, used_ids
from fmfbench_models.training.runlog import read_log
from fmfbench_models.training.train import _Run, train
from fmfbench_models.zoo.tn_bcl import TnBcl, TnBclConfig


def drawn(seed, count=101):
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(1000, count, replace=False)), (rng.random(count) < 0.2).astype(int)


@pytest.mark.parametrize("every", [1, 4, 7])
def test_without_either_it_is_every_kth(every):
    ids, labels = drawn(0)
    recipe = Recipe(every=every)
    for epoch in range(3):
        assert np.array_equal(epoch_ids(ids, labels, recipe, 0, epoch), ids[::every])
    assert np.array_equal(used_ids(ids, labels, recipe), ids[::every])


@pytest.mark.parametrize("every", [2, 4, 7])
@pytest.mark.parametrize("seed", range(3))
def test_k_epochs_see_every_sample_once_but_for_a_rest(every, seed):
    ids, labels = drawn(seed)
    recipe = Recipe(every=every, rotate=True)
    parts = [epoch_ids(ids, labels, recipe, seed, epoch) for epoch in range(2 * every)]
    assert {len(part) for part in parts} == {len(ids) // every}
    seen = np.concatenate(parts[:every])
    assert len(np.unique(seen)) == len(seen) > len(ids) - every
    assert set(seen) <= set(ids)
    assert all(np.array_equal(parts[k], parts[k + every]) for k in range(every))
    assert np.array_equal(used_ids(ids, labels, recipe), ids)


@pytest.mark.parametrize(("every", "rotate"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("seed", range(3))
def test_balanced_epochs_hold_as_many_of_both_classes_and_change(every, rotate, seed):
    ids, labels = drawn(seed, 400)
    recipe = Recipe(every=every, rotate=rotate, balanced=True)
    label_of = dict(zip(ids.tolist(), labels.tolist(), strict=True))
    parts = [epoch_ids(ids, labels, recipe, seed, epoch) for epoch in range(30)]
    rare = labels.sum() // every if rotate else -(-labels.sum() // every)
    for part in parts:
        assert len(np.unique(part)) == len(part) == 2 * rare
        assert sum(label_of[i] for i in part.tolist()) == rare
        assert (np.diff(part) > 0).all()
    assert not np.array_equal(parts[0], parts[every])
    assert np.array_equal(parts[4], epoch_ids(ids, labels, recipe, seed, 4))
    assert not np.array_equal(parts[4], epoch_ids(ids, labels, recipe, seed + 1, 4))
    common = [i for i in used_ids(ids, labels, recipe).tolist() if label_of[i] == 0]
    assert len({i for part in parts for i in part.tolist() if label_of[i] == 0}) > 0.8 * len(common)


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_cannot_be_balanced(only):
    with pytest.raises(InputError, match=f"got no {'abnormal' if only == 0 else 'normal'} one among 5"):
        used_ids(np.arange(5), np.full(5, only), Recipe(balanced=True))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rotate": True}, "expected every above 1 with rotate, .* got 1"),
        ({"balanced": True, "normal_only": True}, "expected balanced=false with normal_only, .* got true"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        Recipe(**wrong)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["rotate", "balanced"])
def test_batches_are_the_same_on_any_number_of_workers_and_resume(kind, workers, furnace_store, options):
    data = fmfbench.open_dataset(furnace_store)
    protocol = {key.removeprefix("protocol."): value for key, value in options.items() if "protocol." in key}
    windows = data.windows("train", fmfbench.WindowProtocol(name="mine", **protocol))
    ids, labels = windows.sample_ids, data.class_labels(windows.sample_ids)
    recipe = Recipe(every=3, **{kind: True})

    def loader(count):
        def make(some):
            dataset = WindowDataset(windows.select(some))
            return make_loader(dataset, batch_size=8, shuffle=True, num_workers=count, drop_last=True)

        return EpochLoader(make, lambda epoch: epoch_ids(ids, labels, recipe, 5, epoch))

    plain, tried, found, states = loader(0), loader(workers), [], []
    for epoch in range(3):
        for each in (plain, tried):
            each.set_epoch(epoch)
        for one, other in zip(plain, tried, strict=True):
            assert torch.equal(one["sample_id"], other["sample_id"])
            assert torch.equal(one["current"], other["current"])
            found.append(one["sample_id"].tolist())
            states.append(json.loads(json.dumps(tried.state_dict())))
    epochs = [
        {i for part in found[k : k + len(plain)] for i in part} for k in range(0, len(found), len(plain))
    ]
    assert len({frozenset(epoch) for epoch in epochs}) == 3
    resumed = loader(workers)
    place = len(plain) + 1  # after the second batch of the second epoch
    resumed.load_state_dict(states[place])
    assert [batch["sample_id"].tolist() for batch in resumed] == found[place + 1 : 2 * len(plain)]


@pytest.mark.parametrize("asked", [{"every": 5, "rotate": True}, {"every": 4, "balanced": True}])
def test_training_resumes_in_the_middle_of_an_epoch(asked, furnace_store, options, tmp_path, monkeypatch):
    asked = {**options, **asked, "batch_size": 4, "epochs": 2, "validate": False}
    whole = train("fmformer", furnace_store, tmp_path / "a", options=asked, device="cpu")
    check, broken = _Run._check, []

    def breaks(run, values, batch):
        if run.place.epoch == 1 and run.place.number % 4 == 2 and not broken:
            broken.append(run.place.number)
            raise TrainingError("broken off")
        check(run, values, batch)

    monkeypatch.setattr(_Run, "_check", breaks)
    call = {"options": asked, "device": "cpu", "save_seconds": 0.0}
    with pytest.raises(TrainingError, match="broken off"):
        train("fmformer", furnace_store, tmp_path / "b", **call)
    again = train("fmformer", furnace_store, tmp_path / "b", workers=2, **call)
    one, two = (load_file(run / "last.safetensors") for run in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    (samples,) = [line for line in read_log(whole / "log.jsonl") if line["kind"] == "samples"]
    assert samples["each_epoch"] < samples["training"]


@pytest.mark.parametrize(("asked", "every"), [({"every": 3, "rotate": True}, 3), ({"every": 3}, 3), ({}, 1)])
def test_a_fit_passes_over_the_samples_of_one_epoch(
    asked, every, furnace_store, options, tmp_path, monkeypatch
):
    """However many samples the epochs of `rotate` reach together, a fit costs no more than an epoch."""
    passed = []
    fit = TnBcl.fit

    def counted(model, data):
        passed.append(np.concatenate([batch["sample_id"] for batch in data.train]))
        fit(model, data)

    monkeypatch.setattr(TnBcl, "fit", counted)
    keys = {f"protocol.{name}" for name in fmfbench.WindowProtocol.__dataclass_fields__}
    kept = {
        key: value for key, value in options.items() if key in keys | set(TnBclConfig.__dataclass_fields__)
    }
    asked = {**kept, **asked, "batch_size": 4, "epochs": 2, "validate": False}
    train("tn_bcl", furnace_store, tmp_path / "run", options=asked, device="cpu")
    (found,) = passed
    assert np.array_equal(found, fmfbench.open_dataset(furnace_store).sample_ids("train")[::every])
