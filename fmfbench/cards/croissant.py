"""A store as Croissant 1.1 (http://mlcommons.org/croissant/1.1) with the RAI vocabulary: one JSON-LD document.

Every file of the Zarr store is a hashed file object; the sample index and the currents, which tools without Zarr can
iterate, are record sets over Parquet files beside it; which arrays the store's files hold is a record set of its own,
so that a reader of the document alone knows what to open and how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fmfbench.cards.statements import NO_LICENCE, RAI_KEYS
from fmfbench.cards.store_facts import StoreFacts
from fmfbench.cards.tables import COLUMNS
from fmfbench.files.remote import RemotePath
from fmfbench.store.digest import file_names, file_sha256
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording
from fmfbench.store.schema import FILES_KEY
from fmfbench.store.shards import ArrayReader

__all__ = ["croissant_document", "licence_url", "store_files"]

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
ZARR = "https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html"  # no registered media type
PARQUET = "application/x-parquet"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_RECORD_SETS = {
    "samples": "The sample index: one record for each frame of the store, in files by split.",
    "currents": "Three-phase arc current of all recordings, one record a row.",
    "recordings": "The recordings of the store, one record each.",
    "arrays": (
        "The arrays of the Zarr store, one record each: open `file` with Zarr (format 3) in the group "
        "`path` lies in. The "
        "file objects whose names begin with `path` are its metadata and its shards."
    ),
}
_RECORDING_FIELDS = {
    "name": ("sc:Text", "Name; the group recordings/NAME of the store."),
    "frames": ("cr:Int64", "Number of frames."),
    "height": ("cr:Int64", "Rows of a frame."),
    "width": ("cr:Int64", "Columns of a frame."),
    "current_rows": ("cr:Int64", "Rows of current."),
    "seconds": ("cr:Float64", "From the first frame to the last."),
}
_ARRAY_FIELDS = {
    "path": ("sc:Text", "Of the array, from where the document lies."),
    "file": ("sc:Text", "Its zarr.json."),
    "dimensions": ("sc:Text", "Names of its axes, in order."),
    "shape": ("sc:Text", "Its lengths, in the same order."),
    "data_type": ("sc:Text", "Of its elements, as numpy names them."),
}


def croissant_document(
    data: StoreReader,
    facts: StoreFacts,
    statements: Mapping[str, Any],
    folder: Path,
    tables: Mapping[str, Sequence[str]],
    *,
    base: str | None = None,
) -> dict[str, Any]:
    """The document.

    Args:
        data: the store.
        facts, statements: of it.
        folder: where the tables lie and the document will.
        tables: of `write_tables`.
        base: where the store's files will be found: a URL, or a folder beside the document; by default its name.
    """
    base = base or (str(data.path) if isinstance(data.path, RemotePath) else data.path.name)
    base = base.rstrip("/")
    objects = [_table_object(folder, path) for paths in tables.values() for path in paths]
    objects += [_store_object(base, *each) for each in store_files(data)]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": statements["name"],
        "description": statements["description"],
        "creator": {"@type": "sc:Organization", "name": statements["creator"]},
        "url": statements["url"],
        "license": _licence(statements["licence"], statements["url"]),
        "citeAs": statements["citation"],
        "datePublished": statements["published"],
        "dateCreated": facts.day,
        "version": "1.0.0",
        "keywords": ["anomaly detection", "multimodal", "video", "time series", "industrial", facts.kind],
        "isLiveDataset": False,
        "identifier": f"sha256:{facts.info['fingerprint']}",
        **{f"rai:{key}": _rai(key, statements["rai"][key]) for key in RAI_KEYS},
        "rai:hasSyntheticData": facts.kind == "FMF-Sim",
        "distribution": [*_file_sets(tables), *objects],
        "recordSet": [
            *(_table_set(name, paths) for name, paths in tables.items()),
            _inline("recordings", _RECORDING_FIELDS, _recording_rows(facts)),
            _inline("arrays", _ARRAY_FIELDS, list(_array_rows(data, base))),
        ],
    }


def licence_url(licence: str) -> str | None:
    """The URL of a licence that was stated, by itself or by its SPDX identifier; None where it is neither.

    Example:
        >>> licence_url("CC-BY-4.0"), licence_url("not stated")
        ('https://spdx.org/licenses/CC-BY-4.0.html', None)
    """
    if licence.startswith(("http://", "https://")):
        return licence
    plain = licence.replace("-", "").replace(".", "").replace("+", "")
    if licence == NO_LICENCE or not plain.isascii() or not plain.isalnum():
        return None
    return f"https://spdx.org/licenses/{licence}.html"


def store_files(data: StoreReader) -> Iterator[tuple[str, int, str]]:
    """(path, bytes, sha256) of every file of a store.

    Sums of shards are those that the store lists and `fmfbench verify` proves; those of `zarr.json` are taken here.
    """
    listed = data.attributes[FILES_KEY]
    sizes = data.path.sizes() if isinstance(data.path, RemotePath) else None
    for name in file_names(data.path):
        path = data.path / name
        size = path.stat().st_size if isinstance(path, Path) else (sizes or {})[name]
        yield (
            name,
            size,
            listed[name] if name in listed and not name.endswith("zarr.json") else file_sha256(path),
        )


def _rai(key: str, text: str) -> Any:
    return text.split("/") if key == "dataCollectionTimeFrame" else text


def _licence(licence: str, url: str) -> Any:
    found = licence_url(licence)
    if found is not None:
        return found
    about = (
        "No licence is stated; ask whoever made the recordings before using them."
        if licence == NO_LICENCE
        else licence
    )
    return {"@type": "sc:CreativeWork", "name": licence, "description": about, "url": url}


def _object(path: str, size: int, sha256: str, encoding: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": quote(path, safe="/:"),
        "name": path,
        "description": description,
        "contentUrl": quote(path, safe="/:"),
        "contentSize": f"{size} B",
        "encodingFormat": encoding,
        "sha256": sha256,
    }


def _table_object(folder: Path, path: str) -> dict[str, Any]:
    size, sha256 = (folder / path).stat().st_size, file_sha256(folder / path)
    return _object(path, size, sha256, PARQUET, f"Table {path.rsplit('/', 1)[0]}.")


def _store_object(base: str, path: str, size: int, sha256: str) -> dict[str, Any]:
    metadata = path.endswith("zarr.json")
    description = "Metadata of the Zarr store." if metadata else "Shard or chunk of the Zarr store."
    return _object(f"{base}/{path}", size, sha256, "application/json" if metadata else ZARR, description)


def _file_sets(tables: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{name}-files",
            "name": f"{name}-files",
            "description": f"The Parquet files of the record set {name}.",
            "encodingFormat": PARQUET,
            "includes": f"{name}/*.parquet",
        }
        for name in tables
    ]


def _table_set(name: str, paths: Sequence[str]) -> dict[str, Any]:
    fields = [
        _field(name, key, kind, told, {"fileSet": {"@id": f"{name}-files"}, "extract": {"column": key}})
        for key, (kind, told) in COLUMNS[name].items()
    ]
    keys = ["sample_id"] if name == "samples" else ["recording", "row"]
    return _record_set(name, fields) | {"key": [{"@id": f"{name}/{key}"} for key in keys]}


def _inline(name: str, columns: Mapping[str, tuple[str, str]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    fields = [_field(name, key, kind, told) for key, (kind, told) in columns.items()]
    data = [{f"{name}/{key}": row[key] for key in columns} for row in rows]
    return _record_set(name, fields) | {"data": data}


def _record_set(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    described = {"name": name, "description": _RECORD_SETS[name]}
    return {"@type": "cr:RecordSet", "@id": name, **described, "field": fields}


def _field(
    owner: str, name: str, kind: str, told: str, source: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    field = {
        "@type": "cr:Field",
        "@id": f"{owner}/{name}",
        "name": name,
        "description": told,
        "dataType": kind,
    }
    return field if source is None else field | {"source": dict(source)}


def _recording_rows(facts: StoreFacts) -> list[dict[str, Any]]:
    names = ("name", "frames", "height", "width", "current_rows")
    return [{key: r[key] for key in names} | {"seconds": r["duration_seconds"]} for r in facts.recordings]


def _array_rows(data: StoreReader, base: str) -> Iterator[dict[str, Any]]:
    for name, recording in data.recordings.items():
        for path in _array_paths(data, recording):
            spec = ArrayReader(recording.path / path).spec
            whole = f"{base}/recordings/{name}/{path}"
            yield {
                "path": whole,
                "file": f"{whole}/zarr.json",
                "dimensions": ", ".join(spec.dims),
                "shape": ", ".join(map(str, spec.shape)),
                "data_type": str(spec.dtype),
            }


def _array_paths(data: StoreReader, recording: Recording) -> list[str]:
    """Of a recording's arrays, as the store lists their files."""
    start = f"recordings/{recording.name}/"
    listed = (
        name for name in data.attributes[FILES_KEY] if name.startswith(start) and name.endswith("/zarr.json")
    )
    paths = sorted(name.removeprefix(start).removesuffix("/zarr.json") for name in listed)
    groups = {path.rsplit("/", 1)[0] for path in paths if "/" in path}
    return [path for path in paths if path not in groups and path != "zarr.json"]
