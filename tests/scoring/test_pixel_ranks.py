"""Pixel AUROC and AUPRO against scikit-learn and against their definitions written out."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from fmfbench.errors import InputError
from fmfbench.exchange.labels import labels_from_dataset, write_labels
from fmfbench.exchange.masks import pack_masks
from fmfbench.exchange.predictions import read_predictions, write_predictions
from fmfbench.plots.report import write_report
from fmfbench.scoring import pixel_ranks
from fmfbench.scoring.bootstrap import block_weights, cut_blocks
from fmfbench.scoring.metrics import METRICS, PIXEL_RANK_METRICS
from fmfbench.scoring.pixel_ranks import rank_pixels, region_sizes, replicate_areas
from fmfbench.scoring.receipt import PASSING
from fmfbench.scoring.score import read_for, score
from fmfbench.scoring.tables import score_csv, scores_markdown

KINDS = ["uint8", "float16", "float32"]


def pro_points(mask, scores):
    """(false positive rate, mean overlap) at each threshold, one after the other, by the definition."""
    eight = np.ones((3, 3))
    regions = []
    for number, frame in enumerate(mask):
        labelled, count = ndimage.label(frame, eight)
        regions += [(number, labelled == k) for k in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(scores)[::-1]:
        found = scores >= threshold
        overlaps = [found[number][region].sum() / region.sum() for number, region in regions]
        points.append((found[mask == 0].sum() / (mask == 0).sum(), float(np.mean(overlaps))))
    return points


def area_to(points, limit):
    """Area under straight lines between the points, from 0 to the limit, over the limit."""
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        stop = min(x1, limit)
        end = y1 if stop == x1 else y0 + (y1 - y0) * (stop - x0) / (x1 - x0)
        area += (stop - x0) * (y0 + end) / 2
    return area / limit


def aupro(mask, scores, limit):
    return area_to(pro_points(mask, scores), limit)


def as_kind(values, kind):
    """Values in [0, 1] as stored."""
    return np.round(values * 255).astype(np.uint8) if kind == "uint8" else values.astype(kind)


def stored(tmp_path, scores, name="p.npz", ids=None):
    ids = np.arange(len(scores)) if ids is None else ids
    path = write_predictions(tmp_path / name, sample_id=ids, score=np.zeros(len(ids)), pixel_score=scores)
    return read_predictions(path).pixel_score


def scene(seed, count=12, height=9, width=13, levels=None):
    """Masks with regions that touch at corners and at edges, and scores that know something of them."""
    rng = np.random.default_rng(seed)
    mask = (ndimage.uniform_filter(rng.random((count, height, width)), (0, 2, 2)) > 0.62).astype(np.uint8)
    mask[rng.random(count) < 0.3] = 0
    values = np.clip(0.35 * mask + 0.65 * rng.random(mask.shape) ** 2, 0, 1)
    if levels is not None:
        values = np.round(values * levels) / levels
    return mask, values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [1, 4, 40, None])
@pytest.mark.parametrize("seed", range(3))
def test_against_scikit_learn_and_the_definition(tmp_path, kind, levels, seed):
    mask, values = scene(seed, levels=levels)
    values = as_kind(values, kind)
    scores, points = stored(tmp_path, values), pro_points(mask, values)
    for limit in (0.3, 0.05, 1.0):
        found = rank_pixels(scores, pack_masks(mask), limit=limit)
        assert found.auroc == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), rel=1e-12)
        assert found.aupro == pytest.approx(area_to(points, limit), rel=1e-11)
    assert found.regions == sum(ndimage.label(frame, np.ones((3, 3)))[1] for frame in mask)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([1, 2, 3, 255, 10**9]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7)),
    share=st.floats(0.05, 0.95),
    limit=st.floats(0.01, 1),
    few=st.booleans(),
)
def test_any_small_case_with_ties(tmp_path_factory, kind, seed, levels, shape, share, limit, few):
    rng = np.random.default_rng(seed)
    mask = (rng.random(shape) < share).astype(np.uint8)
    values = as_kind(rng.integers(0, levels + 1, shape) / levels, kind)
    if kind != "uint8":
        values = np.where(
            values == 0, values * rng.choice([-1, 1], shape).astype(kind), values
        )  # -0.0 is 0.0
    scores = stored(tmp_path_factory.mktemp("case"), values)
    with pytest.MonkeyPatch.context() as patched:
        if few:  # one level at a time, or a few together
            patched.setattr(pixel_ranks, "_MOST_PIXELS", int(rng.integers(1, 20)))
        found = rank_pixels(scores, pack_masks(mask), limit=limit)
    if mask.min() == mask.max():
        assert found.auroc is found.aupro is None
        assert found.reason == ("no pixel is normal" if mask.all() else "no pixel is abnormal")
        return
    assert found.auroc == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), rel=1e-12)
    assert found.aupro == pytest.approx(aupro(mask, values, limit), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("most", [1, 50, 700, 1 << 24])
def test_single_floats_are_counted_exactly_however_few_pixels_are_held(tmp_path, monkeypatch, most):
    """Scores that differ in their last bits alone, where both classes share all but those."""
    rng = np.random.default_rng(1)
    mask, _ = scene(1, 20)
    bits = rng.integers(0x3F000000, 0x3F000000 + 60_000, mask.shape) + 3000 * mask.astype(int)
    values = bits.astype(np.uint32).view(np.float32)
    values[rng.random(mask.shape) < 0.2] = 1.0
    values[rng.random(mask.shape) < 0.2] = 0.0
    scores = stored(tmp_path, values)
    assert len(np.unique(values)) > 1000
    monkeypatch.setattr(pixel_ranks, "_MOST_PIXELS", most)
    found = rank_pixels(scores, pack_masks(mask))
    assert found.auroc == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), rel=1e-12)
    assert found.aupro == pytest.approx(aupro(mask, values, 0.3), rel=1e-11)
    halved = rank_pixels(stored(tmp_path, values.astype(np.float16), "h.npz"), pack_masks(mask))
    assert abs(halved.auroc - found.auroc) > 1e-3  # what rounding would have lost


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_rows_and_size_of_blocks_change_no_digit(tmp_path, monkeypatch, kind):
    from fmfbench.files import npz

    mask, values = scene(5, 60)
    values, ids = as_kind(values, kind), np.arange(60) * 3
    blocks = cut_blocks(np.zeros(60, np.int64), np.arange(60) * 10**9, 0.5)
    plain = rank_pixels(stored(tmp_path, values, ids=ids), pack_masks(mask), blocks=blocks)
    order = np.random.default_rng(0).permutation(60)
    for number, size in enumerate((100, 1000, 1 << 20)):
        monkeypatch.setattr(npz, "_BLOCK_BYTES", size)
        scores = stored(tmp_path, values[order], f"{number}.npz", ids[order])
        assert np.array_equal(scores.load(), values)
        again = rank_pixels(scores, pack_masks(mask), blocks=blocks)
        assert (again.auroc, again.aupro, again.regions) == (plain.auroc, plain.aupro, plain.regions)
        assert np.array_equal(again.blocks, plain.blocks)


def test_region_sizes_by_hand():
    mask = np.zeros((3, 3, 5), np.uint8)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[0, 0, 4] = 1  # two touch at a corner: one region
    mask[2, :, 2] = 1  # nothing to do with frame 0
    mask[0, 2, 2] = 1
    assert region_sizes(mask).tolist() == [3, 1, 3, 3, 3, 3, 3]
    assert region_sizes(np.zeros((4, 2, 2), np.uint8)).tolist() == []
    assert region_sizes(np.ones((2, 2, 3), np.uint8)).tolist() == [6] * 12


def test_worked_example(tmp_path):
    """Two regions, of 1 and 2 pixels, and four normal pixels; by hand."""
    mask = np.array([[[1, 0, 1, 1, 0, 0, 0]]], np.uint8)
    values = np.array([[[0.2, 0.9, 0.8, 0.6, 0.6, 0.1, 0.0]]], np.float32)
    found = rank_pixels(stored(tmp_path, values), pack_masks(mask), limit=0.5)
    # above: 0.8 beats 3 of 4; 0.6 beats 2 and ties 1; 0.2 beats 2
    assert found.auroc == pytest.approx((3 + 2.5 + 2) / 12, rel=1e-15)
    # (0,0) (.25,0) (.25,.25) (.5,.5): the second region is found by half, then whole
    assert found.aupro == pytest.approx(((0.25 + 0.5) / 2 * 0.25) / 0.5, rel=1e-15)
    assert found.regions == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [0.01, 0.3, 0.7, 1.0])
def test_perfect_and_opposite(tmp_path, kind, limit):
    """However many pieces the area has, it is not more than the whole."""
    mask, values = scene(2, 30, levels=200)
    best = rank_pixels(
        stored(tmp_path, as_kind(np.where(mask, 1, values / 2), kind)), pack_masks(mask), limit=limit
    )
    assert best.auroc == 1
    assert 1 - 1e-12 < best.aupro <= 1
    worst = rank_pixels(
        stored(tmp_path, as_kind(np.where(mask, 0, 0.5 + values / 2), kind)), pack_masks(mask)
    )
    assert worst.auroc == worst.aupro == 0


@pytest.mark.parametrize("limit", [0, -0.1, 1.01, float("nan")])
def test_limits_that_are_none(limit, data, guess, save):
    with pytest.raises(InputError, match="AUPRO limit above 0"):
        score(save(guess), data, aupro_limit=limit)
    assert score(save(guess), data, aupro_limit=1.0).evidence.ranking["aupro_limit"] == 1.0


# --- intervals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_replicates_are_the_areas_of_resampled_blocks(tmp_path, kind):
    mask, values = scene(3, 80, levels=60)
    values = as_kind(values, kind)
    blocks = cut_blocks(np.repeat([0, 1], 40), np.tile(np.arange(40), 2) * 10**9, 0.5)
    ranking = rank_pixels(stored(tmp_path, values), pack_masks(mask), blocks=blocks)
    repeats = np.random.default_rng(0).integers(0, 3, (5, len(blocks)))
    found = replicate_areas(ranking, repeats.astype(float))
    for row, weight in enumerate(repeats):
        frames = np.repeat(np.arange(80), weight[blocks.of_sample])
        expected = roc_auc_score(mask[frames].ravel(), values[frames].ravel())
        assert found["pixel_auroc"][row] == pytest.approx(expected, abs=2e-3)
        assert found["aupro"][row] == pytest.approx(aupro(mask[frames], values[frames], 0.3), abs=4e-3)
        if kind != "float32":  # these are not folded here, but for the lower limb of the shares
            assert found["pixel_auroc"][row] == pytest.approx(expected, rel=1e-9)
    one = replicate_areas(ranking, np.ones((1, len(blocks))))
    assert one["pixel_auroc"][0] == pytest.approx(ranking.auroc, abs=2e-3)
    assert np.isnan(replicate_areas(ranking, np.zeros((1, len(blocks))))["aupro"][0])


def test_many_blocks_fold_the_levels(tmp_path, monkeypatch):
    mask, values = scene(4, 40)
    blocks = cut_blocks(np.zeros(40, np.int64), np.arange(40) * 10**9, 0.1, 1.0)
    scores, bits = stored(tmp_path, values.astype(np.float16)), pack_masks(mask)
    wide = rank_pixels(scores, bits, blocks=blocks)
    monkeypatch.setattr(pixel_ranks, "_MOST_CELLS", 40 * 128)
    narrow = rank_pixels(scores, bits, blocks=blocks)
    assert narrow.blocks.shape[2] <= 128 < wide.blocks.shape[2] <= 4096
    assert narrow.blocks.sum(axis=2) == pytest.approx(wide.blocks.sum(axis=2))
    assert (narrow.auroc, narrow.aupro) == (wide.auroc, wide.aupro)
    weights = block_weights(blocks, 50)
    spreads = [replicate_areas(each, weights)["aupro"].std() for each in (wide, narrow)]
    assert spreads[1] == pytest.approx(spreads[0], rel=0.1)


# --- in a score -----------------------------------------------------------------------------------------------------


@pytest.fixture
def dense(data, guess):
    """A guess with pixel scores, in the guess's own order."""
    rng = np.random.default_rng(2)
    place = np.searchsorted(data.sample_ids("test"), guess["sample_id"])
    truth = data.test_masks()[place]
    values = np.round(200 * (0.4 * truth + 0.6 * rng.random(truth.shape))) / 200
    return guess | {"pixel_score": values.astype("f4")}


