"""`reproduce all`: every table, each row once, in an order that makes the first rows first; on one machine or several.

The work is units: a row with a seed, in one of the worlds, or with its recordings left out. A unit is made under a turn
(`files.turns`), and so is each training, so that machines that share the folder share the work: what one makes, the
others skip; what one was killed in, another takes up. Everything that is written is written as `reproduce TABLE` does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fmfbench.board.board import make_board
from fmfbench.data import Dataset
from fmfbench.errors import BusyError, InputError
from fmfbench.files.claims import make_folder
from fmfbench.files.lock import target_lock
from fmfbench.files.turns import turn
from fmfbench_models.parts.progress import Progress
from fmfbench_models.reproduce.campaign_page import write_pages
from fmfbench_models.reproduce.curves import describe_curve
from fmfbench_models.reproduce.estimate import Estimator
from fmfbench_models.reproduce.experiment import Experiment, Row, read_toml
from fmfbench_models.reproduce.table import Reproduction, is_available, known_results, write_table
from fmfbench_models.reproduce.work import Work
from fmfbench_models.reproduce.workplace import Workplace, read_json, write_json
from fmfbench_models.reproduce.worlds import lost_rows

__all__ = ["ALL_SEEDS", "Campaign"]

ALL_SEEDS = (0, 1, 2)
MEASURE_FROM = 600.0  # seconds in all: shorter work is not worth the minutes that measuring takes
WAIT = 5.0  # seconds between looks while others have all turns
START_WAIT = 60.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A table of the campaign: what it has, where it is made, with which seeds.

    one_seed: names of rows that are made with the first seed alone.
    """

    experiment: Experiment
    work: Work
    seeds: tuple[int, ...]
    worlds: bool
    one_seed: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for row in self.experiment.rows if row.name in self.wanted)

    @property
    def name(self) -> str:
        return f"{self.experiment.name}, one recording left out" if self.work.loro else self.experiment.name

    def write(self, *, picture: bool = True) -> dict[str, Any]:
        """The table as it stands, as `reproduce TABLE` writes it; its picture takes longer than all else."""
        results = known_results(
            self.experiment, self.work, self.seeds, worlds=self.worlds, with_one_seed=self.one_seed
        )
        return write_table(self.experiment, self.rows, self.work, self.seeds, results, picture=picture)


@dataclass(frozen=True)
class Unit:
    """A row of a part with a seed; `key` names its result file."""

    part: Part
    row: Row
    seed: int

    @property
    def key(self) -> str:
        return str(self.part.work.place.result(self.part.work.slug(self.row), self.seed))

    @property
    def name(self) -> str:
        lost = ", recordings left out" if self.part.work.loro else ""
        return f"{self.row.name}{lost}, seed {self.seed}"

    def result(self) -> dict[str, Any] | None:
        return self.part.work.result(self.row, self.seed)

    @property
    def is_done(self) -> bool:
        return (self.result() or {}).get("status") == "done"

    def turns(self) -> list[str]:
        """Names of the turns that making it takes: its own, and one of each training that it still needs."""
        work = self.part.work
        path = Path(self.key)
        names = [f"{path.parent.name}-{path.stem}"]
        for training in self.row.trainings:
            for fold in work.models:
                if not work.is_trained(training, self.seed, fold):
                    folder = work.run(training, self.seed, fold)
                    names.append(f"train-{folder.parent.parent.name}-{folder.parent.name}-{folder.name}")
        return names


