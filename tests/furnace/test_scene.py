"""The picture: light, shell, mist, glare, reflections, splashes, the anomaly, the camera.

Also tests fmfbench.furnace: anomaly, camera, glare, light, mist, shell, splashes, streams, texture.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from fmfbench.furnace import glare, mist
from fmfbench.furnace.anomaly import MOST_PIECES, count_pieces, draw_glow, draw_masks, soft_step
from fmfbench.furnace.camera import DEAD_ZONE, KNEE, READ_NOISE, SHOT_NOISE, Encoder, expose, tone
from fmfbench.furnace.light import STATES
from fmfbench.furnace.plan import PRESETS, Plan, make_plan
from fmfbench.furnace.render import BLOCK_FRAMES, Block, Furnace
from fmfbench.furnace.splashes import draw_splashes
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


def test_light_jumps_drifts_and_flickers(long_furnace: Furnace) -> None:
    light = long_furnace.light
    steps = np.flatnonzero(np.diff(light.state))
    lengths = np.diff(steps) / 25.0
    assert 6.0 < np.median(lengths) < 40.0
    assert len(set(light.state.tolist())) == len(STATES)
    # within a state little changes; from one to the next the ambient colour does, in at most 1.2 s
    jumps = np.abs(light.ambient[np.minimum(steps + 31, len(light.state) - 1)] - light.ambient[steps]).sum(
        axis=1
    )
    calm = np.abs(light.ambient[steps] - light.ambient[steps - 31]).sum(axis=1)
    assert np.median(jumps) > 8.0 * np.median(calm[lengths.min() > 3.0 or calm >= 0.0])
    brightness = light.flame.mean(axis=1) / light.ambient.mean(axis=1)
    assert spectrum(brightness, 1.0, 3.0) > 1e-5 * spectrum(brightness, 0.001, 0.01)
    assert light.ambient.min() > 0.0


def test_shell_fills_the_frame(long_furnace: Furnace) -> None:
    shell = long_furnace.shell
    assert shell.reflectance.shape == (64, 64, 3)
    assert shell.reflectance[..., 1].min() > 0.25
    assert shell.reflectance[..., 1].max() < 2.0
    top, side = shell.reach
    assert top[:8].mean() > 2.0 * top[-8:].mean()
    assert max(side[:, :8].mean(), side[:, -8:].mean()) > 2.0 * min(side[:, :8].mean(), side[:, -8:].mean())


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
    assert shape.min() >= 0.22
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
    assert len(patches) > 12
    travel = [np.hypot(p.row[-1] - p.row[0], p.column[-1] - p.column[0]) / (len(p.row) / 25) for p in patches]
    assert np.median(travel) > 2.0  # pixels a second
    middle = [p.strength[20:-20] for p in patches]
    flicker = [np.std(m) / np.mean(m) for m in middle]
    assert 0.1 < np.median(flicker) < 0.6
    present = np.zeros(long_furnace.plan.frames, dtype=bool)
    for patch in long_furnace.reflections:
        present[patch.first : patch.last] = True
    assert 0.02 < present.mean() < 0.2


def test_reflection_is_drawn_inside_its_frames_only(furnace: Furnace) -> None:
    patch = max(furnace.reflections, key=lambda own: own.last - own.first)
    drawn = glare.draw_reflection(patch, patch.first - 5, patch.last + 5, 48, 64)
    assert drawn.max() > 5.0
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


def test_splashes_are_dots_that_fly_or_stick_and_know_nothing_of_the_anomaly(long_furnace: Furnace) -> None:
    drops = long_furnace.splashes
    assert len(drops) > 200
    moved = np.array([np.hypot(d.row[-1] - d.row[0], d.column[-1] - d.column[0]) for d in drops])
    length = np.array([d.last - d.first for d in drops]) / 25.0
    stuck = moved == 0.0
    assert 0.2 < stuck.mean() < 0.6
    assert length[~stuck].max() < 1.2
    assert length[stuck].max() > 15.0
    present = np.zeros(long_furnace.plan.frames, dtype=bool)
    for drop in drops[:120]:
        present[drop.first : drop.last] = True
        light = draw_splashes((drop,), drop.first, drop.first + 1, 64, 64)
        assert light is not None
        if light.max() > 0.1:
            assert 1 <= (light > 0.5 * light.max()).sum() <= 6
    twin = Furnace(make_plan(PRESETS["full"], 1, 0, anomaly_free=True))
    assert [(d.first, d.last, d.width) for d in twin.splashes] == [(d.first, d.last, d.width) for d in drops]


def test_area_is_exact_largest_at_the_apex_and_published(long_furnace: Furnace) -> None:
    shares = []
    for spot in long_furnace.spots[:12]:
        event = spot.event
        masks = draw_masks((spot,), event.onset, event.offset + 1, 64, 64)
        area = masks.sum(axis=(1, 2), dtype=np.int64)
        np.testing.assert_array_equal(area, spot.area)
        peak = event.apex - event.onset
        assert area[peak] == area.max() <= 0.026 * 64 * 64
        assert 2 <= area[0] < 0.6 * area[peak]
        assert area[-1] < 0.7 * area[peak]
        rising = area[: peak + 1]
        assert rising[: len(rising) // 3].mean() < rising[-len(rising) // 3 :].mean()
        assert np.abs(np.diff(area)).max() <= max(1, 0.05 * area[peak])  # it grows, it does not jump
        shares.append(100.0 * area / 4096)
    assert 0.2 < np.median(np.concatenate(shares)) < 1.1


def test_pieces_are_ragged_appear_and_merge(long_furnace: Furnace) -> None:
    most, ratio = [], []
    for spot in long_furnace.spots:
        areas = np.unique(spot.area)
        pieces = count_pieces(spot.rank[None] < areas[:, None, None])
        assert 1 <= pieces.min() <= pieces.max() <= MOST_PIECES
        most.append(int(pieces.max()))
        rows, columns = np.nonzero(spot.rank < areas[-1])
        spread = np.sqrt(np.linalg.eigvalsh(np.cov([rows, columns]) + np.eye(2) / 12))
        ratio.append(spread[1] / spread[0])
    assert {1, 2, 3} == set(most)
    assert np.max(ratio) > 2.0  # some run along a crack


def test_count_pieces_equals_one_frame_at_a_time() -> None:
    from scipy.ndimage import label

    rng = np.random.default_rng(3)
    masks = (rng.random((40, 7, 9)) < rng.random((40, 1, 1)) * 0.5).astype(np.uint8)
    masks[5] = 0
    wanted = [label(mask, structure=np.ones((3, 3)))[1] for mask in masks]
    np.testing.assert_array_equal(count_pieces(masks), wanted)


def test_glow_lags_the_heat_and_outlives_it(furnace: Furnace) -> None:
    spot = furnace.spots[1]
    event = spot.event
    assert spot.glow[0] < 0.3 * spot.glow.max() < spot.glow[25]  # a second later it is there
    glow = draw_glow((spot,), event.offset + 1, event.offset + 3, 48, 64)
    assert glow is not None
    assert glow.max() > 0.02
    assert draw_masks((spot,), event.offset + 1, event.offset + 3, 48, 64).max() == 0
    assert spot.glow[-1] < 0.01
    assert draw_glow((spot,), spot.last, spot.last + 9, 48, 64) is None


def test_core_is_white_or_yellow_and_its_halo_red(long_furnace: Furnace) -> None:
    """The glow alone, on black: hottest in the middle, and the further out the redder."""
    spot = max(long_furnace.spots, key=lambda own: int(own.area.max()))
    frame = spot.event.apex
    glow = draw_glow((spot,), frame, frame + 1, 64, 64)
    assert glow is not None
    lit = long_furnace._heated(np.zeros((1, 64, 64, 3), np.float32), glow)[0]
    core = lit[spot.rank < 4].mean(axis=0)
    rim = lit[(spot.rank >= spot.area.max()) & (spot.rank < 1.5 * spot.area.max())].mean(axis=0)
    assert core.min() > 0.4 * core.max()
    assert core[0] > 190.0
    assert rim[0] > 1.5 * rim[1] > 1.5 * rim[2]


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
    assert dark.std() == pytest.approx(np.sqrt(READ_NOISE + SHOT_NOISE * 20), rel=0.05)
    assert bright.std() == pytest.approx(np.sqrt(READ_NOISE + SHOT_NOISE * 220), rel=0.05)


def test_tone_is_straight_then_flattens_and_ends_at_white() -> None:
    light = np.array([-5.0, 0.0, 90.0, KNEE, KNEE + 1.0, 300.0, 480.0, 1e6], dtype=np.float32)
    got = tone(light.copy())
    np.testing.assert_allclose(got[:4], [0.0, 0.0, 90.0, KNEE])
    assert got[4] == pytest.approx(KNEE + 1.0, abs=0.02)
    assert (np.diff(got) >= 0.0).all()
    assert got[5] == pytest.approx(241.18, abs=0.01)
    assert got[-1] == 255.0


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
    assert brightness(clean, mask) > 20.0
    assert abs(brightness(seen, mask)) < 8.0


def brightness(frame: np.ndarray, mask: np.ndarray) -> float:
    """How much brighter the mask's inside is than a ring around it."""
    from scipy.ndimage import binary_dilation

    ring = binary_dilation(mask, iterations=6) & ~binary_dilation(mask, iterations=3)
    return float(frame[mask].mean() - frame[ring].mean())


def test_heat_is_bright_where_it_is_seen(blocks: list[Block]) -> None:
    seen = [
        brightness(block.video[k].astype(float), block.hot[k].astype(bool))
        for block in blocks
        for k in range(len(block.video))
        if block.hot[k].sum() >= 6 and block.visibility[k] > 0.8
    ]
    assert len(seen) > 100
    assert np.median(seen) > 30.0


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


def test_plan_is_the_only_state(furnace: Furnace) -> None:
    plan: Plan = furnace.plan
    assert (furnace.time == plan.timing.frame_time).all()
    assert furnace.time[-1] / SECOND < 262.5
