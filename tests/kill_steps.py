"""Run as a script: a conversion that dies at its n-th touch of the file system, for every n, and is then run again.

    python kill_steps.py SOURCE FOLDER MODE STRIDE [FIRST]

MODE is fresh; overwrite, over a finished store; or two-steps, the same where names cannot be exchanged. Each death
is that of a forked child, by an audit hook that ends the process on the spot: no `finally` runs. Prints one JSON line
per death: the step, whether a store was there and whole, and whether the second run ended well.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import fmfbench.store.writer
from fmfbench.conversion.convert import convert
from fmfbench.conversion.verify import verify

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "ctypes.dlsym"}


def in_child(work: Callable[[], object]) -> int:
    """The exit status of `work` in a process of its own: 0, 9 where it died, 1 where it raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr)
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(source: Path, target: Path, step: int) -> None:
    """Convert, and die before the step-th event that touches the target's folder."""
    left = step

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in EVENTS or (event != "ctypes.dlsym" and str(target) not in str(arguments)):
            return
        if event == "open" and not isinstance(arguments[2], int):
            return
        left -= 1
        if left < 0:
            os._exit(9)

    sys.addaudithook(hook)
    convert(source, target, workers=2, overwrite=True)


def is_whole(target: Path) -> bool | None:
    return verify(target).ok if target.exists() else None


def main() -> None:
    source, folder, mode, stride = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    target = folder / "out.zarr"
    step = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    if mode == "two-steps":
        fmfbench.store.writer.exchange = lambda first, second: False
    while True:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if mode != "fresh":
            in_child(lambda: convert(source, target, workers=1))
        died = in_child(lambda at=step: dying(source, target, at))
        whole = is_whole(target)
        again = in_child(lambda: convert(source, target, workers=2, overwrite=True))
        result = {
            "step": step, "died": died, "whole": whole, "again": again, "whole_again": is_whole(target),
            "left": sorted(p.name for p in folder.iterdir()),
        }  # fmt: skip
        print(json.dumps(result), flush=True)
        if died == 0:
            return
        step += stride


if __name__ == "__main__":
    main()
