"""Mutated .mat, CSV and JSON inputs through `convert`: a clean error that leaves nothing, or a correct store.

The number of inputs a kind is small here; `FMFBENCH_FUZZ=1000` makes it a thousand of each kind.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fmfbench
from fmfbench.conversion.verify import verify
from fmfbench.errors import FmfbenchError, SourceError

DATA = Path(__file__).parents[1] / "data"
TREE = DATA / "v2_tree" / "pixel-level"
EXAMPLES = int(os.environ.get("FMFBENCH_FUZZ", "40"))
SECONDS = 20  # a conversion of ten frames that takes longer hangs
MEGABYTES = 400  # that all of them together may add to the process
MATS = sorted(p for p in DATA.glob("v[12]*.mat") if p.stat().st_size < 60_000)
STAMPS = sorted((TREE / "timestamps").glob("*.csv"))[0].name
ODD_CELLS = [
    "", " ", "nan", "inf", "-inf", "1e999", "1_0", "0x10", "٣", "-1", "9" * 400, "1,5", '"', '"a\nb"', "\0", "=1+1",
    "é",    "2023-05-10 21:33:26", "1023-05-10 21:33:26", "9999-12-31 23:59:59", "2023-02-30 00:00:00", "24:00:00",
    "2023-05-10 21:33:61", "10/05/2023 21:33", "1683754406", "0", "#", "\ufeff", "12:00:00.5",
]  # fmt: skip
settings_of_all = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    assert grown < MEGABYTES, f"memory grew by {grown:.0f} MB"


def convert_and_judge(source: Path, place: Path) -> None:
    """A clean error and nothing left, or a store that is sound and says what the source says."""
    start = time.monotonic()
    beside = {p.name for p in place.iterdir()}
    try:
        store = fmfbench.convert(source, place / "o.zarr", workers=2)
    except FmfbenchError as error:
        refused: FmfbenchError | None = error
    else:
        refused = None
    if refused is not None:
        message = str(refused)
        assert "\n" not in message.strip()
        assert refused.exit_code == 2, message
        assert len(message) < 2000
        assert {p.name for p in place.iterdir()} == beside
    else:
        assert verify(store, source, workers=2).damage == ()
        shutil.rmtree(store)
    assert time.monotonic() - start < SECONDS


def mutate(data: bytes, changes: list[tuple[str, float, float, bytes]]) -> bytes:
    out = bytearray(data)
    for kind, where, much, new in changes:
        at = int(where * len(out))
        count = 1 + int(much**4 * len(out))
        if kind == "flip" and out:
            out[min(at, len(out) - 1)] ^= new[0] or 1
        elif kind == "write":
            out[at : at + len(new)] = new
        elif kind == "drop":
            del out[at : at + count]
        elif kind == "cut":
            del out[at:]
        elif kind == "double":
            out[at:at] = out[at : at + count]
        elif kind == "insert":
            out[at:at] = new
    return bytes(out)


unit = st.floats(0, 1, exclude_max=True)
numbers = st.sampled_from(
    [b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x40", b"\xff" * 8, b"\0" * 64]
)
changes = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "write", "drop", "cut", "double", "insert"]),
        unit | unit.map(lambda x: x**4),  # headers stand in front
        unit,
        numbers | st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=6,
)


@settings_of_all
@given(name=st.sampled_from([p.name for p in MATS]), changed=changes)
def test_mat_files(name: str, changed: list[tuple[str, float, float, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / name
        source.write_bytes(mutate((DATA / name).read_bytes(), changed))
        convert_and_judge(source, Path(folder))


cells = st.sampled_from(ODD_CELLS) | st.text(max_size=12)
row_changes = st.lists(
    st.tuples(st.sampled_from(["cell", "cell", "drop", "double", "swap", "add", "bytes"]), unit, unit, cells),
    min_size=1,
    max_size=4,
)


def mutate_table(data: bytes, changed: list[tuple[str, float, float, str]]) -> bytes:
    rows = data.decode().splitlines()
    for kind, where, much, cell in changed:
        at, other = int(where * len(rows)), int(much * len(rows))
        if not rows:
            break
        if kind == "cell":
            columns = rows[at].split(",")
            columns[int(much * len(columns))] = cell
            rows[at] = ",".join(columns)
        elif kind == "drop":
            del rows[at]
        elif kind == "double":
            rows.insert(at, rows[at])
        elif kind == "swap":
            rows[at], rows[other] = rows[other], rows[at]
        elif kind == "add":
            rows[at] += "," + cell
        else:
            rows[at] = rows[at][: int(much * len(rows[at]))] + cell
    return "\n".join(rows).encode("utf-8", "surrogatepass")


@settings_of_all
@given(table=st.sampled_from(["timestamps", "currents"]), changed=row_changes)
def test_tables(table: str, changed: list[tuple[str, float, float, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(shutil.copytree(TREE, Path(folder) / "tree"))
        path = tree / table / STAMPS
        path.write_bytes(mutate_table(path.read_bytes(), changed))
        convert_and_judge(tree, Path(folder))


@pytest.mark.parametrize("table", ["timestamps", "currents"])
@pytest.mark.parametrize("year", ["1023", "1677", "2262", "9999"])
def test_years_that_do_not_fit_are_refused(table: str, year: str, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(TREE, tmp_path / "tree"))
    path = tree / table / STAMPS
    path.write_text(path.read_text().replace("2023-", f"{year}-"))
    with pytest.raises(SourceError, match="outside the years"):
        fmfbench.convert(tree, tmp_path / "o.zarr")


names = st.sampled_from([Path(STAMPS).stem + ".mat", "", "other.mat", Path(STAMPS).stem])
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | names
)
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
likely = st.dictionaries(names, st.lists(st.integers(-1, 11) | leaves, max_size=12), max_size=2)
texts = st.one_of(
    documents.map(json.dumps).map(str.encode),
    likely.map(json.dumps).map(str.encode),
    changes.map(lambda changed: mutate((TREE / "train.json").read_bytes(), changed)),
    st.sampled_from([b"[" * 200_000, b'{"a":' * 100_000, b"1e99999", b"9" * 5000, b"\xff\xfe{\0}\0", b"nul"]),
)


@settings_of_all
@given(which=st.sampled_from(["train.json", "test.json"]), text=texts)
def test_lists_of_frames(which: str, text: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(shutil.copytree(TREE, Path(folder) / "tree"))
        (tree / which).write_bytes(text)
        convert_and_judge(tree, Path(folder))
