"""The picture: light, flames, mist, glare, reflections, the spot, the camera."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from fmfbench.furnace import glare, mist, shell
from fmfbench.furnace.anomaly import draw_glow, draw_masks, soft_step
from fmfbench.furnace.camera import DEAD_ZONE, Encoder, expose
from fmfbench.furnace.plan import PRESETS, Plan, make_plan
from fmfbench.furnace.render import BLOCK_FRAMES, HOT, INCANDESCENCE, Block, Furnace
from fmfbench.furnace.streams import open_stream
from fmfbench.furnace.texture import DriftingTexture, smooth_noise
from fmfbench.furnace.timing import SECOND


@pytest.fixture(scope="module")
def furnace() -> Furnace:
    return Furnace(make_plan(PRESETS["small"], 1, 0))


@pytest.fixture(scope="module")
def long_furnace() -> Furnace:
    return Furnace(make_plan(PRESETS["full"], 1, 0))


@pytest.fixture(scope="module")
def blocks(furnace: Furnace) -> list[Block]:
    """Every eighth block of a recording."""
    return [furnace.draw_block(k, truth_frames=True) for k in range(0, furnace.blocks, 8)]


def spectrum(values: np.ndarray, low: float, high: float) -> float:
    """Mean power of (T,) at 25 Hz between two frequencies."""
    power = np.abs(np.fft.rfft(values - values.mean())) ** 2
    frequency = np.fft.rfftfreq(len(values), 1 / 25)
    return float(power[(frequency >= low) & (frequency < high)].mean())


def test_light_drifts_slowly_and_flames_flicker_fast(long_furnace: Furnace) -> None:
    light = long_furnace.light
    assert spectrum(light.day, 0.001, 0.01) > 1000.0 * spectrum(light.day, 0.5, 5.0)
    assert spectrum(light.flame, 1.0, 3.0) > 0.001 * spectrum(light.flame, 0.001, 0.01)
    assert 0.08 < np.log(light.day).std() < 0.3
    assert np.abs(np.diff(light.flame)).mean() > 20.0 * np.abs(np.diff(light.day)).mean()


def test_smooth_noise_follows_its_slope() -> None:
    field = smooth_noise(open_stream(0, "a", "noise"), 256, 192, 64.0, 3.0, slope=1.5)
    assert field.shape == (256, 192)
    assert field.mean() == pytest.approx(0.0, abs=1e-4)
    assert field.std() == pytest.approx(1.0, abs=1e-4)
    amplitude = np.abs(np.fft.fft2(field))
    k = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(192)[None])
    centres = [1 / 40, 1 / 20, 1 / 10, 1 / 5]
    means = [np.sqrt(np.mean(amplitude[np.abs(k / c - 1) < 0.1] ** 2)) for c in centres]
    slope = np.polyfit(np.log(centres), np.log(means), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.15)
    assert amplitude[(k < 1 / 64.0) | (k > 1 / 3.0)].max() < 1e-2


def test_drifting_texture_equals_roll() -> None:
    tile = smooth_noise(open_stream(0, "a", "tile"), 20, 28, 10.0, 2.0)
    texture = DriftingTexture(tile, 6, 9, 2)
    down, right = np.array([0, 3, -5, 47, 1000]), np.array([0, -2, 11, 90, -333])
    got = texture.frames(down, right)
    for frame, d, r in zip(got, down, right, strict=True):
        np.testing.assert_array_equal(frame, np.roll(tile, (d, r), axis=(0, 1))[:12:2, :18:2])


def test_mist_hides_for_seconds_at_a_time(long_furnace: Furnace) -> None:
    thick = long_furnace.mist_depth > 3.5
    assert 0.03 < thick.mean() < 0.13
    edges = np.flatnonzero(np.diff(thick.astype(np.int8)))
    lengths = np.diff(edges)[::2] if thick[edges[0] + 1] else np.diff(edges)[1::2]
    seconds = lengths / 25.0
    assert 0.8 < np.median(seconds) < 8.0
    assert seconds.max() < 12.0
    assert np.median(long_furnace.mist_depth) < 0.5


def test_mist_moves(furnace: Furnace) -> None:
    layer = mist.Mist(furnace.plan)
    time = furnace.time[:64]
    shape, _ = layer.structure(time)
    assert shape.min() >= 0.25
    assert shape.mean() == pytest.approx(1.0, abs=0.25)
    flat = shape - shape.mean(axis=0)
    near = np.corrcoef(flat[0].ravel(), flat[1].ravel())[0, 1]
    far = np.corrcoef(flat[0].ravel(), flat[-1].ravel())[0, 1]
    assert near > 0.9
    assert far < 0.6


def test_occlusion_knows_nothing_of_the_anomaly(long_furnace: Furnace) -> None:
    label = long_furnace.plan.class_label
    for hidden in (long_furnace.mist_depth > 3.5, long_furnace.glare_level > 200.0):
        assert abs(np.corrcoef(hidden, label)[0, 1]) < 0.12


def test_glare_comes_and_goes(long_furnace: Furnace) -> None:
    level = long_furnace.glare_level
    assert 0.03 < np.mean(level > 30.0) < 0.2
    assert 0.003 < np.mean(level > 250.0) < 0.06
    assert np.mean(level == 0.0) > 0.7


def test_reflections_move_and_flicker(long_furnace: Furnace) -> None:
    patches = [p for p in long_furnace.reflections if p.last - p.first > 50]
    assert len(patches) > 30
    travel = [np.hypot(p.row[-1] - p.row[0], p.column[-1] - p.column[0]) / (len(p.row) / 25) for p in patches]
    assert np.median(travel) > 2.0  # pixels a second
    middle = [p.strength[20:-20] for p in patches]
    flicker = [np.std(m) / np.mean(m) for m in middle]
    assert 0.1 < np.median(flicker) < 0.6
    present = np.zeros(long_furnace.plan.frames, dtype=bool)
    for patch in long_furnace.reflections:
        present[patch.first : patch.last] = True
    assert 0.03 < present.mean() < 0.2


def test_reflections_are_more_orange_than_a_spot_of_their_brightness(long_furnace: Furnace) -> None:
    for patch in long_furnace.reflections:
        assert patch.orange > INCANDESCENCE[1] + HOT * float(np.median(patch.strength))


def test_reflection_is_drawn_inside_its_frames_only(furnace: Furnace) -> None:
    patch = furnace.reflections[2]
    drawn = glare.draw_reflection(patch, patch.first - 5, patch.last + 5, 48, 64)
    assert (drawn[:5] == 0).all()
    assert (drawn[-5:] == 0).all()
    whole = drawn[5:-5]
    half = glare.draw_reflection(patch, patch.first + 7, patch.last, 48, 64)
    np.testing.assert_array_equal(half, whole[7:])


@pytest.mark.parametrize(("preset", "k"), [("tiny", 0), ("small", 0), ("full", 0)])
def test_mask_and_class_label_agree_in_every_frame(preset: str, k: int) -> None:
    plan = make_plan(PRESETS[preset], k, 0)
    own = Furnace(plan)
    stop = min(plan.frames, 8000)
    label = own.draw_labels(0, stop)
    assert label.shape == (stop, plan.height, plan.width)
    np.testing.assert_array_equal(label.any(axis=(1, 2)), plan.class_label[:stop].astype(bool))


def test_spot_grows_to_its_apex_and_fades(furnace: Furnace) -> None:
    for spot in furnace.spots:
        event = spot.event
        masks = draw_masks((spot,), event.onset, event.offset + 1, 48, 64)
        area = masks.sum(axis=(1, 2), dtype=np.int64)
        peak = event.apex - event.onset
        assert area.argmax() <= peak
        assert area[peak] == area.max()
        assert (np.diff(area[: peak + 1]) >= 0).all()
        assert (np.diff(area[peak:]) <= 0).all()
        assert 0 < area[0] < 0.6 * area[peak]
        assert 20 <= area[peak] <= 0.15 * 48 * 64


def test_glow_lags_the_mask_and_outlives_it(furnace: Furnace) -> None:
    spot = furnace.spots[1]
    event = spot.event
    assert spot.glow[0] < 0.2 * spot.glow.max() < spot.glow[25]  # a second later it is there
    assert spot.glow.argmax() >= event.apex - event.onset
    glow = draw_glow((spot,), event.offset + 1, event.offset + 3, 48, 64)
    assert glow.max() > 3.0
    assert draw_masks((spot,), event.offset + 1, event.offset + 3, 48, 64).max() == 0
    assert spot.glow[-1] < 1.0


def test_soft_step() -> None:
    x = np.array([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0], dtype=np.float32)
    np.testing.assert_allclose(soft_step(x), [0.0, 0.0, 0.15625, 0.5, 1.0, 1.0])


def test_encoder_equals_a_block_by_block_dct() -> None:
    rng = np.random.default_rng(0)
    gray = np.clip(np.cumsum(rng.normal(0, 6, (16, 24)), axis=1) + 120, 30, 220).astype(np.float32)
    got = Encoder(16, 24).code(np.repeat(gray[None, :, :, None], 3, axis=3))
    wanted = np.empty_like(gray)
    for r in range(0, 16, 8):
        for c in range(0, 24, 8):
            own = scipy.fft.dctn(gray[r : r + 8, c : c + 8], norm="ortho")
            keep = own[0, 0]
            own = np.sign(own) * np.maximum(np.abs(own) - DEAD_ZONE, 0.0)
            own[0, 0] = keep
            wanted[r : r + 8, c : c + 8] = scipy.fft.idctn(own, norm="ortho")
    assert got.dtype == np.uint8
    np.testing.assert_allclose(got[0], np.repeat(wanted[..., None], 3, axis=2), atol=0.51)


def test_encoder_keeps_colour_of_even_squares() -> None:
    frame = np.zeros((1, 16, 24, 3), dtype=np.float32)
    frame[..., :8, :, :] = (200.0, 60.0, 20.0)
    got = Encoder(16, 24).code(frame)
    np.testing.assert_allclose(got[0, 2, 3], (200, 60, 20), atol=1)


def test_camera_noise_grows_with_light() -> None:
    dark = expose(np.full((4, 32, 32, 3), 20.0, np.float32), open_stream(0, "a", "sensor"))
    bright = expose(np.full((4, 32, 32, 3), 220.0, np.float32), open_stream(0, "a", "sensor"))
    assert dark.mean() == pytest.approx(20.0, abs=0.1)
    assert dark.std() == pytest.approx(np.sqrt(2.6 + 0.035 * 20), rel=0.05)
    assert bright.std() == pytest.approx(np.sqrt(2.6 + 0.035 * 220), rel=0.05)


def test_any_block_is_drawn_alone(furnace: Furnace) -> None:
    again = Furnace(furnace.plan)
    late = again.draw_block(9)
    early = again.draw_block(3)
    np.testing.assert_array_equal(early.video, furnace.draw_block(3).video)
    np.testing.assert_array_equal(late.video, furnace.draw_block(9).video)
    assert late.start == 9 * BLOCK_FRAMES


def test_mask_stays_true_where_nothing_is_seen(furnace: Furnace) -> None:
    hidden = np.flatnonzero((furnace.mist_depth > 5.0) & (furnace.plan.class_label == 1))
    frame = int(hidden[len(hidden) // 2])
    block = furnace.draw_block(frame // BLOCK_FRAMES, truth_frames=True)
    k = frame - block.start
    mask = block.label[k].astype(bool)
    assert mask.sum() > 5
    assert block.visibility[k] < 0.05
    assert block.clean is not None
    clean, seen = (v[k].astype(float) for v in (block.clean, block.video))
    assert redness(clean, mask) > 5.0
    assert abs(redness(seen, mask)) < 4.0


def redness(frame: np.ndarray, mask: np.ndarray) -> float:
    """How much redder the mask's inside is than a ring around it."""
    from scipy.ndimage import binary_dilation

    ring = binary_dilation(mask, iterations=5) & ~binary_dilation(mask, iterations=2)
    red = frame[..., 0] - frame[..., 2]
    return float(red[mask].mean() - red[ring].mean())


