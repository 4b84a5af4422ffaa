"""Cards of a store: complete, true to it, and read by the tools they are for.

Also tests fmfbench.cards: check, croissant, statements, store_facts, tables, texts, write.
Also tests fmfbench_cli: card.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fmfbench_cli.main import main

import fmfbench
from fmfbench.cards.check import FRONT_MATTER, REQUIRED, SECTIONS, check_card, document_problems
from fmfbench.cards.croissant import licence_url
from fmfbench.cards.statements import DATA_KEYS, RAI_KEYS, TEMPLATE
from fmfbench.cards.write import write_card
from fmfbench.errors import InputError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sim")
    fmfbench.simulate(folder / "sim", preset="tiny")
    return fmfbench.convert(folder / "sim", folder / "some store.zarr")


@pytest.fixture(scope="module")
def card(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "card"
    write_card(fmfbench.open_dataset(store), folder)
    return folder


@pytest.fixture(scope="module")
def document(card: Path) -> dict[str, Any]:
    return json.loads((card / "croissant.json").read_text(encoding="utf-8"))


def filled(kind: str = "own") -> str:
    """The template with every line filled in."""
    text = TEMPLATE.replace('published = ""', 'published = "2026-11-28"').replace(
        'url = ""', 'url = "https://example.org/x"'
    )
    text = text.replace('dataCollectionTimeFrame = ""', 'dataCollectionTimeFrame = "2026-01-01/2026-01-02"')
    return text.replace('= ""', f'= "of {kind}"')


def script(code: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr if not done.stdout else done.stdout


VALIDATE = """
import sys
from absl import logging
warned = []
logging.get_absl_handler().emit = lambda record: warned.append(record.getMessage()) if record.levelno > 20 else None
import mlcroissant
found = mlcroissant.Dataset(jsonld=sys.argv[1])
issues = found.metadata.ctx.issues
print(found.metadata.ctx.conforms_to.value, sorted(issues.errors), sorted(issues.warnings), warned)
"""
ROWS = """
import json, sys, mlcroissant
found = mlcroissant.Dataset(jsonld=sys.argv[1])
plain = lambda v: v.decode() if isinstance(v, bytes) else v.item() if hasattr(v, "item") else v
print(json.dumps({name: [{k.split("/", 1)[1]: plain(v) for k, v in row.items()} for row in found.records(name)]
                  for name in ("samples", "currents", "recordings", "arrays")}))
"""


def test_mlcroissant_validates_it_as_1_1_without_a_warning(card: Path) -> None:
    assert script(VALIDATE, card / "croissant.json") == "http://mlcommons.org/croissant/1.1 [] [] []\n"


def test_the_validator_would_warn(card: Path, tmp_path: Path) -> None:
    document = json.loads((card / "croissant.json").read_text(encoding="utf-8"))
    del document["citeAs"]
    (tmp_path / "x.json").write_text(json.dumps(document))
    assert "citeAs" in script(VALIDATE, tmp_path / "x.json")


def test_rows_that_mlcroissant_iterates_are_those_of_the_store(card: Path, store: Path) -> None:
    found = json.loads(script(ROWS, card / "croissant.json"))
    data = fmfbench.open_dataset(store)
    table = data.table("all")
    rows = sorted(found["samples"], key=lambda row: row["sample_id"])
    names = {"sample_id": "ids", "recording": "recording", "frame": "frame", "frame_time": "time", "split": "split",
             "class_label": "label"}  # fmt: skip
    for name, own in names.items():
        assert [row[name] for row in rows] == table[own].tolist(), name
    for name, recording in data.recordings.items():
        own_rows = sorted((r for r in found["currents"] if r["recording"] == name), key=lambda r: r["row"])
        assert [r["current_time"] for r in own_rows] == recording.current_time.tolist()
        read = np.array([[r[f"phase_{k}"] for k in (1, 2, 3)] for r in own_rows], np.float32)
        np.testing.assert_array_equal(read, recording.current)
    assert [r["name"] for r in found["recordings"]] == list(data.recordings)
    assert [r["frames"] for r in found["recordings"]] == [r.num_frames for r in data.recordings.values()]
    import zarr

    for row in found["arrays"]:
        array = zarr.open_array(store.parent / row["path"], mode="r")
        assert row["shape"] == ", ".join(map(str, array.shape))
        assert row["data_type"] == str(array.dtype)
        assert row["dimensions"] == ", ".join(array.metadata.dimension_names)
    videos = [row for row in found["arrays"] if row["path"].endswith("/video")]
    assert len(videos) == len(data.recordings)


LOAD = """
import json, sys, datasets
found = {}
for config in ("samples", "currents"):
    for split, rows in datasets.load_dataset(sys.argv[1], config).items():
        found[f"{config}/{split}"] = {name: list(rows[name]) for name in rows.column_names}
