"""What runs a model's forward pass: torch as it is, torch compiled, or ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fmfbench.errors import InputError, MissingDependencyError
from fmfbench_models.inference.export import check_exportable, export_onnx
from fmfbench_models.interface import Model, Output

__all__ = ["Engine", "EngineName", "make_engine"]

EngineName = Literal["torch", "onnx", "compile", "compiled"]
Engine = Callable[[Mapping[str, Tensor]], Output]


def make_engine(model: Model, name: EngineName = "torch") -> Engine:
    """A function from a batch to the Output of `model`, which is in eval mode and on the device it shall run on.

    "torch" is the model itself. "compile" (or "compiled") is torch.compile, which needs a C++ compiler and a minute at
    the first batch. "onnx" is ONNX Runtime on the CPU with as many threads as torch has now; it needs the packages onnx
    and onnxruntime, gives what torch gives within float32's rounding, and takes clips of the form that the first batch
    has.
    """
    if name not in get_args(EngineName):
        raise InputError(f"engine: expected one of {', '.join(get_args(EngineName))}, got {name!r}")
    if name == "onnx":
        return _OnnxEngine(model)
    run = torch.compile(model) if name in ("compile", "compiled") else model
    return lambda batch: run(**model.takes(batch))


class _OnnxEngine:
    """The session is made when the first batch says how long and how large the clips are."""

    def __init__(self, model: Model) -> None:
        check_exportable(model)
        if model.device.type != "cpu":
            raise InputError(f"engine: expected a model on the CPU for onnx, got one on {model.device}")
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            if error.name != "onnxruntime":
                raise
            raise MissingDependencyError(
                "engine: the package onnxruntime is not installed; pip install onnx onnxruntime"
            ) from error
        self.model, self.runtime = model, onnxruntime
        self.session: Any = None
        self.names: list[str] = []

    def __call__(self, batch: Mapping[str, Tensor]) -> Output:
        if self.session is None:
            self.session = self._session(batch)
            self.names = [value.name for value in self.session.get_inputs()]
        inputs = {name: batch[name] for name in self.names if name in batch}
        for name in set(self.names) - set(inputs):  # not said: all of it is valid
            like, axis = (batch["video"], 2) if name == "video_valid" else (batch["current"], 1)
            inputs[name] = torch.ones(like.shape[0], like.shape[axis], dtype=torch.bool)
        found = self.session.run(None, {name: value.numpy() for name, value in inputs.items()})
        named = zip((value.name for value in self.session.get_outputs()), found, strict=True)
        parts = {name: torch.from_numpy(value) for name, value in named}
        return Output(parts.get("logits"), parts.get("pixel_logits"))

    def _session(self, batch: Mapping[str, Tensor]) -> Any:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        video, current = batch.get("video"), batch.get("current")
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
            path = export_onnx(
                self.model,
                Path(folder) / "model.onnx",
                num_frames=None if video is None else video.shape[2],
                size=None if video is None else (video.shape[3], video.shape[4]),
                current_length=None if current is None else current.shape[1],
                validity=True,
            )
            return self.runtime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
