"""Everything that is wrong with a store, at once.

Damage is found twice over: by the sums in the root's attributes, which name any file that was changed, is absent or
extra; and by what each part says of itself (crc32c of every chunk, the form of every document, values), which still
holds when the root is the file that is damaged.
"""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fmfbench.conversion.findings import Findings, Report
from fmfbench.conversion.verify_recording import ARRAYS, ShardReader, check_recording
from fmfbench.conversion.verify_source import compare_with_source
from fmfbench.errors import StoreError
from fmfbench.files.leavings import is_leaving, without_leavings
from fmfbench.files.remote import Place, RemotePath, parse_place
from fmfbench.store.digest import as_we_wrote, digest_of, document_sha256, file_names, file_sha256
from fmfbench.store.fingerprint import Fingerprint
from fmfbench.store.schema import DIGEST_KEY, FILES_KEY, ROOT, SCHEMA, ArraySpec, parse_array, parse_group
from fmfbench.store.split_names import DEFAULT_SPLIT_KEY, FINGERPRINTS_KEY, SOURCE
from fmfbench.store.writer import is_store

__all__ = ["verify"]

_ROOT_TYPES: dict[str, type | tuple[type, ...]] = {
    "fmfbench.schema": int,
    "fmfbench.name": str,
    "fmfbench.created_by": str,
    "fmfbench.layout": str,
    "fmfbench.sources": list,
    "fmfbench.default_layer": (str, type(None)),
    "fmfbench.fingerprint": str,
    FILES_KEY: dict,
    DIGEST_KEY: str,
}
_ROOT_OPTIONAL: dict[str, type] = {FINGERPRINTS_KEY: dict, DEFAULT_SPLIT_KEY: str}


