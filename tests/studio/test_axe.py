"""axe-core finds no serious fault in any state of the pages, light or dark."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_studio import HOSTILE, in_path, until

from fmfbench.studio.serve import listen, serving
from fmfbench_models.detector import Detection
from fmfbench_models.inference.watch import Judged
from fmfbench_models.inference.watch_log import WatchLog
from fmfbench_models.inference.watch_page import Live, make_watch_app

SCHEMES = ["light", "dark"]
OPEN_DIALOG = "document.querySelector('dialog[open]') !== null"


def faults(page: Any, axe: str) -> list[str]:
    """Serious and critical violations, with what has them."""
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 10
    return [
        f"{v['id']}: {node['html'][:160]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_studio(look: Any, launch: Any, own_store: Path, tmp_path: Path, axe: str, scheme: str) -> None:
    studio = launch(Path(shutil.copytree(own_store, tmp_path / "again.zarr")))
    page = look(f"{studio.url}#{in_path(HOSTILE)}/25", color_scheme=scheme, bypass_csp=True)
    until(page, "document.getElementById('saved').textContent === 'saved'")
    assert faults(page, axe) == []
    press = page.keyboard.press
    for key in ("n", "ArrowRight", "ArrowRight", "d", "j", "ArrowRight", "ArrowRight", "l"):
        press(key)
    until(page, "document.querySelectorAll('#part-event .strip canvas').length === 2")
    until(page, "document.querySelector('#part-divide .value, #part-divide .note') !== null")
    assert faults(page, axe) == []
    for opener in ("?", "Apply…", "Import…"):
        if opener == "?":
            press("?")
        else:
            page.get_by_role("button", name=opener).click()
        until(page, OPEN_DIALOG)
        assert faults(page, axe) == [], opener
        press("Escape")
        until(page, f"!({OPEN_DIALOG})")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_studio_with_predictions_on_a_telephone(look: Any, studio: Any, axe: str, scheme: str) -> None:
    page = look(f"{studio.url}#b-long/400", 390, 844, color_scheme=scheme, bypass_csp=True)
    until(page, "document.querySelector('#part-worst .item') !== null")
    assert faults(page, axe) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_of_watch(browser: Any, axe: str, scheme: str) -> None:
    log = WatchLog(None, 0.5)
    live = Live(log, {"model": "fmformer", "video": "rtsp://camera/1", "current": "-", "live": True})
    for k in range(60):
        valid = np.ones(3, bool)
        found = Detection(k * 10**9, (k % 20) / 20, np.eye(12, 16, dtype=bool), valid, valid)
        abnormal = log.add(k, found.time, found.score)
        image = np.full((12, 16, 3), 90, np.uint8)
        live.show(Judged(frame=k, image=image, found=found, abnormal=abnormal, alarm=log.sounding, stale=True,
                         rows=[(found.time, [8000.0, 8100.0, 7900.0])]))  # fmt: skip
    live.say("the camera is lost")
    told: list[str] = []
    context = browser.new_context(
        viewport={"width": 1024, "height": 768}, color_scheme=scheme, bypass_csp=True
    )
    with (
        listen("127.0.0.1", 0) as bound,
        serving(make_watch_app(live), bound, "127.0.0.1", "w", told.append, False),
    ):
        page = context.new_page()
        page.goto(told[0].removeprefix("w: "))
        until(page, "document.getElementById('newest').innerText.includes('score')")
        assert faults(page, axe) == []
        context.close()
