"""The fixtures of fake data."""

from conftest_scores import data, make_data  # noqa: F401
