"""`python -m fmfbench ...` and `torchrun -m fmfbench ...`: the command line."""

from fmfbench_cli.main import main  # type: ignore[import-not-found]  # a name that packaging gives to cli/

main(prog_name="fmfbench")