@dataclass(kw_only=True)
class Campaign:
    """All tables on a store: what `run` makes, and `plan` would.

    models: rows of Table II, all by default; other tables then have the rows of which every training is among them.
    data, out, preset, protocol, settings, epochs, every, device, workers, cache, per_second, backbone_weights,
    validate: as of `Reproduction`.
    seeds: the first rows are made with all of them, the others with the first.
    minutes: no unit is begun that is not expected to end within so many minutes of the call, but for the first; with 0
        none is, and tables and page are written of what is made. None for no limit.

    Example:
        >>> from fmfbench_models.reproduce.campaign import Campaign
        >>> work = Campaign(data="fmf.zarr", out="results", preset="nano", per_second=True, minutes=110)
        >>> work.seeds
        (0, 1, 2)
    """

    data: Dataset | str | os.PathLike[str]
    out: str | os.PathLike[str]
    preset: str = "full"
    seeds: Sequence[int] = ALL_SEEDS
    epochs: int | None = None
    every: int | None = None
    device: str | None = None
    workers: int = 0
    cache: str | None = None
    per_second: bool = False
    backbone_weights: Sequence[str | os.PathLike[str]] = ()
    validate: bool = False
    minutes: float | None = None
    models: Sequence[str] = ()
    protocol: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    _origin: str = field(default="", init=False, repr=False)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The tables; the second is leave-one-recording-out, where the store has two recordings to train on."""
        if self.minutes is not None and not self.minutes >= 0:
            raise InputError(f"minutes: expected 0 or more, got {self.minutes:g}")
        order = read_toml("all.toml")
        table2 = self._part("table2", tuple(self.seeds), self.models, first=order["first"])
        first = [name for name in order["first"] if name in table2.wanted]
        data = table2.work.data
        others = [
            self._part(name, tuple(self.seeds[:1]), [] if not self.models else None, data=data)
            for name in order["tables"]
        ]
        found = [table2]
        left_out = first[: order["left_out"]]
        if left_out and self.left_out_problem(table2) is None:
            found.append(self._part("table2", tuple(self.seeds[:1]), left_out, data=data, loro=True))
        return (*found, *(part for part in others if part.wanted))

    def left_out_problem(self, table2: Part) -> str | None:
        """Why no recording can be left out; None where one can."""
        try:
            replace(table2.work, loro=True).models  # noqa: B018
        except InputError as error:
            return str(error)
        return None

    def _part(
        self,
        name: str,
        seeds: tuple[int, ...],
        models: Sequence[str] | None,
        *,
        first: Sequence[str] = (),
        data: Dataset | None = None,
        loro: bool = False,
    ) -> Part:
        """models: rows to make, all where empty; None for those whose trainings are all asked for."""
        reproduction = Reproduction(
            table=name, data=self.data if data is None else data, out=self.out, models=models or (), seeds=seeds,
            epochs=self.epochs, every=self.every, preset=self.preset, device=self.device, workers=self.workers,
            cache=self.cache, per_second=self.per_second, backbone_weights=self.backbone_weights,
            validate=self.validate, loro=loro, protocol=self.protocol, settings=self.settings,
        )  # fmt: skip
        experiment, rows, work = reproduction.prepared()
        if models is None:
            asked = set(self.models)
            rows = tuple(row for row in rows if {training.name for training in row.trainings} <= asked)
        return Part(
            experiment=experiment,
            work=replace(work, bundles=True),
            seeds=seeds,
            worlds=not (loro or experiment.is_figure),
            one_seed=frozenset(row.name for row in experiment.rows) - frozenset(first)
            if first
            else frozenset(),
            wanted=frozenset(row.name for row in rows),
        )

    def units(self) -> Iterator[Unit]:
        """All that is to be made, each once, in order.

        The first rows, all of Table II, the other tables, more seeds of the first rows, recordings left out; then rows
        that are dear.
        """
        seen: set[str] = set()
        for unit in self._ordered():
            if is_available(unit.row) and unit.key not in seen:
                seen.add(unit.key)
                yield unit

    def _ordered(self) -> Iterator[Unit]:
        table2, *others = self.parts
        order = read_toml("all.toml")
        first = [name for name in order["first"] if name in table2.wanted]
        rows = {row.name: row for row in table2.rows}
        ahead = [rows[name] for name in first]
        last = [row for row in table2.rows if row.name in order["last"]]
        behind = [row for row in table2.rows if row.name not in (*first, *order["last"])]
        for group in (ahead, behind):
            for row in (*group, *lost_rows(table2.experiment, group)):
                yield Unit(table2, row, table2.seeds[0])
        for part in others:
            if not part.work.loro:
                for row in (*part.rows, *lost_rows(part.experiment, part.rows)):
                    yield Unit(part, row, part.seeds[0])
        for seed in table2.seeds[1:]:
            for row in (*ahead, *lost_rows(table2.experiment, ahead)):
                yield Unit(table2, row, seed)
        for part in others:
            if part.work.loro:
                for row in sorted(part.rows, key=lambda row: first.index(row.name)):
                    yield Unit(part, row, part.seeds[0])
        for row in (*last, *lost_rows(table2.experiment, last)):
            yield Unit(table2, row, table2.seeds[0])

    def plan(self, *, measure: bool | None = None) -> dict[str, Any]:
        """What `run` would do: each unit's state, and estimated seconds. Nothing is written.

        measure: time a few steps of each model; by default where counting says more than ten minutes.
        """
        parts, place = self.parts, self.place
        place.check(parts[0].work.data)
        planned = self._planned(measure)
        first = parts[0].work
        return {
            "table": "all",
            "title": "Tables II to V and Fig. 6, three worlds, one recording left out",
            "size": place.size,
            "data": {
                "name": first.data.name,
                "simulated": first.simulated,
                "fingerprint": first.data.fingerprint,
            },
            "out": str(place.out),
            "backbones": {},
            "left_out_problem": self.left_out_problem(parts[0]),
            "steps": [step for _, step in planned],
            "estimate": self._origin,
            "estimated_seconds": total_seconds(planned),
        }

    @property
    def place(self) -> Workplace:
        return self.parts[0].work.place

    def _estimated(self, *, measure: bool) -> list[tuple[Unit, dict[str, Any]]]:
        estimators: dict[int, Estimator] = {}
        planned: set[tuple[str, int]] = set()
        steps = []
        for unit in self.units():
            if id(unit.part) not in estimators:
                other = next(iter(estimators.values()), None)
                estimators[id(unit.part)] = Estimator(unit.part.work, measure=measure, other=other)
                self._origin = estimators[id(unit.part)].origin
            facts = {"row": unit.row.name, "seed": unit.seed, "state": "done"}
            if not unit.is_done:
                facts = estimators[id(unit.part)].step(unit.row, unit.seed, planned)
            steps.append((unit, facts | {"table": unit.part.name}))
        return steps

    def run(self, tell: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
        """Make what is missing, write all tables, the board and the page; what the page says, as its .json has it.

        tell: is told the cost beforehand, and at the end how it compares to what it was.

        Raises:
            InputError: as of `Reproduction`.
            BusyError: a `reproduce TABLE` is at work in the folder.
        """
        began = time.monotonic()
        place, data = self.place, self.parts[0].work.data
        place.check(data)
        make_folder(place.out.absolute().parent, "the results")
        start(place, data)
        if self.minutes == 0:
            return self._finish(0.0, 0.0, tell)
        plan = self._planned()
        expected = {unit.key: step.get("estimated_seconds") for unit, step in plan}
        total = total_seconds(plan)
        count = sum(step["state"] != "done" for _, step in plan)
        tell(f"{count} rows to make, about {clock(total)} in all; {self._origin}")
        spent, compared = self._make_all([unit for unit, _ in plan], expected, began)
        return self._finish(spent, compared, tell)

    def _planned(self, measure: bool | None = None) -> list[tuple[Unit, dict[str, Any]]]:
        if measure is not None:
            return self._estimated(measure=measure)
        counted = self._estimated(measure=False)
        total = total_seconds(counted)
        return self._estimated(measure=True) if total is not None and total > MEASURE_FROM else counted

    def _make_all(
        self, units: Sequence[Unit], expected: dict[str, float | None], began: float
    ) -> tuple[float, float]:
        """Make units until none is left, or none fits into what is left of the time.

        Returns:
            Seconds spent on units that were made whole in this call, and those that had been expected of them.
        """
        pending = [unit for unit in units if not unit.is_done]
        broken: dict[tuple[str, int], str] = {}
        spent = wished = 0.0
        made_one = False
        with Progress(len(pending), "unit", "all") as bar:
            while pending:
                busy = []
                for unit in pending:
                    estimate = expected.get(unit.key)
                    if made_one and not self._fits(estimate, spent, wished, time.monotonic() - began):
                        continue
                    bar.tell(unit=unit.name)
                    resumed = self._is_begun(unit)
                    started = time.monotonic()
                    outcome = self._make(unit, broken)
                    if outcome == "busy":
                        busy.append(unit)
                        continue
                    bar.update()
                    made_one = True
                    if outcome == "made" and not resumed and estimate:
                        spent += time.monotonic() - started
                        wished += estimate
                if not busy or self._is_over(began):
                    break
                time.sleep(WAIT)
                pending = [unit for unit in busy if not unit.is_done]
        return spent, wished

    def _fits(self, estimate: float | None, spent: float, wished: float, gone: float) -> bool:
        if self.minutes is None:
            return True
        factor = spent / wished if wished else 1.0
        return gone + factor * (estimate or 0.0) <= 60 * self.minutes

    def _is_over(self, began: float) -> bool:
        return self.minutes is not None and time.monotonic() - began > 60 * self.minutes

    @staticmethod
    def _is_begun(unit: Unit) -> bool:
        work = unit.part.work
        return any(
            (work.run(training, unit.seed, fold) / "state.safetensors").is_file()
            and not work.is_trained(training, unit.seed, fold)
            for training in unit.row.trainings
            for fold in work.models
        )

    def _make(self, unit: Unit, broken: dict[tuple[str, int], str]) -> str:
        """ "made", "failed", "there" where another process has made it, or "busy" where one is at it."""
        with ExitStack() as held:
            try:
                for name in unit.turns():
                    held.enter_context(turn(self.place.turns / name))
            except BusyError:
                return "busy"
            if unit.is_done:
                return "there"
            found = unit.part.work.make(unit.row, unit.seed, broken)
        unit.part.write(picture=False)
        return "made" if found["status"] == "done" else "failed"

    def _finish(self, spent: float, wished: float, tell: Callable[[str], object]) -> dict[str, Any]:
        """All tables, the board and the page; by one process at a time."""
        if wished:
            tell(
                f"made in {clock(spent)} what was expected to take {clock(wished)}: {spent / wished:.2f} times"
            )
        with ExitStack() as held:
            while True:  # a turn whose process was killed is dead before long
                try:
                    held.enter_context(turn(self.place.turns / "page"))
                    break
                except BusyError:
                    time.sleep(WAIT)
            documents = [part.write() for part in self.parts]
            document = self._document(documents, spent, wished)
            board = self._board()
            write_json(self.place.table("all", "json"), document)
            write_pages(self.place, document, documents, board)
        return document

    def _document(self, documents: Sequence[dict[str, Any]], spent: float, wished: float) -> dict[str, Any]:
        units = list(self.units())
        results = {unit.key: unit.result() for unit in units}
        states = {
            key: "not reached" if found is None else str(found["status"]) for key, found in results.items()
        }
        earlier = (read_json(self.place.table("all", "json")) or {}).get("calls", [])
        calls = [*earlier, {"seconds": round(spent, 1), "expected": round(wished, 1)}] if wished else earlier
        return {
            "schema": 1,
            "table": "all",
            "size": self.place.scored,
            "notice": documents[0]["notice"],
            "data": documents[0]["data"],
            "seeds": list(self.seeds),
            "units": [
                {
                    "row": unit.row.name,
                    "table": unit.part.name,
                    "seed": unit.seed,
                    "status": states[unit.key],
                    "error": (results[unit.key] or {}).get("error"),
                }
                for unit in units
            ],
            "not_reached": [unit.name for unit in units if states[unit.key] == "not reached"],
            "failed": [unit.name for unit in units if states[unit.key] == "failed"],
            "left_out_problem": self.left_out_problem(self.parts[0]),
            "curves": self._curves(units),
            "calls": calls,
            "tables": [
                {
                    "name": part.name,
                    "files": {
                        end: part.work.place.table(part.experiment.name, end).name for end in ("md", "json")
                    },
                    "picture": document["picture"],
                }
                for part, document in zip(self.parts, documents, strict=True)
            ],
        }

    def _curves(self, units: Sequence[Unit]) -> list[dict[str, Any]]:
        """Of each training by gradients, the first seed, none of the folds: how its loss went."""
        found: dict[str, dict[str, Any]] = {}
        for unit in units:
            work = unit.part.work
            if work.loro or unit.seed != self.seeds[0]:
                continue
            for training in unit.row.trainings:
                run = work.run(training, unit.seed)
                curve = describe_curve(run)
                if training.name not in found and curve is not None:
                    found[training.name] = {"training": training.name, **curve}
        return list(found.values())

    def _board(self) -> dict[str, Any] | None:
        """A board of every row's bundle, whole and with a sensor lost, of the first seed; None with fewer than one."""
        bundles = {
            str(unit.part.work.place.bundle(unit.part.work.slug(unit.row), unit.seed)): None
            for unit in self.units()
            if not unit.part.work.loro and not unit.row.window and unit.seed == self.seeds[0] and unit.is_done
        }
        if not bundles:
            return None
        work = self.parts[0].work
        out = self.place.out / f"board-{self.place.scored}"
        return make_board(
            list(bundles), work.data, out, reports=False, resamples=work.preset.resamples
        ).to_dict()


def start(place: Workplace, data: Dataset) -> None:
    """Mark the folder as this data set's, and clear away what killed calls have left.

    BusyError where a `reproduce TABLE` is at work in it.
    """
    until = time.monotonic() + START_WAIT
    while True:
        try:
            with target_lock(place.out.absolute()):
                place.claim(data)
            return
        except BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


def total_seconds(steps: Sequence[tuple[Unit, dict[str, Any]]]) -> float | None:
    seconds = [step["estimated_seconds"] for _, step in steps if "estimated_seconds" in step]
    return None if None in seconds else float(sum(seconds))


def clock(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
