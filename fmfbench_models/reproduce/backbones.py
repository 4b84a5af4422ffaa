"""Files of published backbone weights, each given to the models whose trunk it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmfbench.errors import InputError
from fmfbench_models.parts.backbones import Trunk, check_backbone_weights

__all__ = ["BackboneFile", "backbone_files"]


@dataclass(frozen=True)
class BackboneFile:
    """A file and what is to be kept with the models that begin with it."""

    path: Path
    facts: Mapping[str, str]

    @property
    def mark(self) -> str:
        """What tells runs that begin with it from others."""
        return self.facts["sha256"][:8]


def backbone_files(trunks: Mapping[str, Trunk], paths: Sequence[Path]) -> dict[str, BackboneFile]:
    """(name of a trunk's model -> its file) for all that have one.

    InputError: no trunks, a file that fits none of them, or two files that fit one.
    """
    found: dict[str, BackboneFile] = {}
    for path in paths:
        refusal = InputError(
            f"{path}: expected models with a convolutional trunk to load backbone weights into, none of those asked "
            f"for has one; leave them out"
        )
        fits = {}
        for name, trunk in trunks.items():
            try:
                fits[name] = BackboneFile(path, check_backbone_weights(trunk, path))
            except InputError as error:
                refusal = error
        if not fits:
            raise refusal
        twice = sorted(found.keys() & fits.keys())
        if twice:
            raise InputError(
                f"{path}: expected one file of backbone weights for {', '.join(twice)}, "
                f"got {found[twice[0]].path} too; give one of them"
            )
        found |= fits
    return found
