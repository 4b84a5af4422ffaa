"""Cross-modal baselines: what their papers say of them, on random input."""

from __future__ import annotations

import json
import math
from fnmatch import fnmatch

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fmfbench
from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench.windows.protocol import get_protocol
from fmfbench_models import FitData, Output, create_model, list_models, load_checkpoint, model_info
from fmfbench_models.checkpoint import save_checkpoint
from fmfbench_models.inference.predict import predict
from fmfbench_models.parts.blocks import CurrentSequence, InputNorm, patchify
from fmfbench_models.parts.current_features import current_features
from fmfbench_models.parts.locations import patch_locations
from fmfbench_models.registry import registration
from fmfbench_models.training.samples import fit_and_validation, held_out_part
from fmfbench_models.training.train import train
from fmfbench_models.zoo import capture, clipbert, dcnn_svm, ssfeggan

TRANSFORMERS = ["bilm", "capture", "clipbert", "unicoder_vl"]
NAMES = sorted([*TRANSFORMERS, "dcnn_svm", "ssfeggan"])
FRAMES, HEIGHT, WIDTH, CURRENT = 4, 16, 24, 32


def tiny(name, **more):
    """The model at width 24, depth 1, on frames of 16 x 24 and 32 current values."""
    torch.manual_seed(0)
    return create_model(name, **{**registration(name).tiny, **more})


def windows(size, frames=FRAMES, height=HEIGHT, width=WIDTH, length=CURRENT, seed=0):
    generator = torch.Generator().manual_seed(seed)
    video = torch.randint(0, 256, (size, 3, frames, height, width), dtype=torch.uint8, generator=generator)
    return {"video": video, "current": 8000 + 2000 * torch.randn(size, length, 3, generator=generator)}


def labelled(size, **sizes):
    batch = windows(size, **sizes)
    labels = torch.arange(size) % 2
    mask = torch.zeros(size, *batch["video"].shape[3:], dtype=torch.uint8)
    mask[labels.bool(), 4:12, 2:8] = 1
    return {**batch, "mask": mask, "class_label": labels, "sample_id": torch.arange(size)}


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def outputs(model, batch, **more):
    with torch.no_grad():
        output = model.eval()(batch["video"], batch["current"], **more)
    return [value for value in (output.logits, output.pixel_logits) if value is not None]


def assert_close(ones, others, **tolerance):
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, **(tolerance or {"rtol": 0, "atol": 1e-10}))


def differ(ones, others, least=1e-6):
    return all((one - other).abs().max() > least for one, other in zip(ones, others, strict=True))


# --- all six ----------------------------------------------------------------------------------------------

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
def test_trains_and_predicts_from_a_store(name, furnace_store, tmp_path):
    skip = {"size", "num_frames", "current_length"}  # the data's and the protocol's
    config = {key: value for key, value in registration(name).tiny.items() if key not in skip}
    window = {"protocol.num_frames": 4, "protocol.stride": 2, "protocol.current_seconds": 4}
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
    assert (recipe["optimiser"], recipe["lr"]) == (("adam", 2e-4) if name == "ssfeggan" else ("adamw", 5e-4))


# --- what they share --------------------------------------------------------------------------------------


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


# --- DCNN-SVM ---------------------------------------------------------------------------------------------


