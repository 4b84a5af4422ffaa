"""Runs the code blocks of a Markdown page in order, as a reader would: one folder, one Python session a page.

A `sh` block is run by bash and must succeed; a `python` block runs in the page's session; a block with a title is the
file of that name. `<!-- not run: reason -->` before a block leaves it out; `<!-- tested by FILE -->` leaves a page to a
test of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^>]+ -->\n)?^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
_TITLE = re.compile(r'title="([^"]+)"')
_TESTED = re.compile(r"<!-- tested by (\S+) -->")

# What `pip install -e .` leaves behind, without a network or a build: the entry points, and the folder on the path.
_PIP = """
import pathlib, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
facts = pathlib.Path(f"{project['name']}-{project['version']}.dist-info")
facts.mkdir(exist_ok=True)
(facts / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {project['name']}\\nVersion: {project['version']}\\n")
lines = []
for group, points in project.get("entry-points", {}).items():
    lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
(facts / "entry_points.txt").write_text("\\n".join(lines) + "\\n")
"""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    title: str | None
    skipped: bool


def blocks(page: str) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(page):
        title = _TITLE.search(match["info"])
        line = page.count("\n", 0, match.start("text")) + 1
        skipped = match["skip"] is not None
        found.append(Block(match["language"], match["text"], line, title and title[1], skipped))
    return found


def file_that_tests(page: str) -> str | None:
    """The test file that a page leaves its blocks to."""
    found = _TESTED.search(page)
    return found[1] if found else None


def script_of(page: str, name: str) -> str:
    """One Python program that runs a page's blocks in order; an error names the page and its line."""
    lines = [
        "import pathlib, subprocess, sys",
        "session = {'__name__': '__main__'}",
        "def shell(text, where):",
        "    done = subprocess.run(['bash', '-euo', 'pipefail', '-c', text], stdin=subprocess.DEVNULL)",
        "    if done.returncode: sys.exit(f'{where}: exit code {done.returncode}')",
    ]
    for block in blocks(page):
        where = f"{name}:{block.line}"
        if block.skipped:
            continue
        if block.title is not None:
            lines.append(f"pathlib.Path({block.title!r}).parent.mkdir(parents=True, exist_ok=True)")
            lines.append(f"pathlib.Path({block.title!r}).write_text({block.text!r})")
        elif block.language == "python":
            padded = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's line
            lines.append(f"exec(compile({padded!r}, {name!r}, 'exec'), session)")
        elif block.language == "sh":
            lines.append(f"shell({block.text!r}, {where!r})")
    return "\n".join(lines) + "\n"


def run_page(path: Path, folder: Path) -> None:
    """Run all blocks of a page in `folder`; AssertionError with what was printed where one fails."""
    tools = folder / ".tools"
    tools.mkdir()
    python = json.dumps(sys.executable)
    for command, action in (("fmfbench", "-m fmfbench"), ("pip", f"-c {json.dumps(_PIP)} #"), ("python", "")):
        text = f'#!/bin/bash\nexec {python} {action} "$@"\n'
        if command == "pip":
            (tools / "pip.py").write_text(_PIP)
            text = f"#!/bin/bash\nexec {python} {json.dumps(str(tools / 'pip.py'))}\n"
        (tools / command).write_text(text)
        (tools / command).chmod(0o755)
    work = folder / "work"
    work.mkdir()
    (folder / "page.py").write_text(script_of(path.read_text(encoding="utf-8"), path.name), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(folder / "page.py")],
        cwd=work,
        env={
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(work),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,  # twenty commands, each of two seconds of processor, on however busy a machine
    )
    assert done.returncode == 0, f"{path}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
