"""All parts together: from a plan to frames.

A frame depends on the plan and its own index alone, so any stretch can be drawn on its own, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmfbench.furnace import glare, mist
from fmfbench.furnace.anomaly import Spot, draw_glow, draw_masks, make_spots
from fmfbench.furnace.camera import Encoder, expose, tone
from fmfbench.furnace.current import Current, make_current
from fmfbench.furnace.labelling import Labeller
from fmfbench.furnace.light import make_light
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.shell import draw_shell
from fmfbench.furnace.splashes import COLOUR as SPLASH_COLOUR
from fmfbench.furnace.splashes import draw_splashes, plan_splashes
from fmfbench.furnace.timing import SECOND

__all__ = ["BLOCK_FRAMES", "Block", "Furnace", "spot_visibility"]

FloatArray = npt.NDArray[np.float32]

BLOCK_FRAMES = 32  # frames drawn at a time; part of the random streams' keys
RED, GREEN, BLUE = 225.0, 190.0, 150.0  # grey levels at brightness 1, after its first, second and third power
HALO = 0.3  # share of the glow that the lens and the hot air around spread
SHARP, WIDE = 0.45, 2.0  # deviations of the image's and the halo's blur, pixels of a frame 64 wide
HEADROOM = np.float32(90.0)  # grey levels below white that a hot place needs to show


@dataclass(frozen=True, kw_only=True)
class Block:
    """Frames [start, start + n) of one recording and what no camera sees."""

    start: int
    video: npt.NDArray[np.uint8]  # (n, H, W, 3) RGB, upright
    label: npt.NDArray[np.uint8]  # (n, H, W) 0/1, as people made it
    hot: npt.NDArray[np.uint8]  # (n, H, W) 0/1, where it is hot
    visibility: (
        FloatArray  # (n,) share of the heat's contrast that reaches the camera; over the shell if none is hot
    )
    clean: npt.NDArray[np.uint8] | None  # (n, H, W, 3) the scene without mist, glare and noise
    heat: npt.NDArray[np.uint8] | None  # (n, H, W) the heat's own glow, grey levels of red


class Furnace:
    """One simulated recording; holds the state that its frames share."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.time = plan.timing.frame_time
        seconds = self.time / SECOND
        self.current: Current = make_current(plan)
        self.spots: tuple[Spot, ...] = () if plan.anomaly_free else make_spots(plan)
        self.light = make_light(plan, seconds)
        self.mist_depth, self.mist_episodes = mist.mist_depth(plan, seconds)
        self.glare_level, self.glare_episodes = glare.glare_level(plan, seconds)
        self.reflections = glare.plan_reflections(plan, seconds)
        self.splashes = plan_splashes(plan, seconds)
        self.labeller = Labeller(plan, self.spots, self.mist_depth, self.glare_level)
        self.shell = draw_shell(plan)
        self._mist = mist.Mist(plan)
        self._veil = glare.glare_veil(plan)
        self._encoder = Encoder(plan.height, plan.width)
        width = plan.width / 64.0
        self._sharp = tuple(_blur(n, SHARP * width) for n in (plan.height, plan.width))
        self._wide = tuple(_blur(n, WIDE * width) for n in (plan.height, plan.width))

    @property
    def blocks(self) -> int:
        return -(-self.plan.frames // BLOCK_FRAMES)

    def draw_labels(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """(stop - start, H, W) 0/1 labels alone, without drawing the frames."""
        return self.labeller.draw(start, stop)

    def draw_hot(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """(stop - start, H, W) 0/1: where it is hot, which labels come close to."""
        return draw_masks(self.spots, start, stop, self.plan.height, self.plan.width)

    def draw_block(self, index: int, *, truth_frames: bool = False) -> Block:
        """Draw block number `index` of BLOCK_FRAMES frames (fewer at the end)."""
        plan = self.plan
        start, stop = index * BLOCK_FRAMES, min((index + 1) * BLOCK_FRAMES, plan.frames)
        glow = draw_glow(self.spots, start, stop, plan.height, plan.width)
        scene = self._scene(start, stop)
        clean = None
        if truth_frames:
            lit = scene.copy() if glow is None else self._heated(scene.copy(), glow)
            clean = np.rint(tone(lit)).astype(np.uint8)
        hot = self.draw_hot(start, stop)
        through = self._weather(start, stop, scene)
        seen = through * _headroom(scene)
        if glow is not None:
            self._heated(scene, glow, through)
        video = self._encoder.code(expose(tone(scene), plan.stream("sensor", index)))
        heat = np.zeros(hot.shape, dtype=np.uint8) if truth_frames else None
        if heat is not None and glow is not None:
            heat = np.clip(np.rint(np.float32(RED) * glow), 0, 255).astype(np.uint8)
        return Block(
            start=start,
            video=video,
            label=self.draw_labels(start, stop),
            hot=hot,
            visibility=spot_visibility(seen, hot),
            clean=clean,
            heat=heat,
        )

    def _scene(self, start: int, stop: int) -> FloatArray:
        """(n, H, W, 3) the furnace without anomaly, mist and glare: shell, light, reflections, splashes."""
        plan, light = self.plan, self.light
        own = slice(start, stop)
        place = light.place[own, None, None]
        reach = self.shell.reach[0] + place * (self.shell.reach[1] - self.shell.reach[0])
        scene = reach[..., None] * light.flame[own, None, None, :]
        scene *= self.shell.reflectance
        scene += light.ambient[own, None, None, :] * self.shell.diffuse
        for patch in self.reflections:
            if patch.first < stop and patch.last > start:
                shine = glare.draw_reflection(patch, start, stop, plan.height, plan.width)
                scene[..., 0] += shine
                scene[..., 1] += np.float32(patch.orange) * shine
                scene[..., 2] += np.float32(glare.REFLECTION_BLUE) * shine
        drops = draw_splashes(self.splashes, start, stop, plan.height, plan.width)
        if drops is not None:
            power = drops
            for channel in range(3):
                scene[..., channel] += np.float32(SPLASH_COLOUR[channel]) * power
                power = power * drops
        return scene

    def _heated(self, scene: FloatArray, glow: FloatArray, through: FloatArray | None = None) -> FloatArray:
        """Add the anomaly's glow (n, H, W) to a scene, in place, as far as it comes `through`."""
        shown = np.flatnonzero(glow.any(axis=(1, 2)))
        core = self._sharp[0] @ glow[shown] @ self._sharp[1].T
        halo = self._wide[0] @ glow[shown] @ self._wide[1].T
        light = np.stack(
            [
                np.float32(RED) * (core + np.float32(HALO) * halo),
                np.float32(GREEN) * core * core + np.float32(0.32 * RED * HALO) * halo,
                np.float32(BLUE) * core * core * core,
            ],
            axis=-1,
        )
        if through is not None:
            light *= through[shown, ..., None]
        scene[shown] += light
        return scene

    def _weather(self, start: int, stop: int, scene: FloatArray) -> FloatArray:
        """Draw mist and glare over the scene, in place; returns (n, H, W) what share of its contrast is left."""
        own = slice(start, stop)
        shape, billows = self._mist.structure(self.time[own])
        through = np.exp(-self.mist_depth[own, None, None] * shape)
        thickness = (1.0 + np.float32(0.05) * billows) * (1.0 - through)
        veil = self._veil[None] * self.glare_level[own, None, None]
        # mist takes the light that falls on it: the ambient one, and the flame's where its glow reaches
        lit = (
            self.light.ambient[own, None, None, :]
            + self._veil[None, :, :, None] * np.float32(0.85) * (self.light.flame[own, None, None, :])
        )
        for channel in range(3):
            scene[..., channel] *= through
            scene[..., channel] += np.float32(mist.BRIGHTNESS[channel]) * lit[..., channel] * thickness
            scene[..., channel] += np.float32(glare.GLARE_COLOUR[channel]) * veil
        return through


def _headroom(scene: FloatArray) -> FloatArray:
    """(n, H, W) 0..1: how much brighter than the scene (n, H, W, 3) something hot can still be shown."""
    room = np.zeros(scene.shape[:-1], dtype=np.float32)
    for channel in range(3):
        room += np.clip((np.float32(255.0) - scene[..., channel]) / HEADROOM, 0.0, 1.0)
    return room / np.float32(3.0)


def spot_visibility(seen: FloatArray, hot: npt.NDArray[np.uint8]) -> FloatArray:
    """(n,) mean of `seen` (n, H, W) over each frame's hot pixels, or over the whole frame where there are none."""
    weight = hot.astype(np.float32)
    weight[~hot.any(axis=(1, 2))] = 1.0
    return np.asarray((seen * weight).sum(axis=(1, 2)) / weight.sum(axis=(1, 2)), dtype=np.float32)


def _blur(length: int, deviation: float) -> FloatArray:
    """(length, length) Gaussian blur of one axis; its rows sum to 1 away from the border."""
    off = np.arange(length)[:, None] - np.arange(length)[None, :]
    bell = np.exp(-0.5 * (off / deviation) ** 2)
    return (bell / bell[length // 2].sum()).astype(np.float32)
