"""Image folders in the form of MVTec AD: normal images to train on, normal and defective ones to test, with masks.

    CATEGORY/train/good/*.png
    CATEGORY/test/good/*.png    CATEGORY/test/DEFECT/000.png
    CATEGORY/ground_truth/DEFECT/000_mask.png

Bergmann et al., "MVTec AD - A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection", CVPR 2019. Images
may be RGB or grey, and PNG, JPEG, BMP or TIFF; masks are PNG, any value above 0 being a defect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError
from fmfbench.files.leavings import without_leavings

__all__ = ["Category", "TestImage", "find_categories", "read_category", "read_images", "read_masks"]

GOOD = "good"
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, kw_only=True)
class TestImage:
    """An image to judge. defect: its folder's name, "good" for a normal one, which has no mask."""

    __test__ = False  # not for pytest

    path: Path
    defect: str
    mask: Path | None


@dataclass(frozen=True, kw_only=True)
class Category:
    """One kind of object or texture in a folder; images in the order of their names."""

    folder: Path
    name: str
    train: tuple[Path, ...]
    test: tuple[TestImage, ...]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(number of test images,) 1 for defective ones."""
        return np.array([image.defect != GOOD for image in self.test], np.uint8)


def find_categories(root: Path) -> list[Path]:
    """The categories in a folder, or the folder itself where it is one. SourceError: there is none."""
    if (root / "train").is_dir():
        return [root]
    found = sorted(path for path in root.iterdir() if (path / "train").is_dir()) if root.is_dir() else []
    if not found:
        raise SourceError(
            f"{root}: expected folders CATEGORY/train/good as MVTec AD has them, got none; give the folder "
            f"that holds the categories, or one category"
        )
    return found


def read_category(folder: Path) -> Category:
    """What images a category has.

    SourceError: no normal ones to train on, nothing to test, a defective image without mask or with two, or a mask
    without image.
    """
    train = tuple(images_in(folder / "train" / GOOD))
    if not train:
        raise SourceError(f"{folder / 'train' / GOOD}: expected normal images to train on, got none")
    strangers = sorted(
        path.name for path in (folder / "train").iterdir() if path.name != GOOD and path.is_dir()
    )
    if strangers:
        raise SourceError(
            f"{folder / 'train'}: expected normal images alone, in good, got also {', '.join(strangers)}; "
            f"move what is abnormal to test"
        )
    tests: list[TestImage] = []
    groups = (
        sorted(path for path in (folder / "test").iterdir() if path.is_dir())
        if (folder / "test").is_dir()
        else []
    )
    for group in groups:
        masks = {} if group.name == GOOD else masks_in(folder / "ground_truth" / group.name)
        for path in images_in(group):
            mask = masks.pop(path.stem, None)
            if mask is None and group.name != GOOD:
                wanted = folder / "ground_truth" / group.name / f"{path.stem}_mask.png"
                raise SourceError(f"{path}: expected its mask {wanted}, got none")
            tests.append(TestImage(path=path, defect=group.name, mask=mask))
        if masks:
            first = masks[min(masks)]
            raise SourceError(f"{first}: expected an image {min(masks)} in {group}, got none")
    if not tests:
        raise SourceError(f"{folder / 'test'}: expected images to test, got none")
    name = folder.resolve().name if folder.name in {"", ".."} else folder.name  # a link keeps its own name
    return Category(folder=folder, name=name, train=train, test=tuple(tests))


def images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in without_leavings(folder.iterdir()) if p.suffix.lower() in ENDINGS)


def masks_in(folder: Path) -> dict[str, Path]:
    """Mask files by the stem of their image. SourceError: two of one image."""
    masks: dict[str, Path] = {}
    for path in images_in(folder):
        stem = path.stem.removesuffix("_mask")
        other = masks.setdefault(stem, path)
        if other != path:
            raise SourceError(f"{path}: expected one mask of image {stem}, got also {other.name}; remove one")
    return masks


def read_images(paths: Sequence[Path], size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB (n, 3, H, W), each resized to `size` (H, W): by area where it gets smaller, bilinearly where larger."""
    import cv2

    images = np.empty((len(paths), 3, *size), np.uint8)
    for row, path in enumerate(paths):
        image = read(path, cv2.IMREAD_COLOR)
        shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized = cv2.resize(image, (size[1], size[0]), interpolation=how)
        images[row] = resized[:, :, ::-1].transpose(2, 0, 1)
    return images


def read_masks(tests: Sequence[TestImage], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(n, H, W) 0/1, 1 for defect, the nearest pixel of each mask; all 0 where an image has none.

    SourceError: a mask of another size than its image, which would be stretched over other places.
    """
    import cv2

    masks = np.zeros((len(tests), *size), np.uint8)
    for row, test in enumerate(tests):
        if test.mask is not None:
            mask = (read(test.mask, cv2.IMREAD_GRAYSCALE) > 0).astype(np.uint8)
            wanted = read(test.path, cv2.IMREAD_COLOR).shape[:2]
            if mask.shape != wanted:
                raise SourceError(
                    f"{test.mask}: expected {wanted[0]} x {wanted[1]} pixels (height x width) as its image "
                    f"{test.path.name}, got {mask.shape[0]} x {mask.shape[1]}; give the mask that belongs to it"
                )
            masks[row] = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return masks


def read(path: Path, how: int) -> NDArray[Any]:
    import cv2

    # not imread: it cannot open every path on every system
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, how) if len(data) else None
    if image is None:
        raise SourceError(f"{path}: expected an image, got {len(data)} bytes that opencv cannot decode")
    return image
