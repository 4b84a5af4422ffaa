"""The studio's fixtures."""

import pytest

pytest.importorskip("starlette")

from conftest_studio import (
    axe,
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
    "axe",
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
