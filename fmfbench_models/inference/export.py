"""ONNX: a trained model for other runtimes, raw frames and amperes in, logits out."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmfbench.errors import InputError, MissingDependencyError
from fmfbench_models.interface import Model
from fmfbench_models.registry import model_info, plain

__all__ = ["export_onnx"]

OPSET = 17


def check_exportable(model: Model) -> None:
    """InputError where the model is known to have no ONNX form."""
    reason = model_info(model.meta.name).no_onnx
    if reason:
        raise InputError(f"{model.meta.name}: expected a model with an ONNX form, got one without: {reason}")


class _Tensors(nn.Module):
    """The model with tensors for its output, as ONNX has no dataclasses."""

    def __init__(self, model: Model, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.names, inputs, strict=True)))
        return tuple(value for value in (output.logits, output.pixel_logits) if value is not None)


def export_onnx(
    model: Model,
    path: str | os.PathLike[str],
    *,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    current_length: int | None = None,
    validity: bool = False,
) -> Path:
    """Write `model` as ONNX with any batch size and clips of one form.

    That of its configuration unless another is named.

    Inputs by name: video (B, 3, T, H, W) uint8, current (B, Tc, 3) float32, those that the model uses;
    normalisation is inside. `validity` adds video_valid (B, T) and current_valid (B, Tc), bool, where the model takes
    them; without, all of a window is taken for valid. Outputs: logits (B, 2), pixel_logits (B, 2, H, W), those that it
    has. The facts of `model.meta` stand in the file's metadata under "fmfbench". Needs the package onnx.

    Raises:
        InputError: a model without an ONNX form (`model_info(name).no_onnx` says why), or no folder to write into.
        MissingDependencyError: the package onnx is not installed.

    Example:
        >>> from fmfbench_models import create_model, export_onnx
        >>> model = create_model("informer", current_length=32, dim=24, depth=1)
        >>> export_onnx(model, "informer.onnx").name  # doctest: +SKIP
        'informer.onnx'
    """
    check_exportable(model)
    try:
        import onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise MissingDependencyError("export: the package onnx is not installed; pip install onnx") from error
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: expected an existing folder to write into, got none")
    model = model.cpu().eval()
    own: dict[str, Any] = {"num_frames": 10, "size": (64, 64), "current_length": 440} | model.meta.config
    height, width = size or own["size"]
    example = {
        "video": torch.zeros(2, 3, num_frames or own["num_frames"], height, width, dtype=torch.uint8),
        "current": torch.full((2, current_length or own["current_length"], 3), 8000.0),
    }
    if validity:  # one that is False each: `takes` leaves out what is valid throughout
        frames, steps = example["video"].shape[2], example["current"].shape[1]
        example["video_valid"] = torch.arange(2 * frames).reshape(2, frames) > 0
        example["current_valid"] = torch.arange(2 * steps).reshape(2, steps) > 0
    inputs = model.takes(example)
    with torch.no_grad():
        output = model(**inputs)
    found = {"logits": output.logits, "pixel_logits": output.pixel_logits}
    outputs = [name for name, value in found.items() if value is not None]
    with warnings.catch_warnings():
        # the tracer warns of each shape that is checked, and of being the older one
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Tensors(model, list(inputs)).eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(path)
    entry = graph.metadata_props.add()
    entry.key, entry.value = "fmfbench", json.dumps(plain(asdict(model.meta)))
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
    return path