def xor(count, seed=0):
    """Two decisions that are abnormal together or apart: (points, labels)."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 2, (count, 2))
    return 4 * corner - 2 + rng.normal(0, 0.5, (count, 2)), corner[:, 0] ^ corner[:, 1]


@pytest.mark.parametrize("c", [0.1, 1.0, 30.0])
def test_decision_function_is_that_of_sklearn(c):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    rng = np.random.default_rng(3)
    points = rng.normal([50.0, -3.0], [20.0, 0.1], (300, 2))
    labels = (points[:, 0] - 50 + 200 * (points[:, 1] + 3) + rng.normal(0, 20, 300) > 0).astype(int)
    theirs = make_pipeline(StandardScaler(), SVC(kernel="rbf", C=c, gamma="scale")).fit(points, labels)
    new = rng.normal([50.0, -3.0], [40.0, 0.3], (200, 2))
    ours = dcnn_svm.fit_svm(points, labels, c)
    assert 0 < len(ours.dual) <= 300
    np.testing.assert_allclose(ours.decide(new), theirs.decision_function(new), rtol=0, atol=1e-9)


def test_constant_decisions_are_fitted_too():
    svm = dcnn_svm.fit_svm(np.ones((4, 2)), np.array([0, 1, 0, 1]))
    assert np.isfinite(svm.decide(np.array([[1.0, 1.0], [2.0, 0.0]]))).all()


def test_xor_of_two_decisions_is_separated_by_the_svm_but_by_no_sum():
    from sklearn.svm import LinearSVC

    points, labels = xor(400)
    new, truth = xor(400, seed=1)
    assert ((dcnn_svm.fit_svm(points, labels).decide(new) > 0) == truth).mean() > 0.99
    linear = LinearSVC().fit(points, labels)
    assert (linear.predict(new) == truth).mean() < 0.8


class Branch(nn.Module):
    """Gives the log-odds that were written into its input."""

    def __init__(self, read):
        super().__init__()
        self.read = read

    def forward(self, given):
        odds = self.read(given)
        return torch.stack([-odds / 2, odds / 2], 1)


def xor_model(dtype=torch.float32, **config):
    """DCNN-SVM whose branches read off their decisions: red of the last frame's corner, mean of phase one."""
    model = tiny("dcnn_svm", **config).to(dtype)
    model.image = Branch(lambda image: 4 * image[:, 0, 0, 0])
    model.current = Branch(lambda features: features[:, 0])
    return model


def xor_batch(count, seed=0):
    points, labels = xor(count, seed)
    video = torch.zeros(count, 3, 1, 16, 24)
    video[:, 0] = torch.as_tensor((points[:, 0] / 4 + 1) * 127.5, dtype=torch.float32)[:, None, None, None]
    current = 8000 + 2000 * torch.as_tensor(points[:, 1], dtype=torch.float32)[:, None, None]
    return {
        "video": video,
        "current": current.expand(-1, 5, 3),
        "class_label": torch.as_tensor(labels, dtype=torch.uint8),
    }


def test_fitted_model_separates_a_planted_rule_and_is_saved_without_pickle(tmp_path):
    model = xor_model()
    before = [value.clone() for value in outputs(model, xor_batch(20))]
    model.fit(FitData(train=[], held_out=[xor_batch(150), xor_batch(150, 1)]))
    batch = xor_batch(200, 2)
    (logits,) = outputs(model, batch)
    assert (logits.argmax(1) == batch["class_label"]).float().mean() > 0.98
    assert torch.equal(logits[:, 0], -logits[:, 1])
    assert differ(before, outputs(model, xor_batch(20)))

    points = torch.stack(
        [4 * (batch["video"][:, 0, 0, 0, 0] / 127.5 - 1), (batch["current"][:, 0, 0] - 8000) / 2000]
    )
    expected = model.svm().decide(points.T.double().numpy())
    np.testing.assert_allclose(logits[:, 1].numpy(), expected, atol=2e-5)

    path = save_checkpoint(tmp_path / "model.safetensors", create_like(model))
    assert path.read_bytes()[8:9] == b"{"  # safetensors: a length, then JSON
    loaded = load_checkpoint(path)
    assert next(loaded.parameters()).dtype == torch.float32
    np.testing.assert_array_equal(loaded.svm().decide(points.T.double().numpy()), expected)
    for converted in (loaded.half(), loaded.double()):  # to less precision and back: the machine stays exact
        np.testing.assert_array_equal(converted.svm().decide(points.T.double().numpy()), expected)


def create_like(fitted):
    """A whole model, with its own branches, that holds the machine of `fitted`."""
    model = tiny("dcnn_svm")
    for name in ("support_bits", "dual_bits", "scalar_bits"):
        setattr(model, name, getattr(fitted, name))
    return model


def test_before_the_fit_the_decisions_are_added():
    model = xor_model()
    assert model.svm() is None
    batch = xor_batch(10)
    with torch.no_grad():
        output = model(**model.takes(batch))
    odds = dcnn_svm.log_odds(output.aux)
    torch.testing.assert_close(output.logits[:, 1] - output.logits[:, 0], odds.sum(1))


