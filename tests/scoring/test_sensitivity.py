"""The strict samples of a score, beside all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest_run import call, invoke

import fmfbench
from fmfbench.board.page import row_document, scores_page
from fmfbench.exchange.labels import labels_from_dataset, write_labels
from fmfbench.scoring.result import sensitivity_line
from fmfbench.scoring.sensitivity import NO_STORE
from fmfbench.windows.protocol import get_protocol

# both recordings of the preset have windows that reach into train, and some that do not
REACH = {"num_frames": 2, "stride": 2, "current_seconds": 2.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sim")
    fmfbench.simulate(folder / "sim", preset="tiny")
    return fmfbench.open_dataset(fmfbench.convert(folder / "sim", folder / "s.zarr"))


def file_of(folder, data, name, **meta):
    ids = data.sample_ids("test")
    rng = np.random.default_rng(len(name))
    score = np.clip(data.class_labels(ids) * 0.3 + rng.random(len(ids)) * 0.7, 0, 1)
    return fmfbench.write_predictions(
        folder / f"{name}.npz", sample_id=ids, score=score, meta={"model": name} | meta
    )


def protocol():
    return get_protocol("short", **REACH).to_dict()


def test_the_strict_part_is_the_score_of_the_strict_samples(data, tmp_path):
    path = file_of(tmp_path, data, "full", context="full", protocol=protocol())
    whole = fmfbench.score(path, data, resamples=200)
    part = whole.evidence.sensitivity
    ids = data.windows("test", protocol="short", context="strict", **REACH).sample_ids
    assert 0 < len(ids) < len(data.sample_ids("test"))
    assert (part["context"], part["strict"]["num_samples"]) == ("full", len(ids))
    assert part["strict"]["left_out"] == whole.num_samples - len(ids)
    with np.load(path) as found:
        rows = np.isin(found["sample_id"], ids)
        strict = fmfbench.write_predictions(
            tmp_path / "strict.npz", sample_id=ids, score=found["score"][rows],
            meta={"context": "strict", "protocol": "own"},
        )  # fmt: skip
    from dataclasses import replace

    own = replace(get_protocol("short", **REACH), name="own")
    alone = fmfbench.score(strict, data, context="strict", protocol=own, resamples=200)
    assert part["strict"]["metrics"] == dict(alone.metrics)
    assert part["strict"]["intervals"] == alone.to_dict()["intervals"]
    assert alone.evidence.sensitivity == {}
    assert f"strict: {len(ids)} samples see nothing of other splits" in whole.to_text()
    assert "strict: the same under full, masked and strict" in whole.to_markdown()


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({}, "does not state its window protocol"),
        ({"protocol": 7}, "does not state its window protocol"),
        ({"protocol": "mine"}, "none that this store serves"),
        ({"protocol": {"name": "x"}}, "none that this store serves"),
        (
            {"protocol": {"name": "x", "num_frames": "two", "stride": 1, "current_seconds": 1}},
            "none that this store",
        ),
        ({"protocol": "paper"}, "no window stays inside the split"),
    ],
)
def test_where_it_is_not_known_the_reason_stands(data, tmp_path, meta, reason):
    found = fmfbench.score(file_of(tmp_path, data, "a", **meta), data, resamples=40)
    assert found.evidence.sensitivity["strict"] is None
    assert reason in found.evidence.sensitivity["reason"]
    assert sensitivity_line(found) is None


def test_labels_alone_give_the_same_document(data, tmp_path):
    labels = write_labels(tmp_path / "l.npz", labels_from_dataset(data))
    path = file_of(tmp_path, data, "a", context="full", protocol=protocol())
    one, other = (fmfbench.score(path, source, resamples=40) for source in (data, labels))
    assert other.evidence.sensitivity["reason"] == NO_STORE
    documents = [each.to_dict() for each in (one, other)]
    for document in documents:
        document["receipt"] = {
            k: v for k, v in document["receipt"].items() if k not in ("command", "sources_digest")
        }
    assert json.dumps(documents[0]) == json.dumps(documents[1])


def test_a_page_sets_the_three_contexts_side_by_side(data, tmp_path):
    files = [
        file_of(tmp_path, data, "full", model="m", context="full", protocol=protocol()),
        file_of(tmp_path, data, "masked", model="m", context="masked", protocol=protocol()),
        file_of(tmp_path, data, "other", context="full"),
    ]
    scores = [fmfbench.score(path, data, resamples=40) for path in files]
    assert [row_document(s, model="m", file=s.file)["context"] for s in scores] == ["full", "masked", "full"]
    page = scores_page(scores, {})
    table = page.split("Windows that reach into other splits")[1].split("</table>")[0]
    rows = [row for row in table.split("<tr>")[1:] if "accuracy" in row]
    own, other = sorted(rows, key=lambda row: row.count("not known"))
    assert [row.count("not known") for row in (own, other)] == [0, 2]
    for score, row in ((scores[0], own), (scores[1], own), (scores[2], other)):
        assert f"{score.metrics['accuracy']:.2f}"[:4] in row


def test_pages_link_to_the_studio_where_one_is_named(data, tmp_path):
    path = file_of(tmp_path, data, "a")
    base = ["score", str(path), "--data", str(data.path), "--resamples", "40"]
    page = tmp_path / "r.html"
    call(*base, "--report", page, "--studio", "http://127.0.0.1:8123")
    name = next(iter(data.recordings))
    assert f'href="http://127.0.0.1:8123/#{name}/' in page.read_text()
    call(*base, "--report", page)
    assert "://" not in page.read_text().replace("http://www.w3.org", "")
    for wrong, told in (
        ("http://h/?token=abc", "without its"),
        ("javascript:alert(1)", "expected an address"),
        ('http://h/"onclick=x', "expected an address"),
        ("127.0.0.1:80", "expected an address"),
    ):
        refused = call(*base, "--report", page, "--studio", wrong, code=2)
        assert told in refused.stderr
    assert "--report" in invoke(*base, "--studio", "http://h/").stderr
