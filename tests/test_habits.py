"""Habits of the test suite itself: what is left out by default, and what continuous integration never skips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_pytest(folder: Path, *arguments: str, ci: bool = False) -> str:
    environment = {**os.environ, "FMFBENCH_CI": "1" if ci else "0", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", *arguments, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=folder,
    )
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite of its own with this one's settings and continuous integration's hooks."""
    settings = (ROOT / "pyproject.toml").read_text().partition("[tool.pytest.ini_options]")[2]
    settings = settings.partition("\n[")[0].replace('testpaths = ["tests"]', "")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]" + settings)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest_ci.py").read_text())
    return tmp_path


def test_long_campaigns_run_only_when_asked_for(folder: Path) -> None:
    (folder / "test_both.py").write_text(
        "import pytest\n\ndef test_short(): pass\n\n@pytest.mark.long\ndef test_campaign(): pass\n"
    )
    assert "1 passed, 1 deselected" in (short := run_pytest(folder))
    assert "test_short" in short
    assert "1 passed, 1 deselected" in (campaign := run_pytest(folder, "-m", "long"))
    assert "test_campaign" in campaign


SKIPS = {
    "in a test": "import pytest\n\ndef test_it(): pytest.skip({reason!r})\n",
    "by a mark": "import pytest\n\n@pytest.mark.skipif(True, reason={reason!r})\ndef test_it(): pass\n",
    "of a module": "import pytest\n\npytest.skip({reason!r}, allow_module_level=True)\n",
    "of a fixture": (
        "import pytest\n\n@pytest.fixture\ndef it(): pytest.skip({reason!r})\n\ndef test_it(it): pass\n"
    ),
}


REASONS = {"browser": "no browser here", "server": "no S3 Server", "gpu": "needs a GPU"}


def test_ci_never_skips_for_want_of_a_browser_or_server(folder: Path) -> None:
    for number, text in enumerate(SKIPS.values()):
        for name, reason in REASONS.items():
            (folder / f"test_{name}_{number}.py").write_text(text.format(reason=reason))
    assert f"{3 * len(SKIPS)} skipped" in run_pytest(folder)
    in_ci = run_pytest(folder, "--continue-on-collection-errors", ci=True)
    assert f"{len(SKIPS)} skipped" in in_ci
    for name in ("browser", "server"):
        assert in_ci.count(f"expected it to be there, got Skipped: {REASONS[name]}") >= len(SKIPS)
