"""What a prediction file says of the model behind it that its figures should not stand without."""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["backbone_text", "corruption_of", "corruption_warnings", "provenance_notes"]

_LONGEST = 300
_REINTERPRETATION = (
    "re-interpretation: the method's publication or code could not be had; this is a model in its spirit, and its "
    "figures are not that method's"
)


def provenance_notes(meta: Mapping[str, object]) -> tuple[str, ...]:
    """Notes from a prediction file's meta on the model behind it.

    Which weights its convolutional trunk began with, whether it was trained on these samples or by another recipe
    than the shared one, and whether the model is a re-interpretation. What is not there, or not as `fmfbench predict`
    writes it, gives none.
    """
    backbone = backbone_text(meta.get("backbone"))
    notes = [] if backbone is None else [f"backbone {backbone}"]
    seen = meta.get("seen_in_training")
    if isinstance(seen, int) and not isinstance(seen, bool) and seen > 0:
        notes.append(
            f"{seen} of the samples are of the split part that the model was trained on: they are not unseen"
        )
    if meta.get("recipe") == "original":
        notes.append(
            "trained by the recipe of the original publication, not by the one that all models share"
        )
    if meta.get("reinterpretation") is True:
        notes.append(_REINTERPRETATION)
    return tuple(notes)


def corruption_of(meta: Mapping[str, object]) -> str | None:
    """The preset of the robustness protocol that predictions were made under; None for clean input.

    Whatever stands in `meta.corrupt` counts, unless it is null, false or empty: who writes the key says that the input
    was not as it is.
    """
    found = meta.get("corrupt")
    if found is None or found is False or found in ("", [], {}):
        return None
    text = found if isinstance(found, str) else json.dumps(found, sort_keys=True)
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))[:80] or None


def corruption_warnings(meta: Mapping[str, object]) -> tuple[str, ...]:
    """One line where the input was corrupted, for a score that must not be taken for one on clean input."""
    preset = corruption_of(meta)
    if preset is None:
        return ()
    return (
        f"CORRUPTED INPUT: predicted under the robustness preset {preset}; not to be set beside figures on clean input",
    )


def backbone_text(found: object) -> str | None:
    """A trunk and the origin of its first weights in words; None for a model without a trunk.

    found: {"trunk", "weights": "random", "imagenet", "file" or "unrecorded", "file", "sha256"}, or a ready text.
    """
    if isinstance(found, str):
        return " ".join(found.split())[:_LONGEST] or None
    if not isinstance(found, Mapping) or not isinstance(found.get("trunk"), str):
        return None
    file = f"{found.get('file')} (sha256 {str(found.get('sha256'))[:12]})"
    told = {
        "random": "first weights drawn at random",
        "imagenet": f"first weights of ImageNet, {file}",
        "file": f"first weights of {file}, which is not one of torchvision's ImageNet files",
    }.get(str(found.get("weights")), "origin of the first weights not recorded")
    return " ".join(f"{found['trunk']}, {told}".split())[:_LONGEST]
