"""The recipe's normal_only: nothing abnormal is seen before testing, and what was seen is written down."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import scipy.io
import torch
from conftest_run import torchrun
from torch import nn

import fmfbench
from fmfbench.errors import InputError
from fmfbench.torch import WindowLoader
from fmfbench.windows.protocol import get_protocol
from fmfbench_models import FitData, Output, create_model, load_checkpoint
from fmfbench_models.inference.predict import predict
from fmfbench_models.interface import Model
from fmfbench_models.registry import Registration, _registrations
from fmfbench_models.training.runlog import read_log
from fmfbench_models.training.samples import current_statistics, fit_and_validation, normal_windows
from fmfbench_models.training.settings import make_settings
from fmfbench_models.training.train import train

QUICK = {"epochs": 2, "batch_size": 4, "normal_only": True}
DARK = 120  # of the furnace's pixels, all normal ones are below it, all marked ones at 130 or above


@dataclasses.dataclass(frozen=True, kw_only=True)
class WitnessConfig:
    size: tuple[int, int] = (16, 24)


class Witness(Model):
    """Looks at the pixels of all that it is given; a frame that is not dark has a mark."""

    bound: torch.Tensor

    def __init__(self, config: WitnessConfig) -> None:
        super().__init__(modality="visual", dense=True)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("bound", torch.zeros(()))

    def forward(self, video=None, current=None):
        assert video is not None
        SEEN.append(("step" if self.training else "evaluation", int(video.max())))
        image = self.scale * video[:, :, -1].float().mean(1) / 255
        return Output(None, torch.stack([torch.full_like(image, 0.48), image], 1))

    def objective(self, output, batch, alpha):
        SEEN.append(("labels", int(batch["class_label"].max())))
        SEEN.append(("labels", int(batch["mask"].max())))
        return {"loss": (output.pixel_logits[:, 1] - 0.2).square().mean()}

    def fit(self, data: FitData) -> None:
        for name in ("train", "held_out", "validation"):
            batches = getattr(data, name)
            assert batches is not None
            for batch in batches:
                SEEN.append((name, int(batch["video"].max())))
                SEEN.append(("labels", int(batch["class_label"].max())))
                self.bound.fill_(max(self.bound.item(), batch["video"].max().item()))


SEEN: list[tuple[str, int]] = []
WITNESS = Registration(
    name="witness",
    title="Witness",
    modality="visual",
    dense=True,
    config=WitnessConfig,
    build=Witness,
    tiny={},
    training="both",
    held_out=0.2,
    recipe={"normal_only": True, "epochs": 2, "batch_size": 4, "lr_steps": []},
    source="a test",
    provenance={"all of it": "choice"},
)


@pytest.fixture
def witness(monkeypatch):
    monkeypatch.setitem(_registrations(), "witness", WITNESS)
    SEEN.clear()
    return SEEN


@pytest.fixture
def read_ids(monkeypatch):
    """Sample ids of all batches that any loader hands out."""
    found: list[int] = []
    received = WindowLoader.__iter__

    def spied(self):
        for batch in received(self):
            found.extend(batch["sample_id"].tolist())
            yield batch

    monkeypatch.setattr(WindowLoader, "__iter__", spied)
    return found


def shows_only_normal(data, windows):
    """Plainly: ids of windows none of whose frames is abnormal, of another split, or unlabelled."""
    kept = []
    for sample in windows.sample_ids.tolist():
        (number,), (frame,) = data.locate([sample])
        recording = list(data.recordings.values())[number]
        held = [
            max(frame - k * windows.protocol.stride, frame % windows.protocol.stride)
            for k in range(windows.protocol.num_frames)
        ]
        if all(recording.split[f] == 0 and recording.class_label[f] == 0 for f in held):
            kept.append(sample)
    return kept


# --- nothing abnormal reaches the model -----------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [None, "memory", "device"])
@pytest.mark.parametrize("context", ["full", "masked", "strict"])
def test_no_abnormal_window_reaches_the_model(
    witness, read_ids, furnace_store, options, tmp_path, context, cache
):
    """By the pixels that the model sees, by their labels, and by the ids that the loaders read."""
    windows = {key: value for key, value in options.items() if "." in key}
    train(
        "witness",
        furnace_store,
        tmp_path / "run",
        options=windows,
        context=context,
        device="cpu",
        cache=cache,
    )
    assert {kind for kind, _ in witness} == {
        "step",
        "evaluation",
        "labels",
        "train",
        "held_out",
        "validation",
    }
    assert max(value for kind, value in witness if kind != "labels") < DARK
    assert max(value for kind, value in witness if kind == "labels") == 0
    data = fmfbench.open_dataset(furnace_store)
    assert (data.class_labels(np.unique(read_ids)) == 0).all()


def test_without_it_the_witness_sees_both(witness, furnace_store, options, tmp_path):
    """The instruments above can tell: the same model under the ordinary recipe."""
    windows = {key: value for key, value in options.items() if "." in key}
    train("witness", furnace_store, tmp_path / "run", options={**windows, "normal_only": False}, device="cpu")
    for kind in ("step", "evaluation", "train", "held_out", "validation"):
        assert max(value for name, value in witness if name == kind) > DARK
    assert max(value for kind, value in witness if kind == "labels") == 1


def test_all_normal_windows_are_used(witness, read_ids, furnace_store, options, tmp_path):
    """Exactly those: nothing normal is left out but what lies between fit and validation."""
    fields = {key: value for key, value in options.items() if "." in key}
    run = train("witness", furnace_store, tmp_path / "run", options={**fields, "batch_size": 1}, device="cpu")
    data = fmfbench.open_dataset(furnace_store)
    windows = data.windows("train", load_checkpoint(run).meta.protocol)
    plain = shows_only_normal(data, windows)
    assert normal_windows(windows).tolist() == plain
    parts = fit_and_validation(data, get_protocol(load_checkpoint(run).meta.protocol))
    fit, validation = (np.intersect1d(ids, plain) for ids in parts)
    assert 0 < len(validation) < len(fit) < len(plain) < (data.class_labels(windows.sample_ids) == 0).sum()
    assert sorted(set(read_ids)) == np.sort(np.concatenate([fit, validation])).tolist()
    samples = load_checkpoint(run).meta.provenance["samples"]
    assert samples["training"] + samples["held_out"] == len(fit)
    assert samples["validation"] == len(validation)
    assert samples["held_out"] > 0


def test_normal_windows_of_another_protocol_and_in_blocks(furnace_store, monkeypatch):
    from fmfbench_models.training import samples

    data = fmfbench.open_dataset(furnace_store)
    for protocol in ("short", "paper"):
        windows = data.windows("train", protocol)
        whole = normal_windows(windows)
        assert whole.tolist() == shows_only_normal(data, windows)
        monkeypatch.setattr(samples, "_BLOCK", 7)
        assert np.array_equal(normal_windows(windows), whole)
        monkeypatch.undo()


def test_statistics_are_of_normal_train_frames(furnace_store):
    data = fmfbench.open_dataset(furnace_store)
    rows = np.concatenate([  # this store has one current a frame, at the frame's own time
        r.current[(r.split == 0) & (r.class_label == 0)] for r in data.recordings.values()
    ]).astype(float)  # fmt: skip
    mean, std = current_statistics(data, normal_only=True)
    assert mean == pytest.approx(rows.mean(0).tolist(), rel=1e-9)
    assert std == pytest.approx(rows.std(0).tolist(), rel=1e-6)
    assert min(mean) > max(current_statistics(data)[0]) + 300  # abnormal currents are 1,500 A lower


# --- what is written down -------------------------------------------------------------------------------------------


def test_checkpoint_and_prediction_file_say_so(witness, furnace_store, options, tmp_path):
    fields = {key: value for key, value in options.items() if "." in key}
    run = train("witness", furnace_store, tmp_path / "run", options=fields, device="cpu")
    facts = load_checkpoint(run).meta.provenance
    assert facts["normal_only"] is facts["recipe"]["normal_only"] is True
    assert json.loads((run / "run.json").read_text())["recipe"]["normal_only"] is True
    mean, std = current_statistics(fmfbench.open_dataset(furnace_store), normal_only=True)
    normalisation = load_checkpoint(run).meta.normalisation
    assert normalisation["current_mean"] == pytest.approx(mean, rel=1e-6)
    assert normalisation["current_std"] == pytest.approx(std, rel=1e-6)
    epochs = [line for line in read_log(run / "log.jsonl") if line["kind"] == "epoch"]
    assert all(line["val_f1"] is line["val_miou"] is None for line in epochs)  # of no abnormal sample
    assert all(line["val_loss"] > 0 and 0 <= line["val_accuracy"] <= 1 for line in epochs)
    predict(run, furnace_store, tmp_path / "p.npz", device="cpu")
    with np.load(tmp_path / "p.npz") as file:
        assert json.loads(str(file["meta"]))["normal_only"] is True
    model = create_model("fmformer", **{k: v for k, v in options.items() if "." not in k}, dense_task=False)
    predict(model, furnace_store, tmp_path / "q.npz", protocol="short", device="cpu")
    with np.load(tmp_path / "q.npz") as file:
        assert json.loads(str(file["meta"]))["normal_only"] is False


def test_a_registration_declares_it_and_the_caller_overrides_it(witness, furnace_store):
    data = fmfbench.open_dataset(furnace_store)
    assert make_settings("witness", data).recipe.normal_only is True
    assert make_settings("witness", data, options={"normal_only": False}).recipe.normal_only is False
    assert make_settings("fmformer", data).recipe.normal_only is False
    assert make_settings("fmformer", data, options={"normal_only": True}).recipe.normal_only is True


# --- resumed, and over several processes ----------------------------------------------------------------------------


def test_resumes_exactly(furnace_store, options, tmp_path, monkeypatch):
    from fmfbench_models.training import train as module

    call = {"options": {**options, **QUICK}, "device": "cpu", "save_seconds": 0}
    whole = train("fmformer", furnace_store, tmp_path / "whole", **call)
    original, stops = module._Run._save_state, []

    def save_and_stop(self, loader):
        original(self, loader)
        if self.number % 7 == 3:
            stops.append(self.number)
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Run, "_save_state", save_and_stop)
    while True:
        try:
            train("fmformer", furnace_store, tmp_path / "run", **call)
            break
        except KeyboardInterrupt:
            continue
    assert len(stops) >= 3
    one, other = (load_checkpoint(tmp_path / n / "last.safetensors").state_dict() for n in ("whole", "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_log(whole / "log.jsonl") == read_log(tmp_path / "run" / "log.jsonl")
    with pytest.raises(InputError, match="got one with other recipe"):
        train(
            "fmformer", furnace_store, whole, options={**options, **QUICK, "normal_only": False}, device="cpu"
        )


SCRIPT = """
import json, sys, torch
torch.set_num_threads(1)
from fmfbench.torch import WindowLoader
from fmfbench_models.training.train import train

