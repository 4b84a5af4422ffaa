"""Recordings with masks beside recordings with class labels alone: every part uses the samples it can use.

Also tests fmfbench_models.parts: losses.
Also tests fmfbench_models.training: parallel, validation.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.io
import torch
from torch.nn import functional as F

import fmfbench
from fmfbench.errors import InputError
from fmfbench.scoring.baseline import fit_baseline
from fmfbench_models import load_checkpoint
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.losses import supervised_loss
from fmfbench_models.training.parallel import World
from fmfbench_models.training.runlog import read_log
from fmfbench_models.training.train import train
from fmfbench_models.training.validation import evaluate

HEIGHT, WIDTH = 16, 24


def recording(frames: int, seed: int, *, masks: bool) -> dict:
    """A bright patch and lower currents where abnormal; without masks only a class label a frame."""
    rng = np.random.default_rng(seed)
    abnormal = (np.arange(frames) // 15) % 2 == 1
    mask = np.zeros((HEIGHT, WIDTH, frames), np.uint8)
    mask[3:9, 5:15, abnormal] = 1
    video = rng.integers(0, 120, (HEIGHT, WIDTH, 3, frames), dtype=np.uint8) + 130 * mask[:, :, None]
    current = 8000 + 300 * rng.standard_normal((3, frames)) - 1500 * abnormal
    split = np.zeros((1, frames))
    split[0, int(frames * 0.7) :] = 1
    label = mask if masks else abnormal[None].astype(np.uint8)
    return {"video": video, "current": current, "label": label, "train_test_index": split}


def store(folder, **kinds: bool):
    (folder / "v1").mkdir()
    for seed, (name, masks) in enumerate(kinds.items()):
        scipy.io.savemat(folder / "v1" / f"{name}.mat", recording(150 - 30 * seed, seed, masks=masks))
    return fmfbench.convert(folder / "v1", folder / "s.zarr")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Masks in b alone: the first batches of an unshuffled pass have none."""
    return store(tmp_path_factory.mktemp("mixed"), a=False, b=True)


def random_output(size: int, seed: int = 0) -> Output:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 2, generator=draw, requires_grad=True)
    return Output(logits, torch.randn(size, 2, 4, 5, generator=draw, requires_grad=True))


@pytest.mark.parametrize("valid", [[True] * 6, [True, False, True, True, False, False], [False] * 6], ids=str)
@pytest.mark.parametrize("labels", [[0, 1, 1, 0, 1, 0], [0, 255, 1, 255, 1, 0], [255] * 6], ids=str)
def test_each_term_is_the_mean_over_the_samples_that_are_labelled(valid, labels) -> None:
    output = random_output(6)
    mask = (torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.3).byte()
    batch = {"mask": mask, "mask_valid": torch.tensor(valid), "class_label": torch.tensor(labels)}
    terms = supervised_loss(output.logits, output.pixel_logits, batch, alpha=0.5)
    rows = [i for i in range(6) if valid[i]]
    known = [i for i in range(6) if labels[i] != 255]
    pixel = F.cross_entropy(output.pixel_logits[rows], mask[rows].long()) if rows else torch.tensor(0.0)
    classes = (
        F.cross_entropy(output.logits[known], torch.tensor(labels)[known]) if known else torch.tensor(0.0)
    )
    torch.testing.assert_close(terms["pixel_loss"], pixel)
    torch.testing.assert_close(terms["class_loss"], classes)
    torch.testing.assert_close(terms["loss"], pixel + 0.5 * classes)
    terms[
        "loss"
    ].backward()  # also where there is nothing to learn from: other processes wait for the gradient
    assert output.pixel_logits.grad.isfinite().all()
    assert bool(output.pixel_logits.grad.any()) == bool(rows)


