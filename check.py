"""All checks with one command, on every system: python check.py [--fast | --near FILE...]."""

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


def tests_near(file: Path) -> list[str]:
    """The test files of a module: the one of its name, those that import it, and else those of its room."""
    file = file.resolve().relative_to(ROOT)
    module = ".".join(file.with_suffix("").parts).replace("cli.", "fmfbench_cli.", 1)
    rooms = {"fmfbench_models": ("models",), "cli": ("commands",)}
    room = ROOT.joinpath("tests", *rooms.get(file.parts[0], file.parts[1:-1]))
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    named = [test for test in tests if test.stem in (f"test_{file.stem}", f"test_{file.stem}_command")]
    others = [test for test in tests if test not in named and module in test.read_text(encoding="utf-8")]
    found = [*named, *others] or sorted(room.rglob("test_*.py"))
    return [test.relative_to(ROOT).as_posix() for test in found]


def main() -> int:
    parser = argparse.ArgumentParser(description="ruff, mypy, the documentation site, and the tests.")
    parser.add_argument("--fast", action="store_true", help="leave the tests out")
    parser.add_argument("--jobs", default="2", help="processes that run tests [default: 2]")
    parser.add_argument(
        "--near",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="only the tests of these modules, with ruff and mypy",
    )
    asked = parser.parse_args()
    if asked.near:
        tests = dict.fromkeys(test for file in asked.near for test in tests_near(file))
        good = [run(*command) for command in STYLE]
        return 0 if all(good) and tests and run("pytest", "-q", *tests) else 1
    good = [run(*command) for command in STYLE]
    with tempfile.TemporaryDirectory() as folder:
        good.append(run("mkdocs", "build", "--strict", "--quiet", "--site-dir", folder))
    if not asked.fast:
        measured = [f"--cov={package}" for package in PACKAGES]
        good.append(run("pytest", "-q", "-n", asked.jobs, *measured, "--cov-report=term:skip-covered"))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
