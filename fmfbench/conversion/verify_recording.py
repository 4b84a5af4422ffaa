"""One recording of a store under verification: its shards' checksums, and what its values say.

Every shard is read once: hashed, its chunks' checksums compared, decoded, and looked at. Videos and masks are
never held whole; of each frame a hash and two flags are kept.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.conversion.findings import Findings
from fmfbench.errors import StoreError
from fmfbench.files.remote import Place
from fmfbench.files.wording import counted
from fmfbench.store.fingerprint import Fingerprint, LabelFacts
from fmfbench.store.schema import (
    ROOT,
    SPLITS,
    UNLABELLED,
    ArraySpec,
    current_spec,
    mask_spec,
    parse_group,
    row_spec,
    time_spec,
    video_spec,
)
from fmfbench.store.shards import decode_shard, shard_problems
from fmfbench.store.split_names import FINGERPRINTS_KEY, PROVENANCE, SOURCE

__all__ = ["ARRAYS", "ShardReader", "check_recording"]

ARRAYS = ("video", "frame_time", "current", "current_time", "split", "class_label")

_GAP = NS  # a step longer than a second leaves windows without a current value for it
Seen = TypeVar("Seen")


class ShardReader:
    """Reads shards side by side, in order, and notes what is wrong with them.

    Attributes:
        seen: files that were read.
    """

    def __init__(
        self,
        store: Place,
        sums: Mapping[str, str],
        specs: Mapping[str, ArraySpec],
        findings: Findings,
        pool: Executor,
        workers: int,
        advance: Callable[[int], Any],
    ) -> None:
        self.store = store
        self.specs = specs
        self.seen: set[str] = set()
        self._sums = sums
        self._findings = findings
        self._pool = pool
        self._ahead = workers + 1
        self._advance = advance

    def looked_at(
        self, path: str, look: Callable[[NDArray[Any]], Seen]
    ) -> Iterator[tuple[int, int, Seen | None]]:
        """First and one-past-last entry of each shard, and what `look` made of its values (None: damaged)."""
        spec = self.specs[path]
        waiting: deque[tuple[int, Future[tuple[list[str], Seen | None]]]] = deque()
        for index in range(spec.num_shards):
            listed = self._sums.get(f"{path}/{spec.shard_key(index)}")
            task = self._pool.submit(_read_shard, self.store, path, spec, index, listed, look)
            waiting.append((index, task))
            if len(waiting) >= self._ahead:
                yield self._finish(path, spec, *waiting.popleft())
        while waiting:
            yield self._finish(path, spec, *waiting.popleft())

    def values(self, path: str) -> NDArray[Any] | None:
        """A small array whole; None where it is damaged."""
        if path not in self.specs:
            return None
        spec = self.specs[path]
        parts = [part for _, _, part in self.looked_at(path, lambda values: values)]
        if any(part is None for part in parts):
            return None
        empty = np.empty((0, *spec.shape[1:]), spec.numpy_dtype.newbyteorder("="))
        return np.concatenate([empty, *(part for part in parts if part is not None)])

    def _finish(
        self, path: str, spec: ArraySpec, index: int, future: Future[tuple[list[str], Seen | None]]
    ) -> tuple[int, int, Seen | None]:
        problems, seen = future.result()
        name = f"{path}/{spec.shard_key(index)}"
        first, last = spec.shard_range(index)
        for problem in problems:
            self._findings.damaged(name, "checksum", f"{problem} (entries {first} to {last - 1})")
        self.seen.add(name)
        self._advance(1)
        return first, last, seen


def _read_shard(
    store: Place,
    path: str,
    spec: ArraySpec,
    index: int,
    listed: str | None,
    look: Callable[[NDArray[Any]], Seen],
) -> tuple[list[str], Seen | None]:
    """What is wrong with a shard, and what `look` makes of its values; on its own, so that it can run elsewhere."""
    name = f"{path}/{spec.shard_key(index)}"
    first, last = spec.shard_range(index)
    try:
        data = (store / name).read_bytes()
    except FileNotFoundError:
        return [], None  # named already, with all files that are absent
    except OSError as error:
        return [f"cannot be read: {error.strerror}"], None
    problems = shard_problems(spec, data, last - first)
    if not problems and listed is not None and hashlib.sha256(data).hexdigest() != listed:
        problems = ["was changed: it does not match the sum that the root lists"]
    if problems:
        return problems, None
    try:
        return [], look(decode_shard(spec, data, last - first))
    except ValueError as error:
        return [str(error)], None


def check_recording(
    reader: ShardReader,
    name: str,
    attributes: Mapping[str, Any] | None,
    sums: Fingerprint,
    findings: Findings,
) -> bool:
    """Look at every value of a recording, and add it to the store's fingerprint.

    Returns:
        Whether all that the fingerprint covers could be read.
    """
    base = f"recordings/{name}"
    shape = _check_schema(reader, base, findings)
    _check_video(reader, base, findings)
    for which, what in (("frame_time", "frame"), ("current_time", "current row")):
        _check_times(reader.values(f"{base}/{which}"), base, which, what, findings)
    _check_current(reader.values(f"{base}/current"), base, findings)
    split = reader.values(f"{base}/split")
    named = _check_named_splits(reader, base, attributes, findings)
    class_label = reader.values(f"{base}/class_label")
    _check_split(reader.store, base, split, findings)
    if class_label is not None:
        _check_values(class_label, (0, 1, UNLABELLED), f"{base}/class_label", findings)
    default = attributes.get("fmfbench.default_layer") if attributes is not None else None
    for path in sorted(reader.specs):
        if path.startswith(f"{base}/labels/") and path != f"{base}/labels/{default}":
            for _ in _mask_blocks(reader, path, findings, []):
                pass
        elif path.startswith(f"{base}/") and path.split("/")[2] not in (*ARRAYS, "labels", "splits"):
            for _ in reader.looked_at(path, lambda values: None):  # checksums only
                pass
    layer = f"{base}/labels/{default}"
    flags: list[NDArray[np.bool_]] = []
    masks = _mask_blocks(reader, layer, findings, flags) if layer in reader.specs else iter(())
    if attributes is None or shape is None or split is None or class_label is None or named is None:
        for _ in masks:
            pass
        return False
    height, width = shape[1:]
    sums.add(
        LabelFacts(
            name=name, num_frames=shape[0], height=height, width=width, split=split, class_label=class_label,
            masks=masks, named=named,
        )
    )  # fmt: skip
    if findings.is_damaged(layer):
        return False
    if layer in reader.specs:
        _check_class_labels(class_label, np.concatenate([np.empty(0, bool), *flags]), base, findings)
    return True


def _check_schema(reader: ShardReader, base: str, findings: Findings) -> tuple[int, int, int] | None:
    """Each array as it should be beside the video; (frames, height, width), None where that is not known."""
    video = reader.specs.get(f"{base}/video")
    if video is None or len(video.shape) != 4 or video.shape[3] != 3:
        if video is not None:
            findings.damaged(f"{base}/video/{ROOT}", "schema", f"expected shape (N,H,W,3), got {video.shape}")
        return None
    n, height, width = video.shape[:3]
    current = reader.specs.get(f"{base}/current")
    rows = current.length if current is not None else None
    wanted = {"video": video_spec(n, height, width), "split": row_spec(n, SPLITS)}
    wanted["class_label"] = row_spec(n, {"normal": 0, "abnormal": 1, "unlabelled": UNLABELLED})
    times = {"frame_time": ("frame", n), "current_time": ("sample", rows)}
    for which, (dim, count) in times.items():
        spec = reader.specs.get(f"{base}/{which}")
        if spec is not None and count is not None:
            origin = spec.attributes.get("fmfbench.origin")
            wanted[which] = time_spec(count, dim, origin if origin == "clock" else "start")
    if rows is not None:
        wanted["current"] = current_spec(rows)
    groups = {"labels": mask_spec(n, height, width, {}), "splits": row_spec(n, SPLITS)}
    for path in reader.specs:
        which = path.removeprefix(f"{base}/")
        if which != path and which.split("/")[0] in groups:
            wanted[which] = groups[which.split("/")[0]]
    for which, expected in wanted.items():
        found = reader.specs.get(f"{base}/{which}")
        if found is None:
            continue
        facts = [(s.shape, s.dtype, s.dims) for s in (found, expected)]
        where = f"{base}/{which}/{ROOT}"
        if facts[0] != facts[1]:
            findings.damaged(where, "schema", f"expected {facts[1]}, got {facts[0]}")
        for key, value in expected.attributes.items():
            if found.attributes.get(key) != value:
                there = found.attributes.get(key)
                findings.damaged(where, "schema", f"expected attribute {key} = {value!r}, got {there!r}")
    return n, height, width


def _check_video(reader: ShardReader, base: str, findings: Findings) -> None:
    """Frames that are the same as the one before, or as an earlier one."""
    if f"{base}/video" not in reader.specs:
        return
    parts: list[NDArray[np.uint64]] = []
    for first, last, hashes in reader.looked_at(f"{base}/video", _hash_frames):
        # A damaged shard's frames are unknown: each is given a number of its own.
        parts.append(hashes if hashes is not None else np.arange(first, last, dtype=np.uint64))
    frames = np.concatenate([np.empty(0, np.uint64), *parts])
    frozen = np.flatnonzero(frames[1:] == frames[:-1]) + 1
    if len(frozen):
        starts = frozen[np.diff(frozen, prepend=-2) > 1] - 1
        lengths = np.diff(np.append(np.searchsorted(frozen, starts), len(frozen)))
        longest = int(lengths.argmax())
        findings.remark(
            base, "frames",
            f"{counted(len(frozen), 'frame')} {'is' if len(frozen) == 1 else 'are'} the same as the one before, "
            f"in {counted(len(starts), 'run')} "
            f"(longest: {lengths[longest]} after frame {starts[longest]})",
        )  # fmt: skip
    moving = np.delete(np.arange(len(frames)), frozen)
    order = np.argsort(frames[moving], kind="stable")
    same = np.flatnonzero(frames[moving][order][1:] == frames[moving][order][:-1]) + 1
    if len(same):
        again = int(moving[order[same]].min())
        earlier = int(np.flatnonzero(frames == frames[again])[0])
        findings.remark(
            base,
            "frames",
            f"{counted(len(same), 'frame')} {'repeats' if len(same) == 1 else 'repeat'} an earlier one "
            f"(frame {again} is frame {earlier} again)",
        )


def _hash_frames(block: NDArray[np.uint8]) -> NDArray[np.uint64]:
    digests = b"".join(hashlib.sha256(frame.data).digest()[:8] for frame in block)
    return np.frombuffer(digests, np.uint64)


def _check_times(
    times: NDArray[np.int64] | None, base: str, which: str, what: str, findings: Findings
) -> None:
    if times is None:
        return
    steps = np.diff(times)
    back = np.flatnonzero(steps <= 0)
    if len(back):
        findings.damaged(
            f"{base}/{which}", "time",
            f"expected strictly increasing times, got {len(back)} steps of 0 or back, the first after entry {back[0]}",
        )  # fmt: skip
    gaps = steps[steps > _GAP]
    if len(gaps):
        at = int(np.flatnonzero(steps > _GAP)[0])
        findings.remark(
            base, "gaps",
            f"{counted(len(gaps), 'gap')} of more than a second between {what}s "
            f"(longest {int(gaps.max()) / NS:.2f} s; the first after {what} {at})",
        )  # fmt: skip


def _check_current(current: NDArray[np.float32] | None, base: str, findings: Findings) -> None:
    if current is None:
        return
    endless = np.isinf(current).any(axis=1)
    if endless.any():
        row = int(endless.argmax())
        findings.damaged(f"{base}/current", "current", f"row {row} is infinite; expected NaN there")
    empty = np.isnan(current).any(axis=1)
    if empty.any():
        findings.remark(
            base, "current", f"{int(empty.sum())} current rows with NaN, the first row {int(empty.argmax())}"
        )


def _check_split(store: Place, base: str, split: NDArray[np.uint8] | None, findings: Findings) -> None:
    if split is None:
        return
    _check_values(split, tuple(SPLITS.values()), f"{base}/split", findings)
    if findings.is_damaged(f"{base}/{ROOT}"):
        return
    found = {name: int((split == value).sum()) for name, value in SPLITS.items()}
    try:
        wanted = parse_group(store / base).get("fmfbench.counts")
    except (StoreError, OSError):
        return  # named already
    if wanted != {"frames": len(split), **found}:
        findings.damaged(f"{base}/split", "split", f"expected counts {wanted}, got {found} of {len(split)}")


def _check_named_splits(
    reader: ShardReader, base: str, attributes: Mapping[str, Any] | None, findings: Findings
) -> dict[str, NDArray[np.uint8]] | None:
    """The splits beside the source's, by name; None where one that the root lists cannot be read."""
    listed = set((attributes or {}).get(FINGERPRINTS_KEY, {SOURCE: ""})) - {SOURCE}
    folder = f"{base}/splits"
    there = {path.removeprefix(f"{folder}/") for path in reader.specs if path.startswith(f"{folder}/")}
    for name in sorted(there ^ listed if attributes is not None else ()):
        problem = (
            "is absent, though the root lists it"
            if name in listed
            else "is a split that the root does not list"
        )
        findings.damaged(f"{folder}/{name}", "split", problem)
    named = {}
    for name in sorted(there):
        where = f"{folder}/{name}"
        values = reader.values(where)
        if values is None:
            continue
        _check_values(values, tuple(SPLITS.values()), where, findings)
        counts = {part: int((values == code).sum()) for part, code in SPLITS.items()}
        expected = reader.specs[where].attributes.get(PROVENANCE, {}).get("counts")
        if expected != counts:
            findings.damaged(where, "split", f"expected counts {expected}, got {counts}")
        named[name] = values
    return named if set(named) == listed else None


