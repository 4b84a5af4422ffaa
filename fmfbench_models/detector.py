"""Online use: frames and currents as they arrive, a score and a mask for each frame."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fmfbench.clock import NS
from fmfbench.errors import InputError
from fmfbench.windows.plan import Timeline, plan_current, plan_video
from fmfbench.windows.protocol import WindowProtocol
from fmfbench_models.checkpoint import load_checkpoint
from fmfbench_models.inference.calibration import calibration_of
from fmfbench_models.inference.engine import EngineName, make_engine
from fmfbench_models.inference.predict import model_protocol
from fmfbench_models.interface import Model
from fmfbench_models.training.parallel import check_device

__all__ = ["Detection", "Detector"]


@dataclass(frozen=True, repr=False)
class Detection:
    """What the model says of one frame, and how much of its window was really there.

    score in [0, 1]; mask (H, W) bool, upright, None without a dense head; video_valid (T,), current_valid
    (Tc,); threshold: the calibrated model's, or one half.
    """

    time: int
    score: float
    mask: NDArray[np.bool_] | None
    video_valid: NDArray[np.bool_]
    current_valid: NDArray[np.bool_]
    threshold: float = 0.5

    @property
    def abnormal(self) -> bool:
        """Whether the score is above the threshold; a tie is normal, as in a prediction file."""
        return self.score > self.threshold

    def __repr__(self) -> str:
        mask = "no mask" if self.mask is None else f"{int(self.mask.sum())} abnormal pixels"
        verdict = "abnormal" if self.abnormal else "normal"
        there = f"{int(self.video_valid.sum())}/{len(self.video_valid)} frames"
        rows = f"{int(self.current_valid.sum())}/{len(self.current_valid)} currents"
        return f"Detection({verdict}, score {self.score:.4f}, {mask}, {there}, {rows}, time {self.time})"


class Detector:
    """Feed `current` rows and `frame`s in order of time; each frame gives a Detection.

    The windows are those of `Dataset.windows` over the same frames and rows (context "full"), and so are the
    results: a frame sees every row that was fed before it. The `official` protocol looks ahead to the end of
    the frame's own second, so there the rows of that second must be fed before the frame. Only what later
    windows can need is kept. engine: what runs the model, see `fmfbench_models.inference.engine`; "onnx" is the fastest
    on a CPU.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        protocol: str | WindowProtocol | None = None,
        device: str = "cpu",
        *,
        engine: EngineName = "torch",
    ) -> None:
        loaded = model if isinstance(model, Model) else load_checkpoint(model)
        self.model = loaded.to(check_device(device)).eval()
        self._engine = make_engine(self.model, engine)
        self.protocol = model_protocol(self.model, protocol)
        self.calibration = calibration_of(self.model)
        kept = (self.protocol.num_frames - 1) * self.protocol.stride + 1
        self._frames: deque[NDArray[np.uint8]] = deque(maxlen=kept)
        self._frame_time: deque[int] = deque(maxlen=kept)
        self._current: deque[NDArray[np.float32]] = deque()
        self._current_time: deque[int] = deque()

    def current(self, time: int, amperes: ArrayLike) -> None:
        """One row of three phases, measured at `time` (ns). NaN is a phase that was not measured."""
        row = np.asarray(amperes, np.float32)
        if row.shape != (3,):
            raise InputError(f"detector: expected three phases, got an array of shape {row.shape}")
        if self._current_time and time <= self._current_time[-1]:
            raise InputError(
                f"detector: expected currents in order of time, got {time} after {self._current_time[-1]}"
            )
        self._current.append(row)
        self._current_time.append(int(time))

    @torch.inference_mode()
    def frame(self, time: int, image: NDArray[np.uint8]) -> Detection:
        """One frame (H, W, 3) uint8 RGB, upright, taken at `time` (ns)."""
        self.keep(time, image)
        return self._detect(int(time))

    def keep(self, time: int, image: NDArray[np.uint8]) -> None:
        """A frame that later windows may need, without judging it."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"detector: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if self._frame_time and time <= self._frame_time[-1]:
            raise InputError(
                f"detector: expected frames in order of time, got {time} after {self._frame_time[-1]}"
            )
        if self._frames and image.shape != self._frames[-1].shape:
            raise InputError(
                f"detector: expected a frame of shape {self._frames[-1].shape} as before, got {image.shape}"
            )
        self._frames.append(image)
        self._frame_time.append(int(time))
        self._forget(int(time))

    def _detect(self, time: int) -> Detection:
        line = self._timeline()
        last = np.array([len(self._frames) - 1])
        video_plan = plan_video(line, last, self.protocol, masked=False)
        current_plan = plan_current(line, last, self.protocol, masked=False)
        clip = np.stack([self._frames[i] for i in video_plan.index[0]])
        axes = (3, 0, 2, 1) if self.protocol.transposed else (3, 0, 1, 2)
        video = torch.from_numpy(np.ascontiguousarray(clip.transpose(axes)))[None]
        current = torch.from_numpy(self._rows(current_plan.index[0]))[None]
        device = self.model.device
        output = self._engine(
            {
                "video": video.to(device),
                "current": current.to(device),
                "video_valid": torch.from_numpy(video_plan.valid).to(device),
                "current_valid": torch.from_numpy(current_plan.valid).to(device),
            }
        )
        masks = output.masks()
        mask = None if masks is None else masks[0].cpu().numpy()
        return Detection(
            time=time,
            score=float(output.scores(self.calibration.temperature)[0]),
            mask=mask.T if mask is not None and self.protocol.transposed else mask,
            video_valid=video_plan.valid[0],
            current_valid=current_plan.valid[0],
            threshold=self.calibration.threshold,
        )

    def _timeline(self) -> Timeline:
        current = np.array(self._current, np.float32).reshape(-1, 3)
        return Timeline(
            name="online",
            frame_time=np.array(self._frame_time, np.int64),
            split=np.zeros(len(self._frames), np.uint8),
            current_time=np.array(self._current_time, np.int64),
            current_finite=np.asarray(np.isfinite(current).all(1)),
        )

    def _rows(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = np.zeros((len(index), 3), np.float32)
        found = index >= 0
        if found.any():
            rows[found] = np.array(self._current, np.float32)[index[found]]
        return rows

    def _forget(self, time: int) -> None:
        """Drop rows that no later window can hold."""
        if self.protocol.alignment == "official":
            # It counts distinct stamped seconds, however far back they lie; one more than it shows is enough.
            seconds = sorted({stamp // NS for stamp in self._current_time})
            oldest = seconds[-(self.protocol.num_current + 2) :][:1]
            limit = oldest[0] * NS if oldest else 0
        else:
            limit = (
                time - self.protocol.current_lag_ns(self.protocol.num_current) - self.protocol.tolerance_ns
            )
        while self._current_time and self._current_time[0] < limit:
            self._current_time.popleft()
            self._current.popleft()
