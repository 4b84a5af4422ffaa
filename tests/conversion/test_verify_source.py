"""A source is opened for comparison as the store says that it was converted."""

from fractions import Fraction

import pytest

from fmfbench.conversion.verify_source import _options
from fmfbench.sources.source import Options

SAID = {
    "map": {"video": "film"},
    "time_format": "%d.%m.%Y %H:%M:%S",
    "fps": "30000/1001",
    "crop": [1, 2, 30, 20],
    "size": [16, 12],
    "only": ["run7"],
    "allow_damaged": True,
    "offset": "-1/2",
    "current_hz": "5/2",
    "decimal": ",",
}


def test_every_option_that_a_store_tells_is_taken() -> None:
    found = _options({"fmfbench.layout": "recording", "fmfbench.options": SAID}, workers=3)
    assert found == Options(
        layout="recording",
        names={"video": "film"},
        time_format="%d.%m.%Y %H:%M:%S",
        fps=Fraction(30000, 1001),
        steady=True,
        crop=(1, 2, 30, 20),
        size=(16, 12),
        workers=3,
        only=("run7",),
        allow_damaged=True,
        offset=Fraction(-1, 2),
        current_hz=Fraction(5, 2),
        decimal=",",
    )


@pytest.mark.parametrize(
    "attributes", [{}, {"fmfbench.options": {}}, {"fmfbench.options": "of another form"}]
)
def test_what_a_store_does_not_tell_was_not_given(attributes: dict[str, object]) -> None:
    assert _options(attributes, workers=1) == Options(layout=None, workers=1)


@pytest.mark.parametrize("name", SAID)
def test_each_option_stands_for_itself(name: str) -> None:
    """One alone changes what it is for, and nothing else."""
    plain = _options({}, workers=1)
    found = _options({"fmfbench.options": {name: SAID[name]}}, workers=1)
    differing = {field for field in vars(plain) if getattr(plain, field) != getattr(found, field)}
    assert differing == {"map": {"names"}, "fps": {"fps", "steady"}}.get(name, {name})


def test_what_a_conversion_records_is_what_is_taken() -> None:
    options = _options({"fmfbench.options": SAID}, workers=1)
    assert _options({"fmfbench.options": options.to_dict()}, workers=1) == options