def test_svm_takes_validation_only_where_held_out_lacks_a_class():
    held, validation = xor_batch(60), xor_batch(60, 1)
    both, alone = xor_model(), xor_model()
    both.fit(FitData(train=[], held_out=[held], validation=[validation]))
    alone.fit(FitData(train=[], held_out=[held]))
    assert torch.equal(both.support_bits, alone.support_bits)

    normal = {key: value[held["class_label"] == 0] for key, value in held.items()}
    helped = xor_model()
    helped.fit(FitData(train=[], held_out=[normal], validation=[validation]))
    assert helped.svm() is not None
    with pytest.raises(InputError, match="expected normal and abnormal samples held out .* and 0 abnormal; "):
        xor_model().fit(FitData(train=[held], held_out=[normal]))
    with pytest.raises(InputError, match="0 normal and 0 abnormal"):
        xor_model().fit(FitData(train=[held]))


def test_svm_leaves_unlabelled_samples_out():
    held, more = xor_batch(60), xor_batch(60, 1)
    more["class_label"][:] = 255
    one, other = xor_model(), xor_model()
    one.fit(FitData(train=[], held_out=[held]))
    other.fit(FitData(train=[], held_out=[more, held]))
    assert torch.equal(one.dual_bits, other.dual_bits)


def test_rows_of_the_svm_are_bounded():
    model = xor_model(max_rows=20)
    model.fit(FitData(train=[], held_out=[xor_batch(300)]))
    assert 2 <= len(model.dual_bits) <= 20
    alternating = xor_batch(300)
    alternating["class_label"][:] = torch.tensor([0] + 298 * [1] + [0])
    with pytest.raises(InputError, match="both classes among 2 of 300 .* raise max_rows"):
        xor_model(max_rows=2).fit(FitData(train=[], held_out=[alternating]))


def test_what_the_svm_sees_was_not_trained_on(furnace_store, tmp_path, monkeypatch):
    seen = {}

    def fit(self, data):
        for part in ("train", "held_out", "validation"):
            seen[part] = np.concatenate([batch["sample_id"] for batch in getattr(data, part)])

    monkeypatch.setattr(dcnn_svm.DcnnSvm, "fit", fit)
    window = {"num_frames": 1, "current_seconds": 0.5, "current_hz": 16, "tolerance": 0.2}
    fields = {f"protocol.{name}": value for name, value in window.items()}
    options = {"channels": [4], **fields, "epochs": 1}
    train("dcnn_svm", furnace_store, tmp_path / "run", options=options, device="cpu")
    assert all(len(ids) for ids in seen.values())
    assert not set(seen["held_out"]) & set(seen["train"])
    assert not set(seen["held_out"]) & set(seen["validation"])
    data = fmfbench.open_dataset(furnace_store)
    fit_ids, _ = fit_and_validation(data, get_protocol("paper", **window))
    early, late = held_out_part(data, fit_ids, 0.1)
    assert set(seen["held_out"]) <= set(late)
    assert set(seen["train"]) <= set(early)


def test_frames_too_small_for_the_branch_are_refused():
    model, batch = tiny("dcnn_svm"), windows(1, height=4, width=4)
    model(**batch)
    with pytest.raises(InputError, match="dcnn_svm: video: expected .* 4 x 4 pixels or more"):
        model(**windows(1, height=3, width=8))


def test_dcnn_svm_looks_at_the_last_frame():
    model, batch = tiny("dcnn_svm"), windows(2)
    earlier, last = batch["video"].clone(), batch["video"].clone()
    earlier[:, :, :-1], last[:, :, -1] = 0, 0
    (plain,) = outputs(model, batch)
    assert torch.equal(outputs(model, {**batch, "video": earlier})[0], plain)
    assert not torch.equal(outputs(model, {**batch, "video": last})[0], plain)


# --- SSFEGGAN ---------------------------------------------------------------------------------------------


def test_loss_values_of_equal_logits():
    logits = torch.zeros(1, 2, dtype=torch.float64)
    assert ssfeggan.log_real(logits).exp().item() == pytest.approx(2 / 3, abs=1e-12)
    assert -ssfeggan.log_real(logits).item() == pytest.approx(0.405465, abs=1e-6)
    assert -ssfeggan.log_generated(logits).item() == pytest.approx(1.098612, abs=1e-6)


