"""Reference models of FMF-Benchmark."""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    from fmfbench.errors import MissingDependencyError

    raise MissingDependencyError(
        "fmfbench_models: the package torch is not installed; pip install 'fmfbench[models]'"
    ) from error

from fmfbench_models.checkpoint import load_checkpoint as load_checkpoint
from fmfbench_models.checkpoint import pretrained as pretrained
from fmfbench_models.checkpoint import pretrained_names as pretrained_names
from fmfbench_models.checkpoint import save_checkpoint as save_checkpoint
from fmfbench_models.inference.export import export_onnx as export_onnx
from fmfbench_models.interface import FitData as FitData
from fmfbench_models.interface import Meta as Meta
from fmfbench_models.interface import Model as Model
from fmfbench_models.interface import Output as Output
from fmfbench_models.registry import ModelInfo as ModelInfo
from fmfbench_models.registry import Registration as Registration
from fmfbench_models.registry import create_model as create_model
from fmfbench_models.registry import list_models as list_models
from fmfbench_models.registry import model_info as model_info

__all__ = [
    "FitData",
    "Meta",
    "Model",
    "ModelInfo",
    "Output",
    "Registration",
    "create_model",
    "export_onnx",
    "list_models",
    "load_checkpoint",
    "model_info",
    "pretrained",
    "pretrained_names",
    "save_checkpoint",
]