def test_a_score_has_them_beside_auroc(data, dense, tmp_path):
    path = write_predictions(tmp_path / "p.npz", **dense)
    result = score(path, data, resamples=100)
    ranking = result.to_dict()["ranking"]
    place = np.searchsorted(data.sample_ids("test"), dense["sample_id"])
    mask, values = data.test_masks()[place], dense["pixel_score"]
    assert ranking["pixel_auroc"] == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), rel=1e-12)
    assert ranking["aupro"] == pytest.approx(aupro(mask, values, 0.3), rel=1e-11)
    assert (ranking["aupro_limit"], ranking["pixel_score"]) == (0.3, "float32")
    for name in ("pixel_auroc", "aupro"):
        interval = ranking["intervals"][name]
        assert interval["low"] is None  # ten seconds hold no five blocks
        assert "cannot be had" in interval["reason"]
        assert name not in ranking["undefined"]
    json.dumps(result.to_dict(), allow_nan=False)
    plain = score(
        write_predictions(tmp_path / "q.npz", **{**dense, "pixel_score": None}), data, resamples=100
    )
    assert plain.metrics == result.metrics
    assert plain.evidence.intervals == result.evidence.intervals
    assert plain.evidence.ranking["auroc"] == result.evidence.ranking["auroc"]