def test_a_dense_model_learns_its_decoder_from_the_recordings_that_have_masks(
    mixed, options, tmp_path
) -> None:
    quick = {"epochs": 6, "batch_size": 16, "flip": 0.0, "lr": 3e-3, "validate": False}
    run = train("fmformer", mixed, tmp_path / "run", options={**options, **quick}, device="cpu")
    log = read_log(run / "log.jsonl")
    data = fmfbench.open_dataset(mixed)
    (samples,) = [line for line in log if line["kind"] == "samples"]
    train_ids = data.sample_ids("train")
    with_masks = int((train_ids >= 150).sum())
    assert (samples["training"], samples["with_masks"]) == (len(train_ids), with_masks)
    assert samples["share"] == pytest.approx(with_masks / len(train_ids))
    epochs = [line for line in log if line["kind"] == "epoch"]
    assert epochs[-1]["pixel_loss"] < 0.5 * epochs[0]["pixel_loss"]
    model = load_checkpoint(run).eval()
    windows = data.windows("test", model.meta.protocol)
    batch = fmfbench.torch.WindowDataset(windows).batch(np.flatnonzero(windows.sample_ids >= 150))
    with torch.no_grad():
        found = model(batch["video"], batch["current"]).masks()
    true = batch["mask"].bool()
    assert (found & true).sum() / (found | true).sum() > 0.5  # an untrained decoder has about 0.1


class Marked(Model):
    """Says abnormal of every pixel, and of every sample."""

    def __init__(self) -> None:
        super().__init__(modality="visual", dense=True)

    def forward(self, video=None, current=None) -> Output:
        logits = torch.tensor([0.0, 1.0])
        return Output(
            logits.expand(len(video), 2), logits[:, None, None].expand(len(video), 2, HEIGHT, WIDTH)
        )


def test_validation_counts_the_pixels_of_samples_that_have_masks(mixed) -> None:
    data = fmfbench.open_dataset(mixed)
    windows = data.windows("all", "short")
    loader = fmfbench.torch.make_loader(fmfbench.torch.WindowDataset(windows), batch_size=32)
    found = evaluate(Marked(), loader, World(0, 1, torch.device("cpu")))
    masks = data.recordings["b"].read_masks()
    # all is predicted abnormal: IoU of abnormal is its share of the pixels, that of normal 0
    assert found["val_miou"] == pytest.approx(masks.mean() / 2)
    alone = data.windows("all", "short")
    loader = fmfbench.torch.make_loader(fmfbench.torch.WindowDataset(alone), batch_size=32)
    batches = [batch for batch in loader if not batch["mask_valid"].any()]
    assert evaluate(Marked(), batches, World(0, 1, torch.device("cpu")))["val_miou"] is None


def test_a_dense_run_that_would_see_no_mask_is_refused(options, tmp_path) -> None:
    data = store(tmp_path, a=False, b=False)
    with pytest.raises(InputError, match=r"got none among \d+; add a label layer .*dense_task=false"):
        train("fmformer", data, tmp_path / "run", options={**options, "epochs": 1}, device="cpu")
    assert not (tmp_path / "run").exists()
    classes = {**options, "epochs": 1, "dense_task": False}
    run = train("fmformer", data, tmp_path / "classes", options=classes, device="cpu")
    assert json.loads((run / "run.json").read_text())["finished"]
    with pytest.raises(fmfbench.errors.WindowError, match="expected pixel labels"):
        fit_baseline(fmfbench.open_dataset(data).windows("train", "short"))


def test_the_baseline_fits_pixels_where_there_are_masks(mixed, tmp_path) -> None:
    """Its pixels are those that a store of the recording with masks alone would give it, as many as it has frames."""
    windows = fmfbench.open_dataset(mixed).windows("train", "short")
    _, masks = fit_baseline(windows).predict(windows)
    batch = windows.batch(np.flatnonzero(windows.sample_ids >= 150))
    inside, outside = batch["mask"].astype(bool), ~batch["mask"].astype(bool)
    found = masks[windows.sample_ids >= 150].astype(bool)
    assert found[inside].mean() > found[outside].mean() + 0.3
