"""The fixtures of the scorer's and the annotation's tests."""

from conftest_annotation import files, labelled_store, store  # noqa: F401
from conftest_scores import data, guess, make_data, npy_bytes, save, zip_of  # noqa: F401
