"""Checkpoints: tensors and facts in one safetensors file, nothing pickled; released `.pth` files are read too.

The facts (JSON) stand in the safetensors header under the key "fmfbench": name, config, protocol,
normalisation, provenance. A run folder holds `best.safetensors` and `last.safetensors`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fmfbench.errors import InputError
from fmfbench.files.atomic import replacing
from fmfbench.windows.protocol import get_protocol
from fmfbench_models.interface import Model
from fmfbench_models.official import is_official, official_config, remap_official
from fmfbench_models.parts.torch_file import read_torch_file
from fmfbench_models.registry import create_model, plain, registration

__all__ = [
    "checkpoint_file",
    "load_checkpoint",
    "pretrained",
    "pretrained_names",
    "read_tensors",
    "save_checkpoint",
    "write_tensors",
]

HEADER = "fmfbench"
SCHEMA = 1
WEIGHTS = Path(__file__).parent / "weights"  # what ships with the package; its card: data_cards/weights.md
RUN_FILES = ("best.safetensors", "last.safetensors")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts as one safetensors file, in one step: a reader sees the old file or the new one."""
    path = Path(path)
    contents = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    header = {HEADER: json.dumps(plain(facts), sort_keys=True, allow_nan=False)}
    with replacing(path) as temporary:
        with open(
            temporary, "wb"
        ):  # made here, so that its permissions are those that the user's umask gives
            mode = temporary.stat().st_mode & 0o777
        save_file(contents, temporary, metadata=header)
        os.chmod(temporary, mode)
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and facts of a file that `write_tensors` wrote; anything else is an InputError."""
    try:
        with safe_open(path, framework="pt") as stream:
            header = (stream.metadata() or {}).get(HEADER)
            if header is None:
                raise InputError(
                    f"{path}: expected a checkpoint of fmfbench, got a safetensors file without its header; "
                    f"load the weights into create_model(...) yourself"
                )
            return {key: stream.get_tensor(key) for key in stream.keys()}, json.loads(header)  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: expected a whole safetensors file, got one that says: {error}") from None


def save_checkpoint(path: str | os.PathLike[str], model: Model) -> Path:
    """Write `model` and its `.meta` to one safetensors file.

    Example:
        >>> from fmfbench_models import create_model, load_checkpoint, save_checkpoint
        >>> model = create_model("informer", current_length=32, dim=24, depth=1)
        >>> path = save_checkpoint("informer.safetensors", model)
        >>> load_checkpoint(path).meta.name
        'informer'
    """
    meta = replace(model.meta, normalisation=model.input_norm.describe())
    write_tensors(Path(path), model.state_dict(), {"schema": SCHEMA, **asdict(meta)})
    return Path(path)


def load_checkpoint(path: str | os.PathLike[str]) -> Model:
    """A model in eval mode on the CPU, from a run folder (best, else last), our safetensors, or a released `.pth`.

    A name of `pretrained_names()` means the weights that ship with the package, where no file or folder has that name.
    What a file is, is told from its content, never from its name. A released checkpoint gets the `official`
    protocol and preset. InputError: nothing there, not such a file, or tensors that do not fit.

    Example:
        >>> from fmfbench_models import create_model, load_checkpoint, save_checkpoint
        >>> path = save_checkpoint("vit.safetensors", create_model("vit", size=(16, 16)))
        >>> model = load_checkpoint(path)
        >>> model.training, model.meta.config["size"]
        (False, [16, 16])
    """
    path = checkpoint_file(Path(path))
    if _is_torch_file(path):
        return load_official(path)
    tensors, facts = read_tensors(path)
    return restore(tensors, facts, what=str(path))


def checkpoint_file(path: Path) -> Path:
    """The file that a checkpoint's path means: in a run folder the best weights, else the last.

    Raises:
        InputError: nothing there, or a folder without either.
    """
    if path.name == str(path) in pretrained_names() and not path.exists():
        path = WEIGHTS / f"{path}.safetensors"
    if path.is_dir():
        found = [path / name for name in RUN_FILES if (path / name).is_file()]
        if not found:
            raise InputError(f"{path}: expected a run folder with {' or '.join(RUN_FILES)}, got neither")
        path = found[0]
    if not path.is_file():
        raise InputError(
            f"{path}: expected a run folder, a checkpoint file or shipped weights ({', '.join(pretrained_names())}), "
            f"got neither"
        )
    return path


def pretrained_names() -> list[str]:
    """Names of the weights that ship with the package; commands take one wherever they take a run folder.

    Example:
        >>> from fmfbench_models import pretrained_names
        >>> pretrained_names()
        ['fmformer-nano']
    """
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def pretrained(name: str) -> Model:
    """A small model that was trained on FMF-Sim, in eval mode on the CPU; what it is worth is in data_cards/weights.md.

    It is for demonstrations, tutorials and tests, and never for a real furnace.

    Example:
        >>> from fmfbench_models import pretrained
        >>> model = pretrained("fmformer-nano")
        >>> model.meta.name, model.meta.provenance["data"]["simulated"]
        ('fmformer', True)

    Raises:
        InputError: no such weights.
    """
    if name not in pretrained_names():
        raise InputError(f"expected weights of {', '.join(pretrained_names())}, got {name!r}")
    return load_checkpoint(WEIGHTS / f"{name}.safetensors")


def restore(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, what: str) -> Model:
    """The model that `save_checkpoint`'s tensors and facts describe."""
    if facts.get("schema") != SCHEMA or "name" not in facts:
        raise InputError(
            f"{what}: expected a model checkpoint of schema {SCHEMA}, got schema {facts.get('schema')}"
        )
    config = {**registration(facts["name"]).before, **facts["config"]}
    if "use_validity" in registration(facts["name"]).config.__dataclass_fields__:
        config = {"use_validity": False} | config  # 0.1.0 gave no model a mask, and had no such key
    model = create_model(facts["name"], **config)
    own = model.state_dict()
    if any(value.is_floating_point() and value.dtype == torch.float64 for value in tensors.values()):
        model.double()
    for name in model.fitted_buffers:
        if name in tensors and tensors[name].shape != own[name].shape:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, torch.empty_like(tensors[name]))
    _load(model, tensors, what)
    model.meta = replace(
        model.meta,
        protocol=facts["protocol"],
        normalisation=facts["normalisation"],
        provenance=facts["provenance"],
    )
    return model.eval()


