"""How close annotation comes to the truth on FMF-Sim: propagated boxes and refined masks against what is hot.

    python benchmarks/annotation_quality.py --preset full --recording 1 --every 4 --radius 3 --radius 7
    python benchmarks/annotation_quality.py --small-spots 10 --radius 7 --every 4

A recording is drawn and held against where it is hot, which the simulator knows exactly (its labels are themselves
boxes that were propagated and refined). Every piece of an event is a track with keyframes on its first and last hot
frame and every 2 or 4 seconds between; their boxes are the bounding boxes of what is hot, loosened by some pixels as a
person's are. Prints mIoU (pooled over all pixels, mean of both classes, as the benchmark's score) and the IoU of the
abnormal class, then the same by how much of the spot mist and glare let through. `refined, each box alone` is what
`annotate` does without --radius.

With --small-spots N instead N recordings of 4,000 frames of 64x64 are drawn, one a seed, with spots of about
0.65 % of the frame in the median, and boxes about each piece of each frame. `on raw` is the same on frames four times
as large, as FMF-Sim's raw video has them (cubic, so with no more detail than the stored ones). Every figure is on
FMF-Sim, not on the real data.
"""

from __future__ import annotations

import itertools

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from fmfbench.annotation.box_vote import refine_boxes_frames
from fmfbench.annotation.keyframes import Box, Keyframe, Track
from fmfbench.annotation.propagate import box_masks, stored_boxes
from fmfbench.annotation.quality import Agreement
from fmfbench.annotation.raw_vote import refine_on_raw
from fmfbench.annotation.weighted_median import refine_frames
from fmfbench.furnace import VERSION, anomaly
from fmfbench.furnace.anomaly import Spot
from fmfbench.furnace.plan import Preset, RecordingSize, make_plan, parse_preset
from fmfbench.furnace.render import Furnace

VISIBILITY = (0.0, 0.1, 0.3, 0.6, 0.9, 1.01)


def piece_tracks(spot: Spot, event: int, seconds: float, loose: int) -> list[Track]:
    """Of each of an event's pieces a track with exact boxes on a few frames, loosened by some pixels."""
    tracks, step = [], round(25 * seconds)
    for piece in range(int(spot.piece.max()) + 1):
        place = spot.piece == piece
        seen = np.flatnonzero(np.searchsorted(np.sort(spot.rank[place]), spot.area) > 0)
        if not len(seen):
            continue
        first, last = int(seen[0]), int(seen[-1])
        keyframes: list[Keyframe] = []
        for frame in sorted({*range(first, last, step), last}):
            mask = place & (spot.rank < spot.area[frame])
            box = bounding_box(mask, loose) if mask.any() else keyframes[-1].box  # between two of its turns
            keyframes.append(Keyframe(frame=spot.event.onset + frame, box=box))
        onset, offset = keyframes[0].frame, keyframes[-1].frame
        tracks.append(Track(id=f"{event}-{piece}", onset=onset, offset=offset, keyframes=tuple(keyframes)))
    return tracks


def boxes_of(furnace: Furnace, frames: NDArray[np.int64], seconds: float, loose: int) -> NDArray[np.float64]:
    """(n, k, 4) the propagated boxes of all k pieces on `frames` (n,), NaN where a piece has none."""
    plan = furnace.plan
    shape, view = (plan.height, plan.width), (0, 0, plan.width, plan.height)
    tracks = [t for k, spot in enumerate(furnace.spots) for t in piece_tracks(spot, k, seconds, loose)]
    return np.stack([stored_boxes(track, frames, shape, view) for track in tracks], axis=1)


def bounding_box(mask: NDArray[np.bool_], loose: int) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        float(max(0, columns[0] - loose)),
        float(max(0, rows[0] - loose)),
        float(min(mask.shape[1], columns[-1] + 1 + loose)),
        float(min(mask.shape[0], rows[-1] + 1 + loose)),
    )


