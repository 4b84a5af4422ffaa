"""The page in a browser: what it shows is what the store holds, and what is drawn is what is saved.

Also tests fmfbench.studio: apply, live_refine.
"""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest_studio import HOSTILE, in_path, until

import fmfbench
from fmfbench.annotation.keyframes import parse_keyframes
from fmfbench.annotation.propagate import boxes_at, coarse_masks

# Seek to each frame by the field that holds its number, and give back what the canvas then holds, the milliseconds
# that it took, and those of a bare request for the same bytes.
SEEK = """async ([name, frames]) => {
  const canvas = document.getElementById('video');
  const context = canvas.getContext('2d');
  const field = document.getElementById('frame');
  const found = [];
  for (const frame of frames) {
    const first = performance.now();
    if (found.length % 10 === 0) {
      await (await fetch(`/api/frames/${name}?start=${frame}&stop=${frame + 25}`)).arrayBuffer();
    }
    const begun = performance.now();
    field.value = frame;
    field.dispatchEvent(new Event('change'));
    while (canvas.dataset.frame !== String(frame)) await new Promise((go) => setTimeout(go, 0));
    const took = performance.now() - begun;
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    let text = '';
    for (let i = 0; i < data.length; i += 4) text += String.fromCharCode(data[i], data[i + 1], data[i + 2]);
    found.push([took, found.length % 10 ? null : begun - first, btoa(text)]);
  }
  return found;
}"""


def seek_at_random(page: Any, recording: Any, count: int, seed: int) -> tuple[float, float]:
    """The canvas is compared with the store after every seek. 95 % of seeks, and of bare requests, take at most so
    many milliseconds."""
    frames = np.random.default_rng(seed).integers(0, recording.num_frames, count).tolist()
    times = []
    for start in range(0, count, 100):
        part = frames[start : start + 100]
        for frame, (*took, text) in zip(
            part, page.evaluate(SEEK, [in_path(recording.name), part]), strict=True
        ):
            assert base64.b64decode(text) == recording.read_video(frame, frame + 1).tobytes(), frame
            times.append(took)
    seek, bare = (np.nanquantile(column, 0.95) for column in np.array(times, float).T)
    print(f"p95 of {count} seeks {seek:.1f} ms, of bare requests for the same bytes {bare:.1f} ms")
    return seek, bare


def goto(page: Any, name: str, frame: int) -> None:
    page.evaluate("hash => { location.hash = hash }", f"#{in_path(name)}/{frame}")
    until(
        page,
        "([name, f]) => document.getElementById('recording').value === name && "
        "document.getElementById('video').dataset.frame === String(f)",
        [name, frame],
    )


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_the_canvas_holds_the_frame_after_every_seek(
    look: Any, studio: Any, awkward_store: Path, count: int
) -> None:
    recording = fmfbench.open_dataset(awkward_store).recordings["b-long"]
    page = look(f"{studio.url}#b-long/3")
    seek, bare = seek_at_random(page, recording, count, seed=count)
    assert seek < max(
        50, 5 * bare
    )  # on a machine that is busy with other things even a bare request takes long


