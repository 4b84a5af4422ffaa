"""The weighted median beside OpenCV's, on one thread: prints milliseconds a frame and their ratio.

OpenCV's filter lives in opencv-contrib-python, which takes opencv-python's place in an environment of its
own:

    python -m venv wmf && wmf/bin/pip install . && wmf/bin/pip uninstall -y opencv-python
    wmf/bin/pip install opencv-contrib-python && wmf/bin/python benchmarks/weighted_median.py

cv2.ximgproc.weightedMedianFilter quantises the colours, draws its clusters at random and is not
thread-safe, so it is a reference for speed and not for the result; ours is checked against the plain
definition on every frame.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import click
import numpy as np
from numpy.typing import NDArray

from fmfbench.annotation.weighted_median import SIGMA, refine, refine_plain

CASES = ((64, 7, 0.05), (64, 7, 0.20), (256, 15, 0.05), (256, 15, 0.20))
WANTED = (10.0, 8.0, 4.0, 2.5)

Array = NDArray[np.uint8]


def scene(size: int, share: float, noise: float, seed: int) -> tuple[Array, Array]:
    """A box label of `share` of the frame over a red blob that fills most of it, on a noisy shell."""
    rng = np.random.default_rng(seed)
    side = round(share**0.5 * size)
    corner = (size - side) // 2
    y, x = np.mgrid[:size, :size] - size / 2
    reach = 0.42 * side * (1 + 0.15 * np.sin(3 * np.arctan2(y, x) + seed))
    blob = np.hypot(y, x) < reach
    shade = 60 + 20 * np.sin(x / size * 5) + 15 * np.cos(y / size * 7)
    clean = np.where(blob[..., None], [205, 80, 50], shade[..., None] * [1, 0.9, 0.9])
    mask = np.zeros((size, size), np.uint8)
    mask[corner : corner + side, corner : corner + side] = 1
    return mask, np.clip(clean + rng.normal(0, noise, (size, size, 3)), 0, 255).astype(np.uint8)


def milliseconds(function: Callable[[], object], seconds: float) -> float:
    """Median over as many calls as fit, at least five, after one that is not counted."""
    function()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


@click.command(help=__doc__)
@click.option("--noise", default=8.0, show_default=True, help="The frame's noise (std), in grey levels.")
@click.option("--seconds", default=1.0, show_default=True, help="How long each filter is timed on each case.")
def main(noise: float, seconds: float) -> None:
    import cv2

    cv2.setNumThreads(1)
    theirs = getattr(getattr(cv2, "ximgproc", None), "weightedMedianFilter", None)
    if theirs is None:
        print("cv2.ximgproc is missing: only our own times follow; see --help", file=sys.stderr)
    print(f"numpy {np.__version__}, OpenCV {cv2.__version__}, one thread, sigma {SIGMA}, noise {noise}")
    print("| frame | r | box | plain ms | refine ms | OpenCV ms | ratio | expected |")
    print("|---|---|---|---|---|---|---|---|")
    for (size, radius, share), wanted in zip(CASES, WANTED, strict=True):
        mask, guide = scene(size, share, noise, seed=0)
        if not np.array_equal(refine(mask, guide, radius), refine_plain(mask, guide, radius)):
            raise SystemExit(f"refine differs from refine_plain at {size}, r {radius}, box {share}")
        plain = milliseconds(lambda: refine_plain(mask, guide, radius), 0.0)  # noqa: B023
        ours = milliseconds(lambda: refine(mask, guide, radius), seconds)  # noqa: B023
        row = f"| {size}x{size} | {radius} | {share:.0%} | {plain:.1f} | {ours:.3f} |"
        if theirs is None:
            print(f"{row} - | - | {wanted} |")
            continue
        opencv = milliseconds(
            lambda: theirs(guide, mask, radius, sigma=SIGMA, weightType=cv2.ximgproc.WMF_EXP),  # noqa: B023
            seconds,
        )
        print(f"{row} {opencv:.2f} | {opencv / ours:.1f} | {wanted} |")


if __name__ == "__main__":
    main()
