"""Tables as people and loggers write them: right, or refused with the words that help.

What is expected comes from the numbers; the texts are written by hand, by pandas and by openpyxl.

Also tests fmfbench.sources.table: cells, choice, columns, counts, dialect, formats, moments, reading, rows, shapes,
text, workbook.
"""

from __future__ import annotations

import datetime
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from fmfbench.errors import SourceError
from fmfbench.sources.source import Options
from fmfbench.sources.table.currents import StampedCurrent, read_current_table, read_raw_currents, read_stamps

NS = 1_000_000_000
N = 40
AMPS = np.round(np.random.default_rng(1).normal(7000, 400, (N, 3)), 2)
START = pd.Timestamp("2023-05-10 21:33:26")
EPOCH = START.value
HALF = EPOCH + np.arange(N) * NS // 2
SECONDS = np.arange(N) / 2


def read(path: Path, text: str | bytes, seconds: float | None = N / 2, **options: object) -> StampedCurrent:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_raw_currents(path, Options(**options), seconds)


def table(times: list[str], amps: np.ndarray = AMPS, header: str = "time,a,b,c", sep: str = ",") -> str:
    rows = [sep.join([t, *(f"{v:.2f}" for v in row)]) for t, row in zip(times, amps, strict=True)]
    return "\n".join([header, *rows]) + "\n"


def stamps(form: str, step_ms: int = 500) -> list[str]:
    return [(START + pd.Timedelta(milliseconds=step_ms * i)).strftime(form) for i in range(N)]


def ms(form: str, step_ms: int = 500) -> list[str]:
    """With `{ms}` in the place of milliseconds."""
    moments = [START + pd.Timedelta(milliseconds=step_ms * i) for i in range(N)]
    return [m.strftime(form).replace("{ms}", f"{m.microsecond // 1000:03d}") for m in moments]


def months_day() -> list[str]:
    return [
        m.strftime("%-m/%-d/%Y %-I:%M:%S %p")
        for m in [START + pd.Timedelta(milliseconds=500 * i) for i in range(N)]
    ]


