"""A board: bundles scored again on one's own labels, compared all at once, and written as pages and tables."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fmfbench.board.bundle import FACTS, Bundle, differences, lacks, read_bundle, unpacked
from fmfbench.board.page import board_page, row_document
from fmfbench.errors import InputError, PredictionError
from fmfbench.exchange.labels import Labels
from fmfbench.files.atomic import replacing
from fmfbench.files.claims import is_free
from fmfbench.files.markdown import table
from fmfbench.plots.page import check_studio
from fmfbench.plots.report import write_report
from fmfbench.scoring.evidence import Tally, tally
from fmfbench.scoring.figures import figure_text, interval_text
from fmfbench.scoring.metrics import COUNT_METRICS, metric
from fmfbench.scoring.provenance import corruption_of
from fmfbench.scoring.receipt import INTERVAL_RULE, PROTOCOL_CARD
from fmfbench.scoring.result import Score
from fmfbench.scoring.score import opened, read_for, score
from fmfbench.scoring.simultaneous import AllPairs, compare_all
from fmfbench.store.reader import StoreReader
from fmfbench.version import installed_version

__all__ = ["Board", "Row", "make_board"]

SCHEMA = 1
_VERSION = re.compile(
    r"\d{1,6}(\.\d{1,6}){0,3}((a|b|rc)\d{1,6})?(\.(post|dev)\d{1,6}){0,2}(\+[a-z0-9.]{1,40})?"
)
_ASKED = ("context", "protocol", "per_second")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One bundle that was scored again: what it claims to be, and what we found."""

    bundle: Bundle
    score: Score
    tally: Tally
    report: str | None
    remarks: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        return self.bundle.model

    @property
    def corrupt(self) -> str | None:
        return corruption_of(self.score.meta)

    def fact(self, name: str) -> float | None:
        """A number that the model's card claims, None where it claims none."""
        value = self.bundle.card.get(name)
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18
        return value if good else None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in board.json."""
        return row_document(
            self.score,
            model=self.model,
            file=self.bundle.path.name,
            facts={name: self.fact(name) for name in FACTS},
            report=self.report,
            remarks=self.remarks,
        )


@dataclass(frozen=True, kw_only=True)
class Board:
    """Rows in the order of the bundles, and the comparison of all pairs of those on clean input."""

    rows: tuple[Row, ...]
    pairs: dict[str, AllPairs]
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """What board.json holds."""
        return {
            "schema": SCHEMA,
            **self.facts,
            "rows": [row.to_dict() for row in self.rows],
            "comparison": {name: pairs.to_dict() for name, pairs in self.pairs.items()},
        }

    def to_markdown(self) -> str:
        """One row a bundle, the five metrics with their intervals."""
        names = (metric(name).title for name in COUNT_METRICS)
        head = ("model", "input", *names, "parameters", "training (s)", "latency (ms)", "warnings", "bundle")
        rows = []
        for row in self.rows:
            cells = []
            for name in COUNT_METRICS:
                figure = row.score.figure(name)
                interval = interval_text(figure)
                cells.append(f"{figure_text(figure)} ({interval})" if interval else figure_text(figure))
            told = "clean" if row.corrupt is None else f"CORRUPTED INPUT: {row.corrupt}"
            facts = [row.fact(name) for name in FACTS]
            cells += [
                "not known" if fact is None else f"{fact:,}" if isinstance(fact, int) else f"{fact:,.4g}"
                for fact in facts
            ]
            count = str(len(row.score.warnings) or "")
            rows.append(
                tuple(c.replace("|", "\\|") for c in (row.model, told, *cells, count, row.bundle.path.name))
            )
        lines = [
            f"split {self.facts['split']}, {self.facts['num_samples']} samples, {self.facts['sample_set']}",
            "",
        ]
        lines += table(head, rows)
        for name, pairs in self.pairs.items():
            groups = "; ".join(", ".join(pairs.names[a : b + 1]) for a, b in pairs.groups)
            needed = pairs.needed_for(0.01)
            if needed is not None:
                lines += ["", f"{metric(name).title}: a difference of 0.01 would need {needed:,} samples."]
            lines += [
                "",
                f"{metric(name).title}: cannot be told apart (95 %, all pairs together): {groups or 'none'}",
            ]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """One row a bundle and metric."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("model", "bundle", "corrupt", "metric", "value", "low", "high", "undefined"))
        for row in self.rows:
            for figure in row.score.shown():
                numbers = ("" if v is None else repr(v) for v in (figure.value, figure.low, figure.high))
                reason = figure.reason if figure.value is None else ""
                writer.writerow(
                    (row.model, row.bundle.path.name, row.corrupt or "", figure.name, *numbers, reason)
                )
        return stream.getvalue()