def repeated(result):
    """What two scores of one file must share."""
    document = result.to_dict()
    return document | {"receipt": {k: v for k, v in document["receipt"].items() if k not in PASSING}}


def test_a_label_file_and_the_written_forms(data, dense, tmp_path):
    path = write_predictions(tmp_path / "p.npz", **dense)
    result = score(path, data, resamples=100, aupro_limit=0.2)
    labels = write_labels(tmp_path / "labels.npz", labels_from_dataset(data))
    again = score(path, labels, resamples=100, aupro_limit=0.2)
    assert repeated(again) == repeated(result)
    text = result.to_markdown()
    values = result.evidence.ranking
    assert f"| pixel AUROC | {values['pixel_auroc']:.6f} |" in text
    assert f"| AUPRO, FPR to 0.2 | {values['aupro']:.6f} |" in text
    assert f"pixel scores: float32, {values['regions']} abnormal regions" in text
    rows = score_csv([result]).splitlines()
    assert len(rows) == 1 + len(METRICS)
    assert f",aupro,{values['aupro']!r},,," in next(row for row in rows if ",aupro," in row)
    found, rows = read_for(path, data, "test")
    page = write_report(tmp_path / "r.html", result, found, rows, data).read_text("utf-8")
    assert f"<td>pixel AUROC</td><td>{values['pixel_auroc']:.6f}</td>" in page
    assert f"<td>AUPRO, FPR to 0.2</td><td>{values['aupro']:.6f}</td>" in page


