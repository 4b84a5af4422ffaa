"""Tables of currents by pandas, openpyxl and Octave, and by hand: from times and amperes that are drawn."""

# ruff: noqa: E501 - a case a line
from __future__ import annotations

import csv
import datetime
import io
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd

from .case import NS

MILLISECOND = 1_000_000
HEADERS = [
    ("time", "Ia", "Ib", "Ic"), ("timestamp", "I_A", "I_B", "I_C"), ("t", "current_1", "current_2", "current_3"),
    ("Zeit", "Strom L1", "Strom L2", "Strom L3"), ("datetime", "phase A", "phase B", "phase C"),
    ("Time", "i_a", "i_b", "i_c"), ("time", "1", "2", "3"), ("Date/Time", "I1", "I2", "I3"),
]  # fmt: skip
CHINESE = [("时间", "A相电流", "B相电流", "C相电流"), ("日期时间", "电流A", "电流B", "电流C")]
MISSING = [
    "",
    "NA",
    "N/A",
    "#N/A",
    "null",
    "None",
    "-",
    "--",
    "?",
    "Bad",
    "No Data",
    "#DIV/0!",
    "1.#QNAN",
    "*****",
]
EXTRA = [
    {"temperature": 1412.5}, {"Ua": 110.2, "Ub": 111.0, "Uc": 109.7}, {"status": "OK"}, {"power_kW": 3300.0},
    {"remark": "Ofen 3"}, {"Voltage A": 110.0, "Voltage B": 111.0, "Voltage C": 112.0},
]  # fmt: skip


@dataclass(kw_only=True)
class Drawn:
    """The numbers of a table, and how its times are told."""

    amps: np.ndarray  # (m,3), NaN where missing
    times: np.ndarray  # (m,) ns: since 1970-01-01, or since the first frame
    start: int  # ns that the video begins at
    times_as: str
    rate: int
    suffix: str = ".csv"
    option: str = ""  # what the command must have


def moments(start: pd.Timestamp, relative: np.ndarray) -> list[pd.Timestamp]:
    return [start + pd.Timedelta(int(t), "ns") for t in relative]


def formatted(form: str, when: list[pd.Timestamp]) -> list[str]:
    """With `{ms}` for milliseconds and `%-I`-like parts as the platform writes them."""
    return [m.strftime(form).replace("{ms}", f"{m.microsecond // 1000:03d}") for m in when]


# How a moment is written: {ms} milliseconds; forms without it tell whole seconds, which rows then share.
FORMS = {
    "iso": "%Y-%m-%d %H:%M:%S.{ms}",
    "iso, whole seconds": "%Y-%m-%d %H:%M:%S",
    "T and Z": "%Y-%m-%dT%H:%M:%S.{ms}Z",
    "slashes": "%Y/%m/%d %H:%M:%S.{ms}",
    "slashes, whole seconds": "%Y/%m/%d %H:%M:%S",
    "points": "%Y.%m.%d %H:%M:%S.{ms}",
    "compact": "%Y%m%d%H%M%S{ms}",
    "compact T": "%Y%m%dT%H%M%S.{ms}",
    "MATLAB": "%d-%b-%Y %H:%M:%S.{ms}",
    "month by name": "%b %d, %Y %H:%M:%S.{ms}",
    "Chinese": "%Y年%m月%d日 %H时%M分%S秒",
    "Chinese date": "%Y年%m月%d日 %H:%M:%S.{ms}",
    "AM and PM": "%Y-%m-%d %I:%M:%S.{ms} %p",
    "day first, past the 12th": "%d.%m.%Y %H:%M:%S.{ms}",
    "month first, past the 12th": "%m/%d/%Y %I:%M:%S.{ms} %p",
    "ctime": "%a %b %d %H:%M:%S %Y",
    "colon before milliseconds": "%Y-%m-%d %H:%M:%S:{ms}",
}
NUMBERS = ["epoch s", "epoch ms", "epoch us", "epoch ns", "excel", "datenum"]
RELATIVE = ["seconds", "seconds from -2", "ms in the header", "us in the header", "index"]
OF_DAY = ["time of day", "time of day past midnight", "time of day, AM and PM"]
APART = ["date and time apart", "offset"]


