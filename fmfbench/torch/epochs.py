"""Which epoch a sample is in, where no loader of ours says so."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["EpochCount"]


class EpochCount:
    """Counts epochs by what is asked for: a sample that is asked for again is in its next epoch.

    A plain `DataLoader` tells its dataset nothing of epochs. What was asked for stands in shared memory, so that all
    worker processes of a loader count together, those that are started anew each epoch too.
    """

    def __init__(self, count: int) -> None:
        self._state = torch.tensor([0, -1]).share_memory_()  # the epoch; what `fix` said, -1 where it did not
        self._last = torch.full(
            (count,), -1, dtype=torch.int32
        ).share_memory_()  # epoch of each sample's last visit

    def fix(self, epoch: int) -> None:
        self._state[1] = epoch

    def next(self, where: NDArray[np.int64]) -> int:
        """The epoch of a batch of samples (n,)."""
        state, last = self._state.numpy(), self._last.numpy()
        if state[1] >= 0:
            return int(state[1])
        # The larger of two, not a sum: workers that see the first batches of an epoch at once agree.
        epoch = max(int(state[0]), int(last[where].max(initial=-1)) + 1)
        state[0] = epoch
        last[where] = epoch
        return epoch