def test_discriminator_is_a_softmax_with_a_third_logit_at_zero():
    logits = 3 * random(50, 2)
    with_third = F.log_softmax(torch.cat([logits, torch.zeros(50, 1, dtype=torch.float64)], 1), 1)
    torch.testing.assert_close(ssfeggan.log_generated(logits), with_third[:, 2])
    torch.testing.assert_close(ssfeggan.log_real(logits), with_third[:, :2].logsumexp(1))
    far = torch.tensor([[800.0, 0.0], [-800.0, -900.0]])
    assert torch.isfinite(ssfeggan.log_real(far)).all()
    assert torch.isfinite(ssfeggan.log_generated(far)).all()


def test_a_constant_on_the_logits_changes_who_is_real_but_no_class():
    logits, labels = random(6, 2), torch.arange(6) % 2
    shifted = logits + 1.5
    torch.testing.assert_close(
        ssfeggan.labelled_cross_entropy(shifted, labels), ssfeggan.labelled_cross_entropy(logits, labels)
    )
    assert (ssfeggan.log_real(shifted) > ssfeggan.log_real(logits)).all()


def test_cross_entropy_of_the_labelled():
    logits, labels = random(4, 2), torch.tensor([0, 255, 1, 255])
    expected = F.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    torch.testing.assert_close(ssfeggan.labelled_cross_entropy(logits, labels), expected)
    assert ssfeggan.labelled_cross_entropy(logits, torch.full((4,), 255)) == 0


def gradients(model, loss, part):
    names, values = zip(*getattr(model, part).named_parameters(), strict=True)
    found = torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


def play(**config):
    model = tiny("ssfeggan", **config).double().train()
    batch = labelled(8)
    torch.manual_seed(1)
    output = model(**model.takes(batch))
    return model, batch, output, model.objective(output, batch, 1.0)


def test_all_labels_and_no_adversary_is_a_plain_classifier():
    model, batch, output, terms = play(unsupervised=0.0)
    plain = F.cross_entropy(output.logits, batch["class_label"])
    torch.testing.assert_close(terms["loss"], plain)
    got, expected = (gradients(model, loss, "discriminator") for loss in (terms["loss"], plain))
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-12)


def test_each_network_plays_its_own_game():
    """The gradients are those of L_D and L_G apart, each to its own network."""
    model, _, _, terms = play()
    l_d = terms["class_loss"] + terms["real_loss"] + terms["generated_loss"]
    torch.testing.assert_close(terms["loss"], l_d)
    for part, own in (("discriminator", l_d), ("generator", terms["generator_loss"])):
        got, expected = gradients(model, terms["loss"], part), gradients(model, own, part)
        for name in expected:
            torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-12)
    assert all(value is None for value in gradients(model, l_d, "generator").values())
    assert all(value is None for value in gradients(model, terms["generator_loss"], "discriminator").values())


def test_cnn_mlp_and_both_outputs_of_the_generator_receive_gradient():
    model, _, _, terms = play()
    for part, names in (("discriminator", ("image", "current", "fuse")), ("generator", ("image", "current"))):
        found = gradients(model, terms["loss"], part)
        for branch in names:
            weights = [value for name, value in found.items() if name.startswith(branch) and value.dim() > 1]
            assert weights
            assert all(value.abs().max() > 0 for value in weights)


def test_feature_matching_is_zero_when_the_real_batch_is_generated(monkeypatch):
    model, batch, _, terms = play()
    assert terms["generator_loss"] > 0
    image = model.input_norm.video(batch["video"][:, :, -1])
    features = current_features(model.input_norm.current(batch["current"]))
    monkeypatch.setattr(model.generator, "forward", lambda z: (image, features))
    terms = model.objective(model(**model.takes(batch)), batch, 1.0)
    assert terms["generator_loss"] < 1e-20
    one, other = random(5, 3), random(5, 3, seed=1)
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum()
    torch.testing.assert_close(ssfeggan.feature_matching(one, other), expected)


