"""The released FmFormer checkpoints: which model a state dict is, and its names in our terms and back.

Everything is read off names and shapes: the modality, the task, dilated tokens or not, the number of frames
and of current values from the position tables' lengths. Our modules hold every tensor unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fmfbench.errors import InputError

__all__ = ["is_official", "official_config", "remap_official", "unmap_official"]

SIDE = 64  # the released models take frames of 64 x 64
STANDARD_PATCHES = 64  # of 8 x 8 pixels in one pair of frames

# official name -> ours, as (pattern, replacement) pairs; the first that matches whole counts
_EMBED = {"1": "norm_in", "2": "linear", "3": "norm_out"}
_CURRENT_EMBED = {"0": "norm_in", "1": "linear", "2": "norm_out"}
_MLP = {"0": "norm", "1": "up", "4": "down"}
_ATTENTION = {"norm": "norm", "to_qkv": "qkv", "to_out.0": "out"}
_CROSS = {
    "norm1": "norm_a",
    "norm2": "norm_b",
    "to_qkv1": "qkv_a",
    "to_qkv2": "qkv_b",
    "to_out1.0": "out_a",
    "to_out2.0": "out_b",
}
_DECODER = {
    "de_patch_embedding.1": "squeeze",
    "de_patch_embedding_dilated.1": "squeeze_dilated",
    "decode_dilated.0": "blend.0",
    "decode_dilated.1.conv1": "blend.1.conv",
    "decode_dilated.1.bn1": "blend.1.norm",
    **{f"decode{i + 1}.0": f"stages.{i}.0" for i in range(3)},
    **{f"decode{i + 1}.1.conv1": f"stages.{i}.1.conv" for i in range(3)},
    **{f"decode{i + 1}.1.bn1": f"stages.{i}.1.norm" for i in range(3)},
    "decode_out": "out",
}


def is_official(state: Mapping[str, Any]) -> bool:
    """True iff the names are those of a released cross-modal, video or current model."""
    return "transformer.layers.0.0.stream1.to_qkv.weight" in state or (
        "transformer.layers.0.0.to_qkv.weight" in state and "cls_token" in state
    )


def official_modality(state: Mapping[str, Any]) -> str:
    if "pos_embedding1" in state:
        return "both"
    return "visual" if "pos_embedding.pe" in state else "current"


def official_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Configuration (over preset `official`) of the model that a released state dict belongs to."""
    modality = official_modality(state)
    config: dict[str, Any] = {"modality": modality, "dim": int(state[_class_token(modality)].shape[-1])}
    layers = {int(found[1]) for name in state if (found := re.match(r"transformer\.layers\.(\d+)\.", name))}
    config["depth"] = len(layers)
    first_mlp = "1.net.1" if modality != "both" else "1.ff1.net.1"
    config["mlp_dim"] = int(state[f"transformer.layers.0.{first_mlp}.weight"].shape[0])
    if modality != "current":
        table = state["pos_embedding1" if modality == "both" else "pos_embedding.pe"]
        config["num_frames"] = (table.shape[1] - 1) // STANDARD_PATCHES * 2
        config["size"] = [SIDE, SIDE]
        config["dilated"] = "get_additional_tokens.pos_embedding" in state
        config["dense_task"] = "head.decode_out.weight" in state
        config["class_task"] = not config["dense_task"]
        config["spare_head"] = "head.mlp_head2.1.weight" in state
        if config["dense_task"]:
            channels = [int(state[f"head.decode{i}.0.weight"].shape[1]) for i in (1, 2, 3)]
            config["decoder_channels"] = channels
    if modality != "visual":
        table = state["pos_embedding2" if modality == "both" else "pos_embedding"]
        config["current_length"] = table.shape[1] - 1
    return config


def _class_token(modality: str) -> str:
    return "cls_token1" if modality == "both" else "cls_token"


