"""The vote of the weighted median: its plain definition, the fast form, ties, and what is refused.

Also tests fmfbench.annotation: weighted_vote.
"""

import decimal
import math
import subprocess
import sys

import numpy as np
import pytest

from fmfbench.annotation import weighted_median
from fmfbench.annotation.weighted_median import refine, refine_frames, refine_plain, weight_table
from fmfbench.errors import AnnotationError


def one_pixel(mask, guide, radius, sigma, at):
    """The definition for one pixel in Python's own integers: (sum w (2 l - 1), sum w)."""
    y, x = at
    signed = total = 0
    for row in range(max(0, y - radius), min(mask.shape[0], y + radius + 1)):
        for column in range(max(0, x - radius), min(mask.shape[1], x + radius + 1)):
            d = sum((int(a) - int(b)) ** 2 for a, b in zip(guide[y, x], guide[row, column], strict=True))
            weight = round(2**40 * math.exp(-d / (2 * sigma**2)))
            total += weight
            signed += weight if mask[row, column] else -weight
    return signed, total


SIGMAS = (1.0, 1.7, 3.3, 7.0, 12.5, 20.0, 25.5, 33.0, 47.1, 60.0, 80.9, 100.0)  # few: a table takes time


def random_case(rng):
    # up to 96x80, most of them small: the plain path is slow
    height, width = (int(rng.integers(1, n + 1)) for n in ((96, 80) if rng.random() < 0.1 else (36, 30)))
    radius, sigma = int(rng.integers(1, 21)), float(rng.choice(SIGMAS))
    kind = rng.integers(5)
    if kind == 0:  # constant: every weight is 1, exact ties abound
        guide = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    elif kind == 1:
        guide = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    elif kind == 2:  # two colours in halves or stripes: ties between groups
        pattern = (np.indices((height, width))[rng.integers(2)] // rng.integers(1, 9)) % 2
        guide = rng.integers(0, 256, (2, 3), dtype=np.uint8)[pattern]
    else:  # smooth, with noise
        ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * rng.uniform(0, 2, 3)
        guide = np.clip(ramp + rng.normal(0, rng.uniform(0, 20), (height, width, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(0, 4)):  # boxes, often over the border
        y, x = rng.integers(-5, height), rng.integers(-5, width)
        mask[max(y, 0) : max(y + rng.integers(1, 40), 0), max(x, 0) : max(x + rng.integers(1, 40), 0)] = 1
    if rng.random() < 0.2:
        mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
    elif rng.random() < 0.1:
        mask = 1 - mask
    return mask, guide, radius, sigma


def test_fast_equals_plain_on_a_thousand_random_cases():
    rng = np.random.default_rng(20230510)
    changed = ties = 0
    for case in range(1000):
        mask, guide, radius, sigma = random_case(rng)
        plain, plain_margin = refine_plain(mask, guide, radius, sigma, return_margin=True)
        fast = refine(mask, guide, radius, sigma)
        assert fast.dtype == np.uint8
        assert np.array_equal(fast, plain), (case, mask.shape, radius, sigma)
        if case % 10 == 0:
            refined, margin = refine(mask, guide, radius, sigma, return_margin=True)
            assert margin.dtype == np.float32
            assert np.array_equal(refined, plain)
            assert np.array_equal(margin, plain_margin)
        changed += np.any(plain != mask)
        ties += np.any(plain_margin == 0)
    assert changed > 500
    assert ties > 50


def test_plain_is_the_definition_in_whole_numbers():
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask, guide, radius, sigma = random_case(rng)
        refined, margin = refine_plain(mask, guide, radius, sigma, return_margin=True)
        for _ in range(5):
            y, x = rng.integers(mask.shape[0]), rng.integers(mask.shape[1])
            signed, total = one_pixel(mask, guide, radius, sigma, (y, x))
            assert refined[y, x] == (signed > 0)
            assert margin[y, x] == pytest.approx(signed / total, abs=1e-6)


def test_agrees_with_another_weighted_median_on_grey_guidance():
    """scipy's rank filter is the unweighted median: a constant guide makes every weight equal."""
    from scipy.ndimage import median_filter

    rng = np.random.default_rng(2)
    mask = (rng.random((31, 23)) < 0.5).astype(np.uint8)
    guide = np.full((31, 23, 3), 90, np.uint8)
    inner = (slice(4, -4), slice(4, -4))  # away from the border, where scipy does not clip the window
    assert np.array_equal(refine(mask, guide, radius=4)[inner], median_filter(mask, size=9)[inner])


def test_an_exact_tie_is_normal():
    guide = np.full((1, 2, 3), 7, np.uint8)
    mask = np.array([[0, 1]], np.uint8)
    refined, margin = refine(mask, guide, radius=1, return_margin=True)
    assert refined.tolist() == [[0, 0]]
    assert margin.tolist() == [[0.0, 0.0]]


def test_the_label_takes_the_shape_of_the_frame():
    y, x = np.mgrid[:24, :32]
    blob = (y - 12) ** 2 + (x - 16) ** 2 < 36
    guide = np.where(blob[..., None], [220, 60, 40], [60, 60, 60]).astype(np.uint8)
    box = np.zeros((24, 32), np.uint8)
    box[6:19, 10:23] = 1
    assert np.array_equal(refine(box, guide), blob)


@pytest.mark.parametrize("sigma", [1e-300, 0.05, 1.0, 25.5, 100.0, 1e300])
def test_weights_are_correctly_rounded(sigma):
    table = weight_table(sigma)
    assert table[0] == 2**40
    assert np.all(np.diff(table) <= 0)
    assert table[-1] > 0
    with decimal.localcontext() as context:
        context.prec = 60
        for d in np.random.default_rng(3).integers(0, 195076, 200):
            exact = 2**40 * (-decimal.Decimal(int(d)) / (2 * decimal.Decimal(sigma) ** 2)).exp()
            assert abs((table[d] if d < len(table) else 0) - exact) <= decimal.Decimal("0.5")


@pytest.mark.parametrize("sigma", [1e-300, 0.01, 1e300])
def test_extreme_widths_of_the_colour_weight(sigma):
    rng = np.random.default_rng(4)
    mask = (rng.random((12, 17)) < 0.5).astype(np.uint8)
    guide = rng.integers(0, 256, (12, 17, 3), dtype=np.uint8)
    assert np.array_equal(refine(mask, guide, 3, sigma), refine_plain(mask, guide, 3, sigma))


def test_inputs_are_left_alone_and_views_are_good():
    rng = np.random.default_rng(5)
    masks = (rng.random((40, 60)) < 0.3).astype(np.uint8)[::2, ::-3]
    guide = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)[::2, ::-3, ::-1]
    masks.flags.writeable = guide.flags.writeable = False
    before = masks.copy()
    assert np.array_equal(refine(masks, guide), refine_plain(masks.copy(), guide.copy()))
    assert np.array_equal(masks, before)
    assert np.array_equal(refine(masks.astype(bool), guide), refine(masks, guide))


def test_a_block_of_frames_on_any_number_of_threads():
    rng = np.random.default_rng(6)
    masks = np.zeros((9, 20, 30), np.uint8)
    masks[2:7, 5:14, 8:20] = 1
    guides = rng.integers(0, 256, (9, 20, 30, 3), dtype=np.uint8)
    one, three = refine_frames(masks, guides), refine_frames(masks, guides, threads=3)
    assert np.array_equal(one, three)
    assert np.array_equal(one, np.stack([refine_plain(m, g) for m, g in zip(masks, guides, strict=True)]))
    with pytest.raises(AnnotationError, match=r"\(n, H, W\)"):
        refine_frames(masks[0], guides[0])


MASK, GUIDE = np.zeros((24, 32), np.uint8), np.zeros((24, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("mask", "guide", "options", "words"),
    [
        (MASK.astype(float), GUIDE, {}, "float64"),
        (MASK.tolist(), GUIDE, {}, "list"),
        (MASK + 255, GUIDE, {}, "255"),
        (MASK[:, :-1], GUIDE, {}, r"\(24, 31\)"),
        (MASK[None], GUIDE, {}, r"\(1, 24, 32\)"),
        (MASK, GUIDE.astype(np.float32), {}, "float32"),
        (MASK, GUIDE.astype(np.uint16), {}, "uint16"),
        (MASK, GUIDE.transpose(2, 0, 1), {}, "order of the axes"),
        (MASK, GUIDE.transpose(1, 0, 2), {}, "order of the axes"),
        (MASK[:0], GUIDE[:0], {}, "at least one pixel"),
        (MASK, GUIDE, {"radius": 0}, "radius"),
        (MASK, GUIDE, {"radius": 2.0}, "radius"),
        (MASK, GUIDE, {"radius": True}, "radius"),
        (MASK, GUIDE, {"sigma": 0.0}, "sigma"),
        (MASK, GUIDE, {"sigma": math.nan}, "sigma"),
        (MASK, GUIDE, {"sigma": math.inf}, "sigma"),
        (MASK, GUIDE, {"sigma": "25"}, "sigma"),
    ],
)
def test_refuses_in_one_line(mask, guide, options, words):
    for function in (refine, refine_plain):
        with pytest.raises(AnnotationError, match=words) as caught:
            function(mask, guide, **options)
        assert "\n" not in str(caught.value)


def test_the_sum_of_votes_stays_within_64_bits():
    wide = np.zeros((2049, 2048), np.uint8)
    guide = np.zeros((2049, 2048, 3), np.uint8)
    with pytest.raises(AnnotationError, match="64 bits"):
        refine(wide, guide, radius=5000)
    assert not refine(wide[:64], guide[:64], radius=5000).any()
    assert weighted_median._MOST_VOTERS * 2**40 < 2**63


def test_accepts_whole_numbers_of_numpy():
    mask = MASK.copy()
    mask[3:9, 4:20] = 1
    assert np.array_equal(refine(mask, GUIDE, np.int64(3), np.float32(20)), refine(mask, GUIDE, 3, 20))


def test_without_numba_the_plain_path_serves():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from fmfbench.annotation.weighted_median import refine, refine_plain\n"
        "rng = np.random.default_rng(0)\n"
        "m = (rng.random((9, 12)) < .5).astype(np.uint8)\n"
        "g = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)\n"
        "assert np.array_equal(refine(m, g), refine_plain(m, g))\n"
        "assert len(refine(m, g, return_margin=True)) == 2\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_importing_it_does_not_import_numba():
    code = "import sys, fmfbench.annotation.weighted_median; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_float32_weight_keeps_its_bound():
    """The fast path is exact only as long as its doubt covers the error of the float32 weights."""
    numba = pytest.importorskip("numba")
    from fmfbench.annotation import weighted_vote

    @numba.njit
    def first_sum(planes, exponent, doubt, many, signed):
        weighted_vote._vote_lanes(planes, 0, 0, 1, exponent, doubt, many, many, signed)

    rng = np.random.default_rng(8)
    never = np.full(8, 1e9, np.float32)  # votes still to come: no vote ends early
    signed = np.zeros(8, np.float32)
    worst = 0.0
    for sigma in (1.0, 5.0, 25.5, 100.0):
        exponent = np.float32(-0.5 * math.log2(math.e) / sigma**2)
        for scale in (4, 30, 256):
            for colour in rng.integers(0, scale, (200, 3)):
                planes = np.zeros((weighted_vote._PLANES, 1, 16), np.float32)
                planes[:3, 0, 2] = colour
                planes[weighted_vote._VOTE, 0, 2] = 1  # of the window of pixel 0, this neighbour alone votes
                first_sum(planes, exponent, np.float32(0), never, signed)
                d = int((colour**2).sum())
                exact = math.exp(-d / (2 * sigma**2))
                worst = max(worst, abs(float(signed[0]) - exact) / max(exact, 1e-30))
    assert worst < weighted_vote._ERROR_OF_WEIGHT
    assert worst > weighted_vote._ERROR_OF_WEIGHT / 10  # it was really computed in float32
