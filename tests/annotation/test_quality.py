import json
from itertools import pairwise

import numpy as np
import pytest

import fmfbench
from fmfbench.annotation.annotate import annotate
from fmfbench.annotation.keyframes import Keyframe, Keyframes, Track
from fmfbench.annotation.quality import Agreement, format_report, report
from fmfbench.errors import AnnotationError


@pytest.fixture
def annotated(store):
    box = (Keyframe(frame=8, box=(2.0, 6.0, 19.0, 18.0)), Keyframe(frame=39, box=(10.0, 6.0, 27.0, 18.0)))
    track = Track(id=3, onset=8, apex=20, offset=39, keyframes=box)
    annotate(store, Keyframes(size=(32, 24), recordings={"run1": (track,)}))
    return fmfbench.open_dataset(store)


def test_figures_by_hand(annotated, monkeypatch):
    monkeypatch.setattr("fmfbench.annotation.quality._BLOCK", 7)  # blocks do not show
    facts = report(annotated, "refined", "source")
    assert list(facts["recordings"]) == ["run1"]
    got = json.loads(json.dumps(facts))["recordings"]["run1"]
    recording = annotated.recordings["run1"]
    boxes, refined, truth = (
        recording.read_masks(layer=name).astype(bool) for name in ("boxes", "refined", "source")
    )
    assert got["frames"] == 60
    assert got["abnormal_frames"] == refined.any(axis=(1, 2)).sum()
    assert got["changed"]["turned_normal"] == (boxes & ~refined).sum() > 0
    assert got["changed"]["turned_abnormal"] == (~boxes & refined).sum()
    assert got["changed"]["share"] == pytest.approx((boxes != refined).sum() / boxes.sum())
    (area,) = got["area"]
    assert (area["id"], area["onset"], area["offset"]) == (
        3,
        [8, int(refined[8].sum())],
        [39, int(refined[39].sum())],
    )
    assert area["apex"] == [20, int(refined[20].sum())]
    assert area["mean"] == pytest.approx(refined[8:40].sum() / 32)
    assert area["largest"] == refined.sum(axis=(1, 2)).max()
    changes = [1 - (a & b).sum() / (a | b).sum() for a, b in pairwise(refined) if a.any() and b.any()]
    assert got["flicker"]["pairs"] == len(changes)
    assert got["flicker"]["mean"] == pytest.approx(np.mean(changes))
    assert got["flicker"]["largest"] == pytest.approx(max(changes))
    for name, masks in (("refined", refined), ("boxes", boxes)):
        ious = [((masks == k) & (truth == k)).sum() / ((masks == k) | (truth == k)).sum() for k in (0, 1)]
        assert got["agreement"][name]["miou"] == pytest.approx(np.mean(ious))
        assert got["agreement"][name]["iou_abnormal"] == pytest.approx(ious[1])
    assert got["agreement"]["refined"]["miou"] > got["agreement"]["boxes"]["miou"] + 0.05


def test_the_text_has_the_figures(annotated):
    facts = report(annotated, "refined", "source")
    text = format_report(facts)
    assert f"mIoU {facts['recordings']['run1']['agreement']['refined']['miou']:.4f}" in text
    assert "event 3 (8..39)" in text


def test_layers_without_parent_or_reference(annotated):
    facts = report(annotated, "source")["recordings"]
    assert set(facts) == {"run1", "run2"}
    assert facts["run1"]["changed"] is None
    assert facts["run1"]["agreement"] is None
    assert format_report(report(annotated, "source"))
    with pytest.raises(AnnotationError, match="expected layer 'x'"):
        report(annotated, "x")
    with pytest.raises(AnnotationError, match="reference layer 'x'"):
        report(annotated, "refined", "x")


def test_agreement_where_a_class_is_missing():
    one = Agreement()
    one.add(np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2, 3), np.uint8))
    assert (one.iou(0), one.iou(1), one.miou) == (1.0, None, None)
