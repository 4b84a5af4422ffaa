"""All six; What they share.

Also tests fmfbench_models.parts: current_features, locations.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest_zoo_cross import (
    NAMES,
    TRANSFORMERS,
    differ,
    labelled,
    outputs,
    random,
    tiny,
    windows,
)
from torch.nn import functional as F

import fmfbench
from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench_models import create_model, list_models, load_checkpoint, model_info
from fmfbench_models.checkpoint import save_checkpoint
from fmfbench_models.inference.predict import predict
from fmfbench_models.parts.blocks import CurrentSequence, InputNorm
from fmfbench_models.parts.current_features import current_features
from fmfbench_models.parts.locations import patch_locations
from fmfbench_models.registry import registration
from fmfbench_models.training.train import train

DENSE_1, DENSE_5, DENSE_10 = 293_922, 330_786, 376_866


@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [
        ("dcnn_svm", {}, 75_362 + 866),
        ("ssfeggan", {}, 544_923 + 552_802),
        ("unicoder_vl", {}, 1_118_468),
        ("unicoder_vl", {"dense_task": False}, 1_118_468 - DENSE_10),
        ("clipbert", {}, 1_830_148),
        ("clipbert", {"clips": 5}, 1_830_148),
        ("clipbert", {"dense_task": False}, 1_830_148 - DENSE_1),
        ("capture", {}, 2_176_868),
        ("capture", {"depth": 2, "cross_depth": 2, "joint_depth": 2}, 1_619_108),
        ("capture", {"depth": 4, "cross_depth": 4, "joint_depth": 6}, 2_957_732),
        ("capture", {"dense_task": False}, 2_176_868 - DENSE_5),
        ("bilm", {}, 1_825_972),
        ("bilm", {"adapters": False}, 1_825_972 - 12 * 2_412),
        ("bilm", {"freeze_encoder": True}, 1_825_972),
        ("bilm", {"frame_tokens": True}, 1_825_972 - 2 * 768 - DENSE_10),
    ],
)
def test_parameter_counts(name, config, parameters):
    with torch.device("meta"):
        assert create_model(name, **config).num_parameters() == parameters


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("dcnn_svm", {"image": 75_362, "current": 866}),
        ("ssfeggan", {"generator": 544_923, "discriminator": 552_802}),
        (
            "unicoder_vl",
            {
                "current_tokens": 384 + 42_336 + 96 + 192,
                "patch_tokens": 18_528 + 672 + 192,
                "types": 192,
                "blocks": 669_312,
                "head": 9_698,
                "decoder": DENSE_10,
            },
        ),
        (
            "clipbert",
            {
                "backbone": 683_072,
                "squeeze": 110_592,
                "grid_tokens": 1_536 + 192,
                "current_tokens": 384 + 42_336 + 96 + 192,
                "types": 192,
                "blocks": 669_312,
                "pooler": 9_312,
                "head": 19_010,
                "decoder": DENSE_1,
            },
        ),
        (
            "capture",
            {
                "tubelet_tokens": 36_960 + 672 + 192 + 96,
                "current_tokens": 384 + 42_336 + 192 + 96,
                "visual_blocks": 334_656,
                "current_blocks": 334_656,
                "cross_layers": 3 * (74_304 + 2 * 74_400),
                "joint_blocks": 334_656,
                "position": 73_152,
                "head": 18_528 + 194,
                "decoder": DENSE_5,
            },
        ),
        (
            "bilm",
            {
                "backbone": 683_072,
                "frame_tokens": 12_384 + 768 + 768 + 960 + 192,
                "current_tokens": 96 + 384 + 42_336,
                "types": 192,
                "blocks": 669_312 + 28_944,
                "head": 9_312 + 192,
                "answers": 194,
                "decoder": DENSE_10,
            },
        ),
    ],
)
def test_parts_have_their_counts(name, counts):
    with torch.device("meta"):
        model = create_model(name)
    found: dict[str, int] = {}
    for parameter, value in model.named_parameters():
        part = parameter.split(".")[0]
        found[part] = found.get(part, 0) + value.numel()
    assert found == counts


def test_they_are_registered():
    assert set(NAMES) <= set(list_models())
    for name in NAMES:
        info = model_info(name)
        assert (info.modality, info.dense) == ("both", name in TRANSFORMERS)
        assert info.reinterpretation == (name in {"dcnn_svm", "ssfeggan"})
        assert info.training == ("both" if name == "dcnn_svm" else "gradient")


@pytest.mark.parametrize("name", NAMES)
def test_full_size_runs_forward(name):
    torch.manual_seed(0)
    with torch.no_grad():
        output = create_model(name).eval()(**windows(1, 10, 64, 64, 440))
    assert output.logits.shape == (1, 2)
    if name in TRANSFORMERS:
        assert output.pixel_logits.shape == (1, 2, 64, 64)
    else:
        assert output.pixel_logits is None


@pytest.mark.parametrize("name", NAMES)
def test_another_size_is_refused(name):
    model, batch = tiny(name), windows(2)
    with pytest.raises(InputError, match=f"{name}: video: expected .*, got None; "):
        model(current=batch["current"])
    with pytest.raises(InputError, match=f"{name}: current: expected .*, got None; "):
        model(video=batch["video"])
    with pytest.raises(InputError, match=rf"{name}: video: expected .*, got \(2, 3, 0, 16, 24\)"):
        model(batch["video"][:, :, :0], batch["current"])
    if name != "dcnn_svm":
        with pytest.raises(InputError, match=rf"{name}: video: expected .*, got \(2, 3, 4, 24, 16\); "):
            model(batch["video"].transpose(3, 4), batch["current"])
    if name in {"dcnn_svm", "ssfeggan"}:
        model(batch["video"], batch["current"][:, :2])
        with pytest.raises(InputError, match="2 time steps or more, got 1"):
            model(batch["video"], batch["current"][:, :1])
    else:
        with pytest.raises(InputError, match=rf"{name}: current: expected .*, got \(2, 31, 3\); "):
            model(batch["video"], batch["current"][:, 1:])


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("unicoder_vl", {"size": [60, 64]}),
        ("clipbert", {"size": [64, 60]}),
        ("clipbert", {"clips": 0}),
        ("capture", {"num_frames": 9}),
        ("capture", {"temperature": 0.0}),
        ("capture", {"contrastive": -0.1}),
        ("bilm", {"size": [4, 64]}),
        ("bilm", {"reduction": 0}),
        ("bilm", {"reduction": 97}),
        ("dcnn_svm", {"channels": []}),
        ("dcnn_svm", {"svm_c": 0.0}),
        ("dcnn_svm", {"max_rows": 1}),
        ("ssfeggan", {"size": [64, 56]}),
        ("ssfeggan", {"channels": []}),
        ("ssfeggan", {"label_share": 0.0}),
        ("ssfeggan", {"label_share": 1.1}),
        ("ssfeggan", {"unsupervised": -1.0}),
    ],
)
def test_what_cannot_be_built_is_refused(name, config):
    with pytest.raises(InputError, match=f"^{name}: "), torch.device("meta"):
        create_model(name, **config)


def overfitted(name, steps=60, **config):
    """The model after some steps on eight windows of two frames of 16 x 16, and those windows."""
    lengths = {"num_frames": 2, "size": [16, 16]}
    known = registration(name).config.__dataclass_fields__
    model = tiny(name, **{key: value for key, value in lengths.items() if key in known}, **config).train()
    batch = labelled(8, frames=2, height=16, width=16)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=6e-3)
    for _ in range(steps):
        loss = model.objective(model(**model.takes(batch)), batch, 1.0)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model, batch


@pytest.mark.parametrize(
    ("name", "config"),
    [(name, {}) for name in TRANSFORMERS]
    + [("capture", {"contrastive": 0.1}), ("bilm", {"frame_tokens": True})],
)
def test_overfits_eight_windows(name, config):
    model, batch = overfitted(name, **config)
    labels = batch["class_label"]
    with torch.no_grad():
        output = model(
            **model.takes(batch)
        )  # training mode: so few steps have not settled running statistics
    assert F.cross_entropy(output.logits, labels) < 0.05
    assert torch.equal(output.logits.argmax(1), labels)
    if model.dense:
        assert F.cross_entropy(output.pixel_logits, batch["mask"].long()) < 0.1


def test_branches_of_dcnn_svm_overfit_eight_windows():
    model, batch = overfitted("dcnn_svm", 150)
    with torch.no_grad():
        aux = model(**model.takes(batch)).aux
    for logits in aux.values():
        assert torch.equal(logits.argmax(1), batch["class_label"])
        assert F.cross_entropy(logits, batch["class_label"]) < 0.1


def test_ssfeggan_overfits_eight_windows():
    model, batch = overfitted("ssfeggan", 100)
    (logits,) = outputs(model, batch)
    assert F.cross_entropy(logits, batch["class_label"]) < 0.05


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_both_modalities_count(name):
    model, batch = tiny(name).double(), windows(2)
    plain = outputs(model, batch)
    assert differ(plain, outputs(model, {**batch, "video": windows(2, seed=1)["video"]}))
    assert differ(plain, outputs(model, {**batch, "current": windows(2, seed=1)["current"]}))


@pytest.mark.parametrize("name", NAMES)
def test_trains_and_predicts_from_a_store(name, furnace_store, options, tmp_path):
    skip = {"size", "num_frames", "current_length"}  # the data's and the protocol's
    config = {key: value for key, value in registration(name).tiny.items() if key not in skip}
    window = {key: value for key, value in options.items() if key.startswith("protocol.")}
    out = train(
        name,
        furnace_store,
        tmp_path / "run",
        options={**config, **window, "epochs": 1, "every": 4, "batch_size": 16},
        device="cpu",
    )
    data = fmfbench.open_dataset(furnace_store)
    found = read_predictions(predict(out, data, tmp_path / "predictions.npz", device="cpu"))
    assert np.isfinite(found.score).all()
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert (found.mask_bits is not None) == (name in TRANSFORMERS)
    recipe = json.loads((out / "run.json").read_text())["recipe"]
    assert (recipe["optimiser"], recipe["lr"]) == (("adam", 1e-3) if name == "ssfeggan" else ("adamw", 5e-4))


def test_places_of_patches():
    """Against a loop, on a grid with three different sides."""
    expected = [
        (j / 5, i / 4, (j + 1) / 5, (i + 1) / 4, 1 / 20, k / 2)
        for k in range(3)
        for i in range(4)
        for j in range(5)
    ]
    torch.testing.assert_close(patch_locations((3, 4, 5)), torch.tensor(expected))
    assert torch.equal(patch_locations((1, 2, 2))[:, 5], torch.zeros(4))


def test_current_features_against_numpy():
    current = random(3, 20, 3) * torch.tensor([1.0, 2.0, 0.1]) + torch.tensor([0.0, -1.0, 3.0])
    found = current_features(current).reshape(3, 8, 3)
    for sample, features in zip(current.numpy(), found.numpy(), strict=True):
        half = np.polyfit(np.arange(20), sample, 1)[0] * 19 / 2
        expected = [
            sample.mean(0),
            sample.std(0),
            sample.min(0),
            sample.max(0),
            sample[-1],
            np.abs(sample).mean(0),
            np.abs(np.diff(sample, axis=0)).mean(0),
            half,
        ]
        np.testing.assert_allclose(features, expected, atol=1e-12)


@pytest.mark.parametrize("norm", [True, False])
def test_current_sequence(norm):
    tokens = CurrentSequence(5, 4, norm=norm).double()
    series, kind = random(2, 5, 3), random(4, seed=1)
    got = tokens(series, kind)
    plain = torch.cat([tokens.first.expand(2, 1, 4), tokens.linear(series)], 1) + tokens.position + kind
    torch.testing.assert_close(got, F.layer_norm(plain, (4,)) if norm else plain)


def test_frames_are_scaled_as_the_backbone_wants_them(tmp_path):
    """The published constants, and the checkpoint says so."""
    frames = torch.tensor([0.0, 255.0, 127.5])[:, None, None].expand(1, 2, 3, 4, 5).byte()
    norm = InputNorm(imagenet=True)
    expected = (frames / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    torch.testing.assert_close(norm.video(frames), expected)
    for name in ("clipbert", "bilm"):
        save_checkpoint(tmp_path / name, tiny(name))
        assert "ImageNet" in load_checkpoint(tmp_path / name).meta.normalisation["video"]
    assert tiny("capture").meta.normalisation["video"] == "x / 127.5 - 1"
