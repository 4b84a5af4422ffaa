"""data_cards/models.md, written from what the models state of themselves.

fmfbench models --card > data_cards/models.md
"""

from __future__ import annotations

from collections.abc import Iterable

from fmfbench_models.registry import ModelInfo, list_models, model_info, registration

__all__ = ["models_card"]

HEAD = """\
# Card of the reference models

Generated from the code by `fmfbench models --card`; a test keeps the two equal.

Each part of a model says what it follows: **paper**, the publication of the method; **official code**, what the
FmFormer authors released; **other source**, named; **choice**, ours, as the sources are silent. Parameters are those of
the default configuration (10 frames of 64x64, 440 current values). Training: by gradient, fitted, or both in turn.

A **re-interpretation** is a method whose publication or code could not be had: a model of our own in its spirit. Its
figures are ours, and not that method's.

## Start

`init_std` is the deviation at which positions, class tokens and the like start; `--set init_std=0.02` is that of BERT
and ViT. Short trainings of FmFormer (width 48, depth 2, protocol `short`, FMF-Sim 1.2 `small`, 200 steps of 16 windows)
gained nothing from less. AUROC of the class head, and of pixels (0.5 is a constant):

| seed of data and training | 1 | 0.2 | 0.02 |
|---|---|---|---|
| 1 | 0.951, 0.970 | 0.853, 0.966 | 0.803, 0.969 |
| 2 | 0.887, 0.964 | 0.814, 0.968 | 0.900, 0.964 |
| 3 | 0.953, 0.979 | 0.911, 0.959 | 0.892, 0.965 |

So the default stays at 1, that of the released code. ST-MAE starts at 0.02: at 1 its network did not see its input.

## SSFEGGAN

Its two terms without labels pulled at the discriminator 2.4 times as hard as the labels at the start and 3 to 28 times
after 60 steps (length of the gradients). Balancing the pull was not enough: 300 steps of 32 at 2e-4 lowered the
training loss to 0.54 and ended at an AUROC of 0.535 on other events (both measured with seed 1, on a variant of the
furnace whose splashes are brighter). So the pull is balanced and frames are seen by their local contrast, without the
light. FMF-Sim 2.0 `small`, protocol `short`, every third training window, 240 steps of 16 at 1e-3 (1e-4 in the last
fifth), windows moved by up to 8 pixels; AUROC and accuracy on every twelfth test window; "before" is weight 0.1 without
balance and frames as they are (`--set weighting=fixed --set contrast=none --set unsupervised=0.1`), all else alike:

| seed of data and training | SSFEGGAN | before | constant | boosting on the current | nearest frame, means of 4 x 4 |
|---|---|---|---|---|---|
| 1 | 0.937, 0.862 | 0.673, 0.618 | 0.5, 0.531 | 0.530, 0.567 | 0.454, 0.476 |
| 2 | 0.737, 0.665 | 0.642, 0.615 | 0.5, 0.531 | 0.434, 0.647 | 0.380, 0.411 |
| 3 | 0.785, 0.749 | 0.519, 0.524 | 0.5, 0.524 | 0.638, 0.629 | 0.572, 0.567 |

The choice was made on these seeds; 275 windows of four or five events each judge it, so the figures are coarse.
"""
INPUTS = {"both": "video, current", "visual": "video", "current": "current"}


def models_card() -> str:
    """The card of the models that fmfbench itself has, those of entry points left out."""
    infos = [model_info(name) for name in list_models() if is_own(name)]
    infos.sort(key=lambda info: (("current", "visual", "both").index(info.modality), info.title.lower()))
    lines = [HEAD, *overview(infos)]
    for info in infos:
        lines += ["", *section(info)]
    return "\n".join(lines) + "\n"


def is_own(name: str) -> bool:
    return registration(name).config.__module__.startswith("fmfbench_models.zoo.")


def overview(infos: Iterable[ModelInfo]) -> list[str]:
    lines = [
        "| model | name | input | masks | parameters | training | |",
        "|---|---|---|---|---|---|---|",
    ]
    for info in infos:
        remark = "re-interpretation" if info.reinterpretation else ""
        dense = "yes" if info.dense else "no"
        lines.append(
            f"| {info.title} | `{info.name}` | {INPUTS[info.modality]} | {dense} | {info.parameters:,} "
            f"| {info.training} | {remark} |"
        )
    return lines


def section(info: ModelInfo) -> list[str]:
    lines = [f"## {info.title}" + (" (re-interpretation)" if info.reinterpretation else ""), ""]
    lines += [f"Source: {info.source}.", ""]
    lines += ["| part | follows | in full |", "|---|---|---|"]
    lines += [
        f"| {cell(part)} | {origin_kind(text)} | {cell(text)} |" for part, text in info.provenance.items()
    ]
    recipe = registration(info.name).recipe
    if recipe:
        told = ", ".join(f"{key} {value}" for key, value in recipe.items())
        lines += ["", f"Recipe, where it differs from the shared one: {told}."]
    original = registration(info.name).original_recipe
    if original is not None:
        told = ", ".join(f"{key} {value}" for key, value in original.items())
        left = registration(info.name).original_recipe_without
        lines += ["", f"Original recipe (`--recipe original`): {told}{f'; without {left}' if left else ''}."]
    if info.no_onnx:
        lines += ["", f"No ONNX form: {info.no_onnx}."]
    if info.presets:
        lines += ["", f"Presets: {', '.join(info.presets)}."]
    return lines


def origin_kind(text: str) -> str:
    """What a part follows, from the first words of what is said of it."""
    for kind in ("paper", "official code", "choice"):
        if text.startswith(kind):
            return kind
    return "other source"


def cell(text: str) -> str:
    return text.replace("|", "\\|")
