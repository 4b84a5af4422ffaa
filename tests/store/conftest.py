"""The fixtures of the store's tests."""

from conftest_annotation import labelled_store, store  # noqa: F401
