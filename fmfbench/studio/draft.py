"""The labels that are being drawn: kept in `keyframes.json`, with a journal so that a crash loses nothing.

Every change is appended to the journal and forced to the disk before it is acknowledged; `keyframes.json` follows
within a second, written whole or not at all. What the journal holds and the file does not yet is replayed when the
draft is opened again.

    {"journal": 1, "base": sha256 of the file that the journal starts from, or null, "size": ..., "recordings": ...}
    {"set": {NAME: [tracks] or null}}       one change; null: this recording is not labelled
    {"writing": sha256}                     said before the file is replaced by one that holds all of the above

Nothing is overwritten unseen. A change is made *against a revision*; when the recording has moved on meanwhile (a
second tab), it is refused. When the file is neither the one that the journal starts from nor one it announced, some
other program wrote it: the draft then takes no change until it is said which of the two to keep, and the other one
is put aside under another name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fmfbench.annotation.keyframes import Keyframes, check_against, parse_keyframes
from fmfbench.errors import AnnotationError, FailedError
from fmfbench.files.atomic import replace_file

__all__ = ["Conflict", "Draft", "Frame", "StaleError", "scaled", "text_of"]

Tracks = list[dict[str, Any]]
_JOURNAL = 1


class StaleError(AnnotationError):
    """A change against labels that are no longer the latest."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What boxes are drawn on: `size` (width, height) of a frame, and each recording's number of frames."""

    size: tuple[int, int]
    frame_counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Another program wrote the file: recording -> number of events, there and here."""

    file: dict[str, int]
    draft: dict[str, int]


class Draft:
    """The tracks of every labelled recording, safe on the disk after every change.

    Methods may be called from any thread.

    Args:
        path: `keyframes.json`, read if it is there.
        frame: what is drawn on; the size of a file that is there goes over its size.
        read_only: never write.

    Raises:
        AnnotationError: the file is not keyframes of these recordings.
    """

    def __init__(self, path: Path, frame: Frame, *, read_only: bool = False) -> None:
        self.path = path
        self.journal = path.with_name(f"{path.name}.journal")
        self.read_only = read_only
        self._lock = threading.RLock()
        self._frame = frame
        self._size = frame.size
        self._tracks: dict[str, Tracks] = {}
        self._revisions: dict[str, int] = {}
        self._conflict: Conflict | None = None
        self._dirty = False
        data = _bytes_of(path)
        self._known = _sha256(data)
        if data is not None:
            self._adopt(self._parse_file(data))
        self._recover()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) that the boxes are drawn on."""
        return self._size

    @property
    def conflict(self) -> Conflict | None:
        """What another program wrote, until `resolve`."""
        return self._conflict

    @property
    def saved(self) -> bool:
        """Whether the file holds every change."""
        return not self._dirty

    def state(self) -> dict[str, Any]:
        """All of it, as JSON: size, revision and tracks of each recording (null: not labelled), and a conflict."""
        with self._lock:
            return {
                "size": list(self._size),
                "file": self.path.name,
                "saved": self.saved,
                "recordings": {
                    name: {"revision": self._revisions.get(name, 0), "tracks": self._tracks.get(name)}
                    for name in self._frame.frame_counts
                },
                "conflict": None
                if self._conflict is None
                else {"file": self._conflict.file, "draft": self._conflict.draft},
            }

    def revision(self, name: str) -> int:
        return self._revisions.get(name, 0)

    def replace(self, name: str, tracks: object, base: int) -> int:
        """Replace the tracks of a recording; None: it is not labelled.

        Args:
            name: of the recording.
            tracks: as in `keyframes.json`.
            base: the revision that the change was made against.

        Returns:
            The new revision.

        Raises:
            StaleError: the tracks were changed since `base`, or the file by another program; nothing is changed.
            AnnotationError: tracks that contradict themselves; nothing is changed.
        """
        with self._lock:
            if self.read_only:
                raise AnnotationError("expected a draft that may be changed, got one opened with --read-only")
            if self._conflict is not None:
                raise StaleError(f"{self.path.name} was changed by another program; choose which to keep")
            if base != self.revision(name):
                raise StaleError(
                    f"{name}: the labels were changed elsewhere (revision {self.revision(name)}, got a change of "
                    f"revision {base}); choose which to keep"
                )
            parsed = self._parsed(name, tracks)
            self._append({"set": {name: parsed}})
            self._set(name, parsed)
            self._dirty = True
            return self.revision(name)

    def keyframes(self) -> Keyframes:
        """The labelled recordings, as `annotate` takes them."""
        with self._lock:
            return parse_keyframes(self._document())

    def save(self) -> bool:
        """Bring the file up to date; False when another program has changed it, which is now a conflict."""
        with self._lock:
            if self._conflict is not None:
                return False
            data = _bytes_of(self.path)
            if _sha256(data) != self._known:
                self._conflict = Conflict(file=self._counts_in(data), draft=self._counts())
                return False
            if not self._dirty:
                return True
            text = text_of(self.keyframes()) if self._tracks or data is not None else None
            if text is not None:
                known = _sha256(text)
                self._append({"writing": known})
                replace_file(self.path, text)
                _sync(self.path)
                self._known = known
            self._start_journal()
            self._dirty = False
            return True

    def resolve(self, keep: Literal["file", "draft"]) -> Path:
        """End a conflict: keep the file or the draft, and put the other aside.

        Returns:
            Where the other lies now.
        """
        with self._lock:
            if self._conflict is None:
                raise AnnotationError("expected a conflict to resolve, got none; load the labels again")
            data = _bytes_of(self.path)
            if keep == "file":
                kept = None if data is None else self._parse_file(data)  # refused before anything is touched
                aside = self._put_aside(text_of(self.keyframes()))
                self._tracks = {}
                if kept is not None:
                    self._adopt(kept)
                self._dirty = False
            else:
                aside = self._put_aside(data if data is not None else b"")
                self._dirty = True
            self._known = _sha256(data)
            self._conflict = None
            self._revisions = {name: self.revision(name) + 1 for name in self._frame.frame_counts}
            self._start_journal()
            if keep == "draft":
                self._append({"set": dict(self._tracks)})
            return aside

    def close(self) -> None:
        """Save, and remove the journal when nothing is left in it."""
        if not self.read_only and self.save():
            with contextlib.suppress(OSError):
                self.journal.unlink(missing_ok=True)

    def _document(self) -> dict[str, Any]:
        recordings = {name: {"tracks": tracks} for name, tracks in sorted(self._tracks.items())}
        return {"schema": 1, "size": list(self._size), "recordings": recordings}

    def _parsed(self, name: str, tracks: object) -> Tracks | None:
        """Tracks as the file would hold them; AnnotationError."""
        if name not in self._frame.frame_counts:
            raise AnnotationError(f"expected one of the store's recordings, got {name!r}")
        if tracks is None:
            return None
        found = parse_keyframes(
            {"schema": 1, "size": list(self._size), "recordings": {name: {"tracks": tracks}}}
        )
        check_against(found, self._frame.frame_counts)
        content: Tracks = found.to_dict()["recordings"][name]["tracks"]
        return content

    def _set(self, name: str, tracks: Tracks | None) -> None:
        if tracks is None:
            self._tracks.pop(name, None)
        else:
            self._tracks[name] = tracks
        self._revisions[name] = self.revision(name) + 1

    def _parse_file(self, data: bytes) -> Keyframes:
        try:
            return self._parse(json.loads(data.decode("utf-8-sig")), self.path)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise AnnotationError(
                f"{self.path}: expected keyframes as JSON, got {error}; name another file"
            ) from error

    def _parse(self, content: object, where: Path) -> Keyframes:
        if isinstance(content, dict):
            content = {key: value for key, value in content.items() if key not in ("journal", "base")}
        try:
            found = parse_keyframes(content)
            if found.recordings:
                check_against(found, self._frame.frame_counts)
        except AnnotationError as error:
            raise AnnotationError(f"{where}: {error}; name another file with --keyframes") from error
        return found

    def _adopt(self, found: Keyframes) -> None:
        self._size = found.size
        content = found.to_dict()["recordings"]
        self._tracks = {name: entry["tracks"] for name, entry in content.items()}

    def _recover(self) -> None:
        """Replay what the journal holds and the file does not."""
        entries = _entries(self.journal)
        if not entries or entries[0].get("journal") != _JOURNAL:
            return
        known = [entries[0].get("base"), *(e["writing"] for e in entries if "writing" in e)]
        # the last place at which the file stood as it stands now
        places = [0, *(k for k, e in enumerate(entries) if "writing" in e)]
        at = [place for place, sha in zip(places, known, strict=True) if sha == self._known]
        changed = not at
        todo = [e["set"] for e in entries[(at[-1] if at else 0) + 1 :] if "set" in e]
        if not todo:
            return
        theirs = self._counts()
        if changed:
            self._adopt(self._parse(entries[0], self.journal))
        for change in todo:
            for name, tracks in change.items():
                self._set(name, self._parsed(name, tracks))
        self._dirty = True
        if changed:
            self._conflict = Conflict(file=theirs, draft=self._counts())
        elif not self.read_only:
            self.save()

    def _counts(self) -> dict[str, int]:
        return {name: len(tracks) for name, tracks in sorted(self._tracks.items())}

    def _counts_in(self, data: bytes | None) -> dict[str, int]:
        if data is None:
            return {}
        try:
            found = self._parse_file(data)
        except AnnotationError:
            return {}
        return {name: len(tracks) for name, tracks in sorted(found.recordings.items())}

    def _append(self, entry: dict[str, Any]) -> None:
        if not self.journal.exists():
            self._start_journal()
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            with open(self.journal, "ab", buffering=0) as handle:
                handle.write(line)
                os.fsync(handle.fileno())
        except OSError as error:
            raise FailedError(
                f"{self.journal}: {error.strerror or error}; the change is not saved"
            ) from error

    def _start_journal(self) -> None:
        """Of the draft as it is: every track, so that it can be kept whole though the file is lost or changed."""
        head = {"journal": _JOURNAL, "base": self._known, **self._document()}
        replace_file(self.journal, json.dumps(head, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        _sync(self.journal)

    def _put_aside(self, data: bytes) -> Path:
        number = 1
        while (target := self.path.with_name(f"{self.path.stem}.aside-{number}{self.path.suffix}")).exists():
            number += 1
        replace_file(target, data)
        _sync(target)
        return target


def scaled(keyframes: Keyframes, size: tuple[int, int]) -> Keyframes:
    """The same boxes in pixels of another size (width, height)."""
    if keyframes.size == size:
        return keyframes
    x, y = size[0] / keyframes.size[0], size[1] / keyframes.size[1]
    content = keyframes.to_dict() | {"size": list(size)}
    for entry in content["recordings"].values():
        for track in entry["tracks"]:
            for keyframe in track["keyframes"]:
                x0, y0, x1, y1 = keyframe["box"]
                keyframe["box"] = [x0 * x, y0 * y, min(x1 * x, size[0]), min(y1 * y, size[1])]
    return parse_keyframes(content)


def text_of(keyframes: Keyframes) -> bytes:
    """The bytes of `keyframes.json`, as `write_keyframes` writes them."""
    return (json.dumps(keyframes.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


def _entries(journal: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; a torn last line was never acknowledged."""
    entries = []
    for line in (_bytes_of(journal) or b"").split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict):
            break
        entries.append(entry)
    return entries


def _sync(path: Path) -> None:
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())
