"""All checks with one command, on every system: python check.py [--fast | --coverage | --near FILE...]."""

from __future__ import annotations

import argparse
import ast
import functools
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
STYLE = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
PACKAGES = ("fmfbench", "fmfbench_models", "fmfbench_cli")
TRACER = "sysmon" if sys.version_info >= (3, 12) else "ctrace"  # sysmon costs next to nothing where it exists


def run(*arguments: str) -> bool:
    """Whether `python -m ...` succeeded; what it prints is seen."""
    print("+", " ".join(arguments), flush=True)
    start = time.monotonic()
    environment = {"COVERAGE_CORE": TRACER, **os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=False, env=environment)
    print(f"  {'ok' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
    return done.returncode == 0


def tests_of(file: Path) -> list[str]:
    """The test files of a module: those of its name in its room's folder, and those whose docstring names it."""
    package, *rooms, name = file.resolve().relative_to(ROOT).with_suffix("").parts
    folder = {"fmfbench_models": ["models"], "cli": ["commands"]}.get(package, rooms)
    module = ".".join(["fmfbench_cli" if package == "cli" else package, *rooms])
    found = []
    for test, also in also_tested().items():
        here = list(test.relative_to(ROOT / "tests").parent.parts)
        of_name = any(
            f"{test.stem}_".startswith(f"test_{start}{name}_")
            for start in ("", *(f"{room}_" for room in rooms))
        )
        if (of_name and here == folder[: len(here)]) or (module, name) in also:
            found.append(test.relative_to(ROOT).as_posix())
    return found


@functools.cache
def also_tested() -> dict[Path, set[tuple[str, str]]]:
    """Each test file with the (room, module) pairs of its docstring's "Also tests fmfbench.store: schema, digest."."""
    found: dict[Path, set[tuple[str, str]]] = {}
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        docstring = ast.get_docstring(ast.parse(test.read_text(encoding="utf-8"))) or ""
        told = re.findall(r"Also tests (fmfbench[\w.]*): ([\w,\s]+)\.", docstring)
        found[test] = {(room, name) for room, names in told for name in re.findall(r"\w+", names)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="ruff, mypy, the documentation site, and the tests.")
    parser.add_argument("--fast", action="store_true", help="leave the tests out")
    parser.add_argument(
        "--coverage", action="store_true", help="measure the tests' coverage, and refuse less than its floor"
    )
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
        tests = dict.fromkeys(test for file in asked.near for test in tests_of(file))
        good = [run(*command) for command in STYLE]
        return 0 if all(good) and tests and run("pytest", "-q", *tests) else 1
    good = [run(*command) for command in STYLE]
    with tempfile.TemporaryDirectory() as folder:
        good.append(run("mkdocs", "build", "--strict", "--quiet", "--site-dir", folder))
    if not asked.fast:
        measured = [*(f"--cov={package}" for package in PACKAGES), "--cov-report=term:skip-covered"]
        good.append(run("pytest", "-q", "-n", asked.jobs, *(measured if asked.coverage else [])))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
