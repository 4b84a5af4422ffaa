"""Video Mamba: the scan and the mixer against the recurrence they stand for, both directions, and its sizes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import create_model
from fmfbench_models.registry import registration
from fmfbench_models.zoo.video_mamba import Mixer, VideoMambaConfig, scan


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def recurrence(x, log_decay, b, c):
    """One token after another: h = exp(l) h + x b^T, y = h c."""
    state, found = torch.zeros(*x.shape[:1], *x.shape[2:], b.shape[-1], dtype=x.dtype), []
    for t in range(x.shape[1]):
        decayed = log_decay[:, t].exp()[..., None, None] * state
        state = decayed + x[:, t][..., None] * b[:, t][:, None, None]
        found.append((state * c[:, t][:, None, None]).sum(-1))
    return torch.stack(found, 1)


def parts(length, seed):
    decay = -6 * random(2, length, 3, seed=seed + 1) ** 2  # from no decay at all to forgetting at once
    b, c = (random(2, length, 5, seed=seed + k) for k in (2, 3))
    return random(2, length, 3, 4, seed=seed), decay, b, c


@pytest.mark.parametrize("length", [1, 4, 5, 17, 65])
@pytest.mark.parametrize("chunk", [1, 4, 5, 64])
def test_the_scan_is_the_recurrence_and_so_are_its_gradients(length, chunk):
    grown = [[part.clone().requires_grad_() for part in parts(length, 7 * length)] for _ in range(2)]
    fast, plain = scan(*grown[0], chunk), recurrence(*grown[1])
    torch.testing.assert_close(fast, plain)
    weight = random(*fast.shape, seed=99)
    (fast * weight).sum().backward()
    (plain * weight).sum().backward()
    for one, other in zip(*grown, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_long_strong_decays_lose_nothing_in_single_precision():
    x, decay, b, c = parts(300, 0)
    fast = scan(*(part.float() for part in (x, 20 * decay, b, c)), 64)
    torch.testing.assert_close(fast.double(), recurrence(x, 20 * decay, b, c), rtol=1e-3, atol=1e-3)


def plain_direction(direction, mixed, steps):
    """A direction token by token: the convolution as a sum over the last taps, then the recurrence."""
    config, weight = direction.config, direction.conv.weight[:, 0]
    found = torch.zeros_like(mixed)
    for t in range(mixed.shape[1]):
        for tap in range(config.kernel):
            if (at := t - config.kernel + 1 + tap) >= 0:
                found[:, t] += weight[:, tap] * mixed[:, at]
    found = F.silu(found + direction.conv.bias)
    x, b, c = found.split([config.inner, config.state, config.state], dim=-1)
    x = x.reshape(*x.shape[:2], -1, config.head_dim)
    step = torch.log1p(torch.exp(steps + direction.step_bias))
    y = recurrence(x * step[..., None], -torch.exp(direction.log_rate) * step, b, c)
    return (y + direction.skip[:, None] * x).flatten(2)


@pytest.fixture
def mixer():
    torch.manual_seed(0)
    config = VideoMambaConfig(dim=12, expand=2, head_dim=6, state=5, kernel=3, chunk=4)
    return Mixer(config).double()


def test_the_mixer_is_what_the_equations_say(mixer):
    tokens = random(2, 11, 12)
    with torch.no_grad():
        gate, mixed, steps = (tokens @ mixer.into.weight.T).split(mixer.sizes, dim=-1)
        y = plain_direction(mixer.forwards, mixed, steps)
        y = y + plain_direction(mixer.backwards, mixed.flip(1), steps.flip(1)).flip(1)
        y = y * gate * torch.sigmoid(gate)
        y = y / (y**2).mean(-1, keepdim=True).add(1e-5).sqrt() * mixer.norm.weight
        torch.testing.assert_close(mixer(tokens), y @ mixer.out.weight.T)


def test_each_direction_sees_one_side_and_the_mixer_both(mixer):
    mixed, steps = random(1, 9, mixer.sizes[1]), random(1, 9, mixer.sizes[2], seed=1)
    changed = mixed.clone()
    changed[:, 5] += 1
    moved = (mixer.forwards(mixed, steps) - mixer.forwards(changed, steps)).abs().sum(-1)[0]
    assert (moved[:5] == 0).all()
    assert (moved[5:] > 0).all()
    tokens = random(1, 9, 12)
    other = tokens.clone()
    other[:, 5] += 1
    assert ((mixer(tokens) - mixer(other)).abs().sum(-1) > 0).all()


def test_reading_backwards_is_reading_with_the_directions_exchanged(mixer):
    tokens = random(2, 9, 12)
    found = mixer(tokens.flip(1)).flip(1)
    mixer.forwards, mixer.backwards = mixer.backwards, mixer.forwards
    torch.testing.assert_close(mixer(tokens), found)


def tiny(**more):
    torch.manual_seed(0)
    return create_model("video_mamba", **{**registration("video_mamba").tiny, **more}).eval()


def test_the_model_is_tubelets_positions_blocks_and_the_class_token_read_out():
    """Tubelets cut out one by one; a place is in the frame, a time that of a pair of frames; mixers are as above."""
    model = tiny(depth=2).double()
    video = torch.randint(0, 256, (2, 3, 4, 16, 24), dtype=torch.uint8)
    scaled = model.input_norm.video(video)
    tokens = [model.class_token.expand(2, 1, -1)]
    for t, y, x in itertools.product(range(2), range(2), range(3)):
        tubelet = scaled[:, :, 2 * t : 2 * t + 2, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        token = model.embed(tubelet.permute(0, 3, 4, 2, 1).flatten(1))  # rows, columns, frames, channels
        tokens.append(token[:, None] + model.place[:, 0, None, 3 * y + x] + model.time[:, t])
    z = torch.cat(tokens, 1)
    for block in model.blocks:
        normed = F.rms_norm(z, (z.shape[-1],), block.norm.weight, 1e-5)
        z = z + block.mixer(normed)
    z = F.rms_norm(z, (z.shape[-1],), model.norm.weight, 1e-5)
    output = model(video)
    torch.testing.assert_close(output.logits, F.linear(z[:, 0], model.head.weight, model.head.bias))
    torch.testing.assert_close(output.pixel_logits, model.decoder(z[:, 1:]))


def test_the_chunk_changes_nothing_but_rounding():
    video = torch.randint(0, 256, (2, 3, 4, 16, 24), dtype=torch.uint8)
    with torch.no_grad():
        one, other = (tiny(chunk=chunk).double()(video) for chunk in (1, 64))
    torch.testing.assert_close(one.logits, other.logits)
    torch.testing.assert_close(one.pixel_logits, other.pixel_logits)


def test_order_of_frames_and_places_matter():
    video = torch.randint(0, 256, (1, 3, 4, 16, 24), dtype=torch.uint8)
    model = tiny()
    with torch.no_grad():
        plain = model(video).logits
        for turned in (video[:, :, [2, 3, 0, 1]], video.flip(3), video.flip(4)):
            assert not torch.allclose(model(turned).logits, plain)


@pytest.mark.parametrize(
    ("config", "parameters"), [({}, 765_116), ({"dense_task": False}, 434_330), ({"preset": "nano"}, 118_716)]
)
def test_parameter_counts(config, parameters):
    assert create_model("video_mamba", **config).num_parameters() == parameters


def test_starts_are_those_of_the_papers():
    mixers = [block.mixer for block in create_model("video_mamba").blocks]
    for direction in (part for mixer in mixers for part in (mixer.forwards, mixer.backwards)):
        step, rate = F.softplus(direction.step_bias), direction.log_rate.exp()
        assert (step > 0.00099).all()
        assert (step < 0.1001).all()
        assert (rate >= 1).all()
        assert (rate <= 16).all()
        assert (direction.skip == 1).all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"head_dim": 36}, "expected expand .* dim to be a multiple of head_dim, got 192 and 36"),
        ({"state": 0}, "expected state of at least 1, got 0"),
        ({"chunk": 0}, "expected chunk of at least 1, got 0"),
        ({"num_frames": 9}, "video_mamba: expected frames and sides that are multiples"),
    ],
)
def test_what_cannot_be_built_is_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        create_model("video_mamba", **wrong)