def test_part_of_the_labels_shows():
    """The same samples throughout; evaluation sees all."""
    model = tiny("ssfeggan", label_share=0.5).train()
    batch = labelled(200)
    logits = random(200, 2, dtype=torch.float32)
    zeros = torch.zeros(200, 4)
    aux = {"real_features": zeros, "generated_features": zeros, "generated_logits": logits}
    found = [
        model.objective(
            Output(logits[rows], None, {key: value[rows] for key, value in aux.items()}),
            {key: batch[key][rows] for key in ("class_label", "sample_id")},
            1.0,
        )["class_loss"]
        for rows in (slice(0, 200), torch.arange(199, -1, -1))
    ]
    torch.testing.assert_close(*found)
    single = [
        model.objective(
            Output(logits[i : i + 1], None, {key: value[:1] for key, value in aux.items()}),
            {key: batch[key][i : i + 1] for key in ("class_label", "sample_id")},
            1.0,
        )["class_loss"]
        for i in range(200)
    ]
    shown = torch.stack(single) > 0
    assert 70 < shown.sum() < 130
    torch.testing.assert_close(found[0], F.cross_entropy(logits[shown], batch["class_label"][shown]))
    assert not torch.isclose(found[0], F.cross_entropy(logits, batch["class_label"]))
    evaluated = model.objective(Output(logits), batch, 1.0)
    torch.testing.assert_close(evaluated["loss"], F.cross_entropy(logits, batch["class_label"]))


def test_generator_makes_what_the_discriminator_reads():
    for config in ({}, {"size": [32, 48], "channels": [8, 16]}):
        model = create_model("ssfeggan", **config).eval()
        with torch.no_grad():
            image, features = model.generator(torch.randn(2, 100))
        assert image.shape == (2, 3, *model.config.size)
        assert features.shape == (2, 24)
        assert image.abs().max() <= 1


def test_generator_learns_to_be_like_the_data():
    """Its mean current features move to those of the data while the discriminator looks on."""
    model = tiny("ssfeggan", unsupervised=0.0).train()
    batch = labelled(16)
    batch["current"] = batch["current"] + 4000
    model.discriminator.requires_grad_(False)
    optimiser = torch.optim.Adam(model.generator.parameters(), lr=3e-3)
    matching = []
    for step in range(60):
        torch.manual_seed(step)
        terms = model.objective(model(**model.takes(batch)), batch, 1.0)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        matching.append(terms["generator_loss"].item())
    assert np.mean(matching[-5:]) < 0.2 * np.mean(matching[:5])


# --- Unicoder-VL ------------------------------------------------------------------------------------------


def test_masked_current_has_no_influence():
    model, one, other = tiny("unicoder_vl").double(), windows(2), windows(2, seed=1)
    swapped = {**one, "current": other["current"]}
    nothing = torch.zeros(2, CURRENT, dtype=torch.bool)
    assert_close(outputs(model, one, current_valid=nothing), outputs(model, swapped, current_valid=nothing))
    assert differ(outputs(model, one), outputs(model, swapped))


def test_padded_tokens_never_influence():
    model, batch = tiny("unicoder_vl", depth=2).double(), windows(2)
    video_valid, current_valid = (
        torch.ones(2, FRAMES, dtype=torch.bool),
        torch.ones(2, CURRENT, dtype=torch.bool),
    )
    video_valid[:, :2], current_valid[0, :9], current_valid[1, :3] = False, False, False
    valid = {"video_valid": video_valid, "current_valid": current_valid}
    changed = {"video": batch["video"].clone(), "current": batch["current"].clone()}
    changed["video"][:, :, :2] = 255 - changed["video"][:, :, :2]
    changed["current"][~current_valid] += 5000
    assert_close(outputs(model, batch, **valid), outputs(model, changed, **valid))
    assert differ(outputs(model, batch), outputs(model, changed))
    everything = {key: torch.ones_like(value) for key, value in valid.items()}
    assert_close(outputs(model, batch, **everything), outputs(model, batch))


def test_mask_is_the_sequence_without_the_masked():
    """Hiding the first current instants equals a model whose sequence never had them."""
    long, short = (
        tiny("unicoder_vl", depth=2).double(),
        tiny("unicoder_vl", depth=2, current_length=20).double(),
    )
    state = long.state_dict()
    table = state["current_tokens.position"]
    state["current_tokens.position"] = torch.cat([table[:, :1], table[:, 13:]], 1)
    short.load_state_dict(state)
    batch, valid = windows(2), torch.arange(CURRENT) >= 12
    got = outputs(long, batch, current_valid=valid.expand(2, -1))
    assert_close(got, outputs(short, {**batch, "current": batch["current"][:, 12:]}))