received = WindowLoader.__iter__
def spied(self):
    for batch in received(self):
        assert not (batch["video"] >= 120).any(), batch["sample_id"]
        yield batch
WindowLoader.__iter__ = spied
train("fmformer", sys.argv[1], sys.argv[2], options=json.loads(sys.argv[3]), device="cpu")
"""


def test_two_processes_give_the_weights_of_one(furnace_store, options, tmp_path):
    options = {**options, **QUICK, "dense_task": False}
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun(tmp_path / "script.py", furnace_store, tmp_path / "two", json.dumps(options))
    train("fmformer", furnace_store, tmp_path / "one", options=options, device="cpu")
    one, two = (load_checkpoint(tmp_path / n / "last.safetensors") for n in ("one", "two"))
    assert one.meta.provenance["samples"] == two.meta.provenance["samples"]
    other = two.state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=2e-5)


# --- where there is nothing normal ----------------------------------------------------------------------------------


def store_with(folder, abnormal, frames=100):
    """A store of one recording, train throughout, whose frames `abnormal` are so."""
    rng = np.random.default_rng(0)
    mask = np.zeros((16, 24, frames), np.uint8)
    mask[3:9, 5:15, abnormal] = 1
    recording = {
        "video": rng.integers(0, 120, (16, 24, 3, frames), dtype=np.uint8),
        "current": 8000 + rng.standard_normal((3, frames)),
        "label": mask,
        "train_test_index": np.zeros((1, frames)),
    }
    scipy.io.savemat(folder / "one.mat", recording)
    return fmfbench.convert(folder / "one.mat", folder / "furnace.zarr")


@pytest.mark.parametrize(
    ("abnormal", "message"),
    [
        (slice(None), r"expected training samples .* got none among 63; convert more recordings"),
        (slice(0, 80), r"expected training samples .* got none among 63"),
        (slice(80, 100), r"expected validation samples .* none among 20; train without it: validate=false"),
        ([f for f in range(100) if f % 4 < 2], "expected training samples"),  # every window shows one
    ],
    ids=str,
)
def test_a_part_without_a_normal_sample_is_one_clear_line(abnormal, message, options, tmp_path):
    store = store_with(tmp_path, abnormal)
    with pytest.raises(InputError, match=message) as told:
        train("fmformer", store, tmp_path / "run", options={**options, **QUICK}, device="cpu")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_without_validation_it_trains(witness, options, tmp_path):
    store = store_with(tmp_path, slice(90, 100))
    options = {**options, **QUICK, "validate": False, "dense_task": False}
    run = train("fmformer", store, tmp_path / "run", options=options, device="cpu")
    assert load_checkpoint(run).meta.provenance["samples"] == {"training": 90, "held_out": 0, "validation": 0}
