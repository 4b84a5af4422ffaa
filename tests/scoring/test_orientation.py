"""When a score says that masks fit better turned."""

import pytest

from fmfbench.scoring.orientation import orientation_warning


@pytest.mark.parametrize(
    ("upright", "turned", "warned"),
    [(0.5, 0.5, False), (0.5, 0.509, False), (0.5, 0.511, True), (0.6, 0.5, False), (0.0, 0.02, True)],
)
def test_a_hundredth_more_is_chance(upright: float, turned: float, warned: bool) -> None:
    said = orientation_warning({"upright": upright, "transposed": turned, "turned by half": turned - 0.01})
    assert (said is not None) == warned
    if said is not None:
        assert said.startswith("MASKS SCORE BETTER TRANSPOSED: ")
        assert f"{turned:.3f} against {upright:.3f}" in said


def test_nothing_to_say_of_no_masks() -> None:
    assert orientation_warning({}) is None
