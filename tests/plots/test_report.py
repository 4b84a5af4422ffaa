"""The report's page stands alone and says what the score says.

Also tests fmfbench.files: html, markdown.
Also tests fmfbench.plots: page, picture, svg, timelines, worst_errors.
Also tests fmfbench.scoring: tables.
"""

import json
import re

import numpy as np
import pytest
from conftest_html import Page

from fmfbench.errors import InputError
from fmfbench.exchange.predictions import write_predictions
from fmfbench.plots import svg
from fmfbench.plots.report import write_report
from fmfbench.scoring.metrics import METRICS, PIXEL_RANK_METRICS
from fmfbench.scoring.score import read_for, score
from fmfbench.scoring.tables import score_csv, scores_markdown


@pytest.fixture
def scored(make_data, tmp_path):
    data = make_data(3, lengths=(1500, 1200))
    rng = np.random.default_rng(0)
    ids = data.sample_ids("test")
    p = np.clip(data.class_labels(ids) * 0.4 + rng.random(len(ids)) * 0.6, 0, 1)
    path = write_predictions(
        tmp_path / "<p>.npz", sample_id=ids, score=p, mask=data.test_masks(), meta={"model": "<script>"}
    )
    return data, path, score(path, data, resamples=100)


def page_of(tmp_path, scored, data=None, **changes):
    source, path, result = scored
    found, labels = read_for(path, source, "test")
    return write_report(tmp_path / "r.html", result, found, labels, data).read_text("utf-8")


def test_the_page_stands_alone(scored, tmp_path):
    text = page_of(tmp_path, scored, scored[0])
    page = Page(text)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "script" not in page.tags
    assert "http" not in text
    assert "&lt;script&gt;" in text
    assert page.tags.count("svg") == 6
    assert 2 <= page.tags.count("img") <= 16


def test_the_page_says_what_the_score_says(scored, tmp_path):
    text = page_of(tmp_path, scored, scored[0])
    result = scored[2]
    for value in [*result.metrics.values(), result.evidence.ranking["auroc"]]:
        assert f"<td>{value:.6f}</td>" in text
    for warning in result.evidence.warnings:
        assert warning.split(":")[0] in text
    events = result.evidence.events
    assert text.count("<title>event,") + text.count("<title>missed event,") == events["events"]
    assert 1 <= text.count("<title>false alarm,") <= events["false_alarms"]
    assert text.count("<title>alarm,") == events["alarms"]


def test_without_the_store_it_says_what_is_missing(scored, tmp_path):
    text = page_of(tmp_path, scored)
    assert "no currents" in text
    assert "no pictures" in text


def test_decisions_alone(make_data, tmp_path):
    data = make_data(3, lengths=(900, 700))
    ids = data.sample_ids("test")
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, pred=data.class_labels(ids))
    found, labels = read_for(path, data, "test")
    text = write_report(tmp_path / "r.html", score(path, data, resamples=50), found, labels, data).read_text()
    assert "no curves" in text
    assert text.count("<p>None.</p>") == 2


def test_where_no_report_can_be_written(scored, tmp_path):
    data, path, result = scored
    found, labels = read_for(path, data, "test")
    with pytest.raises(InputError, match="existing folder"):
        write_report(tmp_path / "none" / "r.html", result, found, labels)
    with pytest.raises(InputError, match="evidence"):
        write_report(tmp_path / "r.html", score(path, data, compat="official"), found, labels)


def test_half_a_surrogate_pair_does_not_stop_the_page(make_data, tmp_path):
    data = make_data(3, lengths=(900, 700))
    ids = data.sample_ids("test")
    meta = np.array('{"model": "a\\ud800b"}')
    np.savez(tmp_path / "p.npz", sample_id=ids, score=np.zeros(len(ids)), meta=meta)
    scored = data, tmp_path / "p.npz", score(tmp_path / "p.npz", data, resamples=50)
    assert "model: a?b" in page_of(tmp_path, scored)


def test_occlusion_stands_on_the_page_only_with_a_truth(scored, tmp_path):
    source, path, result = scored
    assert "Occlusion" not in page_of(tmp_path, scored)
    folder = tmp_path / "truth"
    folder.mkdir()
    for name, recording in source.recordings.items():
        meta = {"name": "FMF-Sim", "version": "<i>", "recording": name, "seed": 0}
        states = {key: np.zeros(recording.num_frames) for key in ("mist_depth", "glare", "reflections")}
        np.savez(
            folder / f"{name}.npz",
            meta=np.array(json.dumps(meta)),
            visibility=np.full(recording.num_frames, 0.3),
            event=recording.class_label.astype(int) - 1,
            **states,
        )
    text = page_of(tmp_path, (source, path, score(path, source, resamples=50, truth=folder)))
    assert "FMF-Sim &lt;i&gt;, seed 0; not a measurement on a furnace" in text
    row = f"<td>visibility 0.1 to 0.5</td><td>{result.frame.tn + result.frame.fp}</td>"
    assert (
        f"{row}<td>{result.frame.fn + result.frame.tp}</td><td>{result.metrics['accuracy']:.6f}</td>" in text
    )


def test_png_is_what_opencv_reads():
    import base64

    import cv2

    image = np.random.default_rng(0).integers(0, 256, (7, 11, 3)).astype(np.uint8)
    data = base64.b64decode(svg.png_data_uri(image).split(",")[1])
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], image
    )


def test_outlines_stand_on_the_masks_border():
    mask = np.zeros((64, 48), np.uint8)
    mask[10:20, 5:15] = 1
    large = mask.repeat(3, 0).repeat(3, 1).astype(bool)
    inside = svg._eroded(large)
    assert inside.sum() == 28 * 28
    assert not inside[30].any()
    assert inside[31, 16:44].all()


def test_csv_and_the_table_of_several(scored):
    result = scored[2]
    rows = score_csv([result, result]).splitlines()
    assert rows[0] == "file,split,num_samples,metric,value,low,high,undefined"
    accuracy = next(row for row in rows if ",accuracy," in row).split(",")
    assert float(accuracy[4]) == result.metrics["accuracy"]
    assert float(accuracy[5]) == result.evidence.intervals["accuracy"]["low"]
    assert len(rows) == 1 + 2 * (len(METRICS) - len(PIXEL_RANK_METRICS))
    table = scores_markdown([result, result]).splitlines()
    assert table[-1] == "recordings: furnace_0, furnace_1"
    assert len(table) == 6
    assert re.search(r"\| <p>\.npz \| 0\.\d{6}", table[2])
