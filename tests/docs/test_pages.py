"""Every code block of the start, the tutorials and the how-to pages runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest_pages import blocks, file_that_tests, run_page, script_of

ROOT = Path(__file__).parents[2]
FOLDERS = ("tutorials", "how-to")  # the cookbook has tests/clients
PAGES = [ROOT / "docs" / "index.md", *(p for f in FOLDERS for p in sorted((ROOT / "docs" / f).glob("*.md")))]


@pytest.mark.skipif(sys.platform == "win32", reason="the pages' shell blocks are for bash")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    elsewhere = file_that_tests(page.read_text(encoding="utf-8"))
    if elsewhere is not None:
        assert page.stem in (ROOT / elsewhere).read_text(encoding="utf-8"), (
            f"{elsewhere} does not name {page}"
        )
        return
    run_page(page, tmp_path)


def test_each_page_has_something_to_run() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        elsewhere = file_that_tests(text) is not None or "not run: tests/" in text
        assert elsewhere or any(not block.skipped for block in blocks(text)), page


PAGE = """
```sh
echo one > file.txt
```

```python title="own/module.py"
VALUE = 7
```

<!-- not run: it would fail -->
```python
raise SystemExit("not to be run")
```

```python
from own.module import VALUE
first = VALUE
```

```python
assert first == 7 and open("file.txt").read() == "one\\n"
```
"""


def test_the_runner_runs_a_page_and_finds_what_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for name in ("good", "shell", "python"):
        (tmp_path / name).mkdir()
    run_page(page, tmp_path / "good")
    page.write_text(PAGE + "\n```sh\nfalse\necho on\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:25: exit code 1"):
        run_page(page, tmp_path / "shell")
    page.write_text(PAGE + "\n```python\n1 / 0\n```\n")
    with pytest.raises(AssertionError, match=r'"page.md", line 25[^$]*ZeroDivisionError'):
        run_page(page, tmp_path / "python")


def test_lines_are_those_of_the_page() -> None:
    assert [block.line for block in blocks(PAGE)] == [3, 7, 12, 16, 21]
    assert "not to be run" not in script_of(PAGE, "page.md")