def draw(rng: np.random.Generator, seconds: float, times_as: str | None = None) -> tuple[Drawn, list[str]]:
    """Numbers of a table that goes with a video of `seconds`, and the texts of its times."""
    kinds = [*FORMS, *NUMBERS, *RELATIVE, *OF_DAY, *APART]
    times_as = times_as or kinds[rng.integers(len(kinds))]
    rate = int(rng.choice([1, 2, 2, 2, 4, 5, 10]))
    count = max(4, int(np.ceil(seconds * rate)) + int(rng.integers(-1, 3)))
    if times_as == "seconds from -2":
        count += 2 * rate
    if times_as == "index":  # which leaves the rate to the length of the video
        rate = rate if seconds * rate >= 6 else 5
        count = max(4, round(seconds * rate))
    relative = np.arange(count, dtype=np.int64) * NS // rate
    start = pd.Timestamp("2000-01-01") + pd.Timedelta(
        int(rng.integers(0, 11_000) * 86_400 + rng.integers(3600, 80_000)), "s"
    )
    if "12th" in times_as:
        start = start.replace(day=int(rng.integers(13, 28)))
    if "midnight" in times_as:
        start = start.normalize() + pd.Timedelta(86_399, "s")
    amps = np.round(rng.normal(rng.uniform(3000, 12000), 400, (count, 3)), 0)
    drawn = Drawn(amps=amps, times=start.value + relative, start=start.value, times_as=times_as, rate=rate)
    when = moments(start, relative)
    if times_as in FORMS:
        texts = formatted(FORMS[times_as], when)
    elif times_as in NUMBERS:
        texts = [number_text(times_as, int(t)) for t in drawn.times]
    elif times_as == "offset":
        hours = int(rng.integers(-11, 14))
        sign = "-" if hours < 0 else "+"
        texts = [
            f"{m.strftime('%Y-%m-%dT%H:%M:%S')}.{m.microsecond // 1000:03d}{sign}{abs(hours):02d}:00"
            for m in when
        ]
        drawn.times = drawn.times - hours * 3600 * NS
        drawn.start = int(drawn.times[0])
    elif times_as in OF_DAY:
        form = "%I:%M:%S.{ms} %p" if "AM" in times_as else "%H:%M:%S.{ms}"
        texts = formatted(form, when)
        midnight = start.normalize().value
        drawn.times, drawn.start = drawn.times - midnight, start.value - midnight
    elif times_as == "date and time apart":
        texts = formatted("%Y-%m-%d|%H:%M:%S.{ms}", when)
    else:
        first = -2 * NS if "from -2" in times_as else 0
        drawn.times, drawn.start = relative + first, 0
        unit = {"ms in the header": MILLISECOND, "us in the header": 1000}.get(times_as)
        texts = (
            [str(t // unit) for t in drawn.times.tolist()]
            if unit
            else [f"{t / NS:.3f}" for t in drawn.times.tolist()]
        )
        if times_as == "index":
            first = int(rng.integers(0, 2))
            texts = [str(i + first) for i in range(count)]
            drawn.option = f"--current-hz {rate}"
    return drawn, texts


def number_text(kind: str, time: int) -> str:
    if kind == "excel":
        return f"{time / 86400e9 + 25569:.10f}"
    if kind == "datenum":
        return f"{time / 86400e9 + 719529:.10f}"
    places = {"epoch s": 9, "epoch ms": 6, "epoch us": 3, "epoch ns": 0}[kind]
    whole, rest = divmod(time, 10**places)
    return f"{whole}.{rest // 10**6:03d}" if kind == "epoch s" else str(whole)


def write(rng: np.random.Generator, folder: Path, stem: str, drawn: Drawn, texts: list[str]) -> None:
    """In a dialect that is drawn."""
    kind = drawn.times_as
    chinese = kind.startswith("Chinese") or rng.random() < 0.15
    headers = CHINESE if chinese else HEADERS
    time_name, *names = headers[rng.integers(len(headers))]
    amps = drawn.amps.copy()
    if kind in ("ms in the header", "us in the header"):
        time_name = f"time_{kind[:2]}" if rng.random() < 0.5 else f"time [{kind[:2]}]"
    elif kind == "index":
        time_name = ["index", "No", "序号"][rng.integers(3)]
    elif kind.startswith("seconds"):
        time_name = ["seconds", "t", "time_s", "time"][rng.integers(4)]
    kilo = rng.random() < 0.2
    if kilo:
        amps, names = amps / 1000, [f"{name} (kA)" for name in names]
    elif rng.random() < 0.2:
        names = [f"{name} (A)" for name in names]
    if rng.random() < 0.4:
        gone = rng.random(amps.shape) < 0.04
        gone[0] = gone[-1] = False
        drawn.amps[gone] = amps[gone] = np.nan
    columns: dict[str, list[object]] = {}
    if kind == "date and time apart":
        columns["Date"], columns["Time"] = (
            list(part) for part in zip(*(t.split("|") for t in texts), strict=True)
        )
    else:
        columns[time_name] = list(texts)
    columns |= {name: amps[:, i].tolist() for i, name in enumerate(names)}
    plain_names = not any(name.split(" (")[0].isdigit() for name in names)
    if plain_names and rng.random() < 0.35:
        columns |= {name: [value] * len(amps) for name, value in EXTRA[rng.integers(len(EXTRA))].items()}
    frame = pd.DataFrame(columns)
    if plain_names and rng.random() < 0.15 and kind != "index":
        order = [*frame.columns]
        order[1:4] = order[1:4][::-1] if kind != "date and time apart" else order[1:4]
        frame = frame[order]
    if rng.random() < 0.12 and not kind.startswith(("compact", "Chinese")) and kind != "date and time apart":
        drawn.suffix = ".xlsx"
        workbook(rng, folder / f"{stem}.xlsx", frame, drawn)
        return
    by_pandas(rng, folder, stem, frame, drawn, chinese=not str(frame.columns[0]).isascii() or chinese)


def workbook(rng: np.random.Generator, path: Path, frame: pd.DataFrame, drawn: Drawn) -> None:
    """By openpyxl: moments as moments where they are ones, numbers as numbers."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(frame.columns))
    numbers = drawn.times_as in (*NUMBERS, *RELATIVE)
    moment = drawn.times_as in ("iso", "slashes", "points") and rng.random() < 0.7
    for time, row in zip(drawn.times.tolist(), frame.itertuples(index=False), strict=True):
        cells = [None if isinstance(v, float) and np.isnan(v) else v for v in row]
        if moment:
            cells[0] = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=time // MILLISECOND)
        elif numbers and drawn.times_as not in ("epoch ns", "epoch us"):
            cells[0] = float(cells[0]) if "." in str(cells[0]) else int(cells[0])
        sheet.append(cells)
    if rng.random() < 0.3:
        book.create_sheet("Tabelle2")
    book.save(path)


def by_pandas(
    rng: np.random.Generator, folder: Path, stem: str, frame: pd.DataFrame, drawn: Drawn, *, chinese: bool
) -> None:
    separator = str(rng.choice([",", ";", "\t", "|"]))
    decimal = "," if separator != "," and rng.random() < 0.3 else "."
    if decimal == ",":  # the times of such a table have one too
        first = frame.columns[0]
        if drawn.times_as in ("seconds", "seconds from -2", "epoch s", "excel", "datenum"):
            frame = frame.assign(**{first: [str(t).replace(".", ",") for t in frame[first]]})
    quoting = csv.QUOTE_ALL if rng.random() < 0.15 else csv.QUOTE_MINIMAL
    text = frame.to_csv(
        index=rng.random() < 0.15 and drawn.times_as != "index", sep=separator, decimal=decimal, quoting=quoting,
        na_rep=MISSING[rng.integers(len(MISSING))], lineterminator="\n", float_format="%.5f" if decimal == "," else None,
    )  # fmt: skip
    if quoting == csv.QUOTE_MINIMAL:
        text = around(rng, text, separator, drawn)
    end = str(rng.choice(["\n", "\r\n", "\n", "\r"]))
    encodings = (
        ["utf-8", "utf-8-sig", "utf-16", "gb18030"]
        if chinese
        else ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]
    )
    data = text.replace("\n", end).encode(encodings[rng.integers(len(encodings))])
    if rng.random() < 0.1 and data[:2] != b"\xff\xfe" and data[1:2] != b"\0":
        data += b"\0" * 512 if rng.random() < 0.5 else b"\x1a"
    drawn.suffix = str(rng.choice([".csv", ".csv", ".txt", ".tsv"]))
    (folder / f"{stem}{drawn.suffix}").write_bytes(data)


def around(rng: np.random.Generator, text: str, separator: str, drawn: Drawn) -> str:  # noqa: PLR0911 - one a line
    """Lines and marks that loggers and spreadsheets put around the rows."""
    head, _, rows = text.partition("\n")
    width = head.count(separator) + 1
    dice = rng.random()
    if dice < 0.08 and separator == ";":
        return f"sep=;\n{text}"
    if dice < 0.16:
        return f"Logger X-200{separator}{separator}\nSerial: 17\n\n{text}"
    if dice < 0.24:
        return f"# exported by hand\n{text}"
    if dice < 0.32:
        return text.replace("\n", separator + "\n")
    if dice < 0.40:
        return text + (separator * (width - 1) + "\n") * 2
    if dice < 0.46 and drawn.times_as == "seconds" and width == 4 and "kA" not in head:
        return f"{head}\n{separator.join(['s', 'A', 'A', 'A'])}\n{rows}"
    return text


def by_octave(path: Path, drawn: Drawn) -> None:
    """Seconds and amperes as Octave's dlmwrite puts them: no header."""
    table = io.StringIO()
    np.savetxt(table, np.c_[drawn.times / NS, drawn.amps], fmt="%.9g")
    script = f"x = [{table.getvalue().replace(chr(10), ';')}]; dlmwrite('{path}', x, 'precision', '%.6f');"
    subprocess.run(["octave", "-qf", "--no-gui", "--eval", script], check=True, capture_output=True)