def verify(
    store: str | Place,
    source: str | Path | None = None,
    *,
    workers: int | None = None,
    progress: bool = False,
    executor: Executor | None = None,
) -> Report:
    """Check every file of a store, and with `source` every value against the files it was converted from.

    Args:
        store: a store, whole or damaged, or its URL; one that can no longer be opened is reported on too.
        source: what `convert` was given.
        workers: threads; all cores by default.
        progress: show a bar on stderr.
        executor: what reads shards in the place of threads, `workers` at a time, as `conversion.cluster` gives one of
            many machines, all of which see the store under this path.

    Raises:
        StoreError: nothing is at `store`, or it never was a store of fmfbench.
        SourceError: `source` is not there, or holds no recordings: that says nothing of the store.

    Example:
        >>> fmfbench.verify("fmf.zarr").ok
        True
    """
    store = parse_place(store)
    _check_is_store(store)
    findings = Findings()
    workers = workers or os.cpu_count() or 1
    workers = min(8, workers) if executor is None else workers
    with (
        contextlib.nullcontext(executor)
        if executor
        else ThreadPoolExecutor(workers, "fmfbench-verify") as pool
    ):
        inventory = _take_inventory(store, findings)
        names = _recording_names(store, inventory)
        shards = _check_documents(store, inventory, names, findings)
        with tqdm(
            total=len(inventory.files), unit="file", desc="verify", disable=None if progress else True
        ) as bar:
            sums = inventory.sums if inventory.trusted else {}
            reader = ShardReader(store, sums, shards, findings, pool, workers, bar.update)
            total = Fingerprint()
            complete = [
                check_recording(reader, name, inventory.attributes, total, findings) for name in names
            ]
            _check_the_rest(store, inventory, reader.seen, findings, pool, bar.update)
        if inventory.attributes is not None and all(complete):
            _check_fingerprints(inventory.attributes, total.hexdigests(), findings)
        if source is not None:
            compare_with_source(store, Path(source), inventory.attributes, names, workers, findings)
    return Report(
        store=str(store),
        source=None if source is None else str(source),
        damage=tuple(sorted(findings.damage)),
        remarks=tuple(sorted(findings.remarks)),
        recordings=len(names),
        files=len(inventory.files),
        bytes=_total_bytes(store, inventory.files),
    )


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What is there, and what the root says should be.

    Attributes:
        files: every file there.
        attributes: of the root; None where it cannot be read.
        sums: sha256 by file, as the root lists them; empty where it cannot be read.
        trusted: the root is as it was written, so what differs from `sums` is not the root.
    """

    files: tuple[str, ...]
    attributes: dict[str, Any] | None
    sums: dict[str, str]
    trusted: bool


def _total_bytes(store: Place, files: tuple[str, ...]) -> int:
    if isinstance(store, RemotePath):
        return sum(store.sizes().values())
    return sum(os.lstat(store / name).st_size for name in files)


def _check_is_store(path: Place) -> None:
    if isinstance(path, RemotePath):
        parse_group(path)  # the root is written last: without it there is no store
        return
    if not path.exists():
        raise StoreError(f"{path}: no such store; make one with `fmfbench convert SOURCE {path}`")
    if is_store(path):
        return
    if (path / "journal.json").exists():
        raise StoreError(f"{path}: a half-made store; run its conversion again to finish it")
    raise StoreError(f"{path}: is not and never was a store of fmfbench")


def _take_inventory(store: Place, findings: Findings) -> Inventory:
    files = tuple(file_names(store))
    attributes, sums, trusted = None, {}, False
    try:
        raw = (store / ROOT).read_bytes()
        attributes = json.loads(raw)["attributes"]
        listed = attributes.get(FILES_KEY)
        if isinstance(listed, dict) and all(isinstance(value, str) for value in listed.values()):
            sums = listed
        trusted = attributes.get(DIGEST_KEY) == digest_of(sums, raw)
        parse_group(store)
        _check_root(attributes, findings)
        _remark_on_consolidated(raw, ROOT, findings)
        if not trusted:
            findings.damaged(ROOT, "metadata", "was changed: its digest no longer holds")
    except FileNotFoundError:
        findings.damaged(ROOT, "file", "is absent")
    except OSError as error:
        findings.damaged(ROOT, "file", f"cannot be read: {error.strerror}")
    except StoreError as error:
        findings.damaged(ROOT, "metadata", _own_words(error, store))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        attributes = None
        findings.damaged(ROOT, "metadata", "is not a Zarr group's document")
    if not isinstance(attributes, dict):
        attributes = None
    there = set(files)
    for name in sorted(set(sums) - there if trusted else ()):
        if not any(map(is_leaving, name.split("/"))):  # version 0.1.0 listed those that it met
            findings.damaged(name, "file", "is absent")
    for name in sorted(there - set(sums) - {ROOT} if trusted else ()):
        findings.damaged(name, "file", "is extra: no conversion wrote it")
    return Inventory(files=files, attributes=attributes, sums=sums, trusted=trusted)


def _check_root(attributes: dict[str, Any], findings: Findings) -> None:
    for key, kind in _ROOT_TYPES.items():
        value = attributes.get(key)
        if key not in attributes or not isinstance(value, kind):
            findings.damaged(ROOT, "schema", f"its attribute {key} is absent or of another type")
    for key, kind in _ROOT_OPTIONAL.items():
        if key in attributes and not isinstance(attributes[key], kind):
            findings.damaged(ROOT, "schema", f"its attribute {key} is of another type")
    schema = attributes.get("fmfbench.schema")
    if isinstance(schema, int) and schema != SCHEMA:
        findings.damaged(
            ROOT, "schema", f"expected schema {SCHEMA}, got {schema}; take the version that wrote it"
        )


def _recording_names(store: Place, inventory: Inventory) -> list[str]:
    names = {
        name.split("/")[1]
        for name in inventory.files
        if name.startswith("recordings/") and name.count("/") > 1
    }
    if isinstance(store, Path) and (store / "recordings").is_dir():  # empty folders too
        names |= {path.name for path in without_leavings((store / "recordings").iterdir()) if path.is_dir()}
    if inventory.trusted:  # what is extra is reported as such, and is no recording
        listed = {name.split("/")[1] for name in inventory.sums if name.count("/") > 1}
        names = listed
    return sorted(names)


def _check_documents(
    store: Place, inventory: Inventory, names: list[str], findings: Findings
) -> dict[str, ArraySpec]:
    """Every `zarr.json` but the root; the specs of the arrays that can be relied on, by path."""
    wanted = {"recordings"} | {
        f"recordings/{name}{rest}" for name in names for rest in ("", "/labels", *(f"/{a}" for a in ARRAYS))
    }
    there = {name.removesuffix("/" + ROOT) for name in inventory.files if name.endswith("/" + ROOT)}
    for path in sorted(wanted - there):
        findings.damaged(f"{path}/{ROOT}", "file", "is absent")
    specs: dict[str, ArraySpec] = {}
    for path in sorted(there):
        name = f"{path}/{ROOT}"
        if inventory.trusted and name not in inventory.sums:
            continue  # extra
        as_written = _is_as_listed(store, name, inventory)
        if inventory.trusted and not as_written:
            findings.damaged(name, "metadata", "was changed: it does not match the sum that the root lists")
        try:
            if _is_group(path, wanted):
                parse_group(store / path)
                _remark_on_consolidated((store / name).read_bytes(), name, findings)
            else:
                spec = parse_array(store / path)
                if as_written or not inventory.trusted:
                    specs[path] = spec
        except StoreError as error:
            findings.damaged(name, "metadata", _own_words(error, store))
        except OSError as error:
            findings.damaged(name, "file", f"cannot be read: {error.strerror}")
    if not inventory.trusted:
        _check_shard_files(inventory, specs, there, wanted, findings)
    return specs


def _remark_on_consolidated(raw: bytes, name: str, findings: Findings) -> None:
    if as_we_wrote(raw) != raw:
        findings.remark(
            name, "metadata", "holds consolidated metadata that another program wrote; it is ignored"
        )


def _is_group(path: str, wanted: set[str]) -> bool:
    depth = path.count("/")
    return path == "recordings" or depth == 1 or (depth == 2 and path.split("/")[2] not in ARRAYS)


def _is_as_listed(store: Place, name: str, inventory: Inventory) -> bool:
    try:
        return inventory.sums.get(name) == document_sha256(store / name)
    except OSError:
        return False


def _check_shard_files(
    inventory: Inventory,
    specs: dict[str, ArraySpec],
    documents: set[str],
    wanted: set[str],
    findings: Findings,
) -> None:
    """Absent and extra files, where the root's list is not to be relied on."""
    shards = {f"{path}/{spec.shard_key(i)}" for path, spec in specs.items() for i in range(spec.num_shards)}
    there = set(inventory.files)
    for name in sorted(shards - there):
        findings.damaged(name, "file", "is absent")
    of_use = {
        path
        for path in documents
        if path in wanted | set(specs) or _holds_arrays(path, specs) or findings.is_damaged(f"{path}/{ROOT}")
    }
    known = shards | {f"{path}/{ROOT}" for path in of_use} | {ROOT} | set(inventory.sums)
    unreadable = tuple(f"{path}/c/" for path in documents - set(specs))
    for name in sorted(there - known):
        if not name.startswith(unreadable):
            findings.damaged(name, "file", "is extra: no conversion wrote it")


