"""All parts together: from a plan to frames.

A frame depends on the plan and its own index alone, so any stretch can be drawn on its own, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmfbench.furnace import glare, mist, shell
from fmfbench.furnace.anomaly import Spot, draw_glow, draw_masks, make_spots
from fmfbench.furnace.camera import Encoder, expose
from fmfbench.furnace.current import Current, make_current
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.timing import SECOND

__all__ = ["BLOCK_FRAMES", "Block", "Furnace", "spot_visibility"]

FloatArray = npt.NDArray[np.float32]

BLOCK_FRAMES = 32  # frames drawn at a time; part of the random streams' keys
INCANDESCENCE = (1.0, 0.2, 0.05)  # green and blue over red in the spot's glow
HEADROOM = np.float32(90.0)  # grey levels below white that a spot of common brightness needs to show
HOT = 0.0016  # the brighter, the more orange: added green per grey level squared of red


@dataclass(frozen=True, kw_only=True)
class Block:
    """Frames [start, start + n) of one recording and what no camera sees."""

    start: int
    video: npt.NDArray[np.uint8]  # (n, H, W, 3) RGB, upright
    label: npt.NDArray[np.uint8]  # (n, H, W) 0/1
    visibility: (
        FloatArray  # (n,) share of the spot's contrast that reaches the camera; over the shell if no spot
    )
    clean: npt.NDArray[np.uint8] | None  # (n, H, W, 3) the scene without mist, glare and noise
    heat: npt.NDArray[np.uint8] | None  # (n, H, W) the spot's own glow, grey levels of red


class Furnace:
    """One simulated recording; holds the state that its frames share."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.time = plan.timing.frame_time
        seconds = self.time / SECOND
        self.current: Current = make_current(plan)
        self.spots: tuple[Spot, ...] = () if plan.anomaly_free else make_spots(plan)
        self.light = shell.make_light(plan)
        self.mist_depth, self.mist_episodes = mist.mist_depth(plan, seconds)
        self.glare_level, self.glare_episodes = glare.glare_level(plan, seconds)
        self.reflections = glare.plan_reflections(plan, seconds)
        self._shell, self._reach = shell.draw_shell(plan)
        self._flames = shell.Flames(plan)
        self._mist = mist.Mist(plan)
        self._veil = glare.glare_veil(plan)
        self._encoder = Encoder(plan.height, plan.width)

    @property
    def blocks(self) -> int:
        return -(-self.plan.frames // BLOCK_FRAMES)

    def draw_labels(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """(stop - start, H, W) 0/1 masks alone, without drawing the frames."""
        return draw_masks(self.spots, start, stop, self.plan.height, self.plan.width)

    def draw_block(self, index: int, *, truth_frames: bool = False) -> Block:
        """Draw block number `index` of BLOCK_FRAMES frames (fewer at the end)."""
        plan = self.plan
        start, stop = index * BLOCK_FRAMES, min((index + 1) * BLOCK_FRAMES, plan.frames)
        glow = draw_glow(self.spots, start, stop, plan.height, plan.width)
        scene = self._scene(start, stop, glow)
        clean = np.clip(np.rint(scene), 0, 255).astype(np.uint8) if truth_frames else None
        label = self.draw_labels(start, stop)
        through = self._weather(start, stop, scene)
        seen = expose(scene, plan.stream("sensor", index))
        return Block(
            start=start,
            video=self._encoder.code(seen),
            label=label,
            visibility=spot_visibility(through, label),
            clean=clean,
            heat=np.clip(np.rint(glow), 0, 255).astype(np.uint8) if truth_frames else None,
        )

    def _scene(self, start: int, stop: int, glow: FloatArray) -> FloatArray:
        """(n, H, W, 3) the furnace without mist and glare: shell, firelight, flames, reflections, spot."""
        plan, light = self.plan, self.light
        own = slice(start, stop)
        tint = 1.0 + light.warmth[own, None] * np.array([1.0, 0.0, -1.0], dtype=np.float32)
        scene = self._shell[None] * (light.day[own, None] * tint)[:, None, None, :]
        fire = self._reach[None] * light.flame[own, None, None]
        red = glow.copy()
        green = np.float32(INCANDESCENCE[1]) * glow + np.float32(HOT) * glow * glow
        for patch in self.reflections:
            if patch.first < stop and patch.last > start:
                shine = glare.draw_reflection(patch, start, stop, plan.height, plan.width)
                red += shine
                green += np.float32(patch.orange) * shine
        scene[..., 0] += np.float32(shell.FIRELIGHT[0]) * fire + red
        scene[..., 1] += np.float32(shell.FIRELIGHT[1]) * fire + green
        scene[..., 2] += np.float32(shell.FIRELIGHT[2]) * fire + np.float32(INCANDESCENCE[2]) * red
        rows = self._flames.rows
        flames = self._flames.brightness(self.time[own], light.flame[own])
        opaque = np.minimum(1.0, 2.0 * flames)[..., None]
        scene[:, :rows] += opaque * (self._flames.colour(flames) - scene[:, :rows])
        return scene

    def _weather(self, start: int, stop: int, scene: FloatArray) -> FloatArray:
        """Draw mist and glare over the scene, in place; returns (n, H, W) what share of its contrast is left."""
        own = slice(start, stop)
        shape, billows = self._mist.structure(self.time[own])
        through = np.exp(-self.mist_depth[own, None, None] * shape)
        lit = self.light.day[own] * np.float32(0.75) + np.float32(0.25) * self.light.flame[own]
        bright = (1.0 + np.float32(0.09) * billows) * lit[:, None, None] * (1.0 - through)
        veil = self._veil[None] * self.glare_level[own, None, None]
        for channel in range(3):
            scene[..., channel] *= through
            scene[..., channel] += np.float32(mist.COLOUR[channel]) * bright
            scene[..., channel] += np.float32(glare.GLARE_COLOUR[channel]) * veil
        added = np.float32(mist.COLOUR[0]) * bright + veil
        return through * np.clip((np.float32(255.0) - added) / HEADROOM, 0.0, 1.0)


def spot_visibility(through: FloatArray, label: npt.NDArray[np.uint8]) -> FloatArray:
    """(n,) mean of `through` (n, H, W) over each frame's mask, or over the whole frame where the mask is empty."""
    weight = label.astype(np.float32)
    weight[~label.any(axis=(1, 2))] = 1.0
    return np.asarray((through * weight).sum(axis=(1, 2)) / weight.sum(axis=(1, 2)), dtype=np.float32)
