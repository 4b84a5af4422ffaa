"""`reproduce all`: every table once, resumable, shared between processes, and one page.

Also tests fmfbench_models.reproduce: campaign, campaign_page, curves.
"""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from conftest_reproduce import TINY, rows_of
from fmfbench_cli.main import main

import fmfbench
from fmfbench.board.bundle import read_bundle
from fmfbench.errors import BusyError, InputError
from fmfbench.files.turns import turn
from fmfbench_models.registry import list_models
from fmfbench_models.reproduce import Campaign, campaign, reproduce, work
from fmfbench_models.reproduce.campaign_page import write_pages
from fmfbench_models.reproduce.curves import describe_curve, last_share
from fmfbench_models.reproduce.experiment import load_experiment, read_toml

SIZE = "tiny-1ep-per-second"
NAMES = ["gated", "itransformer"]
ASKED = {"models": NAMES, "seeds": (0, 1), "per_second": True, **TINY}
ARGUMENTS = [
    "--models",
    ",".join(NAMES),
    "--seeds",
    "0,1",
    "--per-second",
    "--preset",
    "tiny",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def made(sim_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("all") / "out"
    done = CliRunner().invoke(
        main, ["reproduce", "all", "--data", str(sim_store), "--out", str(out), *ARGUMENTS]
    )
    assert done.exit_code == 0, done.output
    return out, done


def documents(out):
    return {path.name.split("-")[0]: json.loads(path.read_text()) for path in out.glob(f"*-{SIZE}.json")}


def test_every_row_is_made_once_with_its_worlds_and_folds(made):
    out, done = made
    found = json.loads((out / f"all-{SIZE}.json").read_text())
    assert [(u["row"], u["table"], u["seed"]) for u in found["units"]] == [
        ("gated", "table2", 0),
        ("gated@video-missing", "table2", 0),
        ("gated@current-missing", "table2", 0),
        ("itransformer", "table2", 0),
        ("gated", "table2", 1),
        ("gated@video-missing", "table2", 1),
        ("gated@current-missing", "table2", 1),
        ("gated", "table2, one recording left out", 0),
    ]
    assert {u["status"] for u in found["units"]} == {"done"}
    assert (found["not_reached"], found["failed"]) == ([], [])
    assert re.search(r"8 rows to make, about [0-9.]+ (s|min) in all; ESTIMATE", done.stderr)
    assert re.search(r"made in .+ what was expected to take .+: [0-9.]+ times", done.stderr)
    assert f"{out / 'index.html'}: 8 of 8 rows made" in done.stdout
    assert len(list((out / "runs").glob("*/*/seed*/last.safetensors"))) == 3 + 3
    assert not list((out / "turns").iterdir())


def test_tables_are_those_of_reproduce(made, sim_store, tmp_path):
    out, _ = made
    table2 = json.loads((out / f"table2-{SIZE}.json").read_text())
    rows = rows_of(table2)
    assert (rows["gated"]["seeds"], rows["itransformer"]["seeds"]) == ([0, 1], [0])
    apart = reproduce(
        "table2", sim_store, tmp_path / "apart", models=["itransformer"], per_second=True, **TINY
    )
    assert rows_of(apart)["itransformer"]["metrics"] == rows["itransformer"]["metrics"]
    assert rows["itransformer"]["latency_ms"] > 0
    text = (out / f"table2-{SIZE}.md").read_text()
    assert "with seed 0 alone: " in text
    left_out = json.loads((out / "table2-tiny-1ep-loro-per-second.json").read_text())
    assert rows_of(left_out)["gated"]["status"] == "done"
    assert rows_of(left_out)["itransformer"]["status"] == "not asked for"


def test_each_row_has_a_bundle_that_the_board_has_scored_again(made):
    out, _ = made
    bundles = sorted(path.name for path in (out / "bundles" / SIZE).iterdir())
    assert len(bundles) == 7
    assert [path.name for path in (out / "bundles" / "tiny-1ep-loro-per-second").iterdir()] == [
        "gated-seed0.fmfb"
    ]
    for path in (out / "bundles" / SIZE).iterdir():
        bundle = read_bundle(path)
        assert bundle.model in NAMES
        assert bundle.card["parameters"] > 0
        if "missing" in path.name:
            assert bundle.receipt["corrupt"] in path.name
        else:
            assert bundle.card["latency_ms"] > 0
    board = json.loads((out / f"board-{SIZE}" / "board.json").read_text())
    shown = [(row["model"], row["corrupt"]) for row in board["rows"]]
    worlds = [("gated", world) for world in (None, "video-missing", "current-missing")]
    assert shown == [*worlds, ("itransformer", None)]


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.anchors, self.open = [], set(), []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[key] for key in ("href", "src") if key in found]
        self.anchors |= {found["id"]} if "id" in found else set()
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_links_what_is_there_and_says_what_it_is(made):
    out, _ = made
    text = (out / "index.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.links) > 10
    for link in page.links:
        assert link[1:] in page.anchors if link.startswith("#") else (out / link).is_file(), link
    assert {f"rows-{SIZE}.png", f"curves-{SIZE}.png"} <= set(page.links)
    assert "SIMULATED DATA" in text
    section = text.split('id="table2"')[1].split("<h2")[0]  # what its Markdown says below the table
    assert "figures are means over the seeds, intervals span those of all seeds, times are sums" in section
    assert "<li>trained on all training samples, and the last epoch is scored" in section
    assert "Not reached</h2>\n<p>Nothing: every row was tried." in text
    said = (out / f"what_they_say-{SIZE}.md").read_text()
    assert said.splitlines()[0].startswith("# What these figures do and do not say")
    rows = rows_of(json.loads((out / f"table2-{SIZE}.json").read_text()))
    values = [seed["metrics"]["accuracy"] for seed in rows["gated"]["per_seed"].values()]
    assert f"over 2 seeds the accuracy of Gated fusion (gated) spans {max(values) - min(values):.4f}" in said
    assert "no cross-modal row has all its figures yet" in said  # no row of video alone is made
    assert "fewer than four epochs" in said
    for line in said.splitlines():
        if line.startswith("- "):
            assert "None" not in line
            assert "nan" not in line


def test_the_same_call_makes_nothing_again(made, sim_store, monkeypatch):
    out, _ = made
    for name in ("train", "predict", "score"):
        monkeypatch.setattr(work, name, None)
    files = [path for path in out.rglob("*") if path.suffix in (".npz", ".fmfb", ".safetensors")]
    before = {path: path.stat().st_mtime_ns for path in files}
    told = []
    found = Campaign(data=sim_store, out=out, **ASKED).run(told.append)
    assert told[0].startswith("0 rows to make, about 0 s")
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert [u["status"] for u in found["units"]] == ["done"] * 8
    steps = Campaign(data=sim_store, out=out, **ASKED).plan()
    assert [step["state"] for step in steps["steps"]] == ["done"] * 8


def test_the_first_rows_come_first_and_only_they_have_more_seeds(sim_store, tmp_path):
    units = list(Campaign(data=sim_store, out=tmp_path / "out", preset="tiny").units())
    assert not (tmp_path / "out").exists()
    assert len({unit.key for unit in units}) == len(units)
    known = [(unit.part.name, unit.row.name, unit.seed) for unit in units]
    first = read_toml("all.toml")["first"]
    models = set(list_models())
    available = [row.name for row in load_experiment("table2").rows if row.trainings[0].model in models]
    plain = [row for table, row, seed in known if table == "table2" and seed == 0 and "@" not in row]
    assert plain[: len(first)] == first
    assert set(plain) == set(available)
    for seed in (1, 2):
        assert [row for _, row, own in known if own == seed and "@" not in row] == first
    assert [row for table, row, _ in known if "left out" in table] == first[:5]
    assert len([table for table, _, _ in known if table == "fig6"]) == 14
    seconds = [seed for _, _, seed in known]
    last = read_toml("all.toml")["last"]
    assert [row for table, row, _ in known if table == "table2"][-len(last) :] == last
    after = [0] * (5 + len(last))
    assert seconds == [0] * seconds.index(1) + [1] * seconds.count(1) + [2] * seconds.count(2) + after


def test_a_dry_run_counts_each_training_once(sim_store, tmp_path):
    out = tmp_path / "out"
    arguments = ["reproduce", "all", "--data", str(sim_store), "--out", str(out), "--preset", "tiny"]
    done = CliRunner().invoke(main, [*arguments, "--models", "fmformer,informer", "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    assert not out.exists()
    found = json.loads(done.stdout)
    steps = [step for step in found["steps"] if step["seed"] == 0 and "left out" not in step["table"]]
    trained = [step["row"] for step in steps if step["steps"]]
    assert sorted(trained) == ["fmformer", "fmformer-current", "fmformer-visual", "informer"]
    fig6 = [step for step in steps if step["table"] == "fig6"]
    assert len(fig6) == 14
    assert all(step["predict_seconds"] > 0 and step["train_seconds"] == 0 for step in fig6)
    assert found["estimated_seconds"] == pytest.approx(
        sum(step["estimated_seconds"] for step in found["steps"])
    )


def test_a_row_that_another_process_makes_is_waited_for_and_not_made_again(
    made, sim_store, tmp_path, monkeypatch
):
    """The other process is a turn that is held; it is given back once the rest is made, and the row is there then."""
    out = tmp_path / "out"
    work_left = Campaign(
        data=sim_store, out=out, models=["itransformer", "conv1d"], seeds=(0,), per_second=True, **TINY
    )
    unit = next(unit for unit in work_left.units() if unit.row.name == "conv1d")
    names = unit.turns()
    assert len(names) == 2
    campaign.start(work_left.place, fmfbench.open_dataset(sim_store))
    held = turn(out / "turns" / names[1])  # its training
    held.__enter__()
    waited = []

    sleep = time.sleep

    def other_finishes(seconds):
        if seconds != campaign.WAIT:  # of somebody else: the module is everybody's
            sleep(seconds)
            return
        waited.append(seconds)
        states = {u.row.name: (u.result() or {}).get("status") for u in work_left.units()}
        assert states == {"itransformer": "done", "conv1d": None}
        held.__exit__(None, None, None)

    monkeypatch.setattr(campaign.time, "sleep", other_finishes)
    found = work_left.run()
    assert waited == [campaign.WAIT]
    assert [u["status"] for u in found["units"]] == ["done", "done"]


def test_the_page_waits_for_the_process_that_writes_it(made, sim_store, monkeypatch):
    out, _ = made
    page, waited = out / "index.html", []
    before = page.stat().st_mtime_ns
    held = turn(out / "turns" / "page")
    held.__enter__()
    sleep = time.sleep

    def other_finishes(seconds):
        if seconds != campaign.WAIT:
            sleep(seconds)
            return
        waited.append(seconds)
        assert page.stat().st_mtime_ns == before
        if len(waited) == 30:
            held.__exit__(None, None, None)

    monkeypatch.setattr(campaign.time, "sleep", other_finishes)
    Campaign(data=sim_store, out=out, **ASKED).run()
    assert len(waited) == 30
    assert page.stat().st_mtime_ns > before


def test_time_that_is_up_leaves_rows_not_reached(sim_store, tmp_path, monkeypatch):
    out = tmp_path / "out"
    asked = {"models": ["itransformer", "conv1d"], "seeds": (0,), "per_second": True, **TINY}
    found = Campaign(data=sim_store, out=out, minutes=0, **asked).run()
    assert len(found["not_reached"]) == 2
    assert "0 of 2 rows are made" in (out / "index.html").read_text()
    found = Campaign(data=sim_store, out=out, minutes=1e-6, **asked).run()
    assert found["not_reached"] == ["conv1d, seed 0"] or found["not_reached"] == ["itransformer, seed 0"]
    assert "not reached" in (out / "index.html").read_text().lower()
    assert found["not_reached"][0] in (out / f"what_they_say-{SIZE}.md").read_text()
    real = work.predict

    def fails(*arguments, **options):
        raise RuntimeError("a <b>broken</b> predictor")

    monkeypatch.setattr(work, "predict", fails)
    found = Campaign(data=sim_store, out=out, **asked).run()
    assert found["failed"] == [*found["failed"][:1]]
    assert len(found["failed"]) == 1
    assert "a &lt;b&gt;broken&lt;/b&gt; predictor" in (out / "index.html").read_text()
    monkeypatch.setattr(work, "predict", real)
    found = Campaign(data=sim_store, out=out, **asked).run()  # tried again
    assert (found["failed"], found["not_reached"]) == ([], [])
    with turn(out / "turns" / "row"), pytest.raises(BusyError, match="`reproduce all` is making row there"):
        reproduce("table2", sim_store, out, models=["expert"], **TINY)


def test_a_row_is_shown_before_its_other_seeds_are_made(sim_store, tmp_path):
    out = tmp_path / "out"
    asked = {"models": ["conv1d", "gated"], "seeds": (0, 1), "per_second": True, **TINY}
    Campaign(data=sim_store, out=out, minutes=1e-6, **asked).run()
    row = rows_of(json.loads((out / f"table2-{SIZE}.json").read_text()))["gated"]
    assert (row["status"], list(row["per_seed"]), row["missing_seeds"]) == ("done", ["0"], [1])
    assert "SEEDS NOT MADE YET: gated (seed 1)" in (out / f"table2-{SIZE}.md").read_text()
    page = (out / "index.html").read_text()
    assert f"{row['metrics']['accuracy']['value']:.4f}" in page
    assert "gated, seed 1" in page.split("Not reached</h2>")[1]
    assert (out / f"rows-{SIZE}.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["all", "--minutes", "-1"], "minutes: expected 0 or more, got -1"),
        (["all", "--minutes", "nan"], "minutes: expected 0 or more, got nan"),
        (["all", "--loro"], "expected neither --loro nor --no-worlds"),
        (["all", "--no-worlds"], "expected neither --loro nor --no-worlds"),
        (["all", "--models", "resnet"], "got resnet"),
        (["all", "--models", ","], "--models: expected names with commas between, got ','"),
        (["table2", "--models", ""], "--models: expected names with commas between, got ''"),
        (["all", "--workers", "-1"], "-1 is not in the range x>=0"),
        (["all", "--seeds", "1,1"], "expected different integers"),
        (["all", "--preset", "huge"], "expected a preset of"),
        (["all", "--measure"], "--measure: expected it beside --dry-run"),
        (["table2", "--minutes", "5"], "--minutes: expected it beside `all`, got it beside table2"),
        (["everything"], "expected one of table2, table3, table4, table5, fig6 or all, got 'everything'"),
    ],
)
def test_what_cannot_be_asked_for_is_bad_input(sim_store, tmp_path, arguments, message):
    done = CliRunner().invoke(
        main, ["reproduce", *arguments, "--data", str(sim_store), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_store_of_one_recording_has_no_recording_to_leave_out(sim_store, tmp_path):
    alone = tmp_path / "alone.zarr"
    fmfbench.convert(sim_store.parent / "furnace", alone, only=["FMF-Sim-1"])
    steps = Campaign(data=alone, out=tmp_path / "out", **ASKED).plan()
    assert not any("left out" in step["table"] for step in steps["steps"])
    assert "expected two recordings" in steps["left_out_problem"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "reproduce.json").write_text('{"fingerprint": "0"}')
    with pytest.raises(InputError, match="choose another folder"):
        Campaign(data=alone, out=tmp_path / "other", **ASKED).run()


@pytest.mark.parametrize(
    ("losses", "share"),
    [
        ([1.0, 0.5, 0.2], None),
        ([0.5, 0.6, 0.7, 0.8], None),  # it rose
        ([1.0, 0.8, 0.6, 0.4], 0.2 / 0.6),
        ([1.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2], 0.0),
        ([1.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.3, 0.3], -0.1 / 0.7),
    ],
)
def test_the_last_quarters_share_of_the_fall(losses, share):
    assert last_share(losses) == (None if share is None else pytest.approx(share))


def test_a_curve_is_of_the_log(tmp_path):
    assert describe_curve(tmp_path) is None
    lines = [{"kind": "step", "loss": 9.0}, *({"kind": "epoch", "loss": v} for v in (1.0, 0.5, 0.2, 0.19))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = describe_curve(tmp_path)
    assert (found["epochs"], found["first_loss"], found["last_loss"]) == (4, 1.0, 0.19)
    assert found["flattened"] is True
    assert found["last_quarter"] == pytest.approx(0.01 / 0.81)


def test_a_page_of_nothing_made_yet(sim_store, tmp_path):
    work_left = Campaign(data=sim_store, out=tmp_path / "out", **ASKED)
    found = [part.write() for part in work_left.parts]
    write_pages(work_left.place, work_left._document(found, 0.0, 0.0), found, None)
    text = (tmp_path / "out" / "index.html").read_text()
    assert "0 of 8 rows are made" in text
    assert "Nothing is trained by gradients yet" in text
    Page().feed(text)


@pytest.mark.parametrize("table", ["all", "table2"])
def test_a_folder_below_a_file_is_bad_input(sim_store, tmp_path, table):
    (tmp_path / "file").write_text("here")
    arguments = ["--data", str(sim_store), "--out", str(tmp_path / "file" / "out"), "--preset", "tiny"]
    done = CliRunner().invoke(main, ["reproduce", table, *arguments])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "expected a folder for the results" in done.stderr