def test_without_pixel_scores_nothing_is_said_but_why(data, guess, save):
    result = score(save(guess), data, resamples=50)
    ranking = result.to_dict()["ranking"]
    assert ranking["pixel_auroc"] is ranking["aupro"] is ranking["regions"] is ranking["pixel_score"] is None
    assert ranking["undefined"] == dict.fromkeys(["pixel_auroc", "aupro"], "no pixel_score in the file")
    assert "AUPRO" not in result.to_markdown() + score_csv([result]) + scores_markdown([result])
    assert len(score_csv([result]).splitlines()) == 1 + len(METRICS) - len(PIXEL_RANK_METRICS)


def test_the_table_of_several_has_them_where_one_file_has(data, guess, dense, save):
    pair = [
        score(save(arrays, name), data, resamples=50) for arrays, name in ((guess, "a.npz"), (dense, "b.npz"))
    ]
    lines = scores_markdown(pair).splitlines()
    assert lines[0].endswith("| AUROC | AP | pixel AUROC | AUPRO | warnings |")
    assert "| - | - |" in lines[2]
    assert f"| {pair[1].evidence.ranking['aupro']:.6f} |" in lines[3]


def test_undefined_with_one_class_or_without_masks(data, dense, save):
    data.default_layer = None
    result = score(save(dense), data, resamples=50)
    assert "pixel_score was not read: the data have no masks" in " ".join(result.notes)
    assert "no mask labels" in result.to_dict()["ranking"]["undefined"]["aupro"]
    data.default_layer = "source"
    for recording in data.recordings.values():
        recording.masks[:] = 0
    ranking = score(save(dense), data, resamples=50).to_dict()["ranking"]
    assert ranking["undefined"]["pixel_auroc"] == "no pixel is abnormal"
    assert (ranking["regions"], ranking["pixel_score"]) == (0, "float32")
    assert "undefined: no pixel is abnormal" in score(save(dense), data, resamples=50).to_markdown()
    for recording in data.recordings.values():
        recording.masks[:] = 1
    assert score(save(dense), data).to_dict()["ranking"]["undefined"]["aupro"] == "no pixel is normal"
