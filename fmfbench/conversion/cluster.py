"""Conversion and verification on many processes or machines, through Dask distributed (extra `[dask]`).

Plain tasks: a conversion is one task a recording, each into a store of its own beside the target, merged by linking
when all are there; where there are fewer recordings than would keep the workers busy, long raw videos are decoded in
stretches first, a task each. A verification is one task a shard. All machines see source and target under the same
paths. A worker that dies loses its task, which another takes up where it was: results are the bytes of one machine.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from fmfbench.conversion.convert import convert_opened, file_stamps, make_options
from fmfbench.conversion.findings import Report
from fmfbench.conversion.verify import verify
from fmfbench.errors import FailedError, FmfbenchError, InputError, MissingDependencyError
from fmfbench.files.atomic import write_text
from fmfbench.files.lock import target_lock
from fmfbench.files.remote import Place, RemotePath, parse_place
from fmfbench.sources.layout import open_source
from fmfbench.sources.recording import JoinedPair, RawPair
from fmfbench.sources.source import Source
from fmfbench.sources.video.stretches import Stretch, decode_stretch, join_stretches, plan_stretches
from fmfbench.store.merge import merge
from fmfbench.store.writer import check_target, is_half_made, is_store
from fmfbench.version import installed_version

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["convert_on", "joined_cluster", "run_tasks", "verify_on"]

_TRIES = 20  # of a task whose worker died: a machine that is taken away says nothing of the task
_SHARDS_AHEAD = 4  # for each worker
_RECORDINGS_AHEAD = 4  # for each worker: with so many, none need be cut into stretches
_STRETCH_SECONDS = 600.0


@contextmanager
def joined_cluster(scheduler: str | None = None, processes: int | None = None) -> Iterator[Client]:
    """A client of a running cluster, or of processes started here for the while.

    Args:
        scheduler: address of a Dask scheduler, as tcp://host:8786.
        processes: start so many on this machine instead, one thread each.

    Raises:
        InputError: both or neither, or no scheduler at that address.
        MissingDependencyError: Dask is not installed.
    """
    if (scheduler is None) == (processes is None):
        got = "neither" if scheduler is None else "both"
        raise InputError(f"expected --scheduler ADDRESS or --processes N, got {got}")
    try:
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "many processes: the package distributed is not installed; pip install 'fmfbench[dask]'"
        ) from error
    settings = {"distributed.scheduler.allowed-failures": _TRIES, "distributed.worker.daemon": False}
    with dask.config.set(settings):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="10s")
            except (OSError, TimeoutError, ValueError) as error:
                raise InputError(
                    f"--scheduler {scheduler}: expected a Dask scheduler there, got none ({error})"
                ) from None
            with client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=processes, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
            ) as local,
            Client(local) as client,
        ):
            yield client


def run_tasks(client: Client, tasks: list[Any], describe: str, unit: str) -> list[Any]:
    """Results of (function, arguments...) tasks, in order, with a bar.

    The first error ends the others: it is raised when no worker is at one of them any more, so that nothing is written
    while what they wrote is cleared away.

    Raises:
        FailedError: twenty workers died at one task, or the scheduler is gone.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    futures = [client.submit(*task, pure=False) for task in tasks]
    try:
        with tqdm(total=len(futures), unit=unit, desc=describe, disable=None) as bar:
            for future in as_completed(futures):
                future.result()
                bar.update(1)
        results = [future.result() for future in futures]
        client.cancel(futures)
    except BaseException as error:
        gone = not _ended(client, futures)
        if isinstance(error, KilledWorker):
            raise FailedError(
                f"{describe}: {_TRIES} workers died at one task; give them more memory ({error})"
            ) from None
        if gone and not isinstance(error, (FmfbenchError, KeyboardInterrupt)):
            raise FailedError(
                f"{describe}: expected the cluster's scheduler to answer, got none any more; start it again, and the "
                "same command resumes"
            ) from error
        raise
    return results


def _ended(client: Client, futures: list[Any]) -> bool:
    """Cancel tasks and wait, a minute at most, until no worker is at one; False where no scheduler answers.

    One that runs cannot be stopped, only be waited for; those of other clients of the cluster are not.
    """
    keys, until = {future.key for future in futures}, time.monotonic() + 60
    try:
        client.cancel(futures)
        while time.monotonic() < until and any(
            client.run(_tasks_at_work, keys=keys, on_error="ignore").values()
        ):
            time.sleep(0.05)
    except Exception:  # Dask raises OSError, TimeoutError, RuntimeError and others of its own
        return False
    return True


def _tasks_at_work(dask_worker: Any, keys: set[Any]) -> int:
    return sum(task.key in keys for task in dask_worker.state.executing)


