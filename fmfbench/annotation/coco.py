"""Pixel labels as COCO instances with column-major RLE, the way refined masks go back into CVAT ("COCO 1.0").

One image a frame, named as CVAT names the frames of a video; one annotation for each frame with an abnormal
pixel. An uncompressed RLE is `{"size": [H, W], "counts": [...]}`: run lengths down the columns, the first run is
of zeros.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import AnnotationError
from fmfbench.files.atomic import write_text

__all__ = ["encode_rle", "write_coco"]


def encode_rle(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """COCO's uncompressed run lengths of a mask (H, W) of 0 and 1."""
    down = np.concatenate([[0], mask.T.ravel(), [2]])  # begins with zeros, and ends with a change
    edges = np.flatnonzero(down[1:] != down[:-1])
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}


def write_coco(
    path: str | os.PathLike[str],
    recording: str,
    shape: tuple[int, int],
    blocks: Iterable[NDArray[np.uint8]],
    category: str = "abnormal",
) -> None:
    """Write the masks of one recording.

    Args:
        path: the JSON file to write.
        recording: the recording's name.
        shape: (H, W).
        blocks: the masks (n, H, W) of 0 and 1, in order, block by block.
        category: the category's name.

    Raises:
        AnnotationError: a block of another shape.
    """
    height, width = shape
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for block in blocks:
        if block.shape[1:] != shape:
            raise AnnotationError(f"{recording}: expected masks of {height}x{width}, got {block.shape[1:]}")
        for mask in block:
            frame = len(images)
            images.append(
                {"id": frame + 1, "file_name": f"frame_{frame:06d}.PNG", "width": width, "height": height}
            )
            if mask.any():
                annotations.append(_annotation(len(annotations) + 1, frame + 1, mask))
    document = {
        "info": {"description": f"fmfbench: {recording}"},
        "licenses": [],
        "categories": [{"id": 1, "name": category, "supercategory": ""}],
        "images": images,
        "annotations": annotations,
    }
    write_text(Path(path), json.dumps(document, separators=(",", ":")))


def _annotation(number: int, image: int, mask: NDArray[np.uint8]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "segmentation": encode_rle(mask),
        "area": int(mask.sum()),
        "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        "iscrowd": 1,
    }
