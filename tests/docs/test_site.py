"""The site builds strictly and offline, and its reference has every public name and every command."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import click
import pytest
from fmfbench_cli.main import SECTIONS

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs"))
site_pages = importlib.import_module("site_pages")
MODULES, public_names = site_pages.MODULES, site_pages.public_names


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_the_reference_has_every_public_name(built: Path) -> None:
    for module in MODULES:
        page = (built / "reference" / module.replace(".", "_") / "index.html").read_text(encoding="utf-8")
        names = [name for name in public_names(module) if not name.startswith("_")]
        assert names == [n for n in importlib.import_module(module).__all__ if not n.startswith("_")]
        missing = [name for name in names if f'id="{module}.{name}"' not in page]
        assert not missing, f"{module}: {missing}"


def test_the_page_of_the_results_is_there_with_all_that_it_links(built: Path) -> None:
    card = built / "cards" / "results" / "index.html"
    links = re.findall(r'href="(page/[^"#]*)"', card.read_text(encoding="utf-8"))
    pages = [card.parent / link / "index.html" for link in links]
    assert len(pages) == 2  # the page and its board
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"#:]+)"', page.read_text(encoding="utf-8")):
            assert (page.parent / link).is_file(), f"{page}: {link}"


def test_the_reference_has_every_command_and_option(built: Path) -> None:
    page = text_of(built / "reference" / "commands" / "index.html")
    for name in (name for names in SECTIONS.values() for name in names):
        command = importlib.import_module(f"fmfbench_cli.{name}").command
        assert f"Usage: fmfbench {name} " in page
        for sub, each in getattr(command, "commands", {}).items():
            assert f"Usage: fmfbench {name} {sub} " in page
            check_options(page, each)
        check_options(page, command)


def check_options(page: str, command: click.Command) -> None:
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert (
                option.opts[-1 if option.opts[-1].startswith("--") else 0] in page or option.opts[1] in page
            )


def test_cards_and_pages_of_the_project_are_there(built: Path) -> None:
    for card in (ROOT / "data_cards").glob("*.md"):
        assert (built / "cards" / card.stem / "index.html").is_file()
    for page in ("contributing", "changelog", "tutorials/own_model", "tutorials/trust_a_number"):
        assert (built / page / "index.html").is_file()


def test_the_site_fetches_nothing_from_elsewhere(built: Path) -> None:
    fetched = re.compile(r'<(?:script|img|link rel="stylesheet"|iframe)[^>]*(?:src|href)="?(https?:[^"> ]+)')
    for page in built.rglob("*.html"):
        assert fetched.findall(page.read_text(encoding="utf-8")) == [], page