def _load(model: Model, tensors: Mapping[str, Tensor], what: str) -> None:
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what}: expected the tensors of {model.meta.name}, got others: {reason}") from None


def _is_torch_file(path: Path) -> bool:
    """True for what torch.save writes: a zip file, or its older form, a bare pickle."""
    with open(path, "rb") as stream:
        start = stream.read(9)
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:9] != b"{")


def load_official(path: str | os.PathLike[str]) -> Model:
    """A released FmFormer state dict (`torch.save`d, read with weights_only=True) as a model of preset `official`."""
    found = read_torch_file(path)
    try:
        state = _unwrapped(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not is_official(state):
        raise InputError(
            f"{path}: expected the state dict of a released FmFormer, got "
            f"{type(state).__name__} of {len(state)} with {', '.join(map(str, list(state)[:3]))}"
        )
    try:
        config = official_config(state)
    except (KeyError, IndexError) as error:
        raise InputError(f"{path}: expected a whole released state dict, got one without {error}") from None
    model = create_model("fmformer", preset="official", **config)
    if any(value.dtype == torch.float64 for value in state.values()):
        model.double()
    _load(model, remap_official(state), str(path))
    protocol = get_protocol("official", **_official_lengths(config)).to_dict()
    model.meta = replace(
        model.meta,
        protocol=protocol,
        provenance={
            **model.meta.provenance,
            "checkpoint": "released FmFormer state dict",
            "file": Path(path).name,
        },
    )
    return model.eval()


def _official_lengths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the `official` protocol that a released model's tables decide."""
    lengths: dict[str, Any] = {}
    if "num_frames" in config:
        lengths["num_frames"] = config["num_frames"]
        if config["num_frames"] == 8:
            lengths["stride"] = 19  # the released configuration of eight frames
    if "current_length" in config:
        lengths["current_seconds"] = config["current_length"] / 2
    return lengths


# Where training code keeps a model's tensors in what it saves, the likeliest first.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "module")
# What DataParallel, torch.compile and the usual trainers put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")


def _unwrapped(state: Any) -> dict[str, Tensor]:
    """The tensors themselves, out of the usual wrappings, one in another: {"model_state_dict": ...}, "module."."""
    if not isinstance(state, Mapping):
        return {}
    for key in WRAPPERS:
        if isinstance(state.get(key), Mapping):
            return _unwrapped(state[key])
    for prefix in PREFIXES:
        if state and all(str(name).startswith(prefix) for name in state):
            return _unwrapped({str(name).removeprefix(prefix): value for name, value in state.items()})
    under = {str(key): _unwrapped(value) for key, value in state.items() if isinstance(value, Mapping)}
    released = [key for key, tensors in under.items() if is_official(tensors)]
    if len(released) > 1:
        raise InputError(
            f"expected one model in the file, got one each under {', '.join(released)}; "
            f"save the one that is meant alone"
        )
    if released:
        return under[released[0]]
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
