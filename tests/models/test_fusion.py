"""The fusion family and boosting: what is added, what is trusted, what is lost; trees against scikit-learn's.

Also tests fmfbench_models.zoo: boosting, gated, late_fusion.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import FitData, create_model
from fmfbench_models.parts.augmentation import lose_modality
from fmfbench_models.registry import registration
from fmfbench_models.zoo.boosting import trailing_statistics


def windows(size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "video": torch.randint(1, 256, (size, 3, 4, 16, 24), generator=generator, dtype=torch.uint8),
        "current": 8000 + 500 * torch.randn(size, 32, 3, generator=generator),
        "video_valid": torch.ones(size, 4, dtype=torch.bool),
        "current_valid": torch.ones(size, 32, dtype=torch.bool),
        "class_label": torch.arange(size) % 2,
        "mask": torch.zeros(size, 16, 24, dtype=torch.uint8),
        "mask_valid": torch.ones(size, dtype=torch.bool),
        "sample_id": torch.arange(size),
    }


def tiny(name, **config):
    torch.manual_seed(3)
    return create_model(name, **{**registration(name).tiny, **config}).eval()


def test_late_fusion_is_the_sum_of_its_branches_alone():
    model, batch = tiny("late_fusion"), windows()
    with torch.no_grad():
        found = model(batch["video"], batch["current"])
        alone = [model.video(video=batch["video"]).logits, model.current(current=batch["current"]).logits]
    torch.testing.assert_close(found.logits, alone[0] + alone[1])
    model.input_norm.set_current([7000.0] * 3, [900.0] * 3)
    with torch.no_grad():
        moved = model(batch["video"], batch["current"]).logits
    assert not torch.allclose(moved, found.logits)  # the branches use the model's own statistics
    assert sum("current_mean" in key for key in model.state_dict()) == 1


@pytest.mark.parametrize("name", ["late_fusion", "gated"])
def test_a_lost_modality_leaves_the_other_alone(name):
    model, batch = tiny(name), windows()
    batch["current_valid"][:3] = False
    with torch.no_grad():
        found = model(**model.takes(batch))
    weight = 2 if name == "gated" else 1
    torch.testing.assert_close(found.logits[:3], weight * found.aux["video_logits"][:3])
    assert not torch.allclose(found.logits[3:], weight * found.aux["video_logits"][3:])
    batch["video_valid"][:1] = False  # both are lost: nothing is said
    with torch.no_grad():
        found = model(**model.takes(batch))
    assert torch.equal(found.logits[0], torch.zeros(2))
    assert torch.isfinite(found.logits).all()


def test_trust_is_a_share_and_fuses_as_the_equation_says():
    model, batch = tiny("gated"), windows()
    torch.nn.init.normal_(model.gate.down.weight)
    with torch.no_grad():
        found = model(batch["video"], batch["current"])
    trust = found.aux["trust"]
    torch.testing.assert_close(trust.sum(1), torch.ones(6))
    assert trust.std(0).min() > 1e-3
    parts = found.aux["video_logits"], found.aux["current_logits"]
    expected = torch.stack([2 * (t[0] * v + t[1] * c) for t, v, c in zip(trust, *parts, strict=True)])
    torch.testing.assert_close(found.logits, expected)


def test_trained_apart_neither_branch_sees_the_others_error():
    batch = windows()
    gradients = {}
    for trained in ("apart", "jointly"):
        model = tiny("late_fusion", trained=trained, dense_task=False)
        changed = dict(batch, video=255 - batch["video"])
        own = []
        for each in (batch, changed):
            model.zero_grad()
            model.objective(model(**model.takes(each)), each, 1.0)["loss"].backward()
            own.append(model.current.current.embed.linear.weight.grad.clone())
        gradients[trained] = own
    assert torch.allclose(*gradients["apart"], atol=1e-7)
    assert not torch.allclose(*gradients["jointly"], atol=1e-7)


def test_branches_learn_from_windows_that_hold_them():
    model, batch = tiny("gated", dense_task=False), windows()
    batch["current_valid"][:4] = False
    output = model(**model.takes(batch))
    terms = model.objective(output, batch, 1.0)
    expected = F.cross_entropy(output.aux["current_logits"][4:], batch["class_label"][4:])
    torch.testing.assert_close(terms["current_loss"], expected)
    batch["current_valid"][:] = False
    terms = model.objective(model(**model.takes(batch)), batch, 1.0)
    assert terms["current_loss"] == 0
    assert torch.isfinite(terms["loss"])


def test_modality_dropout_takes_one_from_a_share_and_never_both():
    batch = windows(4000) | {"video": torch.ones(4000, 3, 1, 2, 3, dtype=torch.uint8)}
    lost = lose_modality(batch, 0.3, seed=5, epoch=2)
    no_video, no_current = (~lost[f"{name}_valid"].any(1) for name in ("video", "current"))
    assert not (no_video & no_current).any()
    for gone in (no_video, no_current):
        assert gone.double().mean().item() == pytest.approx(0.15, abs=0.02)
    assert (lost["video"][no_video] == 0).all()
    assert (lost["video"][~no_video] == 1).all()
    assert (lost["current"][no_current] == 0).all()
    assert torch.equal(lost["mask_valid"], ~no_video)
    assert torch.equal(lost["current"][~no_current], batch["current"][~no_current])
    alone = {key: value[7:9] for key, value in batch.items()}  # not by place in the batch
    again = lose_modality(alone, 0.3, seed=5, epoch=2)
    assert torch.equal(again["video_valid"], lost["video_valid"][7:9])
    assert not torch.equal(lose_modality(batch, 0.3, seed=5, epoch=3)["video_valid"], lost["video_valid"])


@pytest.mark.parametrize("seed", range(4))
def test_trees_give_what_scikit_learn_gives(seed):
    rng = np.random.default_rng(seed)
    current = 8000 + 600 * rng.standard_normal((300, 32, 3))
    label = (current[:, -8:].mean((1, 2)) + 100 * rng.standard_normal(300) < 8000).astype(np.int64)
    batch = {"current": torch.from_numpy(current), "class_label": torch.from_numpy(label)}
    model = tiny("boosting", iterations=12, leaves=7)
    model.fit(
        FitData(
            train=[
                {key: value[:150] for key, value in batch.items()},
                {key: value[150:] for key, value in batch.items()},
            ]
        )
    )
    features = trailing_statistics(current, (2.0, 16.0), 2.0)
    theirs = HistGradientBoostingClassifier(
        max_iter=12, max_leaf_nodes=7, min_samples_leaf=2, early_stopping=False, random_state=0
    ).fit(features, label)
    new = 8000 + 600 * rng.standard_normal((50, 32, 3))
    fresh = trailing_statistics(new, (2.0, 16.0), 2.0)
    np.testing.assert_allclose(model.log_odds(fresh), theirs.decision_function(fresh), rtol=0, atol=1e-12)
    scores = model(current=torch.from_numpy(new)).scores().numpy()
    np.testing.assert_allclose(scores, theirs.predict_proba(fresh)[:, 1], atol=1e-6)


def test_statistics_by_hand():
    rng = np.random.default_rng(1)
    current = rng.normal(8000, 500, (2, 10, 3))
    found = trailing_statistics(current, (2.0, 100.0), 2.0)
    assert found.shape == (2, 36)
    for part, rows in ((found[:, :18], current[:, -4:]), (found[:, 18:], current)):
        seconds = np.arange(rows.shape[1]) / 2.0
        for window, (own, table) in enumerate(zip(rows, part, strict=True)):
            slope = [np.polyfit(seconds, own[:, phase], 1)[0] for phase in range(3)]
            expected = [
                own.mean(0),
                own.std(0),
                own.min(0),
                own.max(0),
                slope,
                np.abs(np.diff(own, axis=0)).mean(0),
            ]
            np.testing.assert_allclose(table, np.concatenate(expected), rtol=1e-9, err_msg=str(window))


def test_boosting_wants_both_classes():
    batch = windows() | {"class_label": torch.zeros(6, dtype=torch.long)}
    with pytest.raises(
        InputError, match="expected normal and abnormal training samples, got 6 normal and 0 abnormal"
    ):
        tiny("boosting").fit(FitData(train=[batch]))
