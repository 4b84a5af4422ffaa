"""Every page of the cookbook, as it stands, from a store to what it promises."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fmfbench

PAGES = Path(__file__).parents[2] / "docs" / "cookbook"
NEEDS = {
    "accelerate": ("accelerate",),
    "anomalib": ("anomalib",),
    "hf-datasets": ("datasets",),
    "lightning": ("lightning",),
    "polars-duckdb": ("polars", "duckdb"),
    "scikit-learn-pyod": ("sklearn", "pyod"),
    "torchvision-timm": ("torchvision", "timm"),
    "transformers": ("transformers", "accelerate"),
    "xarray-dask": ("xarray", "dask"),
}
PRINTS = {"hf-datasets": "correlation", "polars-duckdb": "onsets in train", "xarray-dask": "FMF-Sim-1"}


def script(page: str) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (PAGES / f"{page}.md").read_text(), re.M | re.S)
    return code


def test_every_page_is_run_here() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} - {"index"} == set(NEEDS)
    for page in NEEDS:
        compile(script(page), page, "exec")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cookbook")
    fmfbench.simulate(folder / "furnace", preset="tiny")
    return fmfbench.convert(folder / "furnace", folder / "fmf.zarr")


@pytest.mark.long
@pytest.mark.parametrize("page", NEEDS)
def test_a_page_runs(page: str, store: Path, tmp_path: Path) -> None:
    for package in NEEDS[page]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(
                f"{package} is not installed: pip install 'fmfbench[clients]', or python tests/clients/run.py"
            )
    (tmp_path / "page.py").write_text(script(page))
    done = subprocess.run(
        [sys.executable, "page.py", str(store)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert PRINTS.get(page, "| accuracy |") in done.stdout