@pytest.fixture
def long_store(tmp_path: Path) -> Path:
    """The longest of the real recordings' lengths: 148,158 frames of 64 x 64 that carry their number."""
    count, step = 148_158, 2000
    base = np.random.default_rng(0).integers(60, 120, (1, 3, 64, 64), np.uint8)
    source = tmp_path / "long.mat"
    with h5py.File(source, "w", userblock_size=512) as file:
        data = file.create_dataset("data", (count, 3, 64, 64), np.uint8, chunks=(100, 3, 64, 64))
        data.attrs["MATLAB_class"] = np.bytes_("uint8")
        for start in range(0, count, step):
            number = np.arange(start, min(count, start + step))
            block = np.repeat(base, len(number), axis=0)
            for channel in range(3):
                block[:, channel, :8, :8] = (number >> (8 * channel) & 255)[:, None, None]
            data[number[0] : number[-1] + 1] = block
    with open(source, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return fmfbench.convert(source, tmp_path / "long.zarr")


@pytest.mark.long
def test_a_long_recording_is_as_quick_in_little_memory(look: Any, launch: Any, long_store: Path) -> None:
    recording = fmfbench.open_dataset(long_store).recordings["long"]
    studio = launch(long_store, "--read-only")
    page = look(studio.url)
    seek, bare = seek_at_random(page, recording, 2000, seed=4)
    assert seek < max(50, 5 * bare)
    assert studio.peak_bytes < 300e6


def test_the_page_has_whole_pixels_and_the_numbers_of_the_frame(
    look: Any, studio: Any, awkward_store: Path
) -> None:
    data = fmfbench.open_dataset(awkward_store)
    recording = data.recordings["a.dotted"]
    for width, height in ((1440, 900), (1024, 768), (390, 844)):
        page = look(f"{studio.url}#a.dotted/17", width, height)
        scale = page.evaluate("document.getElementById('video').clientWidth") / 9
        assert scale == int(scale) >= 20
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        until(page, "document.querySelector('#part-here dl') !== null")
        text = page.locator("#part-here").inner_text()
        assert ("abnormal" in text) == bool(recording.class_label[17] == 1)
        assert str(recording.first_id + 17) in text.split()
        stamp = np.datetime64(int(recording.frame_time[17]), "ns").astype("datetime64[ms]")
        assert str(stamp).replace("T", " ") in text
        # the address loses the token, keeps the frame
        until(page, "location.href.endsWith('/#a.dotted/17')")


def test_names_and_models_are_text_never_markup(look: Any, launch: Any, own_store: Path) -> None:
    studio = launch(own_store)
    page = look(f"{studio.url}#{in_path(HOSTILE)}/5")
    assert page.locator("#recording").input_value() == HOSTILE
    assert page.locator("img[src=x]").count() == 0
    page.keyboard.press("n")
    page.get_by_role("button", name="Apply…").click()
    assert HOSTILE in page.locator("dialog").inner_text()
    assert page.locator("dialog img, b").count() == 0
    page.keyboard.press("Escape")
    page.evaluate("location.hash = '#<img src=x onerror=alert(1)>/3'")
    page.evaluate("location.hash = '#%E0%A4%A/3'")
    page.wait_for_timeout(200)
    assert page.locator("img[src=x]").count() == 0


def saved(page: Any) -> None:
    until(page, "document.getElementById('saved').textContent === 'saved'")


def tracks_of(studio: Any, name: str = "plain") -> Any:
    return studio.json("/api/keyframes")["recordings"][name]["tracks"]


def test_a_whole_session_by_keyboard(  # noqa: PLR0915
    look: Any, launch: Any, own_store: Path
) -> None:
    """Draw, move, resize, propagate, set onset, apex and offset, undo and redo, apply: no mouse."""
    studio = launch(own_store)
    page = look(f"{studio.url}#plain/20")
    press = page.keyboard.press
    press("n")  # a box in the middle of 32 x 24: a quarter of each side
    for key in ("a", "a", "w", "Shift+D", "Shift+S", "Alt+A"):
        press(key)
    saved(page)
    first = [12 - 2 - 1, 9 - 1, 20 - 2 + 1, 15 - 1 + 1]
    assert tracks_of(studio) == [
        {"id": 0, "onset": 20, "offset": 20, "keyframes": [{"frame": 20, "box": first}]}
    ]
    for _ in range(10):
        press("ArrowRight")
    press("p")  # the event grows to its apex
    press("Shift+ArrowRight")
    until(page, "document.getElementById('video').dataset.frame === '55'")
    for key in ("d", "d", "d", "s", "o"):
        press(key)
    press("k")
    for key in ("ArrowLeft",) * 5:
        press(key)
    press("k")
    saved(page)
    last = [first[0] + 3, first[1] + 1, first[2] + 3, first[3] + 1]
    (track,) = tracks_of(studio)
    assert (track["onset"], track["apex"], track["offset"]) == (20, 30, 55)
    assert [k["frame"] for k in track["keyframes"]] == [20, 50, 55]
    assert track["keyframes"][2]["box"] == last
    parsed = parse_keyframes({"schema": 1, "size": [32, 24], "recordings": {"plain": {"tracks": [
        {**track, "keyframes": [track["keyframes"][0], track["keyframes"][2]]}]}}}).recordings["plain"][0]  # fmt: skip
    assert track["keyframes"][1]["box"] == boxes_at(parsed, np.array([50]))[0].tolist()
    press(",")
    until(page, "document.getElementById('video').dataset.frame === '20'")
    press(".")
    press("Delete")
    press("Control+z")
    press("Control+z")
    press("Control+z")
    saved(page)
    assert [k["frame"] for k in tracks_of(studio)[0]["keyframes"]] == [20, 55]
    for _ in range(40):
        press("Control+z")
    saved(page)
    assert tracks_of(studio) is None
    for _ in range(40):
        press("Control+Shift+Z")
    saved(page)
    assert [k["frame"] for k in tracks_of(studio)[0]["keyframes"]] == [20, 55]
    press("n")
    press("i")
    press("Shift+Delete")
    saved(page)
    assert len(tracks_of(studio)) == 1
    # apply, by Tab and Enter
    page.get_by_role("button", name="Apply…").focus()
    press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Apply", exact=True).focus()
    press("Enter")
    page.get_by_text("wrote recordings/plain/labels/boxes").wait_for()
    data = fmfbench.open_dataset(own_store)
    assert data.default_layer == "refined"
    assert data.recordings["plain"].class_label[[19, 20, 55, 56]].tolist() == [0, 1, 1, 0]
    page.get_by_text("refined (truth)").wait_for()
    press("?")
    assert "onset here" in page.get_by_role("dialog").inner_text()
    press("Escape")


def test_saved_is_said_only_when_no_save_is_on_its_way(look: Any, launch: Any, own_store: Path) -> None:
    """An event drawn and deleted before its save is answered: the server holds it once more before it is gone."""
    studio = launch(own_store)
    page = look(f"{studio.url}#plain/20")
    saved(page)
    page.evaluate(
        "() => { const real = fetch; const gate = new Promise((go) => { window.letGo = go; }); "
        "window.fetch = async (p, o) => { if (String(p).includes('keyframes') && o?.method === 'POST') await gate; "
        "return real(p, o); }; }"
    )
    page.keyboard.press("n")
    page.keyboard.press("Shift+Delete")  # the page is back at what was acknowledged last
    assert page.locator("#saved").inner_text() == "saving…"
    # nor may the window be closed without a question
    leave = "() => window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    assert page.evaluate(leave) is False
    page.evaluate("letGo()")
    saved(page)
    assert tracks_of(studio) is None
    assert studio.json("/api/keyframes")["recordings"]["plain"]["revision"] == 2
    assert page.evaluate(leave) is True


def test_boxes_by_mouse_and_the_refined_mask_of_the_frame(look: Any, launch: Any, own_store: Path) -> None:
    studio = launch(own_store)
    page = look(f"{studio.url}#plain/30")
    bounds = page.locator("#overlay").bounding_box()
    scale = bounds["width"] / 32

    def at(x: float, y: float) -> tuple[float, float]:
        return bounds["x"] + x * scale, bounds["y"] + y * scale

    def drag(start: tuple[float, float], stop: tuple[float, float]) -> float:
        """Milliseconds from letting go to the refined mask."""
        page.evaluate("performance.clearMeasures()")
        page.mouse.move(*at(*start))
        page.mouse.down()
        page.mouse.move(*at((start[0] + stop[0]) / 2, stop[1]))
        page.mouse.move(*at(*stop))
        page.mouse.up()
        saved(page)
        until(page, "performance.getEntriesByName('refine').length > 0")
        return page.evaluate("performance.getEntriesByName('refine').at(-1).duration")

    def box() -> list[float]:
        return tracks_of(studio)[0]["keyframes"][0]["box"]

    drag((10, 6), (22, 18))
    assert box() == [10, 6, 22, 18]
    drag((16, 12), (18, 13))  # inside: moved
    assert box() == [12, 7, 24, 19]
    drag((24, 19), (26, 21))  # the corner: resized
    assert box() == [12, 7, 26, 21]
    drag((12, 14), (5, 14))  # the left side
    assert box() == [5, 7, 26, 21]
    drag((16, 12), (60, 60))  # as far as the frame allows
    assert box() == [11, 10, 32, 24]
    page.keyboard.press("Control+z")
    saved(page)
    durations = [drag((16 + step % 2, 14), (17 - step % 2, 14)) for step in range(12)]
    assert np.median(durations) < 50, durations
    (track,) = tracks_of(studio)
    for radius in ("box/3", "box/2"):
        page.locator("#part-files select").select_option(radius)
        body = studio.ask("/api/refine/plain", {"frame": 30, "tracks": [track], "radius": radius})[2]
        key = "import('/assets/app.js').then(({ app }) => app.refined?.mask && app.refined.key.includes(app.radius))"
        until(page, key)
        shown = page.evaluate("import('/assets/app.js').then(({ app }) => Array.from(app.refined.mask))")
        assert bytes(shown) == body[: 24 * 32]
    drag((1, 1), (4, 5))  # beside it: another event
    assert [t["id"] for t in tracks_of(studio)] == [0, 1]


def test_propagation_in_the_page_is_that_of_annotate(look: Any, studio: Any) -> None:
    """Both to the last bit, on random tracks: boxes, and the pixels that they cover."""
    page = look(f"{studio.url}#b-long/3")
    rng = np.random.default_rng(0)
    tracks = []
    for number in range(40):
        frames = np.sort(rng.choice(60, rng.integers(1, 6), replace=False)).tolist()
        keyframes = []
        for frame in frames:
            x, y = np.sort(rng.uniform(0, 90, 2)), np.sort(rng.uniform(0, 70, 2))
            keyframes.append({"frame": frame, "box": [x[0], y[0], x[1], y[1]]})
        onset = int(rng.integers(0, frames[0] + 1))
        tracks.append(
            {"id": number, "onset": onset, "offset": int(rng.integers(frames[0], 60)), "keyframes": keyframes}
        )
    found = page.evaluate(
        """(tracks) => import('/assets/tracks.js').then(({ boxAt, isIn, coarseMask }) => tracks.map((track) =>
            Array.from({ length: 60 }, (_, f) => [isIn(track, f) ? boxAt(track, f) : null,
              Array.from(coarseMask([track], f, [90, 70], 18, 7))])))""",
        tracks,
    )
    content = {"schema": 1, "size": [90, 70], "recordings": {"a": {"tracks": tracks}}}
    for track, frames in zip(parse_keyframes(content).recordings["a"], found, strict=True):
        boxes = boxes_at(track, np.arange(60))
        masks = coarse_masks([track], 0, 60, (7, 18), (0, 0, 90, 70))
        for frame, (box, mask) in enumerate(frames):
            assert (box or [np.nan] * 4) == pytest.approx(boxes[frame].tolist(), rel=0, abs=0, nan_ok=True)
            assert mask == masks[frame].ravel().tolist()


def test_several_files_are_imported_at_once(look: Any, launch: Any, own_store: Path, tmp_path: Path) -> None:
    studio = launch(own_store)
    track = {"id": 0, "onset": 3, "offset": 9, "keyframes": [{"frame": 3, "box": [2, 2, 9, 9]}]}
    files = []
    for k, name in enumerate((HOSTILE, "plain")):
        files.append(tmp_path / f"{k}.json")
        content = {"schema": 1, "size": [32, 24], "recordings": {name: {"tracks": [track]}}}
        files[-1].write_text(json.dumps(content))
    broken = tmp_path / "2.json"
    broken.write_text("{")
    page = look(f"{studio.url}#plain/3")
    dialog = page.get_by_role("dialog")

    def choose(paths: list[Path]) -> None:
        page.get_by_role("button", name="Import…").click()
        dialog.locator("input[type=file]").set_input_files(paths)
        dialog.get_by_role("button", name="Import", exact=True).click()

    for wrong, words in (([files[0], broken], "2.json"), ([files[0], files[0]], "import one of them")):
        choose(wrong)
        dialog.get_by_text("Nothing was imported").wait_for()
        assert words in dialog.inner_text()
        dialog.get_by_role("button", name="Close").click()
    assert tracks_of(studio) is None
    choose(files)
    until(page, "document.querySelectorAll('#part-events .item').length === 1")
    saved(page)
    assert tracks_of(studio)[0]["keyframes"][0]["box"] == [2, 2, 9, 9]
    assert len(tracks_of(studio, HOSTILE)) == 1
    choose(files[:1])
    dialog.get_by_role("button", name="Cancel").click()  # the question whether labels are replaced
    page.get_by_role("button", name="Export…").click()
    hrefs = page.evaluate("[...document.querySelectorAll('dialog a')].map((a) => a.getAttribute('href'))")
    assert len(hrefs) == 4
    assert [studio.ask(href)[0] for href in hrefs] == [200] * 4


def test_two_windows_never_overwrite_each_other(look: Any, launch: Any, own_store: Path) -> None:
    studio = launch(own_store)
    one, two = (look(f"{studio.url}#plain/20") for _ in range(2))
    one.keyboard.press("n")
    saved(one)
    until(two, "document.querySelectorAll('#part-events .item').length === 1")  # heard within a pulse
    # both change the same labels at once
    two.evaluate(
        "() => { const real = fetch; window.fetch = (p, o) => "
        "String(p).includes('pulse') ? new Promise(() => {}) : real(p, o); }"
    )
    two.wait_for_timeout(1700)  # the last pulse that was on its way
    one.keyboard.press("t")
    one.keyboard.press("d")
    saved(one)
    first = tracks_of(studio)
    two.keyboard.press("t")
    two.keyboard.press("a")
    dialog = two.get_by_role("dialog")
    dialog.get_by_text("Changed in another window").wait_for()
    assert tracks_of(studio) == first
    two.keyboard.press("Escape")  # no way out but a choice
    dialog.get_by_role("button", name="Keep mine").click()
    saved(two)
    mine = tracks_of(studio)
    assert mine != first
    one.wait_for_timeout(1700)
    one.keyboard.press("s")
    two.keyboard.press("s")
    two.get_by_role("dialog").get_by_role("button", name="Keep the other window's").click()
    saved(two)
    assert two.evaluate(
        "import('/assets/app.js').then(({ app }) => app.labels.tracks('plain'))"
    ) == tracks_of(studio)


def test_a_server_that_dies_is_said_and_changes_are_kept(look: Any, launch: Any, own_store: Path) -> None:
    studio = launch(own_store)
    page = look(f"{studio.url}#plain/20")
    page.keyboard.press("n")
    saved(page)
    studio.process.kill()
    page.keyboard.press("d")
    page.get_by_role("alert").get_by_text("Not saved").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="this copy of the labels").click()
    kept = json.loads(Path(download.value.path()).read_text())["recordings"]["plain"]["tracks"]
    assert kept[0]["keyframes"][0]["box"][0] == 13
    again = launch(own_store)
    assert tracks_of(again)[0]["keyframes"][0]["box"][0] == 12