def test_spot_is_red_where_it_is_seen(furnace: Furnace, blocks: list[Block]) -> None:
    seen = [
        redness(block.video[k].astype(float), block.label[k].astype(bool))
        for block in blocks
        for k in range(len(block.video))
        if block.label[k].sum() > 30 and block.visibility[k] > 0.8
    ]
    assert len(seen) > 100
    assert np.median(seen) > 15.0


def test_whole_frame_statistics_do_not_tell_the_label(furnace: Furnace, blocks: list[Block]) -> None:
    import zlib

    from sklearn.metrics import roc_auc_score

    frames = np.concatenate([b.video[::4] for b in blocks])
    label = np.concatenate([b.label[::4].any(axis=(1, 2)) for b in blocks])
    size = [len(zlib.compress(f.tobytes(), 3)) for f in frames]
    for statistic in (frames.mean(axis=(1, 2, 3)), frames[..., 2].mean(axis=(1, 2)), size):
        assert 0.3 < roc_auc_score(label, statistic) < 0.7


def test_twin_is_the_same_furnace_without_its_spots(furnace: Furnace) -> None:
    twin = Furnace(make_plan(PRESETS["small"], 1, 0, anomaly_free=True))
    assert twin.plan.class_label.max() == 0
    normal = next(k for k in range(twin.blocks) if not any(_shows(furnace, k)))
    np.testing.assert_array_equal(twin.draw_block(normal).video, furnace.draw_block(normal).video)
    spot = next(k for k in range(twin.blocks) if all(_shows(furnace, k)))
    assert (twin.draw_block(spot).video != furnace.draw_block(spot).video).any()
    assert twin.draw_block(spot).label.max() == 0


def _shows(furnace: Furnace, k: int) -> list[bool]:
    frames = range(k * BLOCK_FRAMES, min((k + 1) * BLOCK_FRAMES, furnace.plan.frames))
    return [any(s.event.onset <= f < s.last for s in furnace.spots) for f in frames]


def test_flames_burn_above_the_rim(furnace: Furnace) -> None:
    flames = shell.Flames(furnace.plan)
    bright = flames.brightness(furnace.time[:200], furnace.light.flame[:200])
    rim = round(shell.MOUTH * 48)
    assert bright.shape == (200, flames.rows, 64)
    assert bright[:, rim - 4 : rim, 16:48].mean() > 0.3
    assert bright[:, rim + 5 :].max() == 0.0
    assert bright[:, 0].mean() < 0.2


def test_plan_is_the_only_state(furnace: Furnace) -> None:
    plan: Plan = furnace.plan
    assert (furnace.time == plan.timing.frame_time).all()
    assert furnace.time[-1] / SECOND < 262.5