def make_board(
    bundles: Sequence[str | os.PathLike[str]],
    data: StoreReader | Labels | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    reports: bool = True,
    resamples: int = 2000,
    seed: int = 0,
    progress: bool = False,
    studio: str | None = None,
) -> Board:
    """Score every bundle again and write `index.html`, `board.json`, `board.md`, `board.csv` and reports into `out`.

    Args:
        bundles: files of `fmfbench score --bundle`, of one split and sample set.
        data: an open data set, its labels, or the path of a store or of a labels.npz.
        out: the folder; an earlier board there is replaced when the new one is whole.
        reports: also write the page of each score.
        studio: where `fmfbench studio` serves the store: pages link recordings and pictures to their frame in it.
        resamples, seed: of the comparison of all pairs; the scores are repeated with their own.

    Raises:
        InputError: bundles that do not agree with their receipts, whose score does not come out again, that are for
            other data or twice there, all named in one line; or a folder that is not a board's. Nothing is written.
    """
    target = Path(out)
    _check_out(target)
    studio = check_studio(studio)
    if not bundles:
        raise InputError("board: expected one bundle or more, got none")
    if isinstance(data, (str, os.PathLike)):
        data = opened(Path(data))
    read = _consistent([Path(path) for path in bundles])
    with replacing(target.absolute()) as temporary:
        temporary.mkdir()
        rows = _scored_again(read, data, temporary if reports else None, progress, studio)
        board = _assembled(rows, data, resamples, seed)
        document = json.dumps(board.to_dict(), indent=1, allow_nan=False) + "\n"
        (temporary / "board.json").write_text(document, encoding="utf-8")
        for name, text in (
            ("board.md", board.to_markdown()),
            ("board.csv", board.to_csv()),
            ("index.html", board_page(board.to_dict(), studio=studio)),
        ):
            (temporary / name).write_text(text, encoding="utf-8", errors="replace")
        if target.exists():
            shutil.rmtree(target)
    return board


def _check_out(target: Path) -> None:
    if not target.absolute().parent.is_dir():
        raise InputError(f"{target}: expected an existing folder to write into, got none at {target.parent}")
    if not is_free(target) and not (target / "board.json").is_file():
        raise InputError(f"{target}: expected a new or empty folder or an earlier board, got something else")


def _consistent(paths: list[Path]) -> list[Bundle]:
    """The bundles, each found to agree with its receipt and there once; InputError names all that are not."""
    found: list[Bundle] = []
    wrong: list[str] = []
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            bundle = read_bundle(path)
        except PredictionError as error:
            wrong.append(str(error))
            continue
        earlier = seen.setdefault(str(bundle.receipt["predictions_sha256"]), path)
        if earlier is not path:
            wrong.append(f"{path}: holds the same predictions as {earlier}; expected each once")
            continue
        found.append(bundle)
    _refuse(wrong, len(paths), found)
    return found


def _refuse(wrong: list[str], count: int, found: Sequence[Bundle] = ()) -> None:
    if wrong:
        listed = "; ".join(f"({number}) {text}" for number, text in enumerate(wrong, 1))
        raise InputError(f"board: {len(wrong)} of {count} bundles refused, nothing written: {listed}")


def _scored_again(
    bundles: list[Bundle],
    data: StoreReader | Labels,
    folder: Path | None,
    progress: bool,
    studio: str | None,
) -> list[Row]:
    rows: list[Row] = []
    wrong: list[str] = []
    sets = {(b.receipt["split"], b.receipt["sample_set"], b.options["context"] == "strict") for b in bundles}
    if len(sets) > 1:
        listed = "; ".join(
            sorted(f"{b.path.name}: {b.receipt['split']}, {b.receipt['sample_set']}" for b in bundles)
        )
        raise InputError(
            f"board: expected bundles of one split and sample set, got {listed}; make one board of each"
        )
    for bundle in tqdm(bundles, desc="score again", unit="bundle", disable=None if progress else True):
        try:
            rows.append(_row(bundle, data, folder, [row.report for row in rows], studio))
        except (InputError, PredictionError) as error:
            told = str(error)
            wrong.append(told if str(bundle.path) in told else f"{bundle.path}: {told}")
    _refuse(wrong, len(bundles))
    return rows