def convert_on(
    client: Client, source: str | Path, target: str | Path, *, overwrite: bool = False, **options: Any
) -> Path:
    """`convert` with one task a recording.

    Args:
        client: of `joined_cluster`.
        source, target, overwrite, options: those of `convert`; the target is a path that all machines see.

    Raises:
        InputError: the source cannot be converted, the target is in the way, or is a URL; nothing is left behind.
        FailedError: the disk is full, for example; the same call resumes what is done.
    """
    source, place = Path(source).absolute(), parse_place(target)
    if isinstance(place, RemotePath):
        raise InputError(
            f"{target}: expected a path that all machines see, got a URL; convert one by one with --only"
        )
    place = place.absolute()
    check_target(place, overwrite=overwrite or is_half_made(place))
    opened = open_source(source, make_options(**options))
    names = [recording.name for recording in opened.recordings]
    parts = place.with_name(f"{place.name}.parts")
    with target_lock(parts):
        parts.mkdir(exist_ok=True)
        try:
            stretched = _decode_stretches(client, opened, str(source), parts, options)
            tasks = [
                (
                    _convert_part,
                    str(source),
                    parts / f"{name}.zarr",
                    {**options, "only": [name]},
                    stretched.get(name, []),
                )
                for name in names
            ]
            run_tasks(client, tasks, "convert", "recording")
            merge([parts / f"{name}.zarr" for name in names], place, overwrite=overwrite)
        except InputError:
            shutil.rmtree(parts, ignore_errors=True)
            raise
        shutil.rmtree(parts, ignore_errors=True)
    return place


def _decode_stretches(
    client: Client, opened: Source, source: str, parts: Path, options: dict[str, Any]
) -> dict[str, list[Stretch]]:
    """Stretches of the raw recordings that were decoded in several, into `parts`/NAME.stretches."""
    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    raw = [own.name for own in opened.recordings if isinstance(own.unmeasured, RawPair)]
    if not raw or workers < 2 or len(opened.recordings) >= _RECORDINGS_AHEAD * workers:
        return {}
    each = {name: {**options, "only": [name]} for name in raw}
    plans = run_tasks(
        client, [(_plan_part, source, each[name], _STRETCH_SECONDS) for name in raw], "look", "recording"
    )
    found = {name: plan for name, plan in zip(raw, plans, strict=True) if len(plan) > 1}
    tasks = [
        (_decode_part, source, each[name], stretch, parts / f"{name}.stretches", number)
        for name, plan in found.items()
        for number, stretch in enumerate(plan)
    ]
    run_tasks(client, tasks, "decode", "stretch")
    return found


def _plan_part(source: str, options: dict[str, Any], seconds: float) -> list[Stretch]:
    return plan_stretches(
        _raw_pair(open_source(source, make_options(**{**options, "workers": 1}))).video, seconds
    )


def _decode_part(source: str, options: dict[str, Any], stretch: Stretch, folder: Path, number: int) -> None:
    """One stretch; what an earlier try decoded from other files or with other options is thrown away."""
    opened = open_source(source, make_options(**{**options, "workers": 1}))
    own = folder / hashlib.sha256(json.dumps(_made_of(opened, options)).encode()).hexdigest()[:16]
    own.mkdir(parents=True, exist_ok=True)
    decode_stretch(_raw_pair(opened).video, stretch, own, number)


def _convert_part(source: str, part: Path, options: dict[str, Any], stretches: list[Stretch]) -> None:
    """One recording; a part that an earlier try finished from the same files is kept."""
    made_of = part.with_suffix(".json")
    one_thread = {**options, "workers": 1}
    opened = open_source(source, make_options(**one_thread))
    facts = _made_of(opened, options)
    if is_store(part) and made_of.exists() and json.loads(made_of.read_text()) == facts:
        return
    if stretches:
        pair = _raw_pair(opened)
        own = part.with_suffix(".stretches") / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        joined = join_stretches(pair.video, stretches, own)
        if joined is not None:
            recording = replace(opened.recordings[0], unmeasured=JoinedPair(pair, joined))
            opened = replace(opened, recordings=(recording,))
    convert_opened(opened, part, make_options(**one_thread), overwrite=True)
    write_text(made_of, json.dumps(facts))
    shutil.rmtree(part.with_suffix(".stretches"), ignore_errors=True)


def _raw_pair(opened: Source) -> RawPair:
    pair = opened.recordings[0].unmeasured
    assert isinstance(pair, RawPair)
    return pair


def _made_of(opened: Source, options: dict[str, Any]) -> dict[str, Any]:
    """What a part is made of, as JSON."""
    return {
        "files": file_stamps(opened),
        "options": repr(sorted(options.items())),
        "version": installed_version(),
    }


def verify_on(client: Client, store: str | Place, source: str | Path | None = None, **options: Any) -> Report:
    """`verify` with one task a shard; a comparison with `source` stays on this machine."""
    executor: Executor = client.get_executor(pure=False, retries=_TRIES)
    store = parse_place(store)
    store = store.absolute() if isinstance(store, Path) else store
    ahead = _SHARDS_AHEAD * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    return verify(store, source, **{**options, "workers": ahead}, executor=executor)
