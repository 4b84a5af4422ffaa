"""What a batch looks like when it is handed out: layout and type of the video, and what its entries are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from fmfbench.errors import WindowError
from fmfbench.torch.samples import Tensors

__all__ = ["DTYPES", "LAYOUTS", "Form", "Keys", "make_form"]

LAYOUTS = ("bcthw", "btchw")
DTYPES = ("uint8", "float32")
Keys = Mapping[str, str] | Sequence[str]
_KNOWN = (
    "video",
    "current",
    "video_valid",
    "current_valid",
    "class_label",
    "mask",
    "mask_valid",
    "sample_id",
)


@dataclass(frozen=True)
class Form:
    """layout: None, "bcthw" or "btchw"; dtype: "uint8" or "float32"; keys: (entry, name) of what is given, or None."""

    layout: str | None = None
    dtype: str = "uint8"
    keys: tuple[tuple[str, str], ...] | None = None

    @property
    def is_plain(self) -> bool:
        return self == Form()

    def apply(self, tensors: Tensors) -> Tensors:
        """The batch in this form; `video` (B,3,T,H,W) uint8 as the windows have it."""
        if "video" in tensors and (self.layout is not None or self.dtype != "uint8"):
            tensors = tensors | {"video": self._video(tensors["video"])}
        if self.keys is None:
            return tensors
        missing = [entry for entry, _ in self.keys if entry not in tensors]
        if missing:
            raise WindowError(
                f"expected keys among {', '.join(tensors)}, got {', '.join(missing)}; "
                "windows of another modality have them"
            )
        return {name: tensors[entry] for entry, name in self.keys}

    def _video(self, video: torch.Tensor) -> torch.Tensor:
        if self.layout is not None:
            wanted = video if self.layout == "bcthw" else video.transpose(1, 2)
            # One pass over the frames: the order in memory and the type change together.
            out = torch.empty(wanted.shape, dtype=getattr(torch, self.dtype), device=video.device)
            video = out.copy_(wanted)
        elif self.dtype == "float32":
            video = video.to(torch.float32)
        return video.div_(255) if self.dtype == "float32" else video


def make_form(layout: str | None, dtype: str, keys: Keys | None) -> Form:
    """Check what was asked for.

    Raises:
        WindowError: a layout, type or key that there is not.
    """
    if layout not in (None, *LAYOUTS):
        raise WindowError(f"expected layout {' or '.join(LAYOUTS)}, got {layout!r}")
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise WindowError(f"expected dtype {' or '.join(DTYPES)}, got {dtype!r}")
    if keys is None:
        return Form(layout, name)
    if isinstance(keys, str):
        raise WindowError(f"expected keys as a mapping or a list of names, got {keys!r}")
    pairs = tuple(keys.items()) if isinstance(keys, Mapping) else tuple((key, key) for key in keys)
    unknown = [entry for entry, _ in pairs if entry not in _KNOWN]
    names = [name for _, name in pairs]
    if unknown or not pairs or len(set(names)) < len(names):
        raise WindowError(
            f"expected keys that name entries of a batch ({', '.join(_KNOWN)}), each by a name of its own, got "
            f"{dict(pairs)!r}"
        )
    return Form(layout, name, pairs)
