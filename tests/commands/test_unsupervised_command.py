"""`fmfbench unsupervised`, and the earlier spellings of its commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest_run import invoke

pytest.importorskip("torch")

from fmfbench_models.unsupervised import image_tags, one_class
from fmfbench_models.unsupervised.digits import DIGITS
from fmfbench_models.unsupervised.tag_pairs import IMAGE_SETS


def call(*arguments: object) -> tuple[int, str, str]:
    found = invoke("unsupervised", *arguments)
    return found.exit_code, found.stdout, found.stderr


def test_the_help_names_every_set_and_each_command_has_an_example() -> None:
    for name, sets in (("one-class", DIGITS), ("image-tags", IMAGE_SETS)):
        code, out, _ = call(name, "--help")
        assert code == 0
        assert all(f"{data} (" in re.sub(r"\s+", " ", out) for data in sets)
    for name in ("one-class", "defects", "image-tags"):
        assert f"fmfbench unsupervised {name}" in call(name, "--help")[1]


def test_options_reach_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []

    def make(data: str, out: Path, **options: object) -> dict[str, object]:
        seen.append((data, out, options))
        return {
            "processor_seconds": 90.0,
            "settings": {"trunk": {"weights": "random"}},
            "rows": [],
        }

    monkeypatch.setattr(one_class, "one_class", make)
    monkeypatch.setattr(one_class, "one_class_table", lambda facts: "table\n")
    options = [
        "--preset",
        "paper-base",
        "--epochs",
        3,
        "--batch-size",
        2,
        "--lr",
        0.5,
        "--seed",
        7,
        "--limit",
        4,
    ]
    code, out, _ = call("one-class", "--data", "digits", "-o", tmp_path / "a", *options)
    assert (code, out) == (0, "table\n1.5 processor minutes; trunk: random\n")
    given = {
        "preset": "paper-base",
        "epochs": 3,
        "batch_size": 2,
        "lr": 0.5,
        "seed": 7,
        "limit": 4,
        "weights": None,
    }
    assert seen == [("digits", tmp_path / "a", given)]
    code, out, _ = call("one-class", "--data", "digits", "-o", tmp_path / "a", "--json")
    assert json.loads(out)["processor_seconds"] == 90


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one-class", "--data", "cifar"), "expected one of digits, mnist5k"),
        (("image-tags", "--data", "cifar"), "expected one of digits, mnist5k"),
        (("image-tags", "--data", "digits", "--method", "SVM"), "expected methods of"),
        (("one-class", "--data", "digits", "--seed", "-1"), "expected a seed from 0"),
        (("one-class", "--data", "digits", "--limit", "1"), "2 or more"),
        (("defects", "nowhere"), "nowhere"),
        (("defects",), "Missing argument"),
        (("one-class",), "Missing option"),
        (("digit",), "No such command"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    where = () if arguments == ("digit",) else ("--out", tmp_path / "out")
    code, out, error = call(*arguments, *where)
    assert code == 2
    assert message in error
    assert (out, error.count("\n")) == ("", 1)
    assert not (tmp_path / "out").exists()


def test_the_earlier_spelling_is_the_command(tmp_path: Path) -> None:
    """As a user calls it: python -m, its output and its exit codes."""
    module = "fmfbench_models.unsupervised.one_class"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def former(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)

    shown = former("--help")
    assert shown.returncode == 0
    command = call("one-class", "--help")[1].replace("Usage: main", "Usage: fmfbench")
    assert shown.stdout.split() == command.split()
    refused = former("--data", "cifar", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "expected one of digits, mnist5k" in refused.stderr


def test_the_earlier_spelling_gives_its_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert image_tags.main(["--data", "digits", "--out", str(tmp_path), "--seeds", "0"]) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    assert image_tags.main(["--help"]) == 0
