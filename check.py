"""All checks with one command, on every system: python check.py [--fast]."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
STYLE = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
PACKAGES = ("fmfbench", "fmfbench_models", "fmfbench_cli")


def run(*arguments: str) -> bool:
    """Whether `python -m ...` succeeded; what it prints is seen."""
    print("+", " ".join(arguments), flush=True)
    start = time.monotonic()
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=False, env=environment)
    print(f"  {'ok' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="ruff, mypy, the documentation site, and the tests.")
    parser.add_argument("--fast", action="store_true", help="leave the tests out")
    parser.add_argument("--jobs", default="2", help="processes that run tests [default: 2]")
    asked = parser.parse_args()
    good = [run(*command) for command in STYLE]
    with tempfile.TemporaryDirectory() as folder:
        good.append(run("mkdocs", "build", "--strict", "--quiet", "--site-dir", folder))
    if not asked.fast:
        measured = [f"--cov={package}" for package in PACKAGES]
        good.append(run("pytest", "-q", "-n", asked.jobs, *measured, "--cov-report=term:skip-covered"))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
