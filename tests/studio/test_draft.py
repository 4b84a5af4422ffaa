"""The draft on the disk: nothing acknowledged is lost, nothing is overwritten unseen."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fmfbench.annotation.keyframes import parse_keyframes, read_keyframes, write_keyframes
from fmfbench.errors import AnnotationError
from fmfbench.studio.draft import Draft, Frame, StaleError, scaled, text_of

FRAME = Frame(size=(32, 24), frame_counts={"a": 50, "b": 20})


def track(onset: int = 3, offset: int = 9, number: int = 0) -> dict:
    keyframes = [{"frame": onset, "box": [1.0, 2.0, 5.0, 8.5]}]
    return {"id": number, "onset": onset, "offset": offset, "keyframes": keyframes}


def tracks_of(draft: Draft, name: str) -> object:
    return draft.state()["recordings"][name]["tracks"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyframes.json"


def test_changes_are_in_the_file_that_annotate_reads(path: Path) -> None:
    draft = Draft(path, FRAME)
    assert draft.replace("a", [track()], base=0) == 1
    assert draft.replace("b", [], base=0) == 1
    assert not path.exists()
    assert draft.save()
    found = read_keyframes(path)
    assert found == draft.keyframes()
    assert found.size == (32, 24)
    assert [t.onset for t in found.recordings["a"]] == [3]
    assert found.recordings["b"] == ()
    write_keyframes(path.with_name("other.json"), found)
    assert path.read_bytes() == path.with_name("other.json").read_bytes() == text_of(found)
    draft.close()
    assert not draft.journal.exists()
    assert draft.replace("b", None, base=1) == 2
    assert set(draft.keyframes().recordings) == {"a"}


def test_a_change_of_an_old_revision_is_refused(path: Path) -> None:
    draft = Draft(path, FRAME)
    draft.replace("a", [track()], base=0)
    with pytest.raises(StaleError, match="changed elsewhere"):
        draft.replace("a", [track(4)], base=0)
    draft.replace("b", [track(4)], base=0)  # another recording is another matter
    assert tracks_of(draft, "a") == [track()]
    draft.replace("a", [track(4)], base=1)


BAD = {
    "overlap": [track(), track(5)],
    "onset after offset": [track(9, 3)],
    "past the end": [track(3, 50)],
    "no box": [{"id": 0, "onset": 3, "offset": 9, "keyframes": "x"}],
    "outside the frame": [{**track(), "keyframes": [{"frame": 3, "box": [0, 0, 35, 5]}]}],
    "unknown key": [{**track(), "colour": "red"}],
    "not a list": {"a": 1},
}


@pytest.mark.parametrize("tracks", BAD.values(), ids=BAD)
def test_tracks_that_contradict_themselves_change_nothing(path: Path, tracks: object) -> None:
    draft = Draft(path, FRAME)
    with pytest.raises(AnnotationError):
        draft.replace("a", tracks, base=0)
    assert tracks_of(draft, "a") is None
    assert draft.revision("a") == 0
    assert not draft.journal.exists()
    with pytest.raises(AnnotationError, match="expected one of the store's recordings, got"):
        draft.replace("c", [], base=0)


def test_read_only_writes_nothing(path: Path) -> None:
    draft = Draft(path, FRAME, read_only=True)
    with pytest.raises(AnnotationError, match="read-only"):
        draft.replace("a", [], base=0)
    draft.close()
    assert list(path.parent.iterdir()) == []


def test_a_broken_file_is_refused_at_the_start(path: Path) -> None:
    for text in (
        "{",
        "[1]",
        '{"schema": 2}',
        "\xff",
        '{"schema": 1, "size": [1, 1], "recordings": {"zz": {"tracks": []}}}',
    ):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(AnnotationError, match=r"keyframes\.json"):
            Draft(path, FRAME)
        assert path.read_text(encoding="latin-1") == text


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_cut_off_acknowledged_changes_come_back(tmp_path: Path, seed: int) -> None:
    """Copy the folder at random moments, as a crash would leave it, with a torn line at the end."""
    rng = np.random.default_rng(seed)
    folder = tmp_path / "live"
    folder.mkdir()
    draft = Draft(folder / "k.json", FRAME)
    content: dict[str, object] = {"a": None, "b": None}
    for step in range(60):
        name = str(rng.choice(["a", "b"]))
        content[name] = [None, [], [track(int(rng.integers(1, 9)), int(rng.integers(9, 19)))]][
            rng.integers(3)
        ]
        draft.replace(name, content[name], draft.revision(name))
        if rng.random() < 0.3:
            assert draft.save()
        if rng.random() < 0.2:
            draft.close()
            draft = Draft(folder / "k.json", FRAME)
        if rng.random() < 0.5:
            crashed = tmp_path / f"crashed-{step}"
            shutil.copytree(folder, crashed)
            journal = crashed / "k.json.journal"
            if journal.exists():
                with open(journal, "ab") as handle:
                    handle.write(b'{"set": {"a": [{"id": 9, "on')
            found = Draft(crashed / "k.json", FRAME)
            assert found.conflict is None
            assert {n: tracks_of(found, n) for n in content} == content
            assert found.saved
            if any(v is not None for v in content.values()):
                assert read_keyframes(crashed / "k.json") == found.keyframes()


def test_a_crash_between_file_and_journal_is_told_from_another_program(path: Path) -> None:
    draft = Draft(path, FRAME)
    draft.replace("a", [track()], base=0)
    draft.save()
    draft.replace("a", [track(4)], base=1)
    before = draft.journal.read_bytes()
    draft.save()
    saved = path.read_bytes()
    # killed after the file was replaced and before the journal was begun anew
    draft.journal.write_bytes(
        before + json.dumps({"writing": hashlib.sha256(saved).hexdigest()}).encode() + b"\n"
    )
    found = Draft(path, FRAME)
    assert found.conflict is None
    assert tracks_of(found, "a") == [track(4)]


@pytest.mark.parametrize("keep", ["file", "draft"])
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_a_file_that_another_program_changed(path: Path, keep: str, restart: bool, removed: bool) -> None:
    draft = Draft(path, FRAME)
    draft.replace("a", [track()], base=0)
    draft.replace("b", [track()], base=0)
    draft.save()
    draft.replace("a", [track(4), track(20, 30)], base=1)
    theirs = parse_keyframes({"schema": 1, "size": [64, 48], "recordings": {"a": {"tracks": []}}})
    if removed:
        path.unlink()
    else:
        write_keyframes(path, theirs)
    if restart:
        draft = Draft(path, FRAME)
    else:
        assert not draft.save()
    assert draft.conflict is not None
    assert draft.conflict.draft == {"a": 2, "b": 1}
    assert draft.conflict.file == ({} if removed else {"a": 0})
    with pytest.raises(StaleError):
        draft.replace("a", [], draft.revision("a"))
    assert not draft.save()
    assert path.exists() is not removed  # nothing was overwritten
    aside = draft.resolve(keep)
    assert draft.conflict is None
    assert draft.save()
    mine = {"a": [track(4), track(20, 30)], "b": [track()]}
    if keep == "draft":
        assert {n: tracks_of(draft, n) for n in mine} == mine
        assert aside.read_bytes() == (b"" if removed else text_of(theirs))
    else:
        assert tracks_of(draft, "b") is None
        assert tracks_of(draft, "a") == (None if removed else [])
        kept = json.loads(aside.read_text())["recordings"]
        assert {n: kept[n]["tracks"] for n in mine} == mine
    again = Draft(path, FRAME)
    assert again.state()["recordings"] == {
        n: {**entry, "revision": 0} for n, entry in draft.state()["recordings"].items()
    }


def test_a_changed_file_without_changes_of_ours_is_noticed_too(path: Path) -> None:
    draft = Draft(path, FRAME)
    draft.replace("a", [track()], base=0)
    draft.save()
    path.write_text("not JSON")
    assert not draft.save()
    with pytest.raises(AnnotationError, match="JSON"):
        draft.resolve("file")
    assert path.read_text() == "not JSON"
    assert draft.resolve("draft").read_text() == "not JSON"
    assert draft.save()
    assert [t.onset for t in read_keyframes(path).recordings["a"]] == [3]


def test_boxes_scale_with_the_size_they_are_drawn_on() -> None:
    found = parse_keyframes({"schema": 1, "size": [32, 24], "recordings": {"a": {"tracks": [track()]}}})
    twice = scaled(found, (64, 72))
    assert twice.recordings["a"][0].keyframes[0].box == (2, 6, 10, 25.5)
    assert scaled(twice, (32, 24)) == found
    assert scaled(found, (32, 24)) is found
