"""What runs a model's forward pass: torch as it is, torch compiled, or ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fmfbench.errors import InputError, MissingDependencyError
from fmfbench_models.inference.export import export_onnx
from fmfbench_models.interface import Model, Output

__all__ = ["Engine", "EngineName", "make_engine"]

EngineName = Literal["torch", "compiled", "onnx"]
Engine = Callable[[Mapping[str, Tensor]], Output]


def make_engine(model: Model, name: EngineName = "torch") -> Engine:
    """A function from a batch to the Output of `model`, which is in eval mode and on the device it shall run on.

    "torch" is the model itself. "compiled" is torch.compile, which needs a C++ compiler and a minute at the first
    batch. "onnx" is ONNX Runtime on the CPU with as many threads as torch has now; it needs the packages onnx and
    onnxruntime, gives what torch gives within float32's rounding, and takes clips of the form that the first batch
    has.
    """
    if name not in get_args(EngineName):
        raise InputError(f"engine: expected one of {', '.join(get_args(EngineName))}, got {name!r}")
    if name == "onnx":
        return _OnnxEngine(model)
    run = torch.compile(model) if name == "compiled" else model
    return lambda batch: run(**model.takes(batch))


class _OnnxEngine:
    """The session is made when the first batch says how long and how large the clips are."""

    def __init__(self, model: Model) -> None:
        if model.device.type != "cpu":
            raise InputError(f"engine: onnx runs on the CPU, the model is on {model.device}")
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

    def __call__(self, batch: Mapping[str, Tensor]) -> Output:
        if self.session is None:
            self.session = self._session(batch)
        found = self.session.run(
            None, {name: value.numpy() for name, value in self.model.takes(batch).items()}
        )
        named = zip((value.name for value in self.session.get_outputs()), found, strict=True)
        parts = {name: torch.from_numpy(value) for name, value in named}
        return Output(parts.get("logits"), parts.get("pixel_logits"))

    def _session(self, batch: Mapping[str, Tensor]) -> Any:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        video, current = batch["video"], batch["current"]
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
            path = export_onnx(
                self.model,
                Path(folder) / "model.onnx",
                num_frames=video.shape[2],
                size=(video.shape[3], video.shape[4]),
                current_length=current.shape[1],
            )
            return self.runtime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
