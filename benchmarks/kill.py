"""A hundred conversions killed with SIGKILL at random moments, each then run again by the same command.

    python benchmarks/kill.py [--kills 100] [--seed 0]

After each kill: nothing has the store's name, or it is whole. After the second run: committed shards are the same files
as before, every chunk equals that of an undisturbed conversion, `verify` is content, and nothing is left beside it.
Exit status 1 where one of these fails.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from material import folder, hostile_file
from tqdm import tqdm

from fmfbench.conversion.verify import verify
from fmfbench.store.digest import file_names

FRAMES = 8000
MAIN = "from fmfbench_cli.main import main; main()"


def convert(source: Path, target: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "convert", str(source), str(target)], stdout=subprocess.DEVNULL
    )


def chunks(store: Path) -> dict[str, bytes]:
    return {n: (store / n).read_bytes() for n in file_names(store) if not n.endswith("zarr.json")}


def committed(part: Path) -> dict[str, tuple[int, int]]:
    """Shards of video and masks that are there, and what would change if one were written again."""
    root = part / "store"
    names = [n for n in file_names(root) if n.endswith("/0/0") and "/c/" in n]
    return {n: ((root / n).stat().st_ino, (root / n).stat().st_mtime_ns) for n in names}


def problems(target: Path, before: dict[str, tuple[int, int]], wanted: dict[str, bytes]) -> list[str]:
    out = []
    for name, stamp in before.items():
        status = (target / name).stat()
        if (status.st_ino, status.st_mtime_ns) != stamp:
            out.append(f"{name} was committed and was written again")
    if chunks(target) != wanted:
        out.append("chunks differ from an undisturbed run")
    out += [f"{f.where}: {f.message}" for f in verify(target).damage]
    out += [f"{p.name} is left" for p in target.parent.iterdir() if p != target]
    return out


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source = hostile_file("plain", FRAMES, (8, 3, 64, 64), (8, 64, 64))
    place = folder() / "kills"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    target = place / "o.zarr"
    start = time.monotonic()
    convert(source, target).wait()
    duration = time.monotonic() - start
    wanted = chunks(target)
    moments = random.Random(options.seed)
    amid = found = 0
    for number in tqdm(range(options.kills), disable=None):
        shutil.rmtree(target, ignore_errors=True)
        process = convert(source, target)
        time.sleep(moments.uniform(0, duration))
        process.send_signal(signal.SIGKILL)
        process.wait()
        before: dict[str, tuple[int, int]] = {}
        if target.exists():
            if not verify(target).ok:
                found += 1
                print(f"kill {number}: a store was there and not whole")
        else:
            before = committed(target.with_name("o.zarr.part"))
            amid += bool(before)
            if convert(source, target).wait():
                found += 1
                print(f"kill {number}: the same command failed")
                continue
        for problem in problems(target, before, wanted):
            found += 1
            print(f"kill {number}: {problem}")
    shutil.rmtree(place)
    print(f"{options.kills} kills, {amid} of them with shards committed and work left: {found} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
