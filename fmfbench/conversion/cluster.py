"""Conversion and verification on many processes or machines, through Dask distributed (extra `[dask]`).

Plain tasks: a conversion is one task a recording, each into a store of its own beside the target, merged by linking
when all are there; a verification is one task a shard. All machines see source and target under the same paths. A
worker that dies loses its task, which another takes up where it was: results are the bytes of one machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from fmfbench.conversion.convert import convert, file_stamps, make_options
from fmfbench.conversion.findings import Report
from fmfbench.conversion.verify import verify
from fmfbench.errors import FailedError, InputError, MissingDependencyError
from fmfbench.files.atomic import write_text
from fmfbench.files.lock import target_lock
from fmfbench.files.remote import Place, RemotePath, parse_place
from fmfbench.sources.layout import open_source
from fmfbench.store.merge import merge
from fmfbench.store.writer import check_target, is_half_made, is_store
from fmfbench.version import installed_version

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["convert_on", "joined_cluster", "run_tasks", "verify_on"]

_TRIES = 20  # of a task whose worker died: a machine that is taken away says nothing of the task
_SHARDS_AHEAD = 4  # for each worker


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
        raise InputError("expected exactly one of --scheduler ADDRESS and --processes N")
    try:
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "work on many processes needs the package distributed; pip install 'fmfbench[dask]'"
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
    """Results of (function, arguments...) tasks, in order, with a bar; the first error ends the others."""
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    futures = [client.submit(*task, pure=False) for task in tasks]
    try:
        with tqdm(total=len(futures), unit=unit, desc=describe, disable=None) as bar:
            for future in as_completed(futures):
                future.result()
                bar.update(1)
        return [future.result() for future in futures]
    except KilledWorker as error:
        raise FailedError(
            f"{describe}: {_TRIES} workers died at one task; give them more memory ({error})"
        ) from None
    finally:
        client.cancel(futures)


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
        tasks = [
            (_convert_part, str(source), parts / f"{name}.zarr", {**options, "only": [name]})
            for name in names
        ]
        try:
            run_tasks(client, tasks, "convert", "recording")
            merge([parts / f"{name}.zarr" for name in names], place, overwrite=overwrite)
        except InputError:
            shutil.rmtree(parts, ignore_errors=True)
            raise
        shutil.rmtree(parts, ignore_errors=True)
    return place


def _convert_part(source: str, part: Path, options: dict[str, Any]) -> None:
    """One recording; a part that an earlier try finished from the same files is kept."""
    made_of = part.with_suffix(".json")
    opened = open_source(source, make_options(**options))
    facts = {
        "files": file_stamps(opened),
        "options": repr(sorted(options.items())),
        "version": installed_version(),
    }
    if is_store(part) and made_of.exists() and json.loads(made_of.read_text()) == facts:
        return
    convert(source, part, **{**options, "workers": 1}, overwrite=True)
    write_text(made_of, json.dumps(facts))


def verify_on(client: Client, store: str | Place, source: str | Path | None = None, **options: Any) -> Report:
    """`verify` with one task a shard; a comparison with `source` stays on this machine."""
    executor: Executor = client.get_executor(pure=False, retries=_TRIES)
    store = parse_place(store)
    store = store.absolute() if isinstance(store, Path) else store
    ahead = _SHARDS_AHEAD * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    return verify(store, source, **{**options, "workers": ahead}, executor=executor)