print(json.dumps(found))
"""


def test_hugging_face_datasets_loads_what_was_written(card: Path, store: Path, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    found = json.loads(script(LOAD, card, **offline))
    data = fmfbench.open_dataset(store)
    for split in ("train", "test"):
        assert found[f"samples/{split}"]["sample_id"] == data.sample_ids(split).tolist()
        assert found[f"samples/{split}"]["class_label"] == data.class_labels(data.sample_ids(split)).tolist()
    rows = sum(len(r.current_time) for r in data.recordings.values())
    assert len(found["currents/rows"]["phase_1"]) == rows


def test_every_file_of_the_store_is_there_with_its_sum(document: dict[str, Any], store: Path) -> None:
    import hashlib
    from urllib.parse import unquote

    objects = {each["name"]: each for each in document["distribution"] if each["@type"] == "cr:FileObject"}
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(objects) == len(files) + 4
    for path in files:
        each = objects[f"{store.name}/{path.relative_to(store).as_posix()}"]
        assert each["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert each["contentSize"] == f"{path.stat().st_size} B"
        assert unquote(each["contentUrl"]) == each["name"]
        assert " " not in each["@id"]


def first(document: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind == "dataset":
        return document
    if kind == "field":
        return document["recordSet"][0]["field"][0]
    if kind == "record set":
        return document["recordSet"][0]
    name = {"file object": "cr:FileObject", "file set": "cr:FileSet"}[kind]
    return next(each for each in document["distribution"] if each["@type"] == name)


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in REQUIRED.items() for key in keys])
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_each_missing_required_field_is_refused(
    document: dict[str, Any], kind: str, key: str, how: str
) -> None:
    assert document_problems(document) == []
    broken = copy.deepcopy(document)
    part = first(broken, kind)
    part[key] = "" if how == "empty" else None
    if how == "gone":
        del part[key]
    told = " ".join(document_problems(broken))
    if key == "@type" and kind.startswith("file"):
        assert "expected a cr:FileObject or cr:FileSet" in told
    else:
        assert f"{key} is missing" in told


def test_what_is_there_but_wrong_is_refused(document: dict[str, Any]) -> None:
    def broken(change: Any) -> str:
        other = copy.deepcopy(document)
        change(other)
        return " ".join(document_problems(other))

    assert "conformsTo" in broken(lambda d: d.update(conformsTo="http://mlcommons.org/croissant/1.0"))
    assert "FMF-Sim" in broken(lambda d: d.update(name="FMF-Benchmark"))
    assert "sha256" in broken(lambda d: first(d, "file object").update(sha256="0" * 63))
    assert "stands twice" in broken(lambda d: first(d, "field").update({"@id": "samples/split"}))
    assert "source is missing" in broken(lambda d: first(d, "field").pop("source"))


def copied(card: Path, to: Path) -> Path:
    return Path(shutil.copytree(card, to / "copy"))


@pytest.mark.parametrize("key", FRONT_MATTER)
def test_each_missing_line_of_the_front_matter_is_refused(card: Path, tmp_path: Path, key: str) -> None:
    folder = copied(card, tmp_path)
    text = (folder / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(text.replace(f"\n{key}:", f"\nx{key}:"), encoding="utf-8")
    with pytest.raises(InputError, match=f"README.md: {key} is missing"):
        check_card(folder)


@pytest.mark.parametrize("title", SECTIONS)
def test_each_missing_section_of_the_datasheet_is_refused(card: Path, tmp_path: Path, title: str) -> None:
    folder = copied(card, tmp_path)
    text = (folder / "datasheet.md").read_text(encoding="utf-8")
    (folder / "datasheet.md").write_text(text.replace(f"## {title}\n", "### Else\n"), encoding="utf-8")
    with pytest.raises(InputError, match=f"section {title} is missing"):
        check_card(folder)


def test_a_changed_file_is_found_and_the_store_beside_the_card_is_held_too(
    card: Path, store: Path, tmp_path: Path
) -> None:
    folder = copied(card, tmp_path)
    shutil.copytree(store, folder / store.name)
    count = check_card(folder)
    assert count["present"] == count["file_objects"]
    shard = next(path for path in (folder / store.name).rglob("c/0/0/0/0"))
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(InputError, match="is not the file that the card was made of"):
        check_card(folder)


def test_simulated_data_is_called_so_in_every_card_and_no_licence_is_invented(
    card: Path, document: dict[str, Any]
) -> None:
    for name in ("README.md", "datasheet.md", "croissant.json"):
        text = (card / name).read_text(encoding="utf-8")
        assert "FMF-Sim" in text
        assert "simulated" in text.lower()
    assert document["name"].startswith("FMF-Sim")
    assert document["license"]["name"] == "not stated"
    assert "\nlicense: unknown\n" in (card / "README.md").read_text(encoding="utf-8")
    assert document["rai:hasSyntheticData"] is True


def test_simulated_data_cannot_be_given_another_name(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="FMF-Sim in it"):
        write_card(fmfbench.open_dataset(store), tmp_path / "c", stated={"name": "FMF-Benchmark"})
    assert not (tmp_path / "c").exists()


def test_a_furnace_of_ones_own_is_stated_by_its_owner(awkward_store: Path, tmp_path: Path) -> None:
    run = CliRunner()
    refused = run.invoke(main, ["card", str(awkward_store), "-o", str(tmp_path / "c")])
    assert refused.exit_code == 2
    assert not (tmp_path / "c").exists()
    for key in (*DATA_KEYS, "rai.dataBiases", "rai.annotatorDemographics"):
        assert key in refused.stderr
    facts = tmp_path / "facts.toml"
    facts.write_text(filled().replace('licence = "of own"', 'licence = "CC-BY-4.0"'))
    made = run.invoke(
        main, ["card", str(awkward_store), "-o", str(tmp_path / "c"), "--facts", str(facts), "--json"]
    )
    assert made.exit_code == 0, made.output
    document = json.loads((tmp_path / "c" / "croissant.json").read_text())
    assert json.loads(made.stdout)["kind"] == "own"
    assert document["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    assert document["rai:dataCollectionTimeFrame"] == ["2026-01-01", "2026-01-02"]
    assert document["rai:hasSyntheticData"] is False
    assert (
        script(VALIDATE, tmp_path / "c" / "croissant.json") == "http://mlcommons.org/croissant/1.1 [] [] []\n"
    )
    again = run.invoke(main, ["card", str(awkward_store), "-o", str(tmp_path / "c"), "--facts", str(facts)])
    assert again.exit_code == 0, again.output
    checked = run.invoke(main, ["card", str(tmp_path / "c"), "--check"])
    assert checked.exit_code == 0
    assert "nothing is missing" in checked.stdout


@pytest.mark.parametrize(
    "key", [*DATA_KEYS, *(f"rai.{key}" for key in RAI_KEYS if f"\n{key} = " in TEMPLATE)]
)
def test_each_missing_statement_of_an_owner_is_named(awkward_store: Path, tmp_path: Path, key: str) -> None:
    if key == "rai.dataCollectionTimeFrame":
        pytest.skip("the store knows its dates")
    plain = key.removeprefix("rai.")
    lines = [line for line in filled().splitlines() if not line.startswith(f"{plain} = ")]
    (tmp_path / "facts.toml").write_text("\n".join(lines))
    from fmfbench.cards.statements import read_statements

    with pytest.raises(InputError, match=f"got none of {key};"):
        write_card(
            fmfbench.open_dataset(awkward_store),
            tmp_path / "c",
            stated=read_statements(tmp_path / "facts.toml"),
        )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "expected TOML"),
        ("colour = 'red'", "got colour"),
        ("name = 3", r"name \(no text\)"),
        ("rai = 3", "got rai.rai"),
        ("[rai]\ndataBias = 'x'", "got rai.dataBias"),
        (None, "No such file"),
    ],
)
def test_statements_that_cannot_be_read_are_refused(
    store: Path, tmp_path: Path, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / "f.toml").write_text(text)
    done = CliRunner().invoke(
        main, ["card", str(store), "-o", str(tmp_path / "c"), "--facts", str(tmp_path / "f.toml")]
    )
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    import re

    assert re.search(told, done.stderr), done.stderr


@pytest.mark.parametrize(
    ("key", "value"), [("published", "yesterday"), ("url", "example.org"), ("url", "javascript:x")]
)
def test_dates_and_urls_are_held_to_their_form(store: Path, tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(InputError, match=key):
        write_card(fmfbench.open_dataset(store), tmp_path / "c", stated={key: value})


def test_folders_of_others_are_left_alone(store: Path, tmp_path: Path) -> None:
    data = fmfbench.open_dataset(store)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"got one with README\.md; name another"):
        write_card(data, tmp_path)
    with pytest.raises(InputError, match="expected a folder outside the store"):
        write_card(data, store)
    with pytest.raises(InputError, match="existing folder"):
        write_card(data, tmp_path / "none" / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_the_same_store_gives_the_same_card_and_a_base_moves_its_files(
    store: Path, card: Path, tmp_path: Path
) -> None:
    data = fmfbench.open_dataset(store)
    write_card(data, tmp_path / "a")
    for path in sorted(p for p in card.rglob("*") if p.is_file()):
        assert (tmp_path / "a" / path.relative_to(card)).read_bytes() == path.read_bytes(), path
    write_card(data, tmp_path / "b", base="https://example.org/fmf.zarr/")
    document = json.loads((tmp_path / "b" / "croissant.json").read_text())
    urls = [each["contentUrl"] for each in document["distribution"] if "contentUrl" in each]
    assert sum(url.startswith("https://example.org/fmf.zarr/recordings/") for url in urls) > 10


def test_what_card_needs_is_named(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = CliRunner().invoke(main, ["card", str(store), "-o", str(tmp_path / "c")])
    assert done.exit_code == 1
    assert "fmfbench[card]" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(main, ["card", str(store)]).exit_code == 2
    assert CliRunner().invoke(main, ["card"]).exit_code == 2
    assert CliRunner().invoke(main, ["card", str(tmp_path), "--check"]).exit_code == 2


@pytest.mark.parametrize(
    ("licence", "url"),
    [
        ("MIT", "https://spdx.org/licenses/MIT.html"),
        ("https://example.org/l", "https://example.org/l"),
        ("not stated", None),
        ("ask us", None),
    ],
)
def test_licences_become_urls_where_they_are_known_by_one(licence: str, url: str | None) -> None:
    assert licence_url(licence) == url
