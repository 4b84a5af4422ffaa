"""What of the site is made while it is built: reference, cards, and the navigation.

MkDocs calls these hooks (mkdocs.yml). Commands come from click, Python names from each front page's `__all__`, cards
and CONTRIBUTING.md from where they lie, so that no page can be older than what it describes.
"""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "data_cards"
# Front pages: what each lists in `__all__` is public.
MODULES = {
    "fmfbench": "the data package",
    "fmfbench.torch": "windows for PyTorch",
    "fmfbench.annotation.weighted_median": "the refining vote",
    "fmfbench.errors": "errors",
    "fmfbench_models": "the reference models",
    "fmfbench_models.detector": "a model at a furnace",
}
SECTIONS = {
    "tutorials": "Tutorials",
    "how-to": "How-to",
    "cookbook": "Cookbook",
    "reference": "Reference",
    "cards": "Cards",
}
# The order of pages where the alphabet's would not do.
FIRST = ("own_model", "own_furnace", "trust_a_number", "commands", "fmfbench", "protocol", "fmf", "fmf_sim")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    def add(uri: str, text: str) -> None:
        files.append(File.generated(config, uri, content=text))

    add("reference/commands.md", commands_page())
    for module, title in MODULES.items():
        add(f"reference/{module.replace('.', '_')}.md", module_page(module, title))
    for card in sorted(CARDS.glob("*.md")):
        add(f"cards/{card.name}", card.read_text(encoding="utf-8"))
    for beside in (
        *CARDS.glob("pictures/*"),
        *CARDS.glob("results/page/**/*.html"),
        *CARDS.glob("results/page/*.png"),
    ):
        files.append(
            File.generated(config, f"cards/{beside.relative_to(CARDS).as_posix()}", abs_src_path=str(beside))
        )
    add("contributing.md", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    add("changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    config.nav = navigation([file.src_uri for file in files.documentation_pages()])
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """The page of the results as it was written, its Markdown too, which would be made pages otherwise."""
    page = Path("results", "page")
    shutil.copytree(CARDS / page, Path(config.site_dir, "cards", page), dirs_exist_ok=True)


def navigation(pages: list[str]) -> list[object]:
    """The start, a section for each folder that has pages, and what is about the project."""
    nav: list[object] = [{"Start": "index.md"}]
    for folder, title in SECTIONS.items():
        inside = sorted((page for page in pages if page.startswith(f"{folder}/")), key=_place)
        if inside:
            nav.append({title: inside})
    nav.append({"Project": ["contributing.md", "changelog.md"]})
    return nav


def _place(page: str) -> tuple[int, str]:
    stem = Path(page).stem
    return (FIRST.index(stem) if stem in FIRST else len(FIRST), stem)


def public_names(module: str) -> list[str]:
    """`__all__` of a module, read from its source: nothing is imported."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{path}: expected a list __all__, got none")


def module_page(module: str, title: str) -> str:
    """One page: every public name of a module, for mkdocstrings to fill in."""
    names = [name for name in public_names(module) if not name.startswith("_")]
    entries = [f"::: {module}.{name}" for name in names]
    return "\n\n".join([f"# {module}", f"{title[0].upper()}{title[1:]}.", *entries]) + "\n"


def commands_page() -> str:
    """Every command as its own `--help` shows it."""
    from fmfbench_cli.main import SECTIONS as PURPOSES
    from fmfbench_cli.main import main

    lines = ["# Commands", ""]
    with click.Context(main, info_name="fmfbench", max_content_width=100, terminal_width=100) as top:
        for purpose, names in PURPOSES.items():
            lines += [f"## {purpose}", ""]
            for name in names:
                command = main.get_command(top, name)
                assert command is not None
                lines += _command(top, command, name)
    return "\n".join(lines) + "\n"


def _command(parent: click.Context, command: click.Command, name: str) -> list[str]:
    settings = parent.command.context_settings | {"terminal_width": 100}
    with click.Context(command, info_name=name, parent=parent, **settings) as context:
        text = re.sub(r"\n{3,}", "\n\n", command.get_help(context))
        lines = [f"### {context.command_path}", "", "```text", text, "```", ""]
        for sub, each in getattr(command, "commands", {}).items():
            lines += _command(context, each, sub)
    return lines
