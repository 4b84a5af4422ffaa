import pytest
from scipy.stats import beta, t

from fmfbench.scoring.quantiles import beta_quantile, student_quantile


@pytest.mark.parametrize("p", [0.025, 0.5, 0.975])
@pytest.mark.parametrize("a", [0.3, 1.0, 4.5, 120.0, 24_000.0])
@pytest.mark.parametrize("b", [0.2, 1.0, 7.25, 900.0, 30_000.0])
def test_beta(a, b, p):
    assert beta_quantile(a, b, p) == pytest.approx(beta.ppf(p, a, b), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 3, 17, 398])
@pytest.mark.parametrize("p", [0.9, 0.975, 0.995])
def test_student(degrees, p):
    assert student_quantile(degrees, p) == pytest.approx(t.ppf(p, degrees), rel=1e-9)