def test_jumps_lead_where_they_say(
    look: Any, studio: Any, awkward_store: Path, prediction_files: list[Path]
) -> None:
    data = fmfbench.open_dataset(awkward_store)
    recording = data.recordings["b-long"]
    label = recording.class_label == 1
    starts = np.flatnonzero(label & ~np.r_[False, label[:-1]]).tolist()
    page = look(f"{studio.url}#b-long/0")

    def frame() -> int:
        return int(page.locator("#frame").input_value())

    seen = []
    for _ in starts:
        page.keyboard.press("e")
        seen.append(frame())
    assert sorted(seen) == starts
    found = fmfbench.exchange.predictions.read_predictions(prediction_files[0])
    rows = {int(s) - recording.first_id: k for k, s in enumerate(found.sample_id)}
    page.keyboard.press("x")
    at = frame()
    assert found.decision[rows[at]] != label[at]
    page.keyboard.press("v")
    worst = max(
        abs(float(found.score[k]) - label[f]) for f, k in rows.items() if 0 <= f < recording.num_frames
    )
    at = frame()
    assert abs(float(found.score[rows[at]]) - label[at]) == worst
    page.keyboard.press("c")
    other = fmfbench.exchange.predictions.read_predictions(prediction_files[1])
    others = {int(s) - recording.first_id: k for k, s in enumerate(other.sample_id)}
    at = frame()
    assert found.decision[rows[at]] != other.decision[others[at]]


