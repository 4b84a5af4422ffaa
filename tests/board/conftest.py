"""The fixtures of the board's tests."""

from conftest_board import board_data, board_labels, bundles  # noqa: F401
