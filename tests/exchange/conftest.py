"""The fixtures of the scorer's tests."""

from conftest_scores import data, guess, make_data, npy_bytes, save, zip_of  # noqa: F401