def test_playing_shows_every_frame_at_its_pace(look: Any, studio: Any) -> None:
    page = look(f"{studio.url}#b-long/10")
    page.evaluate("""() => { window.seen = []; new MutationObserver(() =>
        window.seen.push([Number(document.getElementById('video').dataset.frame), performance.now()]))
        .observe(document.getElementById('video'), { attributes: true, attributeFilter: ['data-frame'] }) }""")
    page.select_option("#speed", "0.5")
    page.locator("#lanes").focus()
    page.keyboard.press(" ")
    page.wait_for_timeout(1500)
    page.keyboard.press(" ")
    seen = page.evaluate("window.seen")
    frames = [frame for frame, _ in seen]
    assert frames == list(range(11, 11 + len(frames)))
    pace = (len(frames) - 1) / (seen[-1][1] - seen[0][1]) * 1000
    assert 4 < pace < 13.5  # 12.5 where the machine keeps up


def test_pages_need_nothing_from_elsewhere(look: Any, studio: Any) -> None:
    asked: list[str] = []
    page = look(studio.url)
    page.context.on("request", lambda request: asked.append(request.url))
    page.reload()
    until(page, "document.getElementById('video').dataset.frame >= 0")
    time.sleep(0.2)
    assert asked
    assert all(url.startswith(f"http://127.0.0.1:{studio.port}/") for url in asked)


def test_assets_are_small_and_in_the_wheel() -> None:
    import tomllib

    root = Path(fmfbench.__file__).parent
    assets = list((root / "studio" / "assets").iterdir())
    assert sum(file.stat().st_size for file in assets) < 200_000
    settings = tomllib.loads((root.parent / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["package-data"]["fmfbench.studio"] == ["assets/*"]
