"""The arithmetic of `benchmarks/fmf_sim_short.py`: what its table says of two models, and its controls."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("fmf_sim_short")


def judged(score: list[float], label: list[int], visibility: list[float], recording: int) -> dict:
    return {
        "score": np.array(score),
        "label": np.array(label),
        "visibility": np.array(visibility),
        "frame": 3000 * np.arange(len(score)),
        "recording": np.full(len(score), recording),
    }


def test_gain_is_the_difference_in_accuracy_of_a_band_and_its_interval_holds_it(short: ModuleType) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (2, 400))
    seen = rng.random((2, 400))
    right = [rng.random((2, 400)) < share for share in (0.9, 0.7)]
    first, second = (
        [judged(np.where(own[k], label[k], 1 - label[k]), label[k], seen[k], k) for k in range(2)]
        for own in right
    )
    value, low, high = short.gain(first, second)
    assert value == pytest.approx(right[0].mean() - right[1].mean())
    spread = 1.96 * np.std(right[0].astype(float) - right[1]) / np.sqrt(right[0].size)  # blocks of one window
    assert (value - low, high - value) == pytest.approx((spread, spread), rel=0.15)
    hidden = seen < 0.1
    assert short.gain(first, second, 0.0, 0.1)[0] == pytest.approx(
        right[0][hidden].mean() - right[1][hidden].mean()
    )
    assert short.gain(first, first) == (0.0, 0.0, 0.0)


def test_figures_of_known_scores(short: ModuleType) -> None:
    found = judged([0.9, 0.8, 0.2, 0.6], [1, 1, 0, 0], [0.05, 0.3, 0.7, 0.9], 0)
    found |= {"pixels": np.array([[3, 5, 7, 9], [1, 3, 5, 7]]), "twin": np.array([0.5, 0.5, 0.5, 0.5])}
    got = short.figures(found)
    assert got["accuracy"] == 0.75
    assert got["auroc"] == 1.0
    assert got["bands"] == [1.0, 1.0, 0.5]
    assert got["counts"] == [1, 1, 2]
    assert got["twin"] == 0.5
    assert got["moved"] == 0.0  # half a block later every label is the other one
    assert got["miou"] == pytest.approx((4 / 8 + 12 / 16) / 2)


def test_covered_paints_the_place_and_nothing_else(short: ModuleType) -> None:
    video = np.random.default_rng(1).integers(0, 256, (3, 3, 2, 12, 16)).astype(np.uint8)
    box = np.array([[2, 3, 7, 9], [0, 0, 16, 12], [15, 11, 16, 12]])
    got = short.covered({"video": video, "box": box})["video"]
    for clip, whole, (x0, y0, x1, y1) in zip(got, video, box.tolist(), strict=True):
        inside = np.zeros((12, 16), dtype=bool)
        inside[y0:y1, x0:x1] = True
        np.testing.assert_array_equal(clip[..., ~inside], whole[..., ~inside])
        mean = whole.reshape(3, 2, -1).mean(axis=2).astype(np.uint8)
        np.testing.assert_array_equal(clip[..., inside], np.repeat(mean[..., None], inside.sum(), axis=2))


def test_cut_keeps_the_end_of_the_current(short: ModuleType) -> None:
    current = np.arange(2 * 440 * 3).reshape(2, 440, 3)
    np.testing.assert_array_equal(short.cut({"current": current}, 5)["current"], current[:, 430:])
    with pytest.raises(SystemExit, match="expected 1 to 220, got 221"):
        short.cut({"current": current}, 221)


def test_worlds_hold_a_row_to_the_rows_that_still_have_their_input(short: ModuleType) -> None:
    label = np.tile([0, 1], 50)
    wrong = {
        name: np.arange(100) < count for name, count in {"all": 0, "1": 1, "2": 2, "3": 3, "30": 30}.items()
    }

    def row(whole: str, **lost: str) -> list[dict]:
        def score(name: str) -> np.ndarray:
            return np.where(wrong[name], 1 - label, label).astype(float)

        own = judged(score(whole).tolist(), label.tolist(), [0.9] * 100, 0)
        return [own | {f"without_{name}": score(value) for name, value in lost.items()}]

    found = {
        "current": row("30"),
        "visual": row("1"),
        "both": row("all", video="30", current="3"),  # loses 2 points without the current: held
        "gated": row("3", video="3", current="30"),  # whole it is 2 points below video
    }
    got = {(own["row"], own["world"]): own for own in short.worlds(found)}
    assert list(got) == [(name, world) for name in ("both", "gated") for world in short.WORLDS]
    assert got["both", "whole"]["accuracy"] == 1.0
    assert got["both", "whole"]["less"]["visual"][0] == pytest.approx(0.01)
    assert got["both", "whole"]["less"]["current"][0] == pytest.approx(0.3)
    assert set(got["both", "video lost"]["less"]) == {"current"}
    assert set(got["both", "current lost"]["less"]) == {"visual"}
    assert got["gated", "video lost"]["less"]["current"][0] == pytest.approx(0.27)
    assert got["gated", "current lost"]["less"]["visual"][0] == pytest.approx(-0.29)
    assert {key: own["holds"] for key, own in got.items()} == {
        ("both", "whole"): True,
        ("both", "video lost"): True,
        ("both", "current lost"): True,
        ("gated", "whole"): True,
        ("gated", "video lost"): True,
        ("gated", "current lost"): False,
    }


def test_what_is_lost_is_zero_and_not_valid(short: ModuleType) -> None:
    rng = np.random.default_rng(2)
    windows = {
        "video": rng.integers(1, 256, (5, 3, 2, 8, 16)).astype(np.uint8),
        "mask": np.ones((5, 8, 16), np.uint8),
        "current": rng.normal(9000, 10, (5, 40, 3)).astype(np.float32),
        "label": np.array([0, 1, 1, 0, 1]),
    }
    rows = np.array([3, 1])
    whole = short.batch_of(windows, rows)
    assert all(whole[f"{name}_valid"].all() for name in ("video", "current", "mask"))
    for lost, other in (("video", "current"), ("current", "video")):
        got = short.batch_of(windows, rows, lost)
        assert not got[lost].any()
        assert not got[f"{lost}_valid"].any()
        np.testing.assert_array_equal(got[other], windows[other][rows])
        assert got[f"{other}_valid"].all()


def test_rows_train_and_are_judged_in_each_world(short: ModuleType) -> None:
    rng = np.random.default_rng(3)
    windows = {
        "video": rng.integers(0, 256, (12, 3, 2, 64, 64)).astype(np.uint8),
        "mask": (rng.random((12, 64, 64)) < 0.01).astype(np.uint8),
        "current": rng.normal(9000, 100, (12, 10, 3)).astype(np.float32),
        "label": np.tile([0, 1], 6),
        "split": np.repeat([0, 1], 6),
    }
    for name in ("current", "both", "gated"):
        model, seconds, curve = short.train(windows, name, 0, 2, batch=4)
        assert seconds > 0
        assert curve.size == 0  # fewer than CURVE steps
        scores = {lost: short.judge(model, windows, lost)["score"] for lost in ("", "video", "current")}
        assert all(value.shape == (6,) and np.isfinite(value).all() for value in scores.values())
        if name == "current":
            np.testing.assert_array_equal(scores[""], scores["video"])
        else:
            assert np.ptp(scores["current"]) > 0  # what is left is seen
            other = windows | {"video": 255 - windows["video"]}
            np.testing.assert_array_equal(short.judge(model, other, "video")["score"], scores["video"])


def test_summed_adds_logits_and_leaves_out_what_is_lost(short: ModuleType) -> None:
    visual = judged([0.9, 0.4, 0.3], [1, 1, 0], [0.9, 0.05, 0.9], 0)
    current = judged([0.2, 0.8, 0.5], [1, 1, 0], [0.9, 0.05, 0.9], 0)
    visual |= {"covered": np.array([0.5, 0.5, 0.5]), "twin": np.array([0.5, 0.2, 0.6])}
    current |= {"twin": np.array([0.9, 0.8, 0.6])}
    got = short.summed(visual, current)
    odds = {"score": (9 / 4, 8 / 3, 3 / 7), "covered": (1 / 4, 4, 1), "twin": (9, 1, 9 / 4)}
    for name, expected in odds.items():
        np.testing.assert_allclose(got[name] / (1 - got[name]), expected)
    np.testing.assert_array_equal(got["without_video"], current["score"])
    np.testing.assert_array_equal(got["without_current"], visual["score"])
    certain = short.summed(visual | {"score": np.ones(3)}, current | {"score": np.array([0.0, 0.5, 1.0])})[
        "score"
    ]
    np.testing.assert_allclose(certain, [0.5, 1.0, 1.0], atol=1e-6)


def test_probe_learns_a_bright_spot_and_counts_pixels(short: ModuleType) -> None:
    probe = importlib.import_module("fmf_sim_probe")
    rng = np.random.default_rng(4)
    video = rng.integers(60, 90, (96, 3, 2, 16, 24)).astype(np.uint8)
    label, mask = np.tile([0, 1], 48), np.zeros((96, 16, 24), np.uint8)
    for k in np.flatnonzero(label):
        y, x = rng.integers(1, 13), rng.integers(1, 21)
        video[k, :, :, y : y + 3, x : x + 3] = 250
        mask[k, y : y + 3, x : x + 3] = 1
    windows = {"video": video, "mask": mask, "label": label, "split": np.repeat([0, 1], 48)}
    net = probe.train(probe.of_split(windows, 0), 40, 0)
    test = probe.of_split(windows, 1)
    got = probe.judge(net, test)
    assert ((got["score"] > 0.5) == test["label"]).mean() > 0.9
    frames = probe.frames_of(test["video"])
    assert frames.shape == (48, 6, 16, 24)
    np.testing.assert_allclose(frames[3, 4].numpy(), test["video"][3, 2, 0] / 127.5 - 1, atol=1e-6)
    with short.torch.no_grad():
        said = net(frames)[1].numpy() > 0
    true = test["mask"].astype(bool)
    counts = [(said & true), (said | true), ~(said | true), ~(said & true)]
    np.testing.assert_array_equal(got["pixels"].T, [own.sum((1, 2)) for own in counts])