def _rules(modality: str) -> list[tuple[str, str]]:
    """(official prefix, our prefix), for the parts that a model of this modality can have."""
    rules: list[tuple[str, str]] = []
    if modality == "both":
        rules += [("pos_embedding1", "video.position"), ("cls_token1", "video.class_token")]
        rules += [("pos_embedding2", "current.position"), ("cls_token2", "current.class_token")]
        rules += [(f"to_patch_embedding1.{key}", f"video.embed.{ours}") for key, ours in _EMBED.items()]
        rules += [
            (f"to_patch_embedding2.{key}", f"current.embed.{ours}") for key, ours in _CURRENT_EMBED.items()
        ]
        rules += [(f"head.mlp_head{i}", f"class_heads.{name}") for i, name in ((1, "video"), (2, "current"))]
    elif modality == "visual":
        rules += [("pos_embedding.pe", "video.position"), ("cls_token", "video.class_token")]
        rules += [(f"to_patch_embedding.{key}", f"video.embed.{ours}") for key, ours in _EMBED.items()]
        rules += [("head.mlp_head1", "class_heads.video"), ("head.mlp_head2", "spare_head")]
    else:
        rules += [("pos_embedding", "current.position"), ("cls_token", "current.class_token")]
        rules += [
            (f"to_patch_embedding.{key}", f"current.embed.{ours}") for key, ours in _CURRENT_EMBED.items()
        ]
        rules += [("transformer.norm", "class_heads.current.0"), ("mlp_head", "class_heads.current.1")]
    if modality != "current":
        rules += [("get_additional_tokens.pos_embedding", "video.dilated_position")]
        rules += [
            (f"get_additional_tokens.to_patch_embedding.{key}", f"video.dilated_embed.{ours}")
            for key, ours in _EMBED.items()
        ]
        rules += [(f"head.{key}", f"decoder.{ours}") for key, ours in _DECODER.items()]
    return rules


def _layer_rules(modality: str, layer: int) -> list[tuple[str, str]]:
    theirs, ours = f"transformer.layers.{layer}", f"layers.{layer}"
    streams = [(1, "video"), (2, "current")]
    if modality != "both":
        name = "video" if modality == "visual" else "current"
        return [
            (f"{theirs}.0.{key}", f"{ours}.first.own.{name}.{value}") for key, value in _ATTENTION.items()
        ] + [
            (f"{theirs}.1.net.{key}", f"{ours}.second_mlp.own.{name}.{value}") for key, value in _MLP.items()
        ]
    rules = [
        (f"{theirs}.0.stream{i}.{key}", f"{ours}.first.own.{name}.{value}")
        for i, name in streams
        for key, value in _ATTENTION.items()
    ]
    rules += [
        (f"{theirs}.0.cross_attn.{key}", f"{ours}.second.cross.{value}") for key, value in _CROSS.items()
    ]
    rules += [
        (f"{theirs}.1.ff{i}.net.{key}", f"{ours}.second_mlp.own.{name}.{value}")
        for i, name in streams
        for key, value in _MLP.items()
    ]
    return rules


def _translate(state: Mapping[str, Tensor], rules: list[tuple[str, str]], what: str) -> dict[str, Tensor]:
    table = dict(rules)
    translated = {}
    unknown = []
    for name, tensor in state.items():
        prefix = next(
            (name[: len(name) - cut] for cut in _cuts(name) if name[: len(name) - cut] in table), None
        )
        if prefix is None:
            unknown.append(name)
        else:
            translated[table[prefix] + name[len(prefix) :]] = tensor
    if unknown:
        raise InputError(
            f"{what}: expected the tensors of a released FmFormer, got {len(unknown)} others, "
            f"first {', '.join(unknown[:5])}"
        )
    return translated


def _cuts(name: str) -> list[int]:
    """How many characters to drop so that a name ends before one of its dots, none first."""
    return [0, *(len(name) - found.start() for found in reversed(list(re.finditer(r"\.", name))))]


def remap_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state dict under our names. An unknown name is an InputError."""
    modality = official_modality(state)
    layers = official_config(state)["depth"]
    rules = _rules(modality) + [rule for i in range(layers) for rule in _layer_rules(modality, i)]
    return _translate(state, rules, "official checkpoint")


def unmap_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `remap_official`."""
    modality = (
        "both"
        if "video.position" in state and "current.position" in state
        else "visual"
        if "video.position" in state
        else "current"
    )
    layers = {int(found[1]) for name in state if (found := re.match(r"layers\.(\d+)\.", name))}
    rules = _rules(modality) + [rule for i in layers for rule in _layer_rules(modality, i)]
    return _translate(state, [(ours, theirs) for theirs, ours in rules], "model of preset official")
