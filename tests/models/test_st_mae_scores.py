"""ST-MAE beside its paper: maps and scores (9), thresholds, detection, from a store to a score.

Also tests fmfbench_models.parts: anomaly_map.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from conftest_st_mae import batch, images, small
from sklearn.metrics import roc_auc_score, roc_curve
from torch.nn import functional as F

import fmfbench
from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench_models import FitData, create_model, load_checkpoint
from fmfbench_models.checkpoint import save_checkpoint
from fmfbench_models.inference.predict import predict
from fmfbench_models.parts.anomaly_map import (
    anomaly_map,
    blur,
    spread,
    youden_threshold,
)
from fmfbench_models.registry import registration
from fmfbench_models.training.train import train
from fmfbench_models.zoo.st_mae import to_features


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 4.0])
def test_blur_is_scipys(sigma):
    image = torch.rand(2, 20, 31, dtype=torch.float64)
    theirs = [scipy.ndimage.gaussian_filter(one.numpy(), sigma, mode="nearest") for one in image]
    np.testing.assert_allclose(blur(image, sigma).numpy(), np.stack(theirs), rtol=0, atol=1e-13)


def test_no_smoothing_is_the_identity():
    image = torch.rand(2, 5, 7)
    assert torch.equal(blur(image, 0.0), image)
    assert torch.equal(blur(image, 0.1), image)
    assert not torch.equal(blur(image, 0.3), image)


def test_map_by_other_means():
    """Residual, bilinear resize, Gaussian: against opencv's resize and scipy's filter."""
    cv2 = pytest.importorskip("cv2")
    residual = torch.rand(2, 4, 6, dtype=torch.float64)
    found = anomaly_map(residual, (16, 24), 1.0)
    for one, ours in zip(residual.numpy(), found.numpy(), strict=True):
        large = cv2.resize(one, (24, 16), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(ours, scipy.ndimage.gaussian_filter(large, 1.0, mode="nearest"), atol=1e-6)


def test_map_of_the_model():
    model = small(sigma=0.0).double().eval()
    found = model.judge(images(2))["map"]
    patches = model.patches(images(2))
    places = to_features(patches, [4, 6], 1)
    there = to_features(model.rebuild(patches, model.splits.expand(2, -1)), [4, 6], 1)
    inside = torch.empty(2, 4, 6, dtype=torch.float64)
    for b, h, w in np.ndindex(2, 4, 6):
        f, g = places[b, h, w], there[b, h, w]
        inside[b, h, w] = (f - g).dot(f - g) * (1 - f.dot(g) / (f.norm() * g.norm()))
    wanted = F.interpolate(inside[:, None], (16, 24), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, wanted)


def test_image_score_is_the_standard_deviation():
    maps = torch.rand(3, 5, 7, dtype=torch.float64)
    np.testing.assert_allclose(spread(maps).numpy(), [one.numpy().std() for one in maps], rtol=1e-13)
    assert spread(torch.full((2, 5, 7), 0.5)).max() == 0
    assert spread(torch.full((2, 5, 7), 0.1)).max() < 1e-7


def test_logits_are_logs_against_thresholds():
    model, data = small().eval(), batch(3)
    model.log_pixel_threshold.fill_(math.log(0.7))
    model.log_image_threshold.fill_(math.log(0.05))
    output = model(data["video"])
    maps = output.aux["map"]
    assert (output.logits[:, 0] == 0).all()
    assert (output.pixel_logits[:, 0] == 0).all()
    torch.testing.assert_close(output.pixel_logits[:, 1], (maps / 0.7).log())
    torch.testing.assert_close(output.scores(), spread(maps) / (spread(maps) + 0.05))
    assert torch.equal(output.masks(), output.pixel_logits[:, 1] > 0)
    wrong = (output.masks() != (maps > 0.7)) & ((maps - 0.7).abs() > 1e-5)
    assert not wrong.any()


def fitted(model, validation, train=None):
    model.fit(FitData(train=train or [batch(2, 50)], validation=validation))
    return model.log_pixel_threshold.exp().item(), model.log_image_threshold.exp().item()


def test_thresholds_are_quantiles_of_normal_validation():
    model = small()
    batches = [batch(5, seed=10 * k, labels=[0, 1, 0, 255, 0]) for k in range(4)]
    pixel, image = fitted(model, batches)
    with torch.no_grad():
        maps = torch.cat([model.eval()(b["video"]).aux["map"][[0, 2, 4]] for b in batches])
    assert pixel == pytest.approx(np.sort(maps.numpy().ravel())[math.ceil(0.995 * maps.numel())], rel=0.01)
    assert (maps > pixel).float().mean() == pytest.approx(0.005, abs=0.001)
    assert image == pytest.approx(np.quantile(spread(maps).double().numpy(), 0.95), rel=1e-5)
    facts = model.meta.provenance["thresholds"]
    assert facts["samples"] == "validation"
    assert facts["normal"] == 12
    assert facts["abnormal_labels_used"] == 0


def test_thresholds_do_not_look_at_abnormal_samples():
    """The same normal samples among others that are labelled abnormal: the same thresholds."""
    normal = batch(4, seed=3)
    bright = {"video": torch.full_like(normal["video"], 255), "class_label": torch.ones(4, dtype=torch.uint8)}
    assert fitted(small(), [normal]) == fitted(small(), [normal, bright])


def test_thresholds_without_validation_are_the_training_samples_and_say_so():
    model, train = small(), [batch(4, seed=7)]
    assert fitted(model, None, train) == fitted(small(), train)
    assert model.meta.provenance["thresholds"]["samples"] == "train"


def test_thresholds_want_normal_samples():
    with pytest.raises(InputError, match="normal validation samples"):
        fitted(small(), [batch(3, labels=[1, 1, 1])])


def test_youden_uses_labels_and_says_so():
    model = small(image_threshold="youden")
    batches = [batch(6, seed=20 * k, labels=[0, 1, 0, 1, 1, 0]) for k in range(3)]
    _, image = fitted(model, batches)
    with torch.no_grad():
        scores = torch.cat([spread(model.eval()(b["video"]).aux["map"]) for b in batches]).double().numpy()
    labels = np.concatenate([b["class_label"].numpy() for b in batches])
    assert image == pytest.approx(youden_threshold(scores, labels), rel=1e-5)
    facts = model.meta.provenance["thresholds"]
    assert "Youden" in facts["image"]
    assert facts["abnormal_labels_used"] == 9
    with pytest.raises(InputError, match="normal and abnormal validation samples, got 3 and 0"):
        fitted(small(image_threshold="youden"), [batch(3)])


@pytest.mark.parametrize(
    ("score", "label", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.35, 0.7], [0, 0, 0, 1, 1], 0.325),
        ([0.7, 0.75, 0.8, 0.9], [0, 0, 1, 0], 0.775),
        ([0.2, 0.4], [1, 0], 0.4),  # the wrong way round: best to call none
        ([0.2, 0.2], [1, 0], 0.2),  # nothing to tell them by
    ],
)
def test_youden_by_hand(score, label, expected):
    assert youden_threshold(np.array(score), np.array(label)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_youden_is_the_best_of_all_thresholds(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 40)
    score = np.round(rng.random(40) + 0.4 * label, 1)  # with ties

    def gain(threshold):
        called = score > threshold
        return called[label == 1].mean() - called[label == 0].mean()

    chosen = youden_threshold(score, label)
    assert gain(chosen) == pytest.approx(max(map(gain, np.append(np.unique(score), -1.0))))
    false, true, _ = roc_curve(label, score)
    assert gain(chosen) == pytest.approx((true - false).max())


def test_finds_a_patch_that_its_surroundings_do_not_predict():
    """Stripes learned from normal images; a square of other stripes is found, by image and by pixel."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    def striped(count, broken):
        row, column = np.arange(24)[:, None], np.arange(32)
        phase = rng.integers(0, 4, count)[:, None, None]
        stripes, others = (60 * ((axis + phase) // 2 % 2) for axis in (column, row))
        mask = np.zeros((count, 24, 32), bool)
        if broken:
            top, left = rng.integers(0, 17, (count, 1, 1)), rng.integers(0, 25, (count, 1, 1))
            mask = (row >= top) & (row < top + 8) & (column >= left) & (column < left + 8)
        image = 60 + np.where(mask, others + 60, stripes) + rng.integers(0, 12, mask.shape)
        return torch.from_numpy(image.astype(np.uint8))[:, None, None].repeat(1, 3, 1, 1, 1), mask

    model = small(size=(24, 32), dim=24, decoder_dim=24, sigma=1.0).train()
    normal, _ = striped(48, False)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for step in range(60):
        part = {"video": normal[(8 * step) % 48 :][:8]}
        loss = model.objective(model(part["video"]), part, 1.0)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    good, good_mask = striped(30, False)
    bad, bad_mask = striped(30, True)
    with torch.no_grad():
        maps = model.eval()(torch.cat([good, bad])).aux["map"]
    labels = np.repeat([0, 1], 30)
    assert roc_auc_score(labels, spread(maps).numpy()) > 0.95
    pixel = np.concatenate([good_mask, bad_mask])
    assert roc_auc_score(pixel.ravel(), maps.numpy().ravel()) > 0.9


@pytest.fixture(scope="module")
def trained(furnace_store, tmp_path_factory):
    tiny = {k: v for k, v in registration("st_mae").tiny.items() if k != "size"}
    lengths = {"protocol.num_frames": 2, "protocol.stride": 1, "protocol.current_seconds": 1}
    options = {**tiny, **lengths, "epochs": 12, "batch_size": 8, "lr": 3e-3, "patch": 1}
    out = tmp_path_factory.mktemp("st_mae") / "run"
    return train("st_mae", furnace_store, out, options=options, device="cpu")


def test_a_run_learns_from_normal_frames_and_finds_the_others(trained, furnace_store, tmp_path):
    file = predict(trained, furnace_store, tmp_path / "p.npz", device="cpu", pixel_scores="float32")
    predictions = read_predictions(file)
    data = fmfbench.open_dataset(furnace_store)
    label = data.class_labels(predictions.sample_id)
    assert predictions.meta["normal_only"]
    assert roc_auc_score(label, predictions.score) > 0.95
    found = fmfbench.score(file, data, split="test")
    assert found.metrics["accuracy"] > 0.8
    assert found.metrics["miou"] is not None
    assert found.evidence.ranking["pixel_auroc"] > 0.9
    model = load_checkpoint(trained)
    facts = model.meta.provenance["thresholds"]
    assert facts["samples"] == "validation"
    assert facts["abnormal_labels_used"] == 0
    assert model.meta.provenance["recipe"]["normal_only"]
    assert model.meta.provenance["backbone"]["weights"] == "random"
    # the thresholds are part of what was saved
    assert model.log_pixel_threshold != 0
    assert model.log_image_threshold != 0


def test_validation_loss_is_the_models_own(trained):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert epochs[-1]["val_loss"] < epochs[0]["val_loss"]
    model = load_checkpoint(trained)
    weight = model.config.orientation_weight
    assert epochs[-1]["loss"] == pytest.approx(
        epochs[-1]["intensity"] + weight * epochs[-1]["orientation"], rel=1e-5
    )


def test_a_checkpoint_without_a_mean_image_opens_as_it_was(tmp_path):
    """0.1.0 wrote none: the network then saw and predicted the features themselves."""
    from fmfbench_models.checkpoint import read_tensors, write_tensors

    model = create_model("st_mae", **registration("st_mae").tiny).eval()
    save_checkpoint(tmp_path / "new.safetensors", model)
    tensors, facts = read_tensors(tmp_path / "new.safetensors")
    old = {name: value for name, value in tensors.items() if not name.startswith("feature_")}
    assert len(old) == len(tensors) - 2
    write_tensors(tmp_path / "old.safetensors", old, facts)
    loaded = load_checkpoint(tmp_path / "old.safetensors")
    video = torch.randint(0, 256, (2, 3, 2, *model.config.size), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(video=video).logits, model(video=video).logits)


def test_prepare_takes_mean_and_scale_of_normal_frames():
    model = create_model("st_mae", **registration("st_mae").tiny)
    generator = torch.Generator().manual_seed(2)
    batches = [
        {
            "video": torch.randint(
                0, 256, (n, 3, 2, *model.config.size), dtype=torch.uint8, generator=generator
            ),
            "class_label": torch.arange(n) % 2,
        }
        for n in (5, 4)
    ]
    model.prepare(FitData(train=batches))
    normal = torch.cat([batch["video"][batch["class_label"] == 0, :, -1] for batch in batches])
    patches = model.patches(normal).double()
    assert len(patches) == 5
    torch.testing.assert_close(model.feature_mean.double(), patches.mean(0), rtol=1e-5, atol=1e-6)
    scale = (patches - patches.mean(0)).square().mean().sqrt()
    assert model.feature_scale.item() == pytest.approx(scale.item(), rel=1e-4)