def measure_recording(
    preset: str, number: int, seed: int, radii: list[int], sigma: float, every: int
) -> None:
    """Print, for keyframes 2 and 4 s apart and boxes loose by 0 to 2 pixels, how near each method comes."""
    plan = make_plan(parse_preset(preset), number - 1, seed)
    furnace = Furnace(plan)
    blocks = [furnace.draw_block(index) for index in range(furnace.blocks)]
    frames = np.arange(0, plan.frames, every)
    video = np.concatenate([block.video for block in blocks])[frames]
    truth = np.concatenate([block.hot for block in blocks])[frames]
    band = np.digitize(np.concatenate([block.visibility for block in blocks])[frames], VISIBILITY) - 1
    del blocks
    abnormal = truth.any(axis=(1, 2))
    counts = [int((abnormal & (band == k)).sum()) for k in range(len(VISIBILITY) - 1)]
    exact = boxes_of(furnace, frames, 2.0, 0)
    sides = (exact[..., 2:] - exact[..., :2]).min(axis=-1)
    low, middle, high = np.percentile(sides[np.isfinite(sides)], (5, 50, 95))
    print(
        f"FMF-Sim {VERSION}, preset {preset}, seed {seed}, recording {number}: {len(frames)} of {plan.frames} frames "
        f"of {plan.height}x{plan.width}, {abnormal.sum()} abnormal (by visibility {counts}), {len(furnace.spots)} "
        f"events, hot {np.median(truth.mean(axis=(1, 2))[abnormal]):.2%} of a frame in the median; shorter side of an "
        f"exact box {middle:.1f} pixels in the median, 5 to 95 % {low:.1f} to {high:.1f}; sigma {sigma}"
    )
    bands = [f"{a:.1f} to {min(b, 1.0):.1f}" for a, b in itertools.pairwise(VISIBILITY)]
    print("| keyframes | boxes loose by | method | all frames |" + "".join(f" visible {b} |" for b in bands))
    print("|---" * (4 + len(bands)) + "|")
    for seconds, loose in itertools.product((2.0, 4.0), (0, 1, 2)):
        boxes = boxes_of(furnace, frames, seconds, loose)
        for name, masks in methods_of(boxes, video, radii, sigma).items():
            whole = Agreement()
            whole.add(masks, truth)
            cells = [f"{whole.miou:.3f} / {whole.iou(1):.3f}"]
            for k in range(len(VISIBILITY) - 1):
                part, chosen = Agreement(), abnormal & (band == k)
                part.add(masks[chosen], truth[chosen])
                cells.append("-" if part.miou is None else f"{part.miou:.3f}")
            print(f"| {seconds:.0f} s | {loose} px | {name} | " + " | ".join(cells) + " |")


def methods_of(
    boxes: NDArray[np.float64], video: NDArray[np.uint8], radii: list[int], sigma: float
) -> dict[str, NDArray[np.uint8]]:
    """Masks (n, H, W) by method, of boxes (n, k, 4) on frames (n, H, W, 3)."""
    coarse = np.stack([box_masks(own, video.shape[1:3]).any(axis=0) for own in boxes]).astype(np.uint8)
    methods = {"boxes": coarse, "refined, each box alone": refine_boxes_frames(boxes, video, sigma)}
    methods["refined, --radius box/2"] = refine_boxes_frames(boxes, video, sigma, share=2)
    return methods | {
        f"refined, r = {radius}": refine_frames(coarse, video, radius, sigma) for radius in radii
    }


def piece_boxes(truth: NDArray[np.uint8], loose: int) -> NDArray[np.float64]:
    """(n, 12, 4) the bounding boxes of each frame's pieces, NaN where there are fewer."""
    boxes = np.full((len(truth), 12, 4), np.nan)
    height, width = truth.shape[1:]
    for frame in np.flatnonzero(truth.any(axis=(1, 2))):
        pieces, _ = label(truth[frame], np.ones((3, 3)))
        for k, (rows, columns) in enumerate(find_objects(pieces)[:12]):
            corner = max(0, columns.start - loose), max(0, rows.start - loose)
            boxes[frame, k] = *corner, min(width, columns.stop + loose), min(height, rows.stop + loose)
    return boxes


