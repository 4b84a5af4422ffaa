"""How close annotation comes to the truth on FMF-Sim: propagated boxes and refined masks against the true masks.

    python benchmarks/annotation_quality.py SIM STORE --radius 3 --radius 7
    python benchmarks/annotation_quality.py --small-spots 10 --radius 7 --every 4

SIM is a folder that `fmfbench simulate` wrote (layout v2), STORE what `fmfbench convert` made of it; the store is
read, never written; its labels count as true (from FMF-Sim 2.0 on they are themselves boxes propagated and refined).
Keyframes stand on every event's first and last frame and every 2 or 4 seconds between; their boxes are the true
masks' bounding boxes, loosened by some pixels as a person's are. Prints mIoU (pooled over all pixels, mean of both
classes, as the benchmark's score) and the IoU of the abnormal class, then the same by how much of the spot mist and
glare let through. `refined, each box alone` is what `annotate` does without --radius.

With --small-spots N nothing is read: N recordings of 4,000 frames of 64x64 are drawn, one a seed, with spots of about
0.65 % of the frame in the median, and boxes about each piece of each frame are held against where it is hot, which the
simulator knows exactly. `on raw` is the same on frames four times as large, as FMF-Sim's raw video has them (cubic, so
with no more detail than the stored ones). Every figure is on FMF-Sim, not on the real data.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from fmfbench import open_dataset
from fmfbench.annotation.box_vote import refine_boxes_frames
from fmfbench.annotation.keyframes import Box, Keyframe, Track
from fmfbench.annotation.propagate import box_masks, coarse_masks, stored_boxes
from fmfbench.annotation.quality import Agreement
from fmfbench.annotation.raw_vote import refine_on_raw
from fmfbench.annotation.weighted_median import refine_frames
from fmfbench.data import Recording
from fmfbench.furnace import VERSION, anomaly
from fmfbench.furnace.plan import Preset, RecordingSize, make_plan
from fmfbench.furnace.render import Furnace

VISIBILITY = (0.0, 0.1, 0.3, 0.6, 0.9, 1.01)


def true_tracks(masks: NDArray[np.uint8], seconds: float, loose: int) -> tuple[Track, ...]:
    """Events of the truth with boxes on a few frames."""
    abnormal = masks.any(axis=(1, 2))
    spans = np.flatnonzero(np.diff(np.r_[False, abnormal, False])).reshape(-1, 2)
    step = round(25 * seconds)
    return tuple(
        Track(
            id=i,
            onset=first,
            offset=end - 1,
            keyframes=tuple(
                Keyframe(frame=frame, box=bounding_box(masks[frame], loose))
                for frame in sorted({*range(first, end, step), end - 1})
            ),
        )
        for i, (first, end) in enumerate(spans.tolist())
    )


def bounding_box(mask: NDArray[np.uint8], loose: int) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        float(max(0, columns[0] - loose)),
        float(max(0, rows[0] - loose)),
        float(min(mask.shape[1], columns[-1] + 1 + loose)),
        float(min(mask.shape[0], rows[-1] + 1 + loose)),
    )


def measure(
    recordings: list[tuple[Recording, NDArray[np.float32]]],
    seconds: float,
    loose: int,
    radii: list[int],
    sigma: float,
) -> dict[str, list[Agreement]]:
    """Per method: the agreement over all frames, then over abnormal frames of each band of visibility."""
    found: dict[str, list[Agreement]] = {}
    for recording, visibility in recordings:
        truth = recording.read_masks(layer="source")
        shape = truth.shape[1:]
        size, view = (shape[0], shape[1]), (0, 0, shape[1], shape[0])
        tracks, frames = true_tracks(truth, seconds, loose), np.arange(len(truth))
        coarse = coarse_masks(tracks, 0, len(truth), size, view)
        boxes = np.stack([stored_boxes(track, frames, size, view) for track in tracks], axis=1)
        video = recording.read_video()
        methods = {"boxes": coarse, "refined, each box alone": refine_boxes_frames(boxes, video, sigma)}
        for radius in radii:
            methods[f"refined, r = {radius}"] = refine_frames(coarse, video, radius, sigma)
        band = np.digitize(visibility, VISIBILITY) - 1
        abnormal = truth.any(axis=(1, 2))
        for name, masks in methods.items():
            sums = found.setdefault(name, [Agreement() for _ in VISIBILITY])
            sums[0].add(masks, truth)
            for k in range(len(VISIBILITY) - 1):
                chosen = abnormal & (band == k)
                sums[k + 1].add(masks[chosen], truth[chosen])
    return found


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
            coarse = np.stack([box_masks(own, (64, 64)).any(axis=0) for own in boxes]).astype(np.uint8)
            methods = {"boxes": coarse, "refined, each box alone": refine_boxes_frames(boxes, video, sigma)}
            methods["refined, --radius box/2"] = refine_boxes_frames(boxes, video, sigma, share=2)
            methods["refined on raw"] = raw_masks(boxes, video, 3)
            methods["refined on raw, --radius box/2"] = raw_masks(boxes, video, 2)
            methods |= {f"refined, r = {r}": refine_frames(coarse, video, r, sigma) for r in radii}
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
@click.argument("sim", type=click.Path(path_type=Path, exists=True), required=False)
@click.argument("store", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--small-spots", "seeds", type=int, default=0, help="Draw so many recordings instead.")
@click.option("--radius", "radii", multiple=True, type=int, default=(3, 5, 7), show_default=True)
@click.option("--sigma", default=25.5, show_default=True)
@click.option(
    "--every", default=1, show_default=True, help="With --small-spots: take every so manieth frame."
)
def main(
    sim: Path | None, store: Path | None, seeds: int, radii: tuple[int, ...], sigma: float, every: int
) -> None:
    if seeds:
        measure_small_spots(seeds, list(radii), sigma, every)
        return
    if sim is None or store is None:
        raise click.UsageError("expected SIM and STORE, or --small-spots N")
    recordings = []
    for recording in open_dataset(store).recordings.values():
        with np.load(sim / "truth" / f"{recording.name}.npz", allow_pickle=False) as truth:
            recordings.append((recording, truth["visibility"]))
    print(f"FMF-Sim ({store.name}), sigma {sigma}: mIoU / IoU of the abnormal class")
    bands = [f"{a:.1f} to {min(b, 1.0):.1f}" for a, b in itertools.pairwise(VISIBILITY)]
    print(
        "| keyframes | boxes loose by | method | all frames | "
        + " | ".join(f"visible {b}" for b in bands)
        + " |"
    )
    print("|---" * (4 + len(bands)) + "|")
    for seconds in (2.0, 4.0):
        for loose in (0, 2):
            for name, sums in measure(recordings, seconds, loose, list(radii), sigma).items():
                cells = [
                    "-" if a.miou is None else f"{a.miou:.3f}" + ("" if k else f" / {a.iou(1):.3f}")
                    for k, a in enumerate(sums)
                ]
                print(f"| {seconds:.0f} s | {loose} px | {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