def _row(
    bundle: Bundle,
    data: StoreReader | Labels,
    folder: Path | None,
    taken: list[str | None],
    studio: str | None,
) -> Row:
    receipt = bundle.receipt
    remark = _other_version(bundle)
    asked = {name: bundle.options[name] for name in _ASKED}
    split = receipt["split"]
    if not isinstance(split, str):
        raise PredictionError(f"{bundle.path}: expected the name of a split, got {split!r}")
    with unpacked(bundle) as path:
        found = score(path, data, split, **dict(bundle.options))
        told = differences(bundle.score, found.to_dict(), any_version=remark is not None)
        if told:
            listed = ", ".join(told[:5]) + (", ..." if len(told) > 5 else "")
            again = f"; {remark}: make it again with this version" if remark else ""
            if not remark and all(lacks(bundle.score, name) for name in told):
                again = "; it says nothing of these, as one of an earlier state of this version: make it again with it"
            raise PredictionError(f"{bundle.path}: scored again it differs in {listed}{again}")
        predictions, labels = read_for(path, data, split, **asked)
        report = None
        if folder is not None:
            report = _report_name(bundle, taken)
            (folder / "reports").mkdir(exist_ok=True)
            source = None if isinstance(data, Labels) else data
            write_report(folder / report, found, predictions, labels, source, studio=studio)
    return Row(
        bundle=bundle,
        score=found,
        tally=tally(labels, predictions.decision, predictions.mask_bits),
        report=report,
        remarks=(remark,) if remark else (),
    )


def _other_version(bundle: Bundle) -> str | None:
    """None for a bundle of this version; a remark for one of an earlier version or interval rule by the same card.

    Whether the earlier version's figures are still ours is seen when they are scored again; a later version's rules are
    not known here.

    Raises:
        PredictionError: another protocol card, a later version or rule, or something that is neither.
    """
    card, made, here = bundle.receipt["protocol_card"], bundle.receipt["fmfbench"], installed_version()
    again = "make it again with `fmfbench score --bundle`"
    if card != PROTOCOL_CARD or type(card) is not int:
        raise PredictionError(
            f"{bundle.path}: expected a bundle of protocol_card {PROTOCOL_CARD}, got {str(card)[:40]!a}; {again}"
        )
    rule = bundle.receipt.get("interval_rule", 1)
    if type(rule) is not int or not 1 <= rule <= INTERVAL_RULE:
        raise PredictionError(
            f"{bundle.path}: expected a bundle of interval rule {INTERVAL_RULE} or earlier, got {str(rule)[:40]!a}; "
            "update fmfbench"
        )
    if (made, rule) == (here, INTERVAL_RULE):
        return None
    if not isinstance(made, str) or _VERSION.fullmatch(made) is None:
        raise PredictionError(
            f"{bundle.path}: expected a version of fmfbench, got {str(made)[:40]!a}; {again}"
        )
    if _release(made) > _release(here):
        raise PredictionError(
            f"{bundle.path}: expected a bundle of fmfbench {here} or earlier, got {made[:40]}; update fmfbench"
        )
    return (
        f"made by fmfbench {made[:40]} with interval rule {rule}, "
        f"scored again by {here} with interval rule {INTERVAL_RULE}"
    )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _report_name(bundle: Bundle, taken: list[str | None]) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", bundle.path.stem).strip("._") or "bundle"
    name, number = f"reports/{plain}.html", 2
    while name in taken:
        name, number = f"reports/{plain}-{number}.html", number + 1
    return name


def _assembled(rows: list[Row], data: StoreReader | Labels, resamples: int, seed: int) -> Board:
    first = rows[0]
    asked = {name: first.bundle.options[name] for name in _ASKED}
    split = str(first.bundle.receipt["split"])
    clean = [row for row in rows if row.corrupt is None]
    pairs = {}
    if len(clean) > 1:
        with unpacked(first.bundle) as path:
            _, labels = read_for(path, data, split, **asked)
        names = [name for name in COUNT_METRICS if metric(name).overall]
        tallies = {label: row.tally for label, row in zip(_labels_of(clean), clean, strict=True)}
        found = compare_all(tallies, labels, names, resamples=resamples, seed=seed)
        pairs = {name: each for name, each in found.items() if len(each.names) > 1}
    return Board(
        rows=tuple(rows),
        pairs=pairs,
        facts={
            "fmfbench": installed_version(),
            "protocol_card": PROTOCOL_CARD,
            "interval_rule": INTERVAL_RULE,
            "fingerprint": first.score.fingerprint,
            "split": split,
            "sample_set": first.score.sample_set,
            "num_samples": first.score.num_samples,
        },
    )


def _labels_of(rows: list[Row]) -> list[str]:
    """The model names, told apart by their bundles' names where several claim the same."""
    names = [row.model for row in rows]
    return [
        name if names.count(name) == 1 else f"{name} ({row.bundle.path.stem})"
        for name, row in zip(names, rows, strict=True)
    ]
