"""Convolutional trunks with torchvision's parameter names, so that the published ImageNet weights load unchanged.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (ResNet-18); Simonyan,
Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015 (VGG-19, its
configuration E). Without classifiers, and cut where a model stops reading. Nothing of torchvision is imported.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.parts.torch_file import read_torch_file

__all__ = [
    "ResNet18",
    "Trunk",
    "Vgg19",
    "check_backbone_weights",
    "imagenet_scale",
    "load_backbone_weights",
    "random_backbone",
    "trunk_of",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of images scaled to [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)
# How the sha256 of torchvision's ImageNet files begins, which is how their names end.
PUBLISHED = {"ResNet18": ("f37072fd", "5c106cde"), "Vgg19": ("dcbb9e9d",)}
VGG19_CONVOLUTIONS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # width, how many before each pooling


class Trunk(nn.Module):
    """A convolutional trunk: images (B, 3, H, W) as `imagenet_scale` gives them, to feature maps.

    channels: of each map it gives. stride: pixels of the image per place of the last map, rounded up.
    """

    channels: tuple[int, ...]
    stride: int
    frozen = False

    def freeze(self) -> None:
        """No gradients, and batch norm keeps its running statistics whatever mode the model is in."""
        self.frozen = True
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Trunk:
        return super().train(mode and not self.frozen)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a skip, a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, image: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(image)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.downsample(image))


class ResNet18(Trunk):
    """The first `stages` of the four of ResNet-18: (B, 3, H, W) -> (B, 64 * 2^(stages-1), H / s, W / s).

    s = 2^(stages+1). stages=2 ends with torchvision's `layer2`: 128 channels at stride 8, 683,072 parameters.
    """

    def __init__(self, stages: int = 4) -> None:
        super().__init__()
        if stages not in {1, 2, 3, 4}:
            raise InputError(f"ResNet18: expected 1, 2, 3 or 4 stages, got {stages}")
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        width = 64
        for stage in range(stages):
            outputs, stride = 64 * 2**stage, 1 if stage == 0 else 2
            blocks = nn.Sequential(BasicBlock(width, outputs, stride), BasicBlock(outputs, outputs, 1))
            self.add_module(f"layer{stage + 1}", blocks)
            width = outputs
        self.stages, self.channels, self.stride = stages, (width,), 2 ** (stages + 1)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        image = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, stride=2, padding=1)
        for stage in range(self.stages):
            image = self.get_submodule(f"layer{stage + 1}")(image)
        return image


class Vgg19(Trunk):
    """The first `blocks` of the five of VGG-19: (B, 3, H, W) -> the last ReLU of each block, at strides 1, 2, 4, ...

    Without the pooling that ends the last block. blocks=4 taps torchvision's `features` 3, 8, 17, 26: 64, 128,
    256 and 512 channels, 10,585,152 parameters.
    """

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        if blocks not in {1, 2, 3, 4, 5}:
            raise InputError(f"Vgg19: expected 1 to 5 blocks, got {blocks}")
        layers: list[nn.Module] = []
        taps: list[int] = []
        width = 3
        for outputs, repeats in VGG19_CONVOLUTIONS[:blocks]:
            for _ in range(repeats):
                layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU()]
                width = outputs
            taps.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.taps, self.stride = tuple(taps), 2 ** (blocks - 1)
        self.channels = tuple(outputs for outputs, _ in VGG19_CONVOLUTIONS[:blocks])
        initialise(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = []
        for index, layer in enumerate(self.features):
            image = layer(image)
            if index in self.taps:
                found.append(image)
        return tuple(found)


def initialise(trunk: nn.Module) -> None:
    """He et al. 2015, fan out, as torchvision does; biases 0."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def imagenet_scale(frames: Tensor, like: Tensor) -> Tensor:
    """RGB frames (..., 3, H, W), 0..255 of any dtype -> what the published weights were trained on, as `like` is."""
    mean, std = (like.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (frames.to(like.dtype) / 255 - mean) / std


def trunk_of(model: nn.Module) -> Trunk | None:
    """The trunk of a model: whichever of its modules is a `Trunk`, a model having one at most."""
    return next((module for module in model.modules() if isinstance(module, Trunk)), None)


def load_backbone_weights(trunk: Trunk, path: str | Path) -> dict[str, str]:
    """Fill `trunk` from a file with torchvision's names: .pth (read with weights_only=True) or safetensors.

    What lies beyond the cut (later stages, the classifier) is left aside. Returns what is to be kept with the
    model's provenance, as "backbone": {"trunk", "weights", "file", "sha256"}, weights being "imagenet" for
    torchvision's own files and "file" for any other. InputError: no such file, not a state dict, a tensor missing or
    of another shape.
    """
    state, facts = read_backbone_weights(trunk, Path(path))
    own = trunk.state_dict()
    trunk.load_state_dict({**own, **{name: state[name] for name in own if name in state}})
    return facts


def check_backbone_weights(trunk: Trunk, path: str | Path) -> dict[str, str]:
    """What `load_backbone_weights` would return, or its error; `trunk` may be without storage."""
    return read_backbone_weights(trunk, Path(path))[1]


def random_backbone(trunk: Trunk) -> dict[str, str]:
    """The provenance of a trunk that no file was loaded into."""
    return {"trunk": type(trunk).__name__, "weights": "random"}


def read_backbone_weights(trunk: Trunk, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(the state dict, which has all that the trunk needs; its provenance)."""
    if not path.is_file():
        raise InputError(f"{path}: expected a file of backbone weights, got no file")
    state, kind = read_state(path), type(trunk).__name__
    # published before batch norm counted its batches, some files lack that counter
    needed = {k: v for k, v in trunk.state_dict().items() if not k.endswith("num_batches_tracked")}
    for name, value in needed.items():
        found = state.get(name)
        if not isinstance(found, Tensor) or found.shape != value.shape:
            came = "none" if not isinstance(found, Tensor) else f"one of shape {tuple(found.shape)}"
            raise InputError(
                f"{path}: expected {kind}'s tensor {name} of shape {tuple(value.shape)}, "
                f"got {came}; give a file with torchvision's names"
            )
    with open(path, "rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    weights = "imagenet" if sha256.startswith(PUBLISHED.get(kind, ())) else "file"
    return state, {"trunk": kind, "weights": weights, "file": path.name, "sha256": sha256}


def read_state(path: Path) -> dict[str, Any]:
    """The state dict in a file, told by its content."""
    with open(path, "rb") as stream:
        start = stream.read(9)
    try:
        if start[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
            return load_file(path)
    except (SafetensorError, RuntimeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: expected safetensors, got a file that cannot be read as such: {reason}"
        ) from None
    state = read_torch_file(path)
    if not isinstance(state, dict):
        raise InputError(f"{path}: expected a state dict, got {type(state).__name__}")
    return state
