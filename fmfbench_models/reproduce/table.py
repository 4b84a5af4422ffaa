"""`reproduce`: from a store to a table; `plan`: what that would do, and how long it would take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import InputError
from fmfbench.files.local import local_path
from fmfbench.files.lock import target_lock
from fmfbench.files.remote import parse_place
from fmfbench.scoring.provenance import backbone_text
from fmfbench_models.registry import list_models
from fmfbench_models.reproduce.backbones import backbone_files
from fmfbench_models.reproduce.document import build_document
from fmfbench_models.reproduce.estimate import Estimator
from fmfbench_models.reproduce.experiment import Experiment, Row, choose_rows, load_experiment, load_preset
from fmfbench_models.reproduce.markdown import document_markdown
from fmfbench_models.reproduce.picture import draw_lengths
from fmfbench_models.reproduce.work import Work
from fmfbench_models.reproduce.workplace import Workplace, write_bytes, write_json, write_text
from fmfbench_models.training.parallel import check_device

__all__ = ["is_simulated", "plan", "reproduce"]

Results = dict[tuple[str, int], dict[str, Any] | None]


def is_simulated(data: Dataset) -> bool:
    """Whether any recording of a store, or any file it was made of, is named as FMF-Sim names them."""
    sources = [str(source["path"]) for source in data.attributes.get("fmfbench.sources", [])]
    return any("FMF-Sim" in name for name in (*data.recordings, *sources))


def reproduce(
    table: str,
    data: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    models: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    every: int | None = None,
    preset: str = "full",
    device: str | None = None,
    workers: int = 0,
    cache: str | None = None,
    per_second: bool = False,
    backbone_weights: Sequence[str | os.PathLike[str]] = (),
) -> dict[str, Any]:
    """Train what is missing for one of the paper's tables, predict, score, and write the table into `out`.

    The table, `TABLE-SIZE.md` and `.json` (and `fig6-SIZE.png`), is written anew after each row; it always has all
    rows: those that failed say so and why, and so do those that were not asked for. Called again, it resumes, and
    tries again what failed.

    Args:
        table: one of `TABLES`.
        out: a folder that belongs to this data set; several tables in it share their runs.
        models: names of rows or of registered models; all by default.
        seeds: each row is trained once with each.
        epochs: of the shared recipe's 30; other recipes and the steps of the learning rate shrink in proportion.
        every: each how-many-th training and validation sample is used, by all models; the preset's by default. With
            it, epochs can stay in proportion on a store that is too big for whole ones. Test samples are all scored.
        preset: of `preset_names()`.
        device, workers, cache: as of `train`.
        per_second: predict and score only the last test sample of each second: 25 times faster, and not to be set
            beside figures of every frame.
        backbone_weights: files for convolutional trunks; each goes to the models whose trunk it fits.

    Returns:
        The table as it stands in the .json file.

    Raises:
        InputError: no such table, preset, row or store, weights that fit no trunk, or a folder that is another data
            set's.
        BusyError: another process is writing into `out`.
    """
    experiment, rows, work = prepare(
        table,
        data,
        out,
        models,
        seeds,
        epochs,
        every,
        preset,
        device,
        workers,
        cache,
        per_second,
        backbone_weights,
    )
    place = work.place
    place.out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with target_lock(place.out.absolute()):
        place.claim(work.data)
        results = known_results(experiment, work, seeds)
        missing = [
            (row, seed)
            for seed in seeds
            for row in rows
            if is_available(row) and (results[row.name, seed] or {}).get("status") != "done"
        ]
        broken: dict[tuple[str, int], str] = {}
        document = write_table(experiment, rows, work, seeds, results)
        for row, seed in tqdm(missing, unit="row", desc=experiment.name, disable=None):
            results[row.name, seed] = work.make(row, seed, broken)
            document = write_table(experiment, rows, work, seeds, results)
    return document


def plan(
    table: str,
    data: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    models: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    every: int | None = None,
    preset: str = "full",
    device: str | None = None,
    workers: int = 0,
    cache: str | None = None,
    per_second: bool = False,
    backbone_weights: Sequence[str | os.PathLike[str]] = (),
) -> dict[str, Any]:
    """What `reproduce` would do with the same arguments: each row's state and configuration, and estimated seconds.

    The estimate runs a few steps of each model on a batch of the store. Nothing is written.
    """
    experiment, rows, work = prepare(
        table,
        data,
        out,
        models,
        seeds,
        epochs,
        every,
        preset,
        device,
        workers,
        cache,
        per_second,
        backbone_weights,
    )
    work.place.check(work.data)
    results = known_results(experiment, work, seeds)
    estimator = Estimator(work)
    planned: set[tuple[str, int]] = set()
    steps = []
    for seed in seeds:
        for row in tqdm(rows, unit="row", desc="estimate", disable=None):
            if not is_available(row):
                steps.append({"row": row.name, "seed": seed, "state": "not available"})
            elif (results[row.name, seed] or {}).get("status") == "done":
                steps.append({"row": row.name, "seed": seed, "state": "done"})
            else:
                steps.append(estimator.step(row, seed, planned))
    return {
        "table": experiment.name,
        "title": experiment.title,
        "size": work.place.size,
        "data": {"name": work.data.name, "simulated": work.simulated, "fingerprint": work.data.fingerprint},
        "out": str(work.place.out),
        "backbones": {name: backbone_text(file.facts) for name, file in sorted(work.backbones.items())},
        "steps": steps,
        "estimated_seconds": sum(step.get("estimated_seconds") or 0.0 for step in steps),
    }


def prepare(
    table: str,
    data: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    models: Sequence[str],
    seeds: Sequence[int],
    epochs: int | None,
    every: int | None,
    preset: str,
    device: str | None,
    workers: int,
    cache: str | None,
    per_second: bool,
    backbone_weights: Sequence[str | os.PathLike[str]],
) -> tuple[Experiment, tuple[Row, ...], Work]:
    """The arguments, checked."""
    experiment, size = load_experiment(table), load_preset(preset)
    rows = choose_rows(experiment, models)
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(f"seeds: expected different integers from 0, got {list(seeds)}")
    if epochs is not None and epochs < 1:
        raise InputError(f"epochs: expected 1 or more, got {epochs}")
    if every is not None and every < 1:
        raise InputError(f"every: expected 1 or more, got {every}")
    if not isinstance(data, Dataset):
        data = fmfbench.open_dataset(parse_place(data))
    check_device(device)
    epochs = epochs or size.epochs
    every = None if every == size.options.get("every", 1) else every  # said or not, it is the same work
    ending = "" if every is None else f"-every{every}"
    work = Work(
        data=data,
        place=Workplace(
            local_path(out), f"{size.name}-{epochs}ep{ending}", sample_set="per-second" if per_second else ""
        ),
        preset=size,
        epochs=epochs,
        every=every,
        simulated=is_simulated(data),
        device=device,
        workers=workers,
        cache=cache,
        per_second=per_second,
    )
    if backbone_weights:
        work = with_backbones(work, experiment, rows, [Path(path) for path in backbone_weights])
    return experiment, rows, work


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


def known_results(experiment: Experiment, work: Work, seeds: Sequence[int]) -> Results:
    return {
        (row.name, seed): work.result(row, seed) if is_available(row) else {"status": "not available"}
        for row in experiment.rows
        for seed in seeds
    }


def write_table(
    experiment: Experiment, rows: Sequence[Row], work: Work, seeds: Sequence[int], results: Results
) -> dict[str, Any]:
    document = build_document(experiment, {row.name for row in rows}, work, seeds, results)
    write_json(work.place.table(experiment.name, "json"), document)
    if document["picture"]:
        write_bytes(work.place.out / document["picture"], draw_lengths(document))
    write_text(work.place.table(experiment.name, "md"), document_markdown(document))
    return document
