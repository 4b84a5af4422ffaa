"""One dialect of refusals: expected what, got what. What a message cannot say so is a state, not a wrong value."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OTHER = re.compile(
    r"\b(must|should) be\b|\bis not one of\b|\bnot one of\b|\bwanted\b|\bunknown (key|name|recording)|, (found|came) "
)


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The literal words of each `raise`, values left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            words = (part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant))
            yield node.lineno, " ".join(word for word in words if isinstance(word, str))


def test_a_refusal_says_what_was_expected_and_what_it_got() -> None:
    wrong, count = [], 0
    for package in ("fmfbench", "fmfbench_models", "cli"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for line, text in messages(path):
                half = re.search(r"\bexpect(s|ed)\b", text) and not re.search(r"\bgot\b", text)
                count += bool(text)
                if half or OTHER.search(text):
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {text}")
    assert count > 500
    assert not wrong, "\n".join(wrong)
