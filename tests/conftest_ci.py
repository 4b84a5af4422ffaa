"""In continuous integration a browser or server that is missing fails the tests that need it.

Elsewhere such tests are skipped. The workflow sets FMFBENCH_CI=1; the reason of the skip says what is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

_NEEDED = re.compile(r"browser|chrom(e|ium)|firefox|playwright|selenium|server|moto", re.IGNORECASE)


def is_needed_in_ci(reason: str) -> bool:
    """Whether a skip for this reason is a failure here."""
    return os.environ.get("FMFBENCH_CI") == "1" and _NEEDED.search(reason) is not None


def _skip_to_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        if is_needed_in_ci(reason):
            report.outcome = "failed"
            report.longrepr = f"{path}:{line}: FMFBENCH_CI=1 expected it to be there, got {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _skip_to_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _skip_to_failure(report)
    return report
