"""`reproduce`: from a store to a table; `plan`: what that would do, and how long it would take."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import BusyError, InputError
from fmfbench.files.atomic import replace_file, write_text
from fmfbench.files.claims import make_folder
from fmfbench.files.local import local_path
from fmfbench.files.lock import target_lock
from fmfbench.files.remote import parse_place
from fmfbench.files.turns import live_turns
from fmfbench.scoring.provenance import backbone_text
from fmfbench_models.parts.progress import Progress
from fmfbench_models.registry import list_models
from fmfbench_models.reproduce.backbones import backbone_files
from fmfbench_models.reproduce.document import build_document
from fmfbench_models.reproduce.estimate import Estimator
from fmfbench_models.reproduce.experiment import (
    Experiment,
    Row,
    changed_preset,
    choose_rows,
    load_experiment,
    load_preset,
)
from fmfbench_models.reproduce.markdown import document_markdown
from fmfbench_models.reproduce.picture import draw_lengths
from fmfbench_models.reproduce.work import Work
from fmfbench_models.reproduce.workplace import Workplace, write_json
from fmfbench_models.reproduce.worlds import lost_rows
from fmfbench_models.training.parallel import check_device

__all__ = ["Reproduction", "known_results", "plan", "reproduce", "write_table"]

Results = dict[tuple[str, int], dict[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One of the paper's tables on a store: what `run` makes, and `plan` would.

    table: one of `TABLES`. out: a folder that belongs to this data set; several tables in it share their runs.
    models: names of rows or of registered models; all by default. seeds: each row is trained once with each.
    epochs: of the shared recipe's 30; other recipes and the steps of the learning rate shrink in proportion.
    every: each how-many-th training and validation sample is used, by all models; the preset's by default. With it,
    epochs can stay in proportion on a store that is too big for whole ones. Test samples are all scored.
    preset: of `preset_names()`. protocol: a named one for all rows, in place of the preset's. settings: keys of the
    shared recipe, or "protocol.KEY", for all rows alike; a model with a recipe of its own keeps its values, but for
    batch_size. Work of other settings has other files. device, workers, cache: as of `train`.
    per_second: predict and score only the last test sample of each second: 25 times faster, and not to be set beside
    figures of every frame.
    backbone_weights: files for convolutional trunks; each goes to the models whose trunk it fits.
    loro: leave one recording out: one model a recording with train samples, trained on the others; scored on the train
    samples of all, each judged by the model that never saw its recording. Without worlds; the test split has no part.
    worlds: also predict and score each cross-modal row with the video lost and with the current lost.
    validate: train on the split `fit` and score the epoch of lowest loss on `val`; without, train on all training
    samples and score the last epoch, as the paper does.

    Example:
        >>> import fmfbench_models.reproduce as r
        >>> work = r.Reproduction(table="table2", data="fmf.zarr", out="tables", preset="nano")
        >>> work.seeds
        (0,)
    """

    table: str
    data: Dataset | str | os.PathLike[str]
    out: str | os.PathLike[str]
    models: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    epochs: int | None = None
    every: int | None = None
    preset: str = "full"
    device: str | None = None
    workers: int = 0
    cache: str | None = None
    per_second: bool = False
    backbone_weights: Sequence[str | os.PathLike[str]] = ()
    validate: bool = False
    worlds: bool = True
    loro: bool = False
    protocol: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Train what is missing, predict, score, and write the table into `out`; the table as its .json file has it.

        `TABLE-SIZE.md` and `.json` (and `fig6-SIZE.png`) are written anew after each row; the table always has all
        rows: those that failed say so and why, and so do those that were not asked for. Called again, it resumes, and
        tries again what failed.

        Raises:
            InputError: no such table, preset, row or store, weights that fit no trunk, or a folder that is another data
                set's.
            BusyError: another process is writing into `out`.
        """
        experiment, rows, work = self.prepared()
        place, seeds = work.place, self.seeds
        make_folder(place.out.absolute().parent, "the results")
        with target_lock(place.out.absolute()):
            check_alone(place)
            place.claim(work.data)
            results = known_results(experiment, work, seeds, worlds=self.worlds and not self.loro)
            missing = [
                (row, seed)
                for part in (rows, self._lost(experiment, rows))
                for seed in seeds
                for row in part
                if is_available(row) and (results[row.name, seed] or {}).get("status") != "done"
            ]
            broken: dict[tuple[str, int], str] = {}
            document = write_table(experiment, rows, work, seeds, results)
            with Progress(len(missing), "row", experiment.name) as bar:
                for row, seed in missing:
                    bar.tell(row=row.name, seed=seed)
                    results[row.name, seed] = work.make(row, seed, broken)
                    document = write_table(experiment, rows, work, seeds, results)
                    bar.update()
        return document

    def plan(self, *, measure: bool = False) -> dict[str, Any]:
        """What `run` would do: each row's state and configuration, and estimated seconds. Nothing is written.

        The estimate is the arithmetic of each model, counted, at a stored rate of one processor; `measure` runs a few
        steps of each model on a batch of the store instead, which takes minutes.
        """
        experiment, rows, work = self.prepared()
        work.place.check(work.data)
        results = known_results(experiment, work, self.seeds, worlds=self.worlds and not self.loro)
        estimator = Estimator(work, measure=measure)
        planned: set[tuple[str, int]] = set()
        steps: list[dict[str, Any]] = []
        for part, seed in product((rows, self._lost(experiment, rows)), self.seeds):
            for row in part:
                if not is_available(row):
                    steps.append({"row": row.name, "seed": seed, "state": "not available"})
                elif (results[row.name, seed] or {}).get("status") == "done":
                    steps.append({"row": row.name, "seed": seed, "state": "done"})
                else:
                    steps.append(estimator.step(row, seed, planned))
        seconds = [step["estimated_seconds"] for step in steps if "estimated_seconds" in step]
        return {
            "table": experiment.name,
            "title": experiment.title,
            "size": work.place.size,
            "data": {
                "name": work.data.name,
                "simulated": work.simulated,
                "fingerprint": work.data.fingerprint,
            },
            "out": str(work.place.out),
            "backbones": {name: backbone_text(file.facts) for name, file in sorted(work.backbones.items())},
            "steps": steps,
            "estimate": estimator.origin,
            "estimated_seconds": None if None in seconds else sum(seconds),
        }

    def _lost(self, experiment: Experiment, rows: Sequence[Row]) -> tuple[Row, ...]:
        return lost_rows(experiment, rows) if self.worlds and not self.loro else ()

    def prepared(self) -> tuple[Experiment, tuple[Row, ...], Work]:
        """The arguments, checked."""
        experiment, size = load_experiment(self.table), load_preset(self.preset)
        rows = choose_rows(experiment, self.models)
        seeds, epochs, every = self.seeds, self.epochs, self.every
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise InputError(f"seeds: expected different integers from 0, got {list(seeds)}")
        if epochs is not None and epochs < 1:
            raise InputError(f"epochs: expected 1 or more, got {epochs}")
        if every is not None and every < 1:
            raise InputError(f"every: expected 1 or more, got {every}")
        data = self.data
        if not isinstance(data, Dataset):
            data = fmfbench.open_dataset(parse_place(data))
        check_device(self.device)
        epochs = epochs or size.epochs
        size = changed_preset(size, epochs, every, self.protocol, self.settings)
        every = None if every == size.options.get("every", 1) else every  # said or not, it is the same work
        ending = ("" if every is None else f"-every{every}") + ("-validated" if self.validate else "")
        work = Work(
            data=data,
            place=Workplace(
                local_path(self.out),
                f"{size.name}-{epochs}ep{ending}{size.mark}",
                sample_set="-".join(["loro"] * self.loro + ["per-second"] * self.per_second),
            ),
            preset=size,
            epochs=epochs,
            every=every,
            validate=self.validate,
            simulated=data.simulated,
            device=self.device,
            workers=self.workers,
            cache=self.cache,
            per_second=self.per_second,
            loro=self.loro,
        )
        if self.loro and experiment.is_figure:
            raise InputError(f"--loro: expected a table, got {experiment.name}, whose rows are one model")
        work.models  # noqa: B018  says now that there are too few recordings
        if self.backbone_weights:
            work = with_backbones(work, experiment, rows, [Path(path) for path in self.backbone_weights])
        return experiment, rows, work


def reproduce(
    table: str, data: Dataset | str | os.PathLike[str], out: str | os.PathLike[str], **options: Any
) -> dict[str, Any]:
    """`Reproduction(...).run()`."""
    return Reproduction(table=table, data=data, out=out, **options).run()


def plan(
    table: str,
    data: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    measure: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """`Reproduction(...).plan()`."""
    return Reproduction(table=table, data=data, out=out, **options).plan(measure=measure)


def with_backbones(work: Work, experiment: Experiment, rows: Sequence[Row], paths: Sequence[Path]) -> Work:
    """`work` with files for the trunks of all rows, each file being for one of `rows` at least."""
    backbone_files(work.trunks([row for row in rows if is_available(row)]), paths)
    found = backbone_files(work.trunks([row for row in experiment.rows if is_available(row)]), paths)
    marks = sorted({file.mark for file in found.values()})
    return replace(
        work, backbones=found, place=replace(work.place, table_mark="-".join(["", "backbone", *marks]))
    )


def is_available(row: Row) -> bool:
    """Whether this installation has the models of a row."""
    return all(training.model in list_models() for training in row.trainings)


def check_alone(place: Workplace) -> None:
    """BusyError while a `reproduce all` is at work in the folder."""
    held = live_turns(place.turns)
    if held:
        raise BusyError(
            f"{place.out}: `reproduce all` is making {', '.join(held[:3])}{', ...' if len(held) > 3 else ''} there; "
            f"wait until it has finished"
        )


def known_results(
    experiment: Experiment,
    work: Work,
    seeds: Sequence[int],
    *,
    worlds: bool = True,
    with_one_seed: Collection[str] = (),
) -> Results:
    """What is there of each row and seed. with_one_seed: rows that are made with the first seed alone."""
    lost = lost_rows(experiment, experiment.rows) if worlds else ()
    return {
        (row.name, seed): work.result(row, seed) if is_available(row) else {"status": "not available"}
        for row in (*experiment.rows, *lost)
        for seed in (seeds[:1] if row.name.partition("@")[0] in with_one_seed else seeds)
    }


def write_table(
    experiment: Experiment,
    rows: Sequence[Row],
    work: Work,
    seeds: Sequence[int],
    results: Results,
    *,
    picture: bool = True,
) -> dict[str, Any]:
    document = build_document(experiment, {row.name for row in rows}, work, seeds, results)
    write_json(work.place.table(experiment.name, "json"), document)
    if document["picture"] and picture:
        replace_file(work.place.out / document["picture"], draw_lengths(document))
    write_text(work.place.table(experiment.name, "md"), document_markdown(document))
    return document
