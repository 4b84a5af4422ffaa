"""The commands of data_cards/results.md, from nothing to the page, on a small furnace with small models.

Also tests fmfbench_models.reproduce.campaign.
"""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

from click.testing import CliRunner
from fmfbench_cli.main import main

CARD = Path(__file__).resolve().parents[2] / "data_cards" / "results.md"
SMALLER = {
    "full": "tiny",
    "nano": "tiny",
    "80": "16",
    "24": "3",
    "2": "1",
}  # of --preset, --every, --epochs, --workers
FEWER = ["--models", "gated,itransformer,boosting", "--seeds", "0"]


def commands() -> list[list[str]]:
    (block,) = re.findall(r"## The command\n\n```sh\n(.*?)```", CARD.read_text(encoding="utf-8"), re.S)
    return [shlex.split(line)[1:] for line in block.replace("\\\n", " ").splitlines()]


def test_the_cards_commands_lead_from_nothing_to_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulate, convert, reproduce = commands()
    assert (simulate[0], convert[0], reproduce[:2]) == ("simulate", "convert", ["reproduce", "all"])
    for command in (simulate, convert, [*reproduce, *FEWER]):
        smaller = [
            SMALLER.get(word, word)
            if before in ("--preset", "--every", "--epochs", "--workers")
            else word
            for before, word in zip(["", *command], command, strict=False)
        ]  # fmt: skip
        done = CliRunner().invoke(main, smaller)
        assert done.exit_code == 0, done.output
    page = (tmp_path / "results" / "index.html").read_text(encoding="utf-8")
    assert "6 of 6 rows are made" in page  # gated fusion's three worlds and left recordings, and two others
    assert "SIMULATED DATA" in page
    (path,) = (tmp_path / "results").glob("table2-tiny-3ep-every16-set??????-per-second.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    sets = [word for before, word in pairwise(reproduce) if before == "--set"]
    assert {f"{key}={json.dumps(value)}" for key, value in table["changed"].items()} <= {
        f"{key}={json.dumps(float(value) if key in ('clip', 'warmup', 'lr') else parsed(value))}"
        for key, _, value in (word.partition("=") for word in sets)
    }
    assert table["window"]["num_frames"] == 2
    assert len(list((tmp_path / "results").glob("bundles/*/*.fmfb"))) == 6


def parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
