"""A store's sample index and currents as Parquet files, which any tool can read beside the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import MissingDependencyError
from fmfbench.store.reader import StoreReader
from fmfbench.store.schema import SPLITS

__all__ = ["COLUMNS", "current_columns", "sample_columns", "write_tables"]

# record set -> column -> (Croissant data type, what it is)
COLUMNS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "samples": {
        "sample_id": ("cr:Int64", "Number of the frame through all recordings in order of name."),
        "recording": ("sc:Text", "Name of the recording: the group recordings/NAME of the store."),
        "frame": ("cr:Int64", "Row of the frame in the recording's arrays, from 0."),
        "frame_time": ("cr:Int64", "Time of the frame in ns since 1970-01-01 UTC."),
        "split": ("sc:Text", "train, test or unused (guard frames between the two)."),
        "class_label": ("cr:UInt8", "0 normal, 1 abnormal, 255 unlabelled."),
    },
    "currents": {
        "recording": ("sc:Text", "Name of the recording."),
        "row": ("cr:Int64", "Row in the recording's array `current`, from 0."),
        "current_time": ("cr:Int64", "Time of the row in ns since 1970-01-01 UTC."),
        "phase_1": ("cr:Float32", "Arc current of the first phase in A; NaN where the source had no finite value."),
        "phase_2": ("cr:Float32", "Arc current of the second phase in A."),
        "phase_3": ("cr:Float32", "Arc current of the third phase in A."),
    },
}  # fmt: skip


def sample_columns(data: StoreReader) -> dict[str, NDArray[Any]]:
    """The columns of `samples`, each (number of frames,), in order of sample id."""
    table = data.table("all")
    names = ("sample_id", "recording", "frame", "frame_time", "split", "class_label")
    return dict(zip(names, table.values(), strict=True))


def current_columns(data: StoreReader) -> dict[str, NDArray[Any]]:
    """The columns of `currents`, each (rows of all recordings,)."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS["currents"]}
    for name, recording in data.recordings.items():
        count = len(recording.current_time)
        parts["recording"].append(np.full(count, name))
        parts["row"].append(np.arange(count))
        parts["current_time"].append(recording.current_time)
        for phase in range(3):
            parts[f"phase_{phase + 1}"].append(np.asarray(recording.current)[:, phase])
    return {name: np.concatenate(columns) if columns else np.empty(0) for name, columns in parts.items()}


def write_tables(data: StoreReader, folder: Path) -> dict[str, list[str]]:
    """Write the tables below `folder`.

    Returns:
        Record set -> its files, relative to the folder: of `samples` one for each split that has frames.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("pyarrow"):
            raise
        raise MissingDependencyError(
            "card: expected pyarrow for its Parquet files, got none installed; pip install 'fmfbench[card]'"
        ) from None
    types = {
        "cr:Int64": pyarrow.int64(),
        "cr:UInt8": pyarrow.uint8(),
        "cr:Float32": pyarrow.float32(),
        "sc:Text": pyarrow.string(),
    }

    def write(name: str, path: str, columns: Mapping[str, NDArray[Any]]) -> str:
        schema = pyarrow.schema([(key, types[kind]) for key, (kind, _) in COLUMNS[name].items()])
        arrays = [
            pyarrow.array(columns[key], type=schema.field(key).type, from_pandas=False)
            for key in schema.names
        ]
        (folder / path).parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), folder / path)
        return path

    samples = sample_columns(data)
    files = []
    for split in SPLITS:
        rows = samples["split"] == split
        if rows.any():
            own = {key: column[rows] for key, column in samples.items()}
            files.append(write("samples", f"samples/{split}.parquet", own))
    return {
        "samples": files,
        "currents": [write("currents", "currents/currents.parquet", current_columns(data))],
    }
