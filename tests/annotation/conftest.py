"""The fixtures of the annotation's tests."""

from conftest_annotation import files, labelled_store, store  # noqa: F401