def raw_masks(boxes: NDArray[np.float64], video: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Refined on frames four times as large."""
    found = np.zeros(video.shape[:3], np.uint8)
    for frame in np.flatnonzero(np.isfinite(boxes[:, 0, 0])):
        guide = cv2.resize(video[frame], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
        found[frame] = refine_on_raw(4 * boxes[frame], guide, video.shape[1:3], share=share)
    return found


def measure_small_spots(seeds: int, radii: list[int], sigma: float, every: int) -> None:
    """Print mIoU of boxes and refined masks against the exact hot pixels of spots as small as real ones."""
    recording = RecordingSize(
        frames=4000, seconds=162, test=1300, guard=130, test_at="end", start="2023-05-10 21:33:26"
    )
    preset = Preset(name="small", height=64, width=64, pace=0.25, recordings=(recording,))
    anomaly.APEX_AREA = tuple(1.45 * share for share in anomaly.APEX_AREA)
    found: dict[tuple[int, str], list[Agreement]] = {}  # one a seed
    areas = []
    for seed in range(seeds):
        furnace = Furnace(make_plan(preset, 0, seed))
        video = np.concatenate([furnace.draw_block(index).video for index in range(furnace.blocks)])[::every]
        truth = furnace.draw_hot(0, 4000)[::every]
        areas.append(truth.mean(axis=(1, 2))[truth.any(axis=(1, 2))])
        for loose in (0, 2):
            boxes = piece_boxes(truth, loose)
            methods = methods_of(boxes, video, radii, sigma)
            methods["refined on raw"] = raw_masks(boxes, video, 3)
            methods["refined on raw, --radius box/2"] = raw_masks(boxes, video, 2)
            for name, masks in methods.items():
                own = Agreement()
                own.add(masks, truth)
                found.setdefault((loose, name), []).append(own)
    median = float(np.median(np.concatenate(areas)))
    print(f"FMF-Sim {VERSION}, {seeds} recordings, spots of {median:.2%} in the median, sigma {sigma}")
    print(
        "| boxes loose by | method | mIoU | IoU of the abnormal class | gain over the boxes, mIoU | of each recording |"
    )
    print("|---" * 6 + "|")
    for (loose, name), own in found.items():
        whole, boxes_whole = pooled(own), pooled(found[loose, "boxes"])
        gains = [a.miou - b.miou for a, b in zip(own, found[loose, "boxes"], strict=True)]
        print(
            f"| {loose} px | {name} | {whole.miou:.3f} | {whole.iou(1):.3f} | {whole.miou - boxes_whole.miou:+.4f} | "
            f"{min(gains):+.3f} to {max(gains):+.3f} |"
        )


def pooled(parts: list[Agreement]) -> Agreement:
    return Agreement(counts=np.sum([part.counts for part in parts], axis=0))


@click.command(help=__doc__)
@click.option("--preset", default="full", show_default=True)
@click.option("--recording", "number", type=click.IntRange(1, 3), default=1, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--small-spots", "seeds", type=int, default=0, help="Draw so many small recordings instead.")
@click.option("--radius", "radii", multiple=True, type=int, default=(3, 7), show_default=True)
@click.option("--sigma", default=25.5, show_default=True)
@click.option("--every", default=1, show_default=True, help="Take every so manieth frame.")
def main(
    preset: str, number: int, seed: int, seeds: int, radii: tuple[int, ...], sigma: float, every: int
) -> None:
    if seeds:
        measure_small_spots(seeds, list(radii), sigma, every)
    else:
        measure_recording(preset, number, seed, list(radii), sigma, every)


if __name__ == "__main__":
    main()
