"""Folders in MVTec AD's form: what is read, what is refused, and AUROC of a category from end to end.

Also tests fmfbench_models.unsupervised: defects.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fmfbench.errors import InputError, SourceError
from fmfbench_models.unsupervised import defects as defects_module
from fmfbench_models.unsupervised.defects import defects, defects_table
from fmfbench_models.unsupervised.image_folders import (
    TestImage,
    find_categories,
    read_category,
    read_images,
    read_masks,
)
from fmfbench_models.unsupervised.learn import judge_images, learn, make_st_mae, trunk_patches
from fmfbench_models.unsupervised.results import exit_code

HEIGHT, WIDTH = 24, 32
SMALL = {
    "size": [HEIGHT, WIDTH],
    "patch": 1,
    "dim": 24,
    "depth": 1,
    "decoder_dim": 24,
    "decoder_depth": 1,
    "mlp_ratio": 2,
    "trunk_blocks": 2,
    "sigma": 0.5,
}


def stripes(rng, broken=False, size=(48, 64)):
    """A picture of upright stripes and its mask; broken: a square of level and brighter ones in it."""
    row, column = np.arange(size[0])[:, None], np.arange(size[1])
    mask = np.zeros(size, bool)
    if broken:
        top, left = rng.integers(0, size[0] - 16), rng.integers(0, size[1] - 16)
        mask[top : top + 16, left : left + 16] = True
    pattern = 60 + 70 * np.where(mask, 1 + row // 4 % 2, column // 4 % 2)
    return (pattern + rng.integers(0, 12, size)).astype(np.uint8), mask


def write_category(folder, *, train=12, good=6, bad=8, grey=False, seed=0):
    rng = np.random.default_rng(seed)
    for part in ("train/good", "test/good", "test/hole", "ground_truth/hole"):
        (folder / part).mkdir(parents=True)

    def save(path, image):
        colours = image if grey else np.stack([image // 2, image // 4, image], 2)  # blue, green, red
        assert cv2.imwrite(str(path), colours)

    for k in range(train):
        save(folder / f"train/good/{k:03}.png", stripes(rng)[0])
    for k in range(good):
        save(folder / f"test/good/{k:03}.png", stripes(rng)[0])
    for k in range(bad):
        image, mask = stripes(rng, broken=True)
        save(folder / f"test/hole/{k:03}.png", image)
        assert cv2.imwrite(str(folder / f"ground_truth/hole/{k:03}_mask.png"), 255 * mask.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("mvtec")
    write_category(root / "plate")
    write_category(root / "wire", grey=True, seed=1)
    (root / "license.txt").write_text("not a category")
    return root


@pytest.fixture
def plate(root, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(root / "plate", tmp_path / "plate")


def test_what_a_category_has(root):
    category = read_category(root / "plate")
    assert category.name == "plate"
    assert [path.name for path in category.train] == [f"{k:03}.png" for k in range(12)]
    assert [test.defect for test in category.test] == ["good"] * 6 + ["hole"] * 8
    assert category.labels.tolist() == [0] * 6 + [1] * 8
    for test in category.test:
        if test.defect == "good":
            assert test.mask is None
        else:
            assert test.mask == root / "plate/ground_truth/hole" / f"{test.path.stem}_mask.png"


def test_categories_of_a_folder_and_a_category_itself(root, tmp_path):
    assert [path.name for path in find_categories(root)] == ["plate", "wire"]
    assert find_categories(root / "plate") == [root / "plate"]
    for nothing in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SourceError, match="CATEGORY/train/good as MVTec AD has them, got none"):
            find_categories(nothing)


def test_a_category_is_named_by_its_folder(plate, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(plate)
    assert read_category(tmp_path / "link").name == "link"
    monkeypatch.chdir(plate)
    (here,) = find_categories(Path("."))
    assert read_category(here).name == "plate"
    assert read_category(Path("test/..")).name == "plate"


def test_masks_may_have_the_name_of_their_image(plate):
    folder = plate / "ground_truth/hole"
    (folder / "003_mask.png").rename(folder / "003.png")
    assert read_category(plate).test[9].mask == folder / "003.png"


def test_images_are_upright_rgb(root):
    (image,) = read_images([root / "plate/train/good/000.png"], (48, 64))
    stored = stripes(np.random.default_rng(0))[0]
    assert image.shape == (3, 48, 64)
    np.testing.assert_array_equal(image, [stored, stored // 4, stored // 2])
    (grey,) = read_images([root / "wire/train/good/000.png"], (48, 64))
    assert (grey[0] == grey[1]).all()
    assert (grey[0] == grey[2]).all()


def test_shrinking_takes_the_mean_of_what_a_pixel_covers(root):
    path = root / "plate/train/good/001.png"
    (whole,), (half,) = read_images([path], (48, 64)), read_images([path], (24, 32))
    wanted = whole.reshape(3, 24, 2, 32, 2).mean((2, 4))
    assert np.abs(half - wanted).max() <= 0.5
    (large,) = read_images([path], (96, 128))
    assert abs(large.mean() - whole.mean()) < 0.5


def test_masks(root, tmp_path):
    category = read_category(root / "plate")
    masks = read_masks(category.test, (48, 64))
    assert masks.shape == (14, 48, 64)
    assert masks[:6].max() == 0
    np.testing.assert_array_equal(masks[6:].sum((1, 2)), 256)
    half = read_masks(category.test, (24, 32))
    assert set(np.unique(half)) == {0, 1}
    assert (np.abs(half[6:].sum((1, 2)) - 64.0) <= 17).all()  # 8 x 8, give or take an edge
    cv2.imwrite(str(tmp_path / "faint.png"), np.array([[0, 1, 3], [255, 0, 128]], np.uint8))
    faint = TestImage(path=tmp_path / "x.png", defect="hole", mask=tmp_path / "faint.png")
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((2, 3, 3), np.uint8))
    assert read_masks([faint], (2, 3))[0].tolist() == [[0, 1, 1], [1, 0, 1]]
    for shape in ((3, 2), (2, 4), (4, 6)):
        cv2.imwrite(str(tmp_path / "x.png"), np.zeros((*shape, 3), np.uint8))
        wanted = f"faint.png: expected {shape[0]} x {shape[1]} pixels .* its image x.png, got 2 x 3"
        with pytest.raises(SourceError, match=wanted):
            read_masks([faint], (2, 3))


def without_training(folder):
    shutil.rmtree(folder / "train/good")


def with_abnormal_training(folder):
    (folder / "train/hole").mkdir()


def without_tests(folder):
    shutil.rmtree(folder / "test")


def without_a_mask(folder):
    (folder / "ground_truth/hole/003_mask.png").unlink()


def without_masks(folder):
    shutil.rmtree(folder / "ground_truth")


def with_a_stray_mask(folder):
    (folder / "test/hole/002.png").unlink()


def with_two_masks(folder):
    shutil.copy(folder / "ground_truth/hole/003_mask.png", folder / "ground_truth/hole/003.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_training, "expected normal images to train on, got none"),
        (with_abnormal_training, "got also hole; move what is abnormal to test"),
        (without_tests, "expected images to test, got none"),
        (without_a_mask, "003.png: expected its mask .*003_mask.png, got none"),
        (without_masks, "000.png: expected its mask"),
        (with_a_stray_mask, "002_mask.png: expected an image 002"),
        (with_two_masks, "003_mask.png: expected one mask of image 003, got also 003.png"),
    ],
)
def test_refused_folders(plate, spoil, message):
    read_category(plate)
    spoil(plate)
    with pytest.raises(SourceError, match=message) as caught:
        read_category(plate)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_refused_images(plate, content):
    path = plate / "train/good/000.png"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"000.png: expected an image, got {len(content)} bytes"):
        read_images([path], (8, 8))


# --- learned and judged


def run(root, out, **options):
    return defects(root, out, **{"preset": None, "epochs": 60, "lr": 3e-3, **SMALL, **options})


@pytest.fixture(scope="module")
def results(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "out"
    return out, run(root, out)


def test_finds_the_defects(results):
    _, facts = results
    for row in facts["rows"]:
        assert row["learned"] == 12
        assert (row["judged"], row["abnormal"]) == (14, 8)
        assert row["image_auroc"] > 0.9
        assert row["pixel_auroc"] > 0.85
        low, high = row["interval"]
        assert low <= row["image_auroc"] <= high


def test_auroc_is_sklearns_of_scores_and_maps(root, results):
    """The same steps by hand, on images read anew."""
    category = read_category(root / "plate")
    model = make_st_mae(0, **SMALL)
    recipe = defects_module.Recipe(epochs=60, batch_size=8, lr=3e-3, lr_steps=(), flip=0.0)
    learn(model, trunk_patches(model, read_images(category.train, (HEIGHT, WIDTH))), recipe, 0)
    tests = read_images([test.path for test in category.test], (HEIGHT, WIDTH))
    scores, maps = judge_images(model, trunk_patches(model, tests))
    row = results[1]["rows"][0]
    assert row["image_auroc"] == pytest.approx(roc_auc_score(category.labels, scores), abs=1e-12)
    masks = read_masks(category.test, (HEIGHT, WIDTH))
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)


def test_goes_on_where_it_stopped(root, results, tmp_path, monkeypatch):
    out, facts = results
    copy = shutil.copytree(out, tmp_path / "copy")
    (copy / "category-wire.json").unlink()
    called = []
    once = defects_module.learn
    monkeypatch.setattr(defects_module, "learn", lambda *a, **k: (called.append(k["what"]), once(*a, **k))[1])
    again = run(root, copy)
    assert called == ["wire"]
    for row, other in zip(facts["rows"], again["rows"], strict=True):
        assert {**row, "processor_seconds": 0} == {**other, "processor_seconds": 0}
    with pytest.raises(InputError, match="got those of other epochs"):
        run(root, copy, epochs=2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="got other files"):
        run(root, tmp_path / "other")


def test_other_images_are_judged_anew(root, plate, results, tmp_path, monkeypatch):
    """A result is of the files that it was made of, whatever folder they are in."""
    out = shutil.copytree(results[0], tmp_path / "copy")
    called = []
    once = defects_module.judged
    monkeypatch.setattr(defects_module, "judged", lambda *a: (called.append(a[0].name), once(*a))[1])
    assert run(plate, out)["rows"] == results[1]["rows"][:1]
    assert called == []
    for change in ("train/good/011.png", "test/good/005.png"):
        (plate / change).unlink()
        again = run(plate, out)
        assert len(called) == 1
        called.clear()
        assert again["rows"][0] != results[1]["rows"][0]
        assert json.loads((out / "category-plate.json").read_text()) == again["rows"][0]
    larger = cv2.imread(str(plate / "test/hole/000.png"))
    mask = plate / "ground_truth/hole/000_mask.png"
    cv2.imwrite(str(mask), np.full(larger.shape[:2], 255, np.uint8))
    run(plate, out)
    assert called == ["plate"]


def test_a_mask_that_does_not_fit_is_said_before_learning(plate, tmp_path, monkeypatch):
    cv2.imwrite(str(plate / "ground_truth/hole/004_mask.png"), np.zeros((4, 4), np.uint8))
    monkeypatch.setattr(defects_module, "learn", lambda *a, **k: pytest.fail("learned"))
    with pytest.raises(SourceError, match="004_mask.png: expected 48 x 64 pixels"):
        run(plate, tmp_path / "out")


@pytest.mark.parametrize("name", ["settings", "table"])
def test_a_category_may_have_any_name(plate, tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    plate.rename(root / name)
    facts = run(root, tmp_path / "out", epochs=1)
    assert [row["category"] for row in facts["rows"]] == [name]
    again = run(root, tmp_path / "out", epochs=1)
    assert again == facts


def test_only_good_images_have_no_auroc(plate, tmp_path):
    shutil.rmtree(plate / "test/hole")
    shutil.rmtree(plate / "ground_truth")
    facts = run(plate, tmp_path / "out", epochs=1)
    assert facts["rows"][0]["image_auroc"] is None
    assert "| plate | 12 | 6, 0 | - | - | - |" in defects_table(facts)
    assert json.loads((tmp_path / "out/table.json").read_text())["rows"][0]["interval"] is None


def test_command(root, tmp_path, monkeypatch, capsys):
    argv = ["defects", str(root / "plate"), "--out", str(tmp_path / "out"), "--preset", "nano"]
    argv += ["--size", "16", "24", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", argv)
    assert exit_code(defects_module.main) == 0
    assert capsys.readouterr().out == (tmp_path / "out/table.md").read_text()
    monkeypatch.setattr("sys.argv", ["defects", str(tmp_path / "absent"), "--out", str(tmp_path / "other")])
    assert exit_code(defects_module.main) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "other").exists()
    monkeypatch.setattr("sys.argv", [*argv[:3], str(tmp_path / "other"), "--seed", "-1"])
    assert exit_code(defects_module.main) == 2
    assert "defects: expected a seed from 0" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
