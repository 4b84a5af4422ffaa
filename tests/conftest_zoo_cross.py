"""What the tests of the cross-modal models share."""

from __future__ import annotations

import torch

from fmfbench_models import create_model
from fmfbench_models.registry import registration

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