def test_without_positions_the_class_token_sees_no_order():
    model, batch = tiny("unicoder_vl", depth=2).double().eval(), windows(1)
    patches = model.input_norm.video(patchify(batch["video"], (1, 8, 8)))
    current = model.input_norm.current(batch["current"])
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(n, generator=generator) for n in (patches.shape[1], CURRENT)]
    permuted = patches[:, orders[0]], current[:, orders[1]]
    with torch.no_grad():
        with_positions = model.encode(patches, current)[:, 0] - model.encode(*permuted)[:, 0]
        assert with_positions.abs().max() > 1e-3
        for part in (model.types, model.current_tokens.position, model.patch_tokens.locate.weight):
            part.zero_()
        plain, mixed = model.encode(patches, current), model.encode(*permuted)
    torch.testing.assert_close(plain[:, 0], mixed[:, 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(plain[:, 1:][:, :CURRENT][:, orders[1]], mixed[:, 1 : 1 + CURRENT])
    assert differ([plain[:, 1:]], [mixed[:, 1:]])


def test_length_of_the_sequence():
    with torch.device("meta"):
        model = create_model("unicoder_vl")
        tokens = model.encode(torch.zeros(1, 640, 192), torch.zeros(1, 440, 3))
    assert tokens.shape == (1, 1_081, 96)


# --- ClipBERT ---------------------------------------------------------------------------------------------


def test_order_of_frames_is_invisible():
    model, batch = tiny("clipbert", depth=2).double(), windows(2)
    plain = outputs(model, batch)
    for order in ([3, 2, 1, 0], [2, 0, 3, 1]):
        assert_close(outputs(model, {**batch, "video": batch["video"][:, :, order]}), plain)
    other = batch["video"].clone()
    other[:, :, 0] = 255 - other[:, :, 0]
    assert differ(outputs(model, {**batch, "video": other}), plain)


@pytest.mark.parametrize("frames", [2, 7])
def test_a_frame_repeated_is_one_frame(frames):
    model, batch = tiny("clipbert").double(), windows(2, frames=1)
    repeated = {**batch, "video": batch["video"].expand(-1, -1, frames, -1, -1)}
    assert_close(outputs(model, repeated), outputs(model, batch))


def test_places_are_sums_of_row_and_column():
    tokens = clipbert.GridTokens(3, 5, 4)
    places = tokens.places()
    assert places.shape == (15, 4)
    for i in range(3):
        for j in range(5):
            assert torch.equal(places[5 * i + j], tokens.row[i] + tokens.column[j])


def test_clips_are_joined_by_log_sum_exp():
    logits = random(3, 1, 2)
    torch.testing.assert_close(clipbert.join_clips(logits), logits[:, 0])
    for n in (2, 5):
        joined = clipbert.join_clips(logits.expand(-1, n, -1))
        torch.testing.assert_close(joined, logits[:, 0] + math.log(n))
        torch.testing.assert_close(joined.softmax(1), logits[:, 0].softmax(1))


def test_clips_are_those_of_one_clip_models():
    """Two clips of two frames: the log-sum-exp of what each gives alone; frames do not change clips unseen."""
    one, two = tiny("clipbert").double(), tiny("clipbert", clips=2).double()
    two.load_state_dict(one.state_dict())
    batch = windows(2)
    halves = [outputs(one, {**batch, "video": batch["video"][:, :, part]}) for part in ([0, 1], [2, 3])]
    expected = [torch.logaddexp(a, b) for a, b in zip(*halves, strict=True)]
    assert_close(outputs(two, batch), expected)
    assert differ(outputs(two, {**batch, "video": batch["video"][:, :, [0, 2, 1, 3]]}), expected, least=1e-9)
    with pytest.raises(InputError, match=r"multiple of 2 clips, got \(2, 3, 3, 16, 24\); "):
        two(batch["video"][:, :, :3], batch["current"])


# --- CAPTURE ----------------------------------------------------------------------------------------------


def test_streams_meet_first_in_the_first_cross_layer():
    model, batch = tiny("capture", depth=2).double().eval(), windows(1)
    tubelets = model.input_norm.video(patchify(batch["video"], (2, 8, 8))).requires_grad_()
    current = model.input_norm.current(batch["current"]).requires_grad_()
    separate = model.separate(tubelets, current)
    crossed = model.cross_layers[0](*separate)
    inputs = (tubelets, current)
    for stream, own in enumerate(inputs):
        other = inputs[1 - stream]
        weight = random(*separate[stream].shape, seed=5)
        for tokens, meets in ((separate[stream], False), (crossed[stream], True)):
            towards = [
                torch.autograd.grad((tokens * weight).sum(), x, retain_graph=True, allow_unused=True)[0]
                for x in (own, other)
            ]
            assert towards[0].abs().max() > 0
            assert (towards[1] is not None and towards[1].abs().max() > 0) == meets


def test_cross_layer_treats_its_streams_alike():
    layer, swapped = (capture.CrossLayer(24, 3, 48).double() for _ in range(2))
    exchange = {"_a": "_b", "_b": "_a"}
    state = {}
    for name, value in layer.state_dict().items():
        owner = next(part for part in name.split(".") if part[-2:] in exchange)
        state[name.replace(owner, owner[:-2] + exchange[owner[-2:]])] = value
    swapped.load_state_dict(state)
    a, b = random(2, 5, 24), random(2, 7, 24, seed=1)
    with torch.no_grad():
        one, other = layer(a, b), swapped(b, a)
    torch.testing.assert_close(one[0], other[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(one[1], other[0], rtol=0, atol=1e-12)
    assert one[0].shape == a.shape
    assert not torch.allclose(one[0], layer(b, a)[1])


def test_contrastive_term_of_equal_features_and_of_perfect_pairs():
    for pairs in (2, 5):
        equal = torch.ones(pairs, 8, dtype=torch.float64)
        assert capture.nt_xent(equal, 3 * equal, 0.07).item() == pytest.approx(math.log(2 * pairs - 1))
    assert capture.nt_xent(equal[:2], equal[:2], 0.07).item() == pytest.approx(1.098612, abs=1e-6)
    perfect = torch.eye(2, 8, dtype=torch.float64)
    assert capture.nt_xent(perfect, 2 * perfect, 0.07).item() == pytest.approx(1.25e-6, rel=1e-2)


def test_contrastive_term_against_a_loop():
    one, other = random(4, 6), random(4, 6, seed=1)
    features = torch.cat([one, other]).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    total = 0.0
    for i in range(8):
        weights = [math.exp(features[i] @ features[j] / 0.3) for j in range(8) if j != i]
        total -= math.log(math.exp(features[i] @ features[(i + 4) % 8] / 0.3) / sum(weights))
    assert capture.nt_xent(one, other, 0.3).item() == pytest.approx(total / 8)


def test_contrastive_term_joins_the_objective_where_it_has_weight():
    batch = labelled(4)
    plain, weighted = (
        tiny("capture", dropout=0.0).train(),
        tiny("capture", dropout=0.0, contrastive=0.1).train(),
    )
    weighted.load_state_dict(plain.state_dict())
    one, other = (model.objective(model(**model.takes(batch)), batch, 1.0) for model in (plain, weighted))
    assert set(other) - set(one) == {"contrastive_loss"}
    torch.testing.assert_close(other["loss"], one["loss"] + 0.1 * other["contrastive_loss"])
    assert (
        create_model("capture", preset="contrastive", **registration("capture").tiny).config.contrastive
        == 0.1
    )


def test_visual_class_token_stands_for_the_whole_clip():
    tokens = tiny("capture").tubelet_tokens
    assert tokens.location[0].tolist() == [0, 0, 1, 1, 1, 1]
    assert torch.equal(tokens.location[1:], patch_locations((2, 2, 3)))


# --- BiLM -------------------------------------------------------------------------------------------------


def encoded(model, batch):
    with torch.no_grad():
        return model.eval().encode(batch["video"], batch["current"])


def without_adapters(model, **config):
    plain = tiny("bilm", adapters=False, **config).to(next(model.parameters()).dtype)
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    assert all(".adapters." in name for name in missing.unexpected_keys)
    return plain


def test_adapters_at_zero_are_not_there():
    model, batch = tiny("bilm", depth=2).double(), windows(2)
    plain = outputs(without_adapters(model, depth=2), batch)
    assert differ(outputs(model, batch), plain, least=1e-9)
    with torch.no_grad():
        for block in model.blocks:
            for adapter in block.adapters:
                adapter.up.weight.zero_()
                adapter.up.bias.zero_()
    assert_close(outputs(model, batch), plain, rtol=0, atol=0)


def test_adapters_start_as_nearly_nothing():
    model, batch = create_model("bilm", dense_task=False), windows(1, 10, 64, 64, 440)
    adapters = [p for name, p in model.named_parameters() if ".adapters." in name]
    assert sum(p.numel() for p in adapters) == 28_944
    values = torch.cat([p.flatten() for p in adapters])
    assert values.abs().max() <= 2e-3
    assert values.std().item() == pytest.approx(
        0.9594e-3, rel=0.03
    )  # of a normal law whose tails are moved in to two sigma
    plain = create_model("bilm", dense_task=False, adapters=False)
    plain.load_state_dict(model.state_dict(), strict=False)
    hidden, bare = encoded(model, batch), encoded(plain, batch)
    change = ((hidden - bare).norm(dim=2) / bare.norm(dim=2)).max()
    assert 0 < change < 5e-3


def test_frozen_encoder_trains_embeddings_adapters_norms_and_heads():
    model, batch = tiny("bilm", freeze_encoder=True).train(), labelled(4)
    frozen = [
        "backbone.*",
        "blocks.*.attention.qkv.weight",
        "blocks.*.attention.out.*",
        "blocks.*.mlp.up.*",
        "blocks.*.mlp.down.*",
    ]
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != any(fnmatch(name, pattern) for pattern in frozen), name
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"frame_tokens", "current_tokens", "types", "blocks", "head", "answers", "decoder"}

    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.objective(model(**model.takes(batch)), batch, 1.0)["loss"].backward()
    optimiser.step()
    for name, value in model.state_dict().items():  # the backbone's running statistics are frozen too
        if any(fnmatch(name, pattern) for pattern in frozen):
            assert torch.equal(value, before[name]), name
    changed = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert set(changed) == {name for name, value in model.named_parameters() if value.requires_grad}
    assert all(parameter.requires_grad for parameter in tiny("bilm").parameters())


@pytest.mark.parametrize("config", [{}, {"frame_tokens": True}])
def test_bilm_sees_the_order_of_frames(config):
    model, batch = tiny("bilm", **config).double(), windows(2)
    backward = {**batch, "video": batch["video"].flip(2)}
    assert differ(outputs(model, batch), outputs(model, backward), least=1e-5)


@pytest.mark.parametrize(("config", "visual"), [({}, 640), ({"frame_tokens": True}, 10)])
def test_visual_tokens_of_bilm(config, visual):
    with torch.device("meta"):
        model = create_model("bilm", **config)
        inputs = torch.zeros(1, 3, 10, 64, 64), torch.zeros(1, 440, 3)
        assert model.encode(*inputs).shape == (1, 1 + 440 + visual, 96)
        output = model(*inputs)
    assert (output.pixel_logits is None) == bool(config) == (not model.dense)


def test_tokens_of_frames_are_ordered_by_time_row_column():
    """One bright place of the maps lights its token alone."""
    tokens = tiny("bilm").frame_tokens.double()
    kind = torch.zeros(24, dtype=torch.float64)
    maps = torch.zeros(1, FRAMES, 128, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        plain = tokens(maps, kind)
        maps[0, 2, :, 1, 2] = random(128)
        changed = (tokens(maps, kind) - plain).abs().amax((0, 2)) > 0
    assert changed.nonzero().tolist() == [[(2 * 2 + 1) * 3 + 2]]


def test_place_of_a_token_is_frame_row_and_column():
    tokens = tiny("bilm").frame_tokens
    tokens.norm = nn.Identity()
    with torch.no_grad():
        tokens.linear.bias.zero_()
    kind = random(24, dtype=torch.float32)
    found = tokens(torch.zeros(2, FRAMES, 128, 2, 3), kind).unflatten(1, (FRAMES, 2, 3))
    for t in range(FRAMES):
        for i in range(2):
            for j in range(3):
                place = tokens.frame[t] + tokens.row[i] + tokens.column[j] + kind
                torch.testing.assert_close(found[:, t, i, j], place.expand(2, -1))


def test_presets():
    assert create_model("bilm", preset="frozen", **registration("bilm").tiny).backbone.frozen
    assert not create_model("bilm", preset="literal", **registration("bilm").tiny).dense
