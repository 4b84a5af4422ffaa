import json

import numpy as np
import pytest

from fmfbench.annotation.coco import encode_rle, write_coco
from fmfbench.errors import AnnotationError


def decode(rle):
    """COCO's definition: runs of 0, 1, 0, ... down the columns."""
    height, width = rle["size"]
    flat = []
    for i, count in enumerate(rle["counts"]):
        flat += [i % 2] * count
    return np.array(flat, np.uint8).reshape(width, height).T


def test_run_lengths_by_hand():
    mask = np.array([[1, 0, 0], [1, 1, 0]], np.uint8)
    assert encode_rle(mask) == {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}
    assert encode_rle(np.zeros((2, 3), np.uint8))["counts"] == [6]
    assert encode_rle(np.ones((2, 3), np.uint8))["counts"] == [0, 6]


def test_run_lengths_decode_to_the_mask():
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask = (rng.random(rng.integers(1, 12, 2)) < rng.random()).astype(np.uint8)
        rle = encode_rle(mask)
        assert sum(rle["counts"]) == mask.size
        assert np.array_equal(decode(rle), mask)


def test_the_document(tmp_path):
    masks = np.zeros((5, 24, 32), np.uint8)
    masks[1, 5:12, 8:20] = 1
    masks[3, 23, 31] = 1
    path = tmp_path / "coco.json"
    write_coco(path, "run1", (24, 32), [masks[:2], masks[2:]])
    data = json.loads(path.read_text())
    assert [image["file_name"] for image in data["images"]] == [f"frame_{i:06d}.PNG" for i in range(5)]
    assert {(i["width"], i["height"]) for i in data["images"]} == {(32, 24)}
    first, second = data["annotations"]
    assert (first["image_id"], first["bbox"], first["area"]) == (2, [8, 5, 12, 7], 84)
    assert (second["image_id"], second["bbox"], second["area"]) == (4, [31, 23, 1, 1], 1)
    for annotation in data["annotations"]:
        assert np.array_equal(decode(annotation["segmentation"]), masks[annotation["image_id"] - 1])
    with pytest.raises(AnnotationError, match="24x32"):
        write_coco(path, "run1", (24, 32), [masks.transpose(0, 2, 1)])
