"""The studio's fixtures."""

import pytest

pytest.importorskip("starlette")

from conftest_studio import (
    browser,
    hostile_store,
    launch,
    look,
    own_store,
    prediction_files,
    studio,
)
from conftest_watch import recording, run, store

__all__ = [
    "browser",
    "hostile_store",
    "launch",
    "look",
    "own_store",
    "prediction_files",
    "recording",
    "run",
    "store",
    "studio",
]
