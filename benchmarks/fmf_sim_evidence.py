"""FMF-Sim held against what the authors' public figures show of the real furnace: a table, and a sheet of frames.

    python benchmarks/fmf_sim_evidence.py --preset full --seeds 0,1,2,3,4 --sheet sheet.png

The published ranges were measured on two figures of the authors' project page: 24 frames brought back to 64x64, 20
labels and 12 clips that were picked by hand, currents on axes without numbers. They are a lead, not a law. A range for
a middle is about the one between the two order statistics that hold a median with 95 % confidence (the 7th and the 18th
of 24, the 6th and the 15th of 20), for a share that of a binomial. "inside" and "failed" are of all seeds pooled,
the least and the greatest of the seeds stand beside. How the current differs by class is unknown (in the figures class
goes with furnace and time): it is printed, never judged. `--sheet` draws twelve clips, taken at random, in the layout
of the authors' figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation

from fmfbench.furnace import NAME, VERSION
from fmfbench.furnace.anomaly import count_pieces
from fmfbench.furnace.layouts import _stamp
from fmfbench.furnace.plan import PRESETS, make_plan
from fmfbench.furnace.render import BLOCK_FRAMES, Furnace
from fmfbench.furnace.splashes import draw_splashes
from fmfbench.furnace.timing import SECOND

Array = npt.NDArray[Any]

LUMA = np.array([0.299, 0.587, 0.114])
CLIP_SECONDS = 60.0  # between the two frames of a clip, at pace 1
JUMP = 0.08  # summed difference of the colours' shares; 8 of the 12 published clips differ by more
PANEL = 20_000.0  # A, taken for the height of a published panel
SPAN_SECONDS, STRETCH_SECONDS = 3.0, 20.0
DROP_OUT = 1_000.0  # A
FLAT_APART = 300.0  # A


@dataclass(frozen=True)
class Sample:
    """What is measured of one recording of one seed."""

    seed: int
    values: dict[str, Array]


@dataclass(frozen=True)
class Row:
    """One statistic: what is published, ours, and whether it is inside."""

    number: str
    statistic: str
    published: str
    ours: str
    inside: bool | None  # None: printed, not judged

    def markdown(self) -> str:
        verdict = {True: "inside", False: "**failed**", None: "not judged"}[self.inside]
        return f"| {self.number} | {self.statistic} | {self.published} | {self.ours} | {verdict} |"


def measure(preset: str, seeds: tuple[int, ...], clips: int, labels: int) -> list[Sample]:
    """`clips` clips and `labels` abnormal frames of each recording of each seed."""
    size = PRESETS[preset]
    return [
        Sample(seed, _of_recording(Furnace(make_plan(size, k, seed)), clips, labels))
        for seed in seeds
        for k in range(len(size.recordings))
        if size.recordings[k].frames > 100
    ]


def _of_recording(furnace: Furnace, clips: int, labels: int) -> dict[str, Array]:
    plan = furnace.plan
    rng = np.random.default_rng([plan.seed, plan.frames])
    apart = int(CLIP_SECONDS * max(plan.pace, 0.1) * 25)
    starts = np.sort(rng.choice(plan.frames - apart, clips, replace=False))
    shown = [drawn(furnace, f) for start in starts.tolist() for f in (start, start + apart)]
    video = np.stack([frame for frame, _ in shown]).astype(np.float64)
    luma = video @ LUMA
    share = video.mean(axis=(1, 2))
    share = share / share.sum(axis=1, keepdims=True)
    abnormal = np.sort(rng.choice(np.flatnonzero(plan.class_label), labels, replace=False))
    masks = np.concatenate([furnace.draw_labels(f, f + 1) for f in abnormal.tolist()])
    hot = np.concatenate([furnace.draw_hot(f, f + 1) for f in abnormal.tolist()])
    third = (max(1, plan.height // 4), max(1, plan.width // 4))
    return {
        "area": 100.0 * masks.mean(axis=(1, 2)),
        "pieces": count_pieces(masks),
        "overlap": (masks & hot).sum(axis=(1, 2)) / (masks | hot).sum(axis=(1, 2)),
        "colour": video.mean(axis=(1, 2)),
        "jump": np.abs(share[::2] - share[1::2]).sum(axis=1) > JUMP,
        "deviation": luma.std(axis=(1, 2)),
        "step": np.abs(np.diff(luma, axis=2)).mean(axis=(1, 2)),
        "lit": np.max(
            [
                luma[:, : third[0]].mean((1, 2)),
                luma[:, :, : third[1]].mean((1, 2)),
                luma[:, :, -third[1] :].mean((1, 2)),
            ],
            axis=0,
        )
        > luma.mean(axis=(1, 2)),
        "dots": np.array(
            [_dots(furnace, f) > 0 for start in starts.tolist() for f in (start, start + apart)]
        ),
        "dot size": np.array([n for f in starts.tolist() for n in _dot_sizes(furnace, f)]),
        "core": np.array(list(_cores(furnace, abnormal.tolist()))).reshape(-1, 2),
        **_of_current(furnace),
        "abnormal": plan.class_label,
        "counts": np.array([plan.frames, len(np.unique(plan.timing.frame_second)), *np.bincount(plan.split)]),
        "stamp": np.array([_good_stamps(furnace)]),
    }


def drawn(furnace: Furnace, frame: int) -> tuple[Array, Array]:
    """One frame (H, W, 3) and its label (H, W)."""
    block = furnace.draw_block(frame // BLOCK_FRAMES)
    k = frame - block.start
    return block.video[k], block.label[k]


def _dots(furnace: Furnace, frame: int) -> int:
    return sum(
        bool(drop.first <= frame < drop.last and drop.strength[frame - drop.first] > 0.3)
        for drop in furnace.splashes
    )


def _dot_sizes(furnace: Furnace, frame: int) -> Iterator[int]:
    """Pixels of each drop of that time that are at least half as bright as its brightest."""
    plan = furnace.plan
    for drop in furnace.splashes:
        if abs(drop.first - frame) < 500:
            light = draw_splashes((drop,), drop.first, drop.first + 1, plan.height, plan.width)
            if light is not None and light.max() > 0.1:
                yield int((light[0] >= 0.5 * light[0].max()).sum())


def _cores(furnace: Furnace, frames: list[int]) -> Iterator[tuple[float, float]]:
    """Of labels in the open: green over red where it is brightest; what the rim adds of red, less of green."""
    for frame in frames[:: max(1, len(frames) // 12)]:
        block = furnace.draw_block(frame // BLOCK_FRAMES)
        k = frame - block.start
        hot = block.hot[k] > 0
        if block.visibility[k] > 0.8 and hot.sum() >= 6:
            image = block.video[k].astype(np.float64)
            near, far = binary_dilation(hot, iterations=1), binary_dilation(hot, iterations=4)
            around = image[far & ~binary_dilation(hot, iterations=2)].mean(axis=0)
            core = image[hot][np.argsort(image[hot] @ LUMA)[-2:]].mean(axis=0)
            added = image[near & ~hot].mean(axis=0) - around
            yield core[1] / core[0], added[0] - added[1]


def _of_current(furnace: Furnace) -> dict[str, Array]:
    amperes, time = furnace.current.amperes, furnace.current.time / SECOND
    rows = round(2 * SPAN_SECONDS)
    windows = np.lib.stride_tricks.sliding_window_view(amperes, rows, axis=0)
    span = (windows.max(axis=-1) - windows.min(axis=-1)) / PANEL
    length = round(2 * STRETCH_SECONDS)
    whole = len(span) // length * length
    each = np.median(span[:whole].reshape(-1, length, 3), axis=1)
    level = amperes[:whole].reshape(-1, length, 3)
    apart = np.median(level, axis=1)
    apart = np.sort(apart, axis=1)
    out = (level < DROP_OUT).all(axis=2).sum(axis=1) >= 2
    steps = np.diff(amperes, axis=0)
    together = np.where((steps > 0).all(axis=1) | (steps < 0).all(axis=1), np.abs(steps).min(axis=1), 0.0)
    fast = np.abs(steps).mean(axis=1)
    row = np.searchsorted(furnace.time / SECOND, time[1:]).clip(0, furnace.plan.frames - 1)
    label = furnace.plan.class_label[row] > 0
    flat = (each.max(axis=1) < 0.02) & (apart[:, 2] - apart[:, 0] > FLAT_APART) & ~out
    return {
        "rough": (each.max(axis=1) >= 0.11) & ~out,
        "rough span": each.max(axis=1)[(each.max(axis=1) >= 0.11) & ~out],
        "calm": (each.max(axis=1) < 0.09) & ~flat & ~out,
        "flat": flat,
        "drop-out": out,
        "together": together,
        "roughness": np.array([np.median(fast[label]), np.median(fast[~label])]),
    }


def _good_stamps(furnace: Furnace) -> bool:
    start = datetime.fromisoformat(furnace.plan.start)
    stamps = [_stamp(start, second) for second in furnace.plan.timing.current_second.tolist()]
    for stamp in stamps[:50]:
        datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S")
    return all(stamps[i] == stamps[i + 1] and len(stamps[i]) == 19 for i in range(0, len(stamps) - 1, 2))


def table(samples: list[Sample], preset: str) -> list[Row]:
    """The statistics, judged."""

    def pooled(name: str) -> Array:
        return np.concatenate([own.values[name] for own in samples])

    def per_seed(name: str, statistic: Callable[[Array], float]) -> list[float]:
        seeds = sorted({own.seed for own in samples})
        return [
            statistic(np.concatenate([own.values[name] for own in samples if own.seed == seed]))
            for seed in seeds
        ]

    def judged(
        number: str,
        title: str,
        published: str,
        name: str,
        statistic: Callable[[Array], float],
        low: float,
        high: float,
        form: str = ".2f",
    ) -> Row:
        value, each = statistic(pooled(name)), per_seed(name, statistic)
        ours = f"{value:{form}} ({min(each):{form}} to {max(each):{form}})"
        return Row(number, title, published, ours, low <= value <= high)

    def spread(number: str, title: str, name: str, low: float, high: float, column: int | None = None) -> Row:
        values = pooled(name) if column is None else pooled(name)[:, column]
        few, many = np.quantile(values, [0.1, 0.9])
        good = low <= few and many <= high
        return Row(
            number, f"{title}, 10 % to 90 %", f"{low:g} to {high:g}", f"{few:.2f} to {many:.2f}", bool(good)
        )

    def middle(
        number: str, title: str, name: str, low: float, high: float, said: str, column: int | None = None
    ) -> Row:
        return judged(
            number,
            f"{title}, median",
            f"{said} ({low:g} to {high:g})",
            name,
            lambda values: float(np.median(values if column is None else values[:, column])),
            low,
            high,
        )

    def share(values: Array) -> float:
        return float(values.mean())

    rows = [
        spread("1", "area of the label, % of the frame", "area", 0.09, 2.6),
        middle("1", "area of the label, % of the frame", "area", 0.35, 1.1, "0.65"),
        judged(
            "2",
            "labels of 1 to 3 pieces, share",
            "all",
            "pieces",
            lambda v: share((v >= 1) & (v <= 3)),
            0.99,
            1.0,
        ),
        judged(
            "2",
            "labels of more than one piece, share",
            "some (0.1 to 0.7)",
            "pieces",
            lambda v: share(v > 1),
            0.1,
            0.7,
        ),
        judged(
            "4",
            "core of a label in the open, green over red",
            "white or yellow (0.75 to 1.05)",
            "core",
            lambda v: float(np.median(v[:, 0])),
            0.75,
            1.05,
        ),
        judged(
            "4",
            "what its rim adds is redder than white, share",
            "yes (0.8 to 1)",
            "core",
            lambda v: share(v[:, 1] > 0),
            0.8,
            1,
        ),
        judged(
            "5",
            "shown frames with dots that glow and have no label, share",
            "several (0.1 to 0.7)",
            "dots",
            share,
            0.1,
            0.7,
        ),
        judged("5", "pixels of a dot, median", "1 to 3", "dot size", lambda v: float(np.median(v)), 1, 3),
    ]
    for column, (name, low, high, first, last, said) in enumerate(
        (
            ("red", 51, 226, 117, 187, "162"),
            ("green", 58, 222, 94, 161, "139"),
            ("blue", 5, 199, 62, 105, "74"),
        )
    ):
        rows.append(spread("6", f"mean {name} of a frame", "colour", low, high, column))
        rows.append(middle("6", f"mean {name} of a frame", "colour", first, last, said, column))
    rows += [
        judged("7", "clips whose colour jumps, share", "8 of 12 (0.35 to 0.90)", "jump", share, 0.35, 0.9),
        spread("8", "deviation of brightness within a frame", "deviation", 16, 51),
        middle("8", "deviation of brightness within a frame", "deviation", 28, 42, "34"),
        spread("9", "step of brightness along a row", "step", 1.7, 6.1),
        middle("9", "step of brightness along a row", "step", 2.4, 4.0, "3.5"),
        judged(
            "10",
            "frames that are brighter at the top or at a side, share",
            "24 of 24 (0.86 to 1)",
            "lit",
            share,
            0.86,
            1,
        ),
        judged(
            "11",
            f"rough stretches of {STRETCH_SECONDS:g} s, share",
            "occur",
            "rough",
            share,
            0.01,
            0.6,
            ".3f",
        ),
        judged(
            "11",
            "their span in 3 s, of a panel's height, median",
            "0.11 to 0.21",
            "rough span",
            lambda v: float(np.median(v)),
            0.11,
            0.21,
            ".3f",
        ),
        judged("11", "calm stretches, share", "occur", "calm", share, 0.05, 0.95, ".3f"),
        judged(
            "11", "flat stretches with the phases apart, share", "occur", "flat", share, 0.002, 0.2, ".3f"
        ),
        judged(
            "11",
            "stretches with drop-outs to the floor, share",
            "occur",
            "drop-out",
            share,
            0.002,
            0.2,
            ".3f",
        ),
        judged(
            "13",
            "greatest step in half a second that all three phases take, A",
            "5,026 or more",
            "together",
            lambda v: float(v.max()),
            5026,
            16000,
            ".0f",
        ),
        judged("14", "stamps `2023-05-10 21:33:27`, two rows a second", "yes", "stamp", share, 1, 1, ".0f"),
        judged("-", "abnormal frames, share", "1:1 (0.48 to 0.54)", "abnormal", share, 0.48, 0.54, ".3f"),
        _counts(samples, preset),
    ]
    rough = pooled("roughness").reshape(-1, 2)
    rows.append(
        Row(
            "12",
            "roughness, abnormal over normal",
            "unknown",
            f"{np.median(rough[:, 0] / rough[:, 1]):.2f}",
            None,
        )
    )
    overlap = pooled("overlap")
    rows.append(
        Row(
            "-",
            "IoU of the label and what is hot, mean; 10 %",
            "unknown",
            f"{overlap.mean():.2f}; {np.quantile(overlap, 0.1):.2f}",
            None,
        )
    )
    return rows


def _counts(samples: list[Sample], preset: str) -> Row:
    """Frames, seconds, train, test and unused of every recording."""
    want = [
        [r.frames, r.seconds, r.train, r.test, r.guard] for r in PRESETS[preset].recordings if r.frames > 100
    ]
    seeds = sorted({own.seed for own in samples})
    good = all(
        [own.values["counts"].tolist() for own in samples if own.seed == seed] == want for seed in seeds
    )
    published = "31,826 / 89,937 / 148,158 frames" if preset == "full" else "those of the preset"
    return Row(
        "-", "frames, seconds and splits of each recording", published, "the same" if good else "others", good
    )


def draw_sheet(path: Path, preset: str, seeds: tuple[int, ...]) -> None:
    """Twelve clips in the layout of the authors' figure: two frames, labels in red, and the currents beneath."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.2, 9.0), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(6, 8, height_ratios=[1.55, 1.0] * 3)
    rng = np.random.default_rng(12)
    for clip in range(12):
        seed = int(seeds[clip % len(seeds)])
        furnace = Furnace(
            make_plan(PRESETS[preset], int(rng.integers(len(PRESETS[preset].recordings))), seed)
        )
        label = furnace.plan.class_label > 0
        wanted = np.flatnonzero(label if clip >= 4 else ~label)
        frames = _two_frames(rng, wanted, furnace)
        row, column = 2 * (clip // 4), 2 * (clip % 4)
        for k, frame in enumerate(frames):
            axes = figure.add_subplot(grid[row, column + k])
            image, mask = drawn(furnace, frame)
            shown = image.copy()
            shown[mask > 0] = (0.45 * shown[mask > 0] + 0.55 * np.array([255, 30, 20])).astype(np.uint8)
            axes.imshow(shown, interpolation="bilinear")
            axes.set_axis_off()
        axes = figure.add_subplot(grid[row + 1, column : column + 2])
        now = furnace.time[frames[1]] / SECOND
        time = furnace.current.time / SECOND
        seen = (time > now - 220.0) & (time <= now)
        for phase, colour in enumerate(("#0072bd", "#d95319", "#edb120")):
            axes.plot(time[seen], furnace.current.amperes[seen, phase], color=colour, linewidth=0.7)
        axes.set(xticks=[], yticks=[], ylim=(0, PANEL), xlim=(now - 220.0, now))
    figure.suptitle(
        f"{NAME} {VERSION} (simulated), preset {preset}, seeds {min(seeds)} to {max(seeds)}: "
        "4 normal clips, 8 abnormal ones, taken at random; currents of 220 s, 0 to 20 kA",
        fontsize=10,
    )
    figure.savefig(path, dpi=100, metadata={"Software": f"{NAME} {VERSION}"})


def _two_frames(rng: np.random.Generator, wanted: Array, furnace: Furnace) -> tuple[int, int]:
    """Two frames of one stretch of `wanted`, some seconds apart."""
    while True:
        first = int(rng.choice(wanted))
        second = first + int(rng.integers(100, 900) * max(furnace.plan.pace, 0.1))
        if second < furnace.plan.frames and np.isin([first, second], wanted).all():
            return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="full", choices=list(PRESETS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--clips", type=int, default=24, help="of each recording")
    parser.add_argument("--labels", type=int, default=80, help="of each recording")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    seeds = tuple(int(seed) for seed in options.seeds.split(","))
    rows = table(measure(options.preset, seeds, options.clips, options.labels), options.preset)
    print(f"{NAME} {VERSION}, preset {options.preset}, seeds {options.seeds} (simulated)\n")
    print(
        "| # | statistic | published | ours, pooled (least and greatest of the seeds) | |\n|---|---|---|---|---|"
    )
    print("\n".join(row.markdown() for row in rows))
    if options.sheet is not None:
        draw_sheet(options.sheet, options.preset, seeds)


if __name__ == "__main__":
    main()
