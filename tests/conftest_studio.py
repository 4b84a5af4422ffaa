"""A studio in a process of its own, asked over HTTP, and a browser to look at its page with."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from scipy.io import savemat

import fmfbench

MAIN = "from fmfbench_cli.main import main; main()"
HOSTILE = "<img src=x onerror=alert(1)> \"q' & 100% #a?b"


class Studio:
    """A running `fmfbench studio`; what is not given to `ask` is what an honest page would send."""

    def __init__(self, store: Path, *arguments: str) -> None:
        self.start("studio", str(store), *arguments)

    def start(self, command: str, *arguments: str, **environment: str) -> None:
        """`fmfbench COMMAND ARGUMENTS`, which says its address first."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, command, *arguments, "--no-browser"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(f"{command}: http://"), (line, self.process.communicate(timeout=10))
        self.url = line.removeprefix(f"{command}: ").strip()
        self.token = self.url.partition("?token=")[2]
        self.port = int(self.url.split(":")[2].partition("/")[0])

    def ask(
        self, path: str, body: object = None, *, method: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; a JSON `body` makes it a POST. Names of headers with _ for -."""
        sent = {"Host": f"127.0.0.1:{self.port}", "Cookie": f"fmfbench_studio_{self.port}={self.token}"}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.putrequest(method or ("POST" if data is not None else "GET"), path, skip_host=True)
            if data is not None:
                sent["Content-Length"] = str(len(data))
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            with connection.getresponse() as answer:  # closed also where the server dies in the middle of it
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def json(self, path: str, body: object = None) -> Any:
        status, _, data = self.ask(path, body)
        assert status == 200, data
        return json.loads(data)

    def error(self, path: str, body: object = None) -> tuple[int, str]:
        status, _, data = self.ask(path, body)
        return status, json.loads(data)["error"]

    def stop(self, how: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.communicate(timeout=30)
        return self.process.returncode

    @property
    def peak_bytes(self) -> int:
        """The largest resident memory so far (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def in_path(name: str) -> str:
    return quote(name, safe="")


@pytest.fixture
def launch() -> Iterator[Any]:
    """Start studios that end with the test."""
    running: list[Studio] = []

    def start(store: Path, *arguments: str) -> Studio:
        running.append(Studio(store, *arguments))
        return running[-1]

    yield start
    for studio in running:
        studio.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def hostile_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings whose names are markup, of 24 x 32 pixels, with a red spot to label; one is unlabelled."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "source").mkdir()
    for number, name in enumerate((HOSTILE, "plain")):
        rng = np.random.default_rng(number)
        frames, height, width = 90 - 13 * number, 24, 32
        y, x = np.mgrid[:height, :width]
        masks = np.zeros((frames, height, width), np.uint8)
        for frame in range(20, 60):
            masks[frame] = ((y - 12) / 4) ** 2 + ((x - 8 - frame / 4) / 5) ** 2 < 1
        video = rng.normal(70, 6, (frames, height, width, 3)) + masks[..., None] * [130, 20, -10]
        savemat(
            folder / "source" / f"{name}.mat",
            {
                "video": np.clip(video, 0, 255).astype(np.uint8).transpose(1, 2, 3, 0),
                "current": rng.normal(8000, 100, (3, frames)),
                "label": masks.transpose(1, 2, 0),
                "train_test_index": (np.arange(frames) >= frames // 2).astype(np.uint8)[None],
            },
            do_compression=True,
        )
    return fmfbench.convert(folder / "source", folder / "hostile.zarr")


@pytest.fixture
def own_store(hostile_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(hostile_store, tmp_path / "own.zarr"))


@pytest.fixture(scope="session")
def prediction_files(awkward_store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two: one with masks and scores, one with decisions alone."""
    data = fmfbench.open_dataset(awkward_store)
    ids = data.sample_ids("test")
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("predictions")
    score = rng.random(len(ids)).astype(np.float32)
    mask = rng.integers(0, 2, (len(ids), 6, 9), np.uint8)
    meta = {"model": "<b>noise</b>", "fingerprint": data.fingerprint, "threshold": 0.25}
    order = rng.permutation(len(ids))
    first = fmfbench.write_predictions(
        folder / "noise.npz", sample_id=ids[order], score=score[order], mask=mask[order], meta=meta
    )
    second = fmfbench.write_predictions(
        folder / "coin.npz",
        sample_id=ids[::2],
        pred=(score[::2] > 0.75).astype(np.uint8),
        meta={"fingerprint": "0"},
    )
    return [first, second]


@pytest.fixture(scope="session")
def studio(awkward_store: Path, prediction_files: list[Path]) -> Iterator[Studio]:
    """A studio that only reads, with two prediction files."""
    options = [option for file in prediction_files for option in ("--predictions", str(file))]
    running = Studio(awkward_store, "--read-only", *options)
    yield running
    assert running.stop() == 0


def until(page: Any, expression: str, argument: object = None, seconds: float = 15) -> None:
    """Wait until an expression of the page is true. (Playwright's own way needs `eval`, which the page forbids.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, expression
        time.sleep(0.01)


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def find_chromium() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    return None


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium by Playwright; skipped where it is missing, which continuous integration counts as a failure."""
    api = pytest.importorskip("playwright.sync_api", reason="no browser: the package playwright is missing")
    path = find_chromium()
    if path is None:
        pytest.skip("no browser: Chromium is missing (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        # a container's root user has no sandbox
        options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        running = playwright.chromium.launch(executable_path=path, args=options)
        yield running
        running.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's source. Continuous integration fetches it and says where it lies."""
    path = os.environ.get("FMFBENCH_AXE")
    if not path:
        pytest.skip("no axe-core for the browser: export FMFBENCH_AXE=$(.ci/axe /tmp)")
    return Path(path).read_text(encoding="utf-8")


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    """Open pages that close with the test; whatever goes wrong in one fails it."""
    contexts, problems = [], []

    def open_page(url: str, width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.goto(url)
        until(page, "document.getElementById('video').dataset.frame >= 0")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems
