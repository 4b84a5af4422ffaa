"""Refining on the raw video: the definition, the fast path, and a store that was made of one.

Also tests fmfbench.annotation: raw_guides.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest_run import call

import fmfbench
from fmfbench.annotation.annotate import annotate, parse_radius
from fmfbench.annotation.box_vote import refine_boxes, refine_boxes_plain
from fmfbench.annotation.keyframes import Keyframe, Keyframes, Track, write_keyframes
from fmfbench.annotation.raw_vote import (
    refine_on_raw,
    refine_on_raw_plain,
    shares_on_raw,
    shrink,
    shrink_plain,
)
from fmfbench.annotation.weighted_median import refine_plain
from fmfbench.errors import AnnotationError

pytest.importorskip("av")


@pytest.mark.parametrize("seed", range(30))
def test_shrinking_counts_area(seed: int) -> None:
    rng = np.random.default_rng(seed)
    large, small = rng.integers(1, 24, 2), rng.integers(1, 9, 2)
    mask = rng.integers(0, 2, large).astype(np.uint8)
    found = shrink(mask, tuple(small.tolist()))
    assert np.array_equal(found, shrink_plain(mask, tuple(small.tolist())))
    # by hand: each raw pixel's rectangle cut with each stored pixel's
    y, x = large / small
    for r in range(small[0]):
        for c in range(small[1]):
            area = sum(
                max(0.0, min(i + 1, (r + 1) * y) - max(i, r * y)) * max(0.0, min(j + 1, (c + 1) * x) - max(j, c * x))
                for i, j in np.argwhere(mask).tolist()
            )  # fmt: skip
            assert found[r, c] == pytest.approx(area / (y * x))
    assert shrink(np.ones((4, 6), np.uint8), (2, 2)).tolist() == [[1, 1], [1, 1]]


def test_exactly_half_is_normal() -> None:
    half = np.array([[1, 1], [0, 0]], np.uint8)
    guide = np.repeat(half[..., None] * np.uint8(200), 3, axis=2)
    boxes = np.array([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 2.0, 2.0]])
    assert shares_on_raw(boxes[1:], guide, (1, 1), 1.0, radius=1)[0, 0] == 1  # all of it was drawn
    assert shrink(half, (1, 1))[0, 0] == 0.5
    assert not (shrink(half, (1, 1)) > 0.5).any()


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """A raw frame with blobs, boxes about them in raw pixels (one of them none), and the stored size."""
    height, width = rng.integers(20, 60, 2).tolist()
    y, x = np.mgrid[:height, :width]
    image = rng.normal(80, 8, (height, width, 3))
    boxes = np.full((3, 4), np.nan)
    for k in range(2):
        cy, cx, ry, rx = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(1, 9), rng.uniform(1, 9)
        image[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] += (90, 20, -10)
        boxes[k] = np.clip([cx - rx - 2, cy - ry - 2, cx + rx + 2, cy + ry + 2], 0, [width, height] * 2)
    shape = (int(rng.integers(5, height)), int(rng.integers(5, width)))
    return np.clip(image, 0, 255).astype(np.uint8), boxes, shape


@pytest.mark.parametrize("seed", range(40))
def test_the_fast_path_is_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    guide, boxes, shape = scene(rng)
    options = {
        "share": float(rng.choice([1.5, 2, 3])),
        "radius": None if seed % 3 else int(rng.integers(1, 4)),
    }
    fast = refine_on_raw(boxes, guide, shape, 25.5, **options)
    assert np.array_equal(fast, refine_on_raw_plain(boxes, guide, shape, 25.5, **options))
    shares = shares_on_raw(boxes, guide, shape, 25.5, **options)
    assert np.array_equal(fast, shares > 0.5)
    assert (shares >= 0).all()
    assert (shares <= 1).all()


@pytest.mark.parametrize("seed", range(6))
def test_on_frames_of_the_stored_size_it_is_the_vote_on_them(seed: int) -> None:
    guide, boxes, _ = scene(np.random.default_rng(seed))
    assert np.array_equal(refine_on_raw(boxes, guide, guide.shape[:2]), refine_boxes(boxes, guide))


@pytest.mark.parametrize("share", [1.0, 2.0, 4.5])
def test_another_share_of_the_box_is_the_definition_too(share: float) -> None:
    for seed in range(8):
        guide, boxes, _ = scene(np.random.default_rng(seed))
        found = refine_boxes(boxes, guide, share=share)
        assert np.array_equal(found, refine_boxes_plain(boxes, guide, share=share))


def test_a_box_is_never_refined_away() -> None:
    """A line of raw pixels that its vote erases, and one that the shrinking would."""
    guide = np.full((40, 60, 3), 100, np.uint8)
    box = np.array([[20.0, 12.0, 44.0, 15.0]])
    found = refine_on_raw(box, guide, (10, 15))
    assert found.sum() == 6
    assert found[3, 5:11].all()
    nothing = np.array([[20.0, 12.1, 44.0, 12.9]])  # no stored pixel's centre is in it
    assert not refine_on_raw(nothing, guide, (10, 15)).any()
    assert not refine_on_raw(np.full((2, 4), np.nan), guide, (10, 15)).any()


CROP, SIZE = (16, 8, 64, 48), (32, 24)


@pytest.fixture(scope="module")
def raw_images() -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.normal(70, 5, (14, 80, 96, 3))
    y, x = np.mgrid[:80, :96]
    for k, image in enumerate(images):
        image[((y - 30) / 7) ** 2 + ((x - 34 - k) / 9) ** 2 < 1] += (120, 30, 0)
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def raw_folder(raw_images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for name, images in (("run1", raw_images), ("run2", raw_images[::-1])):
        codec = cv2.VideoWriter.fourcc(*"FFV1")
        writer = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.CAP_FFMPEG, codec, 25, (96, 80))
        for image in images:
            writer.write(image[..., ::-1])
        writer.release()
        (folder / f"{name}.csv").write_text("seconds,a,b,c\n0,1,2,3\n0.5,1,2,3\n")
    fmfbench.convert(folder, folder / "raw.zarr", crop=CROP, size=SIZE)
    return folder


@pytest.fixture
def folder(raw_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(raw_folder, tmp_path / "here"))


BOX = (26.0, 20.0, 48.0, 42.0)
ON_RAW = Keyframes(
    size=(96, 80),
    recordings={
        "run1": (Track(id=0, onset=3, apex=None, offset=9, keyframes=(Keyframe(frame=3, box=BOX),)),)
    },
)
ON_STORED = Keyframes(
    size=SIZE,
    recordings={
        "run1": (
            Track(id=0, onset=3, apex=None, offset=9, keyframes=(Keyframe(frame=3, box=(5, 6, 16, 17)),)),
        )
    },
)


@pytest.mark.parametrize(("drawn", "options"), [(ON_RAW, {"on_raw": True}), (ON_STORED, {"raw": "here"})])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_store_is_refined_by_its_raw_frames(folder, raw_images, drawn, options, workers: int) -> None:
    options = {key: folder if value == "here" else value for key, value in options.items()}
    annotate(folder / "raw.zarr", drawn, margin=True, workers=workers, **options)
    recording = fmfbench.open_dataset(folder / "raw.zarr").recordings["run1"]
    refined = recording.read_masks(layer="refined")
    x, y, width, height = CROP
    box = np.array([[BOX[0] - x, BOX[1] - y, BOX[2] - x, BOX[3] - y]])
    for frame in range(14):
        expected = np.zeros((24, 32), np.uint8)
        if 3 <= frame <= 9:
            guide = raw_images[frame, y : y + height, x : x + width]
            mask = np.zeros((48, 64), np.uint8)
            mask[12:34, 10:32] = 1
            vote = refine_plain(mask, guide, 7)  # 22 / 3 raw pixels
            expected = (shrink_plain(vote, (24, 32)) > 0.5).astype(np.uint8)
            assert np.array_equal(refine_on_raw_plain(box, guide, (24, 32)), expected)
        assert np.array_equal(refined[frame], expected)
    assert refined[3:10].any(axis=(1, 2)).all()
    boxes = recording.read_masks(layer="boxes")
    assert (refined != boxes).any()
    from fmfbench.store.shards import ArrayReader

    margin = ArrayReader(recording.path / "margins" / "refined").read()
    assert np.array_equal(margin > 0, refined == 1)
    from fmfbench.store.layers import provenance_of

    parameters = provenance_of(recording, "refined")["parameters"]
    assert (parameters["guide"], parameters["guide_size"], parameters["radius"]) == (
        "raw video",
        [64, 48],
        "box",
    )


def test_a_raw_video_that_is_missing_or_another_is_refused_and_nothing_is_written(
    folder, monkeypatch, tmp_path
) -> None:
    store = folder / "raw.zarr"
    before = sorted(p.relative_to(store) for p in store.rglob("*"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / "run1.avi", elsewhere / "run1.avi")
    with pytest.raises(AnnotationError, match=r"expected the raw video run1\.avi of \d+ bytes in .*--raw"):
        annotate(store, ON_RAW, on_raw=True)
    with pytest.raises(AnnotationError, match="folder of all videos"):
        annotate(store, ON_RAW, on_raw=True, raw=folder / "run2.avi")
    shutil.copy(folder / "run2.avi", folder / "run1.avi")
    with pytest.raises(AnnotationError, match="whose frame 3 is not the stored one"):
        annotate(store, ON_RAW, on_raw=True, raw=folder / "run1.avi")
    with pytest.raises(AnnotationError, match="boxes alone"):
        annotate(store, ON_RAW, on_raw=True, raw=folder, refined=None)
    assert sorted(p.relative_to(store) for p in store.rglob("*") if ".fmfbench" not in str(p)) == before
    annotate(store, ON_RAW, on_raw=True, refined=None)  # boxes alone need no video
    annotate(store, ON_RAW, on_raw=True, raw=elsewhere)
    monkeypatch.chdir(elsewhere)
    annotate(store, ON_RAW, on_raw=True, refined="again")


def test_a_store_without_raw_video_is_refused(awkward_store: Path) -> None:
    drawn = Keyframes(size=(9, 6), recordings={"b-long": (Track(id=0, onset=3, apex=None, offset=9, keyframes=(
        Keyframe(frame=3, box=(1, 1, 5, 5)),)),)})  # fmt: skip
    with pytest.raises(AnnotationError, match="expected recording b-long to come from raw video"):
        annotate(awkward_store, drawn, raw=awkward_store.parent)


@pytest.mark.parametrize(
    "text", ["box", "box/0", "box/0.5", "box/-1", "box/x", "BOX/2", "3.5", "", "box/1000", True, 2.0]
)
def test_radii_that_are_none(text: object) -> None:
    with pytest.raises(AnnotationError, match="expected a radius"):
        parse_radius(text)  # type: ignore[arg-type]


def test_the_command(folder: Path) -> None:
    write_keyframes(folder / "k.json", ON_RAW)
    words = ["annotate", str(folder / "raw.zarr"), str(folder / "k.json")]
    for more in (
        ["--on-raw"],
        ["--on-raw", "--refined", "r2", "--radius", "box/2"],
        ["--on-raw", "--refined", "r3", "--radius", "2"],
    ):
        call(*words, *more)
    recording = fmfbench.open_dataset(folder / "raw.zarr").recordings["run1"]
    masks = [recording.read_masks(layer=layer) for layer in ("refined", "r2", "r3")]
    assert (masks[0] != masks[1]).any()
    assert (masks[1] != masks[2]).any()
    done = call(*words, "--on-raw", "--raw", folder / "nothing", "--refined", "r4", code=2)
    assert done.stderr.count("\n") == 1
