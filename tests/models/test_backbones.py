"""Trunks: shapes, counts, names, and equality with torchvision's where that is installed."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.parts.backbones import ResNet18, Vgg19, imagenet_scale, load_backbone_weights

RESNET_PARAMETERS = {1: 157_504, 2: 683_072, 3: 2_782_784, 4: 11_176_512}
TAPS = (3, 8, 17, 26, 35)


def image(size=2, height=64, width=96):
    return torch.randn(size, 3, height, width, generator=torch.Generator().manual_seed(0))


def random_state(trunk, seed=0):
    """Weights of a usual size; running statistics off their defaults, so that batch norm counts."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in trunk.state_dict().items():
        if value.dim() == 0:
            state[name] = torch.tensor(5)
        elif name.endswith("running_var") or (value.dim() == 1 and name.endswith("weight")):
            state[name] = 0.5 + torch.rand(value.shape, generator=generator)
        else:
            scale = value[0].numel() ** -0.5 if value.dim() > 1 else 0.1
            state[name] = scale * torch.randn(value.shape, generator=generator)
    return state


def norm(x, state, name):
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)


def resnet_by_hand(x, state, stages):
    """He et al., table 1, from a state dict with torchvision's names."""
    x = F.relu(norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), state, "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in range(1, stages + 1):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(F.relu(norm(y, state, f"{name}.bn1")), state[f"{name}.conv2.weight"], padding=1)
            if stride == 2:
                shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2)
                x = norm(shortcut, state, f"{name}.downsample.1")
            x = F.relu(norm(y, state, f"{name}.bn2") + x)
    return x


def vgg_by_hand(x, state):
    """Configuration E from a state dict with torchvision's names: a pooling after 2, 4, 8, 12 convolutions."""
    found = []
    for number, index in enumerate([0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34], start=1):
        if f"features.{index}.weight" not in state:
            break
        x = F.relu(F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1))
        if number in {2, 4, 8, 12, 16}:
            found.append(x)
            x = F.max_pool2d(x, 2)
    return found


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_resnet_is_the_papers(stages):
    trunk = ResNet18(stages).eval()
    assert sum(p.numel() for p in trunk.parameters()) == RESNET_PARAMETERS[stages]
    state = random_state(trunk)
    trunk.load_state_dict(state)
    with torch.no_grad():
        got = trunk(image())
    assert got.shape == (2, *trunk.channels, 64 // trunk.stride, 96 // trunk.stride)
    torch.testing.assert_close(got, resnet_by_hand(image(), state, stages), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 4, 5])
def test_vgg_is_the_papers(blocks):
    trunk = Vgg19(blocks).eval()
    assert trunk.taps == TAPS[:blocks]
    state = random_state(trunk)
    trunk.load_state_dict(state)
    with torch.no_grad():
        got = trunk(image(1, 32, 48))
    expected = vgg_by_hand(image(1, 32, 48), state)
    assert len(got) == len(expected) == blocks
    assert [len(features[0]) for features in got] == list(trunk.channels)
    assert got[-1].shape[2] * trunk.stride == 32
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_counts():
    assert sum(p.numel() for p in Vgg19(4).parameters()) == 10_585_152
    assert sum(Vgg19(4).channels) == 960
    assert sum(p.numel() for p in Vgg19(5).parameters()) == 20_024_384
    assert len(ResNet18().state_dict()) == 120  # torchvision's 122 less the classifier's two


@pytest.mark.parametrize("kind", ["resnet18", "vgg19"])
def test_equal_to_torchvision(kind, tmp_path):
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    original = getattr(models, kind)().eval()
    original.load_state_dict(random_state(original))
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    own = (ResNet18 if kind == "resnet18" else Vgg19)().eval()
    load_backbone_weights(own, tmp_path / "weights.pth")
    x = image()
    with torch.no_grad():
        if kind == "resnet18":
            names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
            expected = x
            for name in names:
                expected = getattr(original, name)(expected)
            assert torch.equal(own(x), expected)
        else:
            for tap, features in zip(own.taps, own(x), strict=True):
                assert torch.equal(features, original.features[: tap + 1](x.clone()))


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("counters", [True, False])
def test_published_files_fill_a_shorter_trunk(tmp_path, form, counters):
    """A file holds more than a cut trunk reads; older ones lack the batch counters."""
    state = random_state(ResNet18(3)) | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    if not counters:
        state = {name: value for name, value in state.items() if value.dim()}
    path = tmp_path / "weights.bin"
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    trunk = ResNet18(2)
    fact = load_backbone_weights(trunk, path)
    assert fact == {
        "trunk": "ResNet18",
        "weights": "file",
        "file": "weights.bin",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    for name, value in trunk.state_dict().items():
        assert torch.equal(value, state.get(name, torch.tensor(0)))


def test_what_does_not_fit_is_refused(tmp_path):
    state = random_state(ResNet18(2))
    path = tmp_path / "weights.pth"
    for broken, message in [
        ({k: v for k, v in state.items() if k != "bn1.bias"}, r"bn1\.bias of shape \(64,\), got none"),
        (
            state | {"conv1.weight": torch.zeros(64, 3, 3, 3)},
            r"conv1\.weight of .*got one of shape \(64, 3, 3, 3\)",
        ),
        (random_state(Vgg19(1)), r"expected ResNet18's tensor conv1\.weight"),
        ([1, 2], "expected a state dict, got list"),
    ]:
        torch.save(broken, path)
        with pytest.raises(InputError, match=message):
            load_backbone_weights(ResNet18(2), path)
    torch.save(state, path)
    load_backbone_weights(ResNet18(2), path)
    with pytest.raises(InputError, match="got no file"):
        load_backbone_weights(ResNet18(2), tmp_path / "absent.pth")


class Harmful:
    def __reduce__(self):
        return (print, ("code from the file ran",))


def test_a_file_with_code_is_refused(tmp_path, capsys):
    torch.save({"conv1.weight": Harmful()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="expected a state dict of plain tensors"):
        load_backbone_weights(ResNet18(1), tmp_path / "weights.pth")
    (tmp_path / "weights.pth").write_bytes(b"not a checkpoint at all")
    with pytest.raises(InputError, match="expected a state dict of plain tensors"):
        load_backbone_weights(ResNet18(1), tmp_path / "weights.pth")
    assert "ran" not in capsys.readouterr().out


def test_frozen_trunks_stay_as_they_are():
    free, frozen = ResNet18(1), ResNet18(1)
    frozen.freeze()
    model = torch.nn.ModuleList([free, frozen]).train()
    assert free.training
    assert free.bn1.training
    assert not frozen.training
    assert not any(module.training for module in frozen.modules())
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    for trunk in model:
        trunk(image(height=32, width=32))
    assert not torch.equal(free.bn1.running_mean, before["bn1.running_mean"])
    for name, value in frozen.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in free.parameters())


def test_imagenet_scale():
    frames = torch.randint(0, 256, (2, 5, 3, 4, 6), dtype=torch.uint8)
    scaled = imagenet_scale(frames, torch.zeros((), dtype=torch.float64))
    assert scaled.dtype == torch.float64
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        expected = (frames[:, :, channel].double() / 255 - mean) / std
        torch.testing.assert_close(scaled[:, :, channel], expected)


@pytest.mark.parametrize(
    "build", [lambda: ResNet18(0), lambda: ResNet18(5), lambda: Vgg19(0), lambda: Vgg19(6)]
)
def test_cuts_that_do_not_exist_are_refused(build):
    with pytest.raises(InputError, match="expected 1"):
        build()
