"""The command line as tests call it, and scripts and commands under torchrun."""

from __future__ import annotations

import os
import subprocess
import sys

from click.testing import CliRunner, Result
from fmfbench_cli.main import main


def invoke(*arguments: object) -> Result:
    """`fmfbench ARGUMENTS`, whatever comes of it."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fmfbench")


def call(*arguments: object, code: int = 0) -> Result:
    """`fmfbench ARGUMENTS`, which must end with `code`."""
    done = invoke(*arguments)
    assert done.exit_code == code, done.output
    return done


def torchrun(*arguments: object, processes: int = 2, fails: bool = False) -> str:
    """A script, or `-m` and a module, in processes that know each other; what they print, or say of their failing."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    process = subprocess.Popen(
        [sys.executable, *launcher, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, told = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun passes it on to its workers; a kill would leave them behind
        printed, told = process.communicate()
    assert (process.returncode != 0) == fails, told[-3000:]
    return told if fails else printed