GOOD_TIMES = {
    "whole seconds twice": (stamps("%Y-%m-%d %H:%M:%S"), HALF, {}),
    "milliseconds": (ms("%Y-%m-%d %H:%M:%S.{ms}"), HALF, {}),
    "one decimal": ([t[:-2] for t in ms("%Y-%m-%d %H:%M:%S.{ms}")], HALF, {}),
    "T and Z": (ms("%Y-%m-%dT%H:%M:%S.{ms}Z"), HALF, {}),
    "offset": (ms("%Y-%m-%dT%H:%M:%S.{ms}+08:00"), HALF - 8 * 3600 * NS, {}),
    "offset without colon": (stamps("%Y-%m-%d %H:%M:%S+0800"), HALF - 8 * 3600 * NS, {}),
    "west": (ms("%Y-%m-%d %H:%M:%S.{ms}-03:30"), HALF + 12600 * NS, {}),
    "slashes": (stamps("%Y/%m/%d %H:%M:%S"), HALF, {}),
    "points": (stamps("%Y.%m.%d %H:%M:%S"), HALF, {}),
    "short month and day": ([t.replace("/05/", "/5/") for t in ms("%Y/%m/%d %H:%M:%S.{ms}")], HALF, {}),
    "compact": (stamps("%Y%m%d%H%M%S"), HALF, {}),
    "compact ms": (ms("%Y%m%d%H%M%S{ms}"), HALF, {}),
    "compact T": (stamps("%Y%m%dT%H%M%S"), HALF, {}),
    "MATLAB datestr": (ms("%d-%b-%Y %H:%M:%S.{ms}"), HALF, {}),
    "Chinese": (stamps("%Y年%m月%d日 %H时%M分%S秒"), HALF, {}),
    "Chinese with colons": (ms("%Y年%m月%d日 %H:%M:%S.{ms}"), HALF, {}),
    "comma fraction": ([f'"{t}"' for t in ms("%Y-%m-%d %H:%M:%S,{ms}")], HALF, {}),
    "colon fraction": (ms("%Y-%m-%d %H:%M:%S:{ms}"), HALF, {}),
    "ctime": (stamps("%a %b %d %H:%M:%S %Y"), HALF, {}),
    "US by option": (stamps("%m/%d/%Y %H:%M:%S"), HALF, {"time_format": "mdy"}),
    "US AM PM by option": (months_day(), HALF, {"time_format": "mdy"}),
    "European by option": (stamps("%d.%m.%Y %H:%M:%S"), HALF, {"time_format": "dmy"}),
    "by strptime": (stamps("%d.%m.%Y %H:%M:%S"), HALF, {"time_format": "%d.%m.%Y %H:%M:%S"}),
    "by strptime with zone": (
        stamps("%d.%m.%Y %H:%M:%S +0800"), HALF - 8 * 3600 * NS, {"time_format": "%d.%m.%Y %H:%M:%S %z"},
    ),
    "epoch s": ([f"{v / NS:.1f}" for v in HALF], HALF, {}),
    "epoch whole s": ([f"{v // NS}" for v in HALF], HALF, {}),
    "epoch ms": ([f"{v // 10**6}" for v in HALF], HALF, {}),
    "epoch us": ([f"{v // 1000}" for v in HALF], HALF, {}),
    "epoch ns": ([f"{v}" for v in HALF], HALF, {}),
    "epoch s with us": ([f"{v // NS}.{v % NS // 1000:06d}" for v in HALF], HALF, {}),
    "Excel serial": ([f"{v / 86400e9 + 25569:.10f}" for v in HALF], HALF, {}),
    "MATLAB datenum": ([f"{v / 86400e9 + 719529:.10f}" for v in HALF], HALF, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD_TIMES)
def test_dated_times(tmp_path: Path, name: str) -> None:
    times, expected, options = GOOD_TIMES[name]
    got = read(tmp_path / "t.csv", table(times), **options)
    assert got.dated
    assert got.begins_video
    assert np.array_equal(got.time, expected), (got.time - expected)[:5]
    assert np.array_equal(got.current, AMPS.astype(np.float32))


RELATIVE = {
    "seconds": ([f"{s:g}" for s in SECONDS], "seconds,a,b,c", {}),
    "seconds with decimals": ([f"{s:.3f}" for s in SECONDS], "t,a,b,c", {}),
    "milliseconds by rate": ([f"{s * 1000:.0f}" for s in SECONDS], "t,a,b,c", {}),
    "milliseconds by header": ([f"{s * 1000:.0f}" for s in SECONDS], "time_ms,a,b,c", {}),
    "milliseconds in brackets": ([f"{s * 1000:.0f}" for s in SECONDS], "time [ms],a,b,c", {}),
    "microseconds": ([f"{s * 1e6:.0f}" for s in SECONDS], "t,a,b,c", {}),
    "nanoseconds": ([f"{s * 1e9:.0f}" for s in SECONDS], "t,a,b,c", {}),
    "row index": ([str(i) for i in range(N)], "index,a,b,c", {"current_hz": Fraction(2)}),
    "row index from 1": ([str(i + 1) for i in range(N)], "No,a,b,c", {"current_hz": Fraction(2)}),
    "elapsed": ([f"{int(s // 60):02d}:{s % 60:04.1f}" for s in SECONDS], "t,a,b,c", {}),
}


@pytest.mark.parametrize("name", RELATIVE)
def test_times_since_the_first_frame(tmp_path: Path, name: str) -> None:
    times, header, options = RELATIVE[name]
    got = read(tmp_path / "t.csv", table(times, header=header), **options)
    assert (got.dated, got.begins_video) == (False, False)
    assert np.array_equal(got.time, np.arange(N) * NS // 2)


@pytest.mark.parametrize("form", ["%H:%M:%S", "%H:%M:%S.{ms}", "%I:%M:%S %p", "%I:%M:%S.{ms} %p"])
def test_times_of_day_and_midnight(tmp_path: Path, form: str) -> None:
    moments = [pd.Timestamp("2023-05-10 23:59:50") + pd.Timedelta(milliseconds=500 * i) for i in range(N)]
    times = [m.strftime(form).replace("{ms}", f"{m.microsecond // 1000:03d}") for m in moments]
    got = read(tmp_path / "t.csv", table(times))
    assert (got.dated, got.begins_video) == (False, True)
    first = (23 * 3600 + 59 * 60 + 50) * NS
    assert np.array_equal(got.time, first + np.arange(N) * NS // 2)


@pytest.mark.parametrize("rate", [1, 2, 4, 5, 10, 25, 50])
def test_whole_seconds_that_rows_share_at_any_rate(tmp_path: Path, rate: int) -> None:
    count = rate * 6
    amps = np.resize(AMPS, (count, 3))
    times = [(START + pd.Timedelta(seconds=i // rate)).strftime("%Y-%m-%d %H:%M:%S") for i in range(count)]
    got = read(tmp_path / "t.csv", table(times, amps), seconds=6.0)
    assert np.array_equal(got.time, EPOCH + np.round(np.arange(count) * NS / rate).astype(np.int64))


def test_one_row_in_two_seconds(tmp_path: Path) -> None:
    times = [(START + pd.Timedelta(seconds=2 * i)).strftime("%Y-%m-%d %H:%M:%S") for i in range(N)]
    got = read(tmp_path / "t.csv", table(times), seconds=80.0)
    assert np.array_equal(got.time, EPOCH + np.arange(N) * 2 * NS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_separators_and_line_ends(tmp_path: Path, encoding: str, sep: str, end: str) -> None:
    header = sep.join(["时间", "电流A", "电流B", "电流C"])
    text = table(stamps("%Y年%m月%d日 %H:%M:%S"), header=header, sep=sep).replace("\n", end)
    got = read(tmp_path / "t.csv", text.encode(encoding))
    assert np.array_equal(got.time, HALF)
    assert np.array_equal(got.current, AMPS.astype(np.float32))


def by_pandas(path: Path, frame: pd.DataFrame, **options: object) -> None:
    frame.to_csv(path, index=options.pop("index", False), **options)


FRAME = pd.DataFrame(
    {"time": stamps("%Y-%m-%d %H:%M:%S"), "Ia": AMPS[:, 0], "Ib": AMPS[:, 1], "Ic": AMPS[:, 2]}
)
FRAMES = {
    "index column": (FRAME, {"index": True}),
    "decimal comma": (FRAME, {"sep": ";", "decimal": ","}),
    "decimal comma, tabs": (FRAME, {"sep": "\t", "decimal": ","}),
    "decimal comma in quotes": (FRAME, {"decimal": ",", "quoting": 1}),
    "all quoted": (FRAME, {"quoting": 1}),
    "voltages too": (FRAME.assign(Ua=1.0, Ub=2.0, Uc=3.0), {}),
    "voltages first": (FRAME.assign(Ua=1.0, Ub=2.0, Uc=3.0)[["time", "Ua", "Ub", "Uc", "Ia", "Ib", "Ic"]], {}),
    "a temperature": (FRAME.assign(temperature=1400.5), {}),
    "a status of text": (FRAME.assign(status="OK"), {}),
    "phases in another order": (FRAME[["time", "Ic", "Ib", "Ia"]], {}),
    "date and time apart": (
        FRAME.assign(Date=stamps("%Y-%m-%d"), Time=ms("%H:%M:%S.{ms}"))[["Date", "Time", "Ia", "Ib", "Ic"]], {},
    ),
    "L1 L2 L3": (FRAME.set_axis(["t", "I_L1", "I_L2", "I_L3"], axis=1), {}),
    "Chinese phases": (FRAME.set_axis(["时间", "A相电流", "B相电流", "C相电流"], axis=1), {}),
    "units in the header": (FRAME.set_axis(["time", "Ia (A)", "Ib (A)", "Ic (A)"], axis=1), {}),
    "kA in the header": (
        FRAME.assign(Ia=AMPS[:, 0] / 1000, Ib=AMPS[:, 1] / 1000, Ic=AMPS[:, 2] / 1000)
        .set_axis(["time", "Ia (kA)", "Ib (kA)", "Ic (kA)"], axis=1), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_tables_written_by_pandas(tmp_path: Path, name: str) -> None:
    frame, options = FRAMES[name]
    by_pandas(tmp_path / "t.csv", frame, **options)
    got = read_raw_currents(tmp_path / "t.csv", Options(), N / 2)
    assert np.array_equal(got.time, HALF)
    np.testing.assert_allclose(got.current, AMPS.astype(np.float32), rtol=2e-7)


def test_thousands_between_digits(tmp_path: Path) -> None:
    for sign, point in ((",", "."), (".", ","), ("'", "."), (" ", ","), ("\u00a0", ",")):
        cells = [
            [f"{v:,.2f}".replace(",", "!").replace(".", point).replace("!", sign) for v in row]
            for row in AMPS
        ]
        frame = pd.DataFrame(cells, columns=["a", "b", "c"])
        frame.insert(0, "time", stamps("%Y-%m-%d %H:%M:%S"))
        frame.to_csv(tmp_path / "t.csv", index=False, quoting=1, sep=";" if point == "," else ",")
        got = read_raw_currents(tmp_path / "t.csv", Options(), N / 2)
        assert np.array_equal(got.current, AMPS.astype(np.float32)), sign


def test_thousands_without_decimals_need_a_likely_current_or_a_word(tmp_path: Path) -> None:
    whole = np.round(AMPS)
    rows = "".join(
        f'{t},"{a:,.0f}","{b:,.0f}","{c:,.0f}"\n'
        for t, (a, b, c) in zip(stamps("%Y-%m-%d %H:%M:%S"), whole, strict=True)
    )
    got = read(tmp_path / "t.csv", "time,a,b,c\n" + rows)
    assert np.array_equal(got.current, whole.astype(np.float32))
    assert any("thousands" in remark for remark in got.remarks)
    got = read(tmp_path / "t.csv", "time,a,b,c\n" + rows, decimal=",")
    np.testing.assert_allclose(got.current, whole / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    "word",
    ["", "NA", "N/A", "#N/A", "null", "NULL", "None", "nan", "NaN", "-", "--", "?", "Bad", "bad", "No Data", "NO DATA",
     "#DIV/0!", "1.#QNAN", "-1.#IND", "*****", "#VALUE!", "Bad Input", "inf", "---"],
)  # fmt: skip
def test_missing_values(tmp_path: Path, word: str) -> None:
    lines = table(stamps("%Y-%m-%d %H:%M:%S")).splitlines()
    lines[4] = ",".join([lines[4].split(",")[0], word, lines[4].split(",")[2], word])
    got = read(tmp_path / "t.csv", "\n".join(lines))
    assert np.isnan(got.current).tolist() == [[i == 3, False, i == 3] for i in range(N)]
    assert "1 current row with NaN or Inf, kept as NaN" in got.remarks


FRAMINGS = {
    "sep line": lambda t: "sep=;\n" + t.replace(",", ";"),
    "trailing separators": lambda t: t.replace("\n", ",\n"),
    "trailing separators in rows only": lambda t: t.replace("\n", ",\n").replace("c,\n", "c\n", 1),
    "units row": lambda t: t.replace("time,a,b,c\n", "time,a,b,c\ns,A,A,A\n"),
    "units row in brackets": lambda t: t.replace("time,a,b,c\n", "time,a,b,c\n,(A),(A),(A)\n"),
    "lines before": lambda t: "Logger X-200\nSerial: 17\n\n" + t,
    "comment": lambda t: "# exported 2023-05-11\n" + t,
    "empty lines": lambda t: t.replace("\n", "\n\n"),
    "empty rows at the end": lambda t: t + ",,,\n,,,\n",
    "NUL tail": lambda t: t + "\0" * 5000,
    "ctrl-Z": lambda t: t + "\x1a",
    "spaces after separators": lambda t: t.replace(",", ", "),
    "no line end at the end": lambda t: t.rstrip("\n"),
    "header of numbers": lambda t: t.replace("time,a,b,c", "time,1,2,3"),
    "header with a zone": lambda t: t.replace("time,", "time (UTC+08:00),"),
    "no header": lambda t: t.replace("time,a,b,c\n", ""),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_what_stands_around_the_rows(tmp_path: Path, name: str) -> None:
    got = read(tmp_path / "t.csv", FRAMINGS[name](table(stamps("%Y-%m-%d %H:%M:%S"))))
    assert np.array_equal(got.time, HALF)
    assert np.array_equal(got.current, AMPS.astype(np.float32))


def test_phases_by_name(tmp_path: Path) -> None:
    frame = FRAME.assign(x=1.0, y=2.0, z=3.0).set_axis(
        ["when", "one", "two", "three", "x1", "y", "z9"], axis=1
    )
    by_pandas(tmp_path / "t.csv", frame)
    with pytest.raises(SourceError, match="--map a=NAME"):
        read_raw_currents(tmp_path / "t.csv", Options(), N / 2)
    got = read_raw_currents(tmp_path / "t.csv", Options(names={"a": "two", "b": "one", "c": "three"}), N / 2)
    assert np.array_equal(got.current, AMPS[:, [1, 0, 2]].astype(np.float32))
    got = read_raw_currents(
        tmp_path / "t.csv", Options(names={"current": "one,two,three", "time": "when"}), N / 2
    )
    assert np.array_equal(got.current, AMPS.astype(np.float32))


@pytest.mark.parametrize("kind", ["datetime", "text", "serial"])
def test_workbooks(tmp_path: Path, kind: str) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["time", "Ia (kA)", "Ib (kA)", "Ic (kA)"])
    for i, row in enumerate(AMPS):
        moment = START.to_pydatetime() + datetime.timedelta(milliseconds=500 * i)
        time = {"datetime": moment, "text": moment.isoformat(sep=" "), "serial": HALF[i] / 86400e9 + 25569}[
            kind
        ]
        sheet.append([time, *(float(v) / 1000 for v in row)])
    book.save(tmp_path / "t.xlsx")
    got = read_raw_currents(tmp_path / "t.xlsx", Options(), N / 2)
    assert np.array_equal(got.time, HALF)
    np.testing.assert_allclose(got.current, AMPS, rtol=1e-6)


# ruff: noqa: E501 - a case a line
BAD = {
    "day and month": (table(stamps("%m/%d/%Y %H:%M:%S")), {}, r"day before month.*month before day.*dmy\|mdy"),
    "no seconds": (table(stamps("%Y-%m-%d %H:%M")), {}, "without.*share one minute"),
    "no seconds by format": (table(stamps("%Y-%m-%d %H:%M")), {"time_format": "%Y-%m-%d %H:%M"}, "share one minute"),
    "dates alone": (table(stamps("%Y-%m-%d")), {}, "dates alone"),
    "one a minute": (table(stamps("%Y-%m-%d %H:%M:%S", 60_000)), {}, "0.0167"),
    "header against rate": (table([f"{i * 500}" for i in range(N)], header="time_s,a,b,c"), {}, "seconds.*milliseconds"),
    "uptime": (table([f"{77606 + i / 2}" for i in range(N)]), {}, "hardly any.*--time-format"),
    "count of rows": (table([str(i) for i in range(N)], header="index,a,b,c"), {}, "--current-hz"),
    "backwards": (table([*stamps("%Y-%m-%d %H:%M:%S")[:20], *stamps("%Y-%m-%d %H:%M:%S")[:20]]), {}, "backwards at row 22"),
    "some with a zone": (table([t + ("Z" if i % 2 else "") for i, t in enumerate(stamps("%Y-%m-%dT%H:%M:%S"))]), {}, "in every row or in none"),
    "no such day": (table(["2023-02-30 00:00:00", *stamps("%Y-%m-%d %H:%M:%S")[1:]]), {}, "no day of the calendar"),
    "no such hour": (table(["2023-05-10 25:00:00", *stamps("%Y-%m-%d %H:%M:%S")[1:]]), {}, "beyond 24"),
    "short row": (table(stamps("%Y-%m-%d %H:%M:%S")) + "2023-05-10 21:34:00,63", {}, "expected 4 columns.*got 2 in row 42.*cut off"),
    "long row": (table(stamps("%Y-%m-%d %H:%M:%S")).replace("\n", "\n", 1) + "2023-05-10 21:34:00,1,2,3,4\n", {}, "got 5 in row 42"),
    "a word in the first row": (table(stamps("%Y-%m-%d %H:%M:%S")).replace(f"{AMPS[0, 1]:.2f}", "furnace", 1), {}, "in row 2, got 'furnace'"),
    "a word in the first row of seconds": (table([f"{s:.1f}" for s in SECONDS]).replace(f"{AMPS[0, 2]:.2f}", "x7000", 1), {}, "in row 2, got 'x7000'"),
    "words in two rows": (table([f"{s:.1f}" for s in SECONDS]).replace(f"{AMPS[0, 2]:.2f}", "x", 1).replace(f"{AMPS[1, 0]:.2f}", "y", 1), {}, "in row 2, got 'x'"),
    "a word": (table(stamps("%Y-%m-%d %H:%M:%S")).replace(f"{AMPS[5, 1]:.2f}", "furnace"), {}, "in row 7, got 'furnace'"),
    "NULs amid": (table(stamps("%Y-%m-%d %H:%M:%S")).replace(f"{AMPS[5, 1]:.2f}", "\0\0\0"), {}, "NUL bytes in row 7"),
    "two decimal signs": (table(stamps("%Y-%m-%d %H:%M:%S"), sep=";").replace("time,a", "time;a").replace(f"{AMPS[5, 1]:.2f}", "7000,25"), {}, "one decimal sign"),
    "scientific": (table([f"{v / NS:.4E}" for v in HALF]), {}, "shortened|row 2"),
    "decimal comma without quotes": (table(stamps("%Y-%m-%d %H:%M:%S")).replace(".", ","), {}, "phases|columns"),
    "two tables of times": (table(stamps("%Y-%m-%d %H:%M:%S")).replace("a,b,c", "when,b,c").replace(f",{AMPS[0, 0]:.2f}", ",2023-05-10 21:33:26"), {}, "."),
    "a web page": ("<!DOCTYPE html><html><body>Sign in</body></html>", {}, "web page"),
    "LFS": ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n", {}, "Git LFS"),
    "missing time": (table(["", *stamps("%Y-%m-%d %H:%M:%S")[1:]]), {}, "a time in every row, got none in row 2"),
    "empty": ("", {}, "empty"),
    "only a header": ("time,a,b,c\n", {}, "only a header"),
    "ambiguous comma": ("time,a,b,c\n" + "".join(f'{t},"6,342","7,001","6,998"\n' for t in stamps("%Y-%m-%d %H:%M:%S")), {"names": {}}, "never"),
}  # fmt: skip
del BAD["ambiguous comma"], BAD["two tables of times"]


@pytest.mark.parametrize("name", BAD)
def test_refusals_are_one_line_that_helps(tmp_path: Path, name: str) -> None:
    text, options, words = BAD[name]
    with pytest.raises(SourceError, match=words) as caught:
        read(tmp_path / "t.csv", text, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "t.csv"))


def test_two_tables_with_different_offsets_agree(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("time\n" + "".join(f"{t}Z\n" for t in stamps("%Y-%m-%dT%H:%M:%S")))
    east = [
        (START + pd.Timedelta(hours=8, milliseconds=500 * i)).strftime("%Y-%m-%dT%H:%M:%S+08:00")
        for i in range(N)
    ]
    (tmp_path / "c.csv").write_text(table(east))
    frames = read_stamps(tmp_path / "s.csv", 2, Options())
    rows = read_current_table(tmp_path / "c.csv", Options())
    assert np.array_equal(frames.time, rows.time)
    assert np.array_equal(rows.time, HALF)


def test_random_tables_are_read_exactly(tmp_path: Path) -> None:
    dice = random.Random(7)
    forms = ["%Y-%m-%d %H:%M:%S.{ms}", "%Y/%m/%d %H:%M:%S.{ms}", "%d-%b-%Y %H:%M:%S.{ms}", "%Y%m%d%H%M%S{ms}"]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        count = dice.randint(3, 300)
        steps = rng.integers(30, 1900, count)
        millis = np.cumsum(steps)
        amps = np.round(rng.normal(8000, 900, (count, 3)), dice.randint(0, 5))
        if NS / np.median(np.diff(millis * 10**6)) > 50:
            continue
        moments = [pd.Timestamp("2019-12-31 23:58:00") + pd.Timedelta(milliseconds=int(m)) for m in millis]
        form = dice.choice(forms)
        frame = pd.DataFrame(amps, columns=["a", "b", "c"])
        frame.insert(
            0, "time", [m.strftime(form).replace("{ms}", f"{m.microsecond // 1000:03d}") for m in moments]
        )
        sep = dice.choice(";\t|,")
        decimal = dice.choice(".,") if sep != "," else "."
        frame.to_csv(tmp_path / "t.csv", index=False, sep=sep, decimal=decimal)
        got = read_raw_currents(tmp_path / "t.csv", Options(), float(millis[-1]) / 1000)
        assert np.array_equal(got.time, [m.value for m in moments]), (seed, form)
        assert np.array_equal(got.current, amps.astype(np.float32)), (seed, sep, decimal)