def _holds_arrays(path: str, specs: dict[str, ArraySpec]) -> bool:
    return any(name.startswith(path + "/") for name in specs)


def _check_the_rest(
    store: Place,
    inventory: Inventory,
    seen: set[str],
    findings: Findings,
    pool: Executor,
    advance: Any,
) -> None:
    """Files that no recording's check has read: shards of arrays whose own metadata are damaged."""
    left = [n for n in inventory.files if n not in seen and not n.endswith("/" + ROOT) and n != ROOT]
    listed = [n for n in left if inventory.trusted and n in inventory.sums]

    messages = pool.map(
        _differs, [store / name for name in listed], [inventory.sums[name] for name in listed]
    )
    for name, message in zip(listed, messages, strict=True):
        advance(1)
        if message is not None:
            findings.damaged(name, "checksum", message)


def _differs(file: Place, listed: str) -> str | None:
    try:
        same = file_sha256(file) == listed
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if same else "was changed: it does not match the sum that the root lists"


def _check_fingerprints(attributes: dict[str, Any], found: dict[str, str], findings: Findings) -> None:
    """That of the source's split, and of each named one; and that the default is among them."""
    listed = {SOURCE: attributes.get("fmfbench.fingerprint"), **attributes.get(FINGERPRINTS_KEY, {})}
    if len(found) > 1 and attributes["fmfbench.fingerprint"] != listed[SOURCE]:
        findings.damaged(ROOT, "fingerprint", f"gives two fingerprints of the split {SOURCE}")
    for name, expected in listed.items():
        if expected != found.get(name, expected):
            split = "" if name == SOURCE else f" of split {name}"
            findings.damaged(
                ROOT,
                "fingerprint",
                f"its fingerprint{split} {str(expected)[:12]} is not that of the labels, {found[name][:12]}",
            )
    default = attributes.get(DEFAULT_SPLIT_KEY, SOURCE)
    if default not in listed:
        findings.damaged(ROOT, "split", f"its default split {default!r} is not there")


def _own_words(error: StoreError, store: Place) -> str:
    """The message of an error without the path in front, which a finding names anyway."""
    text = str(error)
    return text.split(": ", 1)[-1] if text.startswith(str(store)) else text
