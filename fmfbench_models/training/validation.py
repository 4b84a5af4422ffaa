"""Validation figures during training.

The official scores come from a prediction file and `fmfbench score`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fmfbench.scoring.counts import Confusion
from fmfbench.scoring.metrics import COUNT_METRICS, count_metrics, metric
from fmfbench_models.interface import Batch, Model
from fmfbench_models.training.parallel import World, gather_by_id, sum_over_ranks
from fmfbench_models.training.step import autocast, to_device, to_float32

__all__ = ["evaluate"]


@torch.no_grad()
def evaluate(
    model: Model, loader: Iterable[Batch], world: World, alpha: float = 1.0
) -> dict[str, float | None]:
    """Validation figures over the samples of all processes; None where undefined.

    Loss, accuracy, F1, and mIoU over those that have masks.

    F1 and mIoU are None without an abnormal sample or pixel too: what they say of `normal_only` is nothing.
    Class figures come from scores gathered by sample id, so they do not depend on the number of processes.
    """
    model.eval()
    ids, scores, labels, losses = [], [], [], []
    pixels = torch.zeros(4, dtype=torch.int64)  # tp, fp, fn, tn
    for cpu_batch in loader:
        if not len(cpu_batch["sample_id"]):  # the last batch may be shorter than there are processes
            continue
        batch = to_device(cpu_batch, world.device)
        with autocast(world.device):
            output = model(**model.takes(batch))
        output = to_float32(output)
        loss = model.objective(output, batch, alpha)["loss"]
        ids.append(batch["sample_id"].cpu())
        scores.append(output.scores().double().cpu())
        labels.append(batch["class_label"].cpu().long())
        losses.append(loss.double().cpu().expand(len(ids[-1])))
        masks = output.masks()
        if masks is not None and "mask" in batch:
            valid = batch.get("mask_valid", torch.ones_like(batch["class_label"], dtype=torch.bool))
            pixels += _confusion(masks[valid], batch["mask"][valid].bool()).cpu()
    model.train()
    none = torch.zeros(0, dtype=torch.float64)
    columns = [
        torch.cat([none.to(part[0].dtype) if part else none, *part]) for part in (ids, scores, labels, losses)
    ]
    _, score, label, loss = gather_by_id(world, columns[0].long(), *columns[1:])
    frame = _counts(_confusion(score > 0.5, label == 1))
    pixel = _counts(sum_over_ranks(world, pixels))
    values, _ = count_metrics(frame, pixel)
    for name, counts in (("f1", frame), ("miou", pixel)):
        values[name] = values[name] if counts.tp + counts.fn else None
    overall = {f"val_{name}": values[name] for name in COUNT_METRICS if metric(name).overall}
    return {"val_loss": loss.mean().item() if len(loss) else None} | overall


def _confusion(predicted: Tensor, true: Tensor) -> Tensor:
    """(tp, fp, fn, tn) as int64."""
    pairs = (predicted & true, predicted & ~true, ~predicted & true, ~predicted & ~true)
    return torch.stack([pair.sum() for pair in pairs])


def _counts(pairs: Tensor) -> Confusion:
    tp, fp, fn, tn = pairs.tolist()
    return Confusion(tn=tn, fp=fp, fn=fn, tp=tp)