def _check_values(
    values: NDArray[np.uint8], allowed: tuple[int, ...], where: str, findings: Findings
) -> None:
    strange = ~np.isin(values, allowed)
    if strange.any():
        at = int(strange.argmax())
        findings.damaged(where, "labels", f"expected one of {allowed}, got {values[at]} at entry {at}")


def _check_class_labels(
    labels: NDArray[np.uint8], flags: NDArray[np.bool_], base: str, findings: Findings
) -> None:
    if len(flags) != len(labels):
        return  # named already, as a shape that is wrong
    wrong = np.flatnonzero(labels != flags)
    if len(wrong):
        findings.damaged(
            f"{base}/class_label", "labels",
            f"{len(wrong)} class labels are not those of the default layer's masks, the first of frame {wrong[0]}",
        )  # fmt: skip


def _mask_blocks(
    reader: ShardReader, path: str, findings: Findings, flags: list[NDArray[np.bool_]]
) -> Iterator[NDArray[np.uint8]]:
    """Blocks of a layer; which frames have any pixel goes to `flags`, values other than 0/1 to the findings."""
    for first, _, block in reader.looked_at(path, lambda values: values):
        if block is None:
            continue
        flat = block.reshape(len(block), -1)
        top = flat.max(axis=1, initial=0)
        flags.append(top > 0)
        if top.max(initial=0) > 1:
            at = int((top > 1).argmax())
            findings.damaged(
                path, "labels", f"expected masks of 0 and 1, got {top[at]} in frame {first + at}"
            )
        yield block
