"""DCNN-SVM.

Also tests fmfbench_models.parts: bits.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest_zoo_cross import (
    differ,
    outputs,
    tiny,
    windows,
)
from torch import nn

import fmfbench
from fmfbench.errors import InputError
from fmfbench.windows.protocol import get_protocol
from fmfbench_models import FitData, load_checkpoint
from fmfbench_models.checkpoint import save_checkpoint
from fmfbench_models.training.samples import fit_and_validation, held_out_part
from fmfbench_models.training.train import train
from fmfbench_models.zoo import dcnn_svm


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
