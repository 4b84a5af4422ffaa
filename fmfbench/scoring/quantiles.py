"""Quantiles of the beta and Student distributions.

Written out because importing scipy.special takes longer than scoring does; tests hold them to scipy's.
"""

from __future__ import annotations

from math import exp, lgamma, log, log1p, sqrt

__all__ = ["beta_quantile", "student_quantile"]

_TINY = 1e-300


def beta_quantile(a: float, b: float, p: float) -> float:
    """The x at which the regularised incomplete beta function I_x(a, b) is p; a, b > 0 and 0 < p < 1."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if high - low <= 1e-13 * high or middle in (low, high):
            break
        if _incomplete_beta(a, b, middle) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def student_quantile(degrees: float, p: float) -> float:
    """The p-quantile, 0.5 < p < 1, of Student's t."""
    x = beta_quantile(degrees / 2, 0.5, 2 * (1 - p))
    return sqrt(degrees * (1 - x) / x)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by its continued fraction (DLMF 8.17.22), on the side where that converges fast."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    # Lentz's method
    fraction = c = 1.0
    d = 0.0
    for step in range(10_000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d or _TINY)
        c = 1 + term / c or _TINY
        fraction *= c * d
        if step and abs(c * d - 1) < 1e-15:
            break
    return front * (fraction - 1)
