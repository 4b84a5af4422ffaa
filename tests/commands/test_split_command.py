"""`fmfbench split`, and the parts of a named split in the commands that take one."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest_run import call
from fmfbench_cli.split import parse_share, parse_stretch

import fmfbench
from fmfbench.errors import WindowError
from fmfbench.exchange.labels import read_labels
from fmfbench.exchange.predictions import write_predictions


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    call("simulate", folder / "s", "--preset", "tiny")
    return fmfbench.convert(folder / "s", folder / "s.zarr")


@pytest.fixture
def store(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / "s.zarr"))


def test_divided_audited_exported_and_scored_by_name(store, tmp_path):
    call("split", store, "--by-recording", "FMF-Sim-2", "--name", "two")
    data = fmfbench.open_dataset(store)
    ids = data.sample_ids("two:test")
    labels = data.class_labels(ids)
    write_predictions(
        tmp_path / "p.npz",
        sample_id=ids,
        score=labels * 0.8 + 0.1,
        meta={"split": "two:test", "fingerprint": data.fingerprint_of("two")},
    )
    against = ("--resamples", "100", "--json")
    scored = json.loads(
        call("score", tmp_path / "p.npz", "--data", store, "--split", "two:test", *against).stdout
    )
    assert scored["metrics"]["accuracy"] == 1
    assert (scored["split"], scored["num_samples"]) == ("two:test", 330)
    train = data.class_labels(data.sample_ids("two:train"))
    assert len(train) == 530
    refused = call("score", tmp_path / "p.npz", "--data", store, code=2)
    assert "made for split two:test; score it with that --split" in refused.output
    call("labels", "export", store, "--split", "two:all", "-o", tmp_path / "l.npz")
    exported = read_labels(tmp_path / "l.npz")
    assert (exported.split_name, exported.of_split, len(exported)) == ("two", "all", 860)
    for split in ("two:test", "test"):
        again = call("score", tmp_path / "p.npz", "--labels", tmp_path / "l.npz", "--split", split, *against)
        assert json.loads(again.stdout)["metrics"] == scored["metrics"]
    other = call(
        "score", tmp_path / "p.npz", "--labels", tmp_path / "l.npz", "--split", "source:test", code=2
    )
    assert "labels divided by split source, got some divided by two" in other.output
    audited = json.loads(call("audit", store, "--split", "two", "--no-frames", "--json").stdout)
    assert [(row["recording"], row["split"]) for row in audited["splits"]] == [
        ("FMF-Sim-1", "train"),
        ("FMF-Sim-2", "test"),
        ("FMF-Sim-3", "train"),
    ]
    assert audited["split"] == "two"
    facts = json.loads(call("info", store, "--json").stdout)
    assert facts["named_splits"] == {"source": data.fingerprint, "two": data.fingerprint_of("two")}
    assert "the default is source" in call("info", store).stdout
    call("verify", store)


def test_as_default_and_back(store):
    made = json.loads(
        call("split", store, "--at", "FMF-Sim-1:4-9.5,FMF-Sim-3:0-", "--protocol", "short", "--json").stdout
    )
    times = fmfbench.open_dataset(store).recordings["FMF-Sim-1"].frame_time
    inside = int(((times - times[0] >= 4e9) & (times - times[0] < 9.5e9)).sum())
    # a guard of 21 s on either side leaves nothing of 21.64 s; the recording without a stretch is all train
    expected = {"train": 0, "test": inside, "unused": 500 - inside, "unlabelled": 0}
    assert made["recordings"]["FMF-Sim-1"] == expected
    assert made["recordings"]["FMF-Sim-2"] == {"train": 330, "test": 0, "unused": 0, "unlabelled": 0}
    assert (made["split"], made["default_split"], made["protocol"]) == ("derived", "source", "short")
    call("split", store, "--by-recording", "FMF-Sim-1,FMF-Sim-3", "--as-default", "--name", "x")
    assert fmfbench.open_dataset(store).split_name == "x"
    assert "the default now" in call("split", store, "--name", "source", "--as-default").stdout
    assert fmfbench.open_dataset(store).split_name == "source"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--test", "20"), "as in 0.2 or 20%"),
        (("--test", "1.0"), "as in 0.2 or 20%"),
        (("--test", "0%"), "as in 0.2 or 20%"),
        (("--test", "a fifth"), "as in 0.2 or 20%"),
        (("--test", "20%"), "the recordings last: FMF-Sim-1 21.64 s, "),
        (("--at", "FMF-Sim-1"), "as in run7:120-180.5"),
        (("--at", "FMF-Sim-1:9-4"), "seconds that rise"),
        (("--at", "FMF-Sim-1:0-900"), "from 0 to "),
        (("--at", "FMF:0-9"), "got 'FMF'"),
        (("--by-recording", "FMF-Sim-1,x"), "got 'x'"),
        (("--by-recording", "FMF-Sim-1", "--test", "20%"), "expected one of"),
        (("--by-recording", "FMF-Sim-1", "--name", "test"), "names a part of a split"),
        (("--name", "gone", "--as-default"), "it has source"),
        ((), "expected one of --test, --by-recording and --at"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(store, options, said):
    before = {p: p.read_bytes() for p in store.parent.rglob("*") if p.is_file()}
    result = call("split", store, *options, code=2)
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert {p: p.read_bytes() for p in store.parent.rglob("*") if p.is_file()} == before


def test_shares_and_stretches_are_read_exactly():
    assert parse_share("29%") == parse_share("0.29") == Fraction(29, 100)
    assert parse_share(".5") == parse_share(" 50 % ") == Fraction(1, 2)
    stretch = parse_stretch("run:7-a:120-180.5")
    assert (stretch.recording, stretch.start, stretch.stop) == ("run:7-a", 120, Fraction(361, 2))
    assert parse_stretch("run7:0.5-").stop is None
    for text in ("run7:-", "run7:-5", "run7:1e3-2e3", ":1-2", "run7:.-1"):
        with pytest.raises(WindowError, match="expected NAME:SECONDS-SECONDS"):
            parse_stretch(text)


def test_names_with_commas_are_taken_whole(tmp_path):
    from conftest_annotation import write_source

    source = write_source(tmp_path / "source")
    (source / "run1.mat").rename(source / "a,b.mat")
    store = fmfbench.convert(source, tmp_path / "s.zarr")
    call("split", store, "--by-recording", "a,b", "--name", "whole")
    assert "expected frames to train on" in call("split", store, "--at", "a,b:0-1,run2:0-1", code=2).output
    data = fmfbench.open_dataset(store)
    assert np.array_equal(data.sample_ids("whole:test"), np.arange(60))
