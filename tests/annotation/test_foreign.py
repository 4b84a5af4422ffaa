"""Files of other tools are named, with the way to convert them; ours and CVAT's are not taken for theirs."""

import json
import zipfile

import pytest

from fmfbench.annotation.annotate import read_drawn
from fmfbench.errors import AnnotationError

VIA_REGION = {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}}
FILES = {
    "COCO": {"info": {}, "images": [{"id": 1}], "annotations": [], "categories": []},
    "LabelMe": {"version": "5.2", "flags": {}, "shapes": [], "imagePath": "a.png", "imageHeight": 24},
    "Label Studio": [
        {"id": 1, "data": {"video": "a.mp4"}, "annotations": [{"result": [{"type": "videorectangle"}]}]}
    ],
    "Datumaro": {"info": {}, "categories": {}, "items": []},
    "VIA": {"project": {"pid": "x"}, "config": {}, "attribute": {}, "file": {}, "view": {}, "metadata": {}},
    "CVAT's JSON": [{"version": 0, "tags": [], "shapes": [], "tracks": []}],
}
MORE = [
    ("Label Studio", [{"video": "a.mp4", "box": [{"sequence": []}], "id": 1, "annotator": 1}]),
    ("Label Studio", {"id": 1, "data": {}, "annotations": []}),
    ("VIA", {"_via_settings": {}, "_via_img_metadata": {}}),
    ("VIA", {"a.png123": {"filename": "a.png", "size": 123, "regions": [VIA_REGION]}}),
    ("CVAT's JSON", {"version": 0, "tags": [], "shapes": [], "tracks": []}),
]


@pytest.mark.parametrize(("tool", "content"), [*FILES.items(), *MORE])
def test_json_of_other_tools(tmp_path, tool, content):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=f"got {tool}.*CVAT") as caught:
        read_drawn(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tool", "name", "text"),
    [
        ("Pascal VOC", "a.xml", "<annotation><filename>a.png</filename></annotation>"),
        ("MOT", "gt.txt", "1,1,10,20,30,40,1,1,1.0\n2,1,10,20,30,40,1,1,1.0\n"),
        ("YOLO", "frame_000001.txt", "0 0.5 0.5 0.1 0.2\n"),
        ("CVAT for images", "a.xml", "<annotations><version>1.1</version><image id='0'/></annotations>"),
    ],
)
def test_other_texts(tmp_path, tool, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(AnnotationError, match=f"got {tool}"):
        read_drawn(path)


@pytest.mark.parametrize(
    ("tool", "members"),
    [
        ("COCO", ["annotations/instances_default.json"]),
        ("Datumaro", ["annotations/default.json", "images/a.png"]),
        ("MOT", ["gt/gt.txt", "gt/labels.txt"]),
        ("YOLO", ["obj_train_data/frame_000000.txt", "obj.data", "obj.names"]),
        ("Pascal VOC", ["VOC2012/Annotations/a.xml"]),
        ("CVAT's JSON", ["task.json", "annotations.json", "data/manifest.jsonl"]),
    ],
)
def test_zips_of_other_tools(tmp_path, tool, members):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "{}")
    with pytest.raises(AnnotationError, match=f"got {tool}"):
        read_drawn(path)


@pytest.mark.parametrize(
    "content", [{}, [], 3, {"schema": 2, "size": [1, 1], "recordings": {}}, {"a": {}}, [1]]
)
def test_what_is_no_tool_s_is_not_called_one(tmp_path, content):
    path = tmp_path / "keyframes.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError) as caught:
        read_drawn(path)
    assert not any(tool in str(caught.value) for tool in FILES)
