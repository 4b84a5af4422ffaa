"""The front door: a store, and the windows cut from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmfbench.errors import StoreError
from fmfbench.files.remote import Place, parse_place
from fmfbench.sources.layout import recordings_at
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording
from fmfbench.windows.protocol import WindowProtocol, get_protocol
from fmfbench.windows.reader import Windows

__all__ = ["Dataset", "Recording", "open_dataset"]


class Dataset(StoreReader):
    """A store with its windows. A sample is a frame; its id counts frames through the recordings in order of name."""

    def windows(
        self,
        split: str = "train",
        protocol: str | WindowProtocol = "paper",
        context: str = "full",
        every: int = 1,
        cache: str | None = None,
        modality: str = "both",
        **overrides: Any,
    ) -> Windows:
        """Synchronised causal windows of a split's samples.

        Args:
            split: train, test, unused, all, or one derived from train (val, fit, ...) with a guard as long as the
                protocol's windows look back; of the default split or, as in `derived:test`, of another.
            protocol: "paper", "official", "short", or a `WindowProtocol`.
            context: "full", "masked" or "strict": what a window may see of other splits.
            every: each k-th sample of the split.
            cache: None reads from disk; "memory" keeps the frames that the split's windows hold; "device" keeps
                them on a torch device once `fmfbench.torch` reads them.
            modality: "both", "video" or "current": the other is neither read nor built.
            overrides: fields of the protocol to change, for example `num_frames=5`.
        """
        return Windows(self, split, get_protocol(protocol, **overrides), context, every, cache, modality)


def open_dataset(path: str | Place) -> Dataset:
    """Open a store that `fmfbench convert` made.

    Args:
        path: a folder, or a URL (s3://, gs://, az://, http(s)://, file://, memory://; extra `[cloud]`).

    Raises:
        StoreError: there is no store of this schema at `path`.
        FailedError: what is behind a URL cannot be reached.

    Example:
        >>> data = fmfbench.open_dataset("fmf.zarr")
        >>> list(data.recordings), len(data.sample_ids("test"))
        (['FMF-Sim-1', 'FMF-Sim-2', 'FMF-Sim-3'], 280)
    """
    path = parse_place(path)
    try:
        return Dataset.open(path)
    except StoreError as error:
        found = recordings_at(path) if isinstance(path, Path) else None
        if found is None:
            raise
        raise StoreError(
            f"{path}: expected a store, got {found}; convert it first: fmfbench convert {path} STORE"
        ) from error
