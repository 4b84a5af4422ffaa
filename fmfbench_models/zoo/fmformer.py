"""FmFormer: a cross-modal transformer over video and three-phase current.

Wu, Zhang, Deng, Zhang, Chai, "Cross-Modal Learning for Anomaly Detection in Complex Industrial Process:
Methodology and Benchmark", IEEE TCSVT 35(3):2632-2645, 2025, arXiv 2406.09016. Numbers in brackets are its
equations.

Two readings stand side by side. Preset `paper` is the text: a layer is MHSA, MLP, MHCA, MLP; patches go
through one linear map, shared by standard and dilated tokens. Preset `official` is the released code: a layer
is MHSA, MHCA, MLP; patches go through LayerNorm, Linear, LayerNorm, which makes the model blind to the
overall level of the three currents at a time step and to a patch's brightness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import (
    INIT_STD,
    Attention,
    CrossAttention,
    InputNorm,
    Mlp,
    PatchEmbedding,
    TokenDecoder,
    class_head,
    frames_kept,
    kept,
    key_mask,
    learned,
    patchify,
    resize_table,
)
from fmfbench_models.registry import (
    TINY_CLIP,
    TINY_CURRENT,
    TINY_DECODER,
    TINY_ENCODER,
    Registration,
    create_model,
)

__all__ = ["REGISTRATION", "FmFormer", "FmFormerConfig", "fuse_unimodal"]

PATCH = (2, 8, 8)  # t_v, h_v, w_v
PATCH_VALUES = 2 * 8 * 8 * 3
DILATION = 2
EXTENT = (8 - 1) * DILATION + 1  # of a dilated patch: 15 pixels

Grid = tuple[int, int, int]
Streams = dict[str, Tensor]  # "video" and "current", or one of them
ALL_ROWS: Mapping[str, int] = {}
ALL_KEPT: Mapping[
    str, Tensor | None
] = {}  # of each stream, which tokens may be attended to (b, n); absent: all


@dataclass(frozen=True, kw_only=True)
class FmFormerConfig:
    """The defaults are the paper's model.

    num_frames T, size (H, W), current_length Tc: lengths of the native input; with pos_resize "interp" others work.
    block: order inside a layer, see above.
    dilated: with the dilated tokens and the decoder's blending branch (10).
    dilated_impl: "stride15" patches of extent 15 side by side, pixels 0..59 of 64; "nearest" patches of the half-size
    video, stride 16, pixels 0..62.
    patch_norm: LayerNorms around the linear maps.
    share_patch_weights: one map for both token scales, and one position table for them (1); else each has its own.
    token_order: of the two scales after the class token.
    pos_resize: how tables meet other lengths: "interp" keeps both ends, "slice" takes the first rows (the released
    code; longer input is an error).
    interaction (Table V): "both"; "sa" every MHCA an MHSA, that is two unimodal models whose logits are added (ID 1);
    "ca" every MHSA an MHCA (ID 2).
    fusion: class logits of both streams added (12), or "v_only" (ID 2 and 3).
    official_unimodal: one modality alone as in the released code, its MHCA simply absent; the paper replaces it by an
    MHSA.
    spare_head: the released video model's second class head, which nothing uses.
    init_std: deviation of positions, class tokens and the like at the start. use_validity: positions of a window that
    are not valid are masked in training and prediction, not seen as they are filled.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    current_length: int = 440
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    modality: Literal["both", "visual", "current"] = "both"
    class_task: bool = True
    dense_task: bool = True
    block: Literal["paper", "official"] = "paper"
    dilated: bool = True
    dilated_impl: Literal["stride15", "nearest"] = "stride15"
    patch_norm: bool = False
    share_patch_weights: bool = True
    token_order: Literal["dilated_first", "standard_first"] = "dilated_first"
    pos_resize: Literal["interp", "slice"] = "interp"
    head: Literal["mlp", "linear"] = "mlp"
    decoder_style: Literal["paper", "official"] = "paper"
    decoder_channels: tuple[int, int, int] = (128, 64, 32)
    interaction: Literal["both", "sa", "ca"] = "both"
    fusion: Literal["sum", "v_only"] = "sum"
    official_unimodal: bool = False
    spare_head: bool = False
    raw_input: bool = False
    init_std: float = INIT_STD
    use_validity: bool = False

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise InputError(
                f"fmformer: expected dim as a multiple of heads, got {self.dim} and {self.heads}"
            )
        if self.depth < 1:
            raise InputError(f"fmformer: expected depth of 1 or more, got {self.depth}")
        if not (self.class_task or self.predicts_pixels):
            raise InputError("fmformer: expected class_task or dense_task (which needs video), got neither")
        if self.modality != "both" and (self.interaction == "ca" or self.fusion == "v_only"):
            raise InputError(
                f"fmformer: expected both modalities for interaction 'ca' and fusion 'v_only', got {self.modality}"
            )
        if "video" in self.streams:
            check_frames(self.num_frames, *self.size)
            if self.dilated and 0 in self.dilated_grid(self.num_frames, *self.size):
                raise InputError(
                    f"fmformer: expected larger frames for dilated tokens, got {self.size}; set dilated=False"
                )

    @property
    def streams(self) -> tuple[str, ...]:
        return {"both": ("video", "current"), "visual": ("video",), "current": ("current",)}[self.modality]

    @property
    def predicts_pixels(self) -> bool:
        return self.dense_task and self.modality != "current"

    def grid(self, frames: int, height: int, width: int) -> Grid:
        return frames // PATCH[0], height // PATCH[1], width // PATCH[2]

    def dilated_grid(self, frames: int, height: int, width: int) -> Grid:
        if self.dilated_impl == "stride15":
            return frames // PATCH[0], height // EXTENT, width // EXTENT
        return frames // PATCH[0], height // DILATION // PATCH[1], width // DILATION // PATCH[2]


def check_frames(frames: int, height: int, width: int) -> None:
    if frames < 2 or frames % PATCH[0] or height % PATCH[1] or width % PATCH[2] or not height * width:
        raise InputError(
            f"fmformer: expected an even number of frames with sides that are multiples of 8, "
            f"got {frames} frames of {height} x {width}; choose another protocol or resize the recordings"
        )


class VideoTokens(nn.Module):
    """Multiscale tokenization (1): class token, dilated and standard patches, positions added."""

    dilated_position: Tensor

    def __init__(self, config: FmFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.use_validity = config.use_validity
        self.has_unused = config.fusion == "v_only"
        shape = (config.num_frames, *config.size)
        self.native, self.native_dilated = config.grid(*shape), config.dilated_grid(*shape)
        standard, dilated = count(self.native), count(self.native_dilated) if config.dilated else 0
        self.embed = PatchEmbedding(PATCH_VALUES, config.dim, config.patch_norm)
        self.class_token = learned(1, 1, config.dim, std=config.init_std)
        if config.share_patch_weights:
            self.position = learned(1, 1 + standard + dilated, config.dim, std=config.init_std)
        else:
            self.position = learned(1, 1 + standard, config.dim, std=config.init_std)
            if config.dilated:
                self.dilated_embed = PatchEmbedding(PATCH_VALUES, config.dim, config.patch_norm)
                self.dilated_position = learned(1, dilated, config.dim, std=config.init_std)

    def forward(self, video: Tensor, norm: InputNorm) -> tuple[Tensor, Grid, Grid]:
        """Tokens (b, 1 + n, dim) in token order, and the grids of the standard and the dilated ones."""
        config = self.config
        shape = video.shape[2:]
        check_frames(*shape)
        grid = config.grid(*shape)
        patches = norm.video(patchify(video, PATCH))
        class_token = self.class_token.expand(video.shape[0], -1, -1)
        if not config.dilated:
            tokens = torch.cat([class_token, self.embed(patches)], 1)
            return tokens + self._positions(grid, (0, 0, 0)), grid, (0, 0, 0)
        sampled = self._sample(video)
        dilated_grid = config.grid(*sampled.shape[2:])
        sampled = norm.video(patchify(sampled, PATCH))
        if config.share_patch_weights:
            both = [sampled, patches] if config.token_order == "dilated_first" else [patches, sampled]
            parts = [self.embed(torch.cat(both, 1))]
        else:
            standard, dilated = self.embed(patches), self.dilated_embed(sampled)
            parts = [dilated, standard] if config.token_order == "dilated_first" else [standard, dilated]
        tokens = torch.cat([class_token, *parts], 1)
        return tokens + self._positions(grid, dilated_grid), grid, dilated_grid

    def _sample(self, video: Tensor) -> Tensor:
        """The frames whose ordinary patches are the dilated patches."""
        config = self.config
        height, width = video.shape[3:]
        if config.dilated_impl == "nearest":
            native = (config.num_frames, config.size[0] // DILATION, config.size[1] // DILATION)
            if config.pos_resize == "slice" and tuple(video.shape[2:]) != (config.num_frames, *config.size):
                video = video if video.is_floating_point() else video.float()
                return F.interpolate(video, native, mode="nearest")  # as released: time is resampled too
            side = DILATION * PATCH[1]
            return video[..., : height // side * side : DILATION, : width // side * side : DILATION]
        rows, columns = (dilated_indices(side, video.device) for side in (height, width))
        return video.index_select(3, rows).index_select(4, columns)

    def _positions(self, grid: Grid, dilated_grid: Grid) -> Tensor:
        """Positions of all tokens in token order, fitted to the lengths of this input."""
        config = self.config
        first = config.token_order == "dilated_first"
        table: Tensor = self.position
        dilated_table: Tensor | None = None
        if config.dilated and config.share_patch_weights:
            sizes = (1, count(self.native_dilated), count(self.native))
            class_row, one, two = self.position.split(sizes if first else (1, sizes[2], sizes[1]), dim=1)
            dilated_table, standard_table = (one, two) if first else (two, one)
            table = torch.cat([class_row, standard_table], 1)
        elif config.dilated:
            dilated_table = self.dilated_position
        if config.pos_resize == "slice":
            standard = sliced(table, 1 + count(grid), "video")
            dilated = None if dilated_table is None else sliced(dilated_table, count(dilated_grid), "video")
        else:
            standard = torch.cat([table[:, :1], resize_table(table[:, 1:], self.native, grid)], 1)
            dilated = (
                None
                if dilated_table is None
                else resize_table(dilated_table, self.native_dilated, dilated_grid)
            )
        if dilated is None:
            return standard
        if first:
            return torch.cat([standard[:, :1], dilated, standard[:, 1:]], 1)
        return torch.cat([standard, dilated], 1)


class CurrentTokens(nn.Module):
    """Current tokenization (2): class token and one token a time step, positions added."""

    def __init__(self, config: FmFormerConfig) -> None:
        super().__init__()
        self.length, self.pos_resize = config.current_length, config.pos_resize
        self.embed = PatchEmbedding(3, config.dim, config.patch_norm)
        self.class_token = learned(1, 1, config.dim, std=config.init_std)
        self.position = learned(1, 1 + config.current_length, config.dim, std=config.init_std)

    def forward(self, current: Tensor, norm: InputNorm) -> Tensor:
        tokens = self.embed(norm.current(current))
        tokens = torch.cat([self.class_token.expand(current.shape[0], -1, -1), tokens], 1)
        length = current.shape[1]
        if self.pos_resize == "slice":
            return tokens + sliced(self.position, 1 + length, "current")
        rows = resize_table(self.position[:, 1:], (self.length,), (length,))
        return tokens + torch.cat([self.position[:, :1], rows], 1)


class Mixing(nn.Module):
    """One attention step of all streams: each within itself (3-6), or across (7-8) from the same pair of inputs."""

    def __init__(self, kind: Literal["self", "cross"], config: FmFormerConfig) -> None:
        super().__init__()
        self.kind = kind
        if kind == "cross":
            self.cross = CrossAttention(config.dim, config.heads)
        else:
            self.own = nn.ModuleDict({name: Attention(config.dim, config.heads) for name in config.streams})

    def branches(self) -> list[nn.Module]:
        return [self.cross] if self.kind == "cross" else list(self.own.values())

    def forward(
        self,
        z: Streams,
        rows: Mapping[str, int] = ALL_ROWS,
        keep: Mapping[str, Tensor | None] = ALL_KEPT,
    ) -> Streams:
        asking = {name: tokens[:, : rows.get(name)] for name, tokens in z.items()}
        masks = {name: key_mask(keep.get(name)) for name in z}
        if self.kind == "self":
            return {
                name: asking[name] + own(z[name], masks[name], rows=rows.get(name))
                for name, own in self.own.items()
            }
        to_video, to_current = self.cross(
            z["video"],
            z["current"],
            rows.get("video"),
            rows.get("current"),
            mask_a=masks["video"],
            mask_b=masks["current"],
        )
        return {"video": asking["video"] + to_video, "current": asking["current"] + to_current}


class Feedforward(nn.Module):
    """z <- MLP(z) + z, each stream its own."""

    def __init__(self, config: FmFormerConfig) -> None:
        super().__init__()
        self.own = nn.ModuleDict({name: Mlp(config.dim, config.mlp_dim) for name in config.streams})

    def branches(self) -> list[nn.Module]:
        return list(self.own.values())

    def forward(self, z: Streams) -> Streams:
        return {name: z[name] + mlp(z[name]) for name, mlp in self.own.items()}


class Layer(nn.Module):
    """paper: attend, MLP, attend across, MLP. official: attend, attend across, MLP.

    rows: of the streams named there only the first so many tokens are wanted afterwards. After the last attention
    step a token no longer meets another, so from there on the rest are left out.
    """

    def __init__(self, config: FmFormerConfig) -> None:
        super().__init__()
        alone = config.modality != "both" or config.interaction == "sa"
        self.first = Mixing("cross" if config.interaction == "ca" else "self", config)
        self.first_mlp = Feedforward(config) if config.block == "paper" else None
        absent = config.modality != "both" and config.official_unimodal
        self.second = None if absent else Mixing("self" if alone else "cross", config)
        self.second_mlp = None if absent and config.block == "paper" else Feedforward(config)

    def branches(self) -> list[nn.Module]:
        steps = (self.first, self.first_mlp, self.second, self.second_mlp)
        return [branch for step in steps if step is not None for branch in step.branches()]

    def forward(
        self,
        z: Streams,
        rows: Mapping[str, int] = ALL_ROWS,
        keep: Mapping[str, Tensor | None] = ALL_KEPT,
    ) -> Streams:
        last = self.first if self.second is None else self.second
        for step in (self.first, self.first_mlp, self.second, self.second_mlp):
            if isinstance(step, Mixing):
                z = step(z, rows if step is last else ALL_ROWS, keep)
            elif step is not None:
                z = step(z)
        return z


class FmFormer(Model):
    """Tokens, encoder, heads."""

    def __init__(self, config: FmFormerConfig) -> None:
        super().__init__(modality=config.modality, dense=config.predicts_pixels, raw_input=config.raw_input)
        self.config = config
        self.validity = tuple(f"{name}_valid" for name in config.streams)
        if "video" in config.streams:
            self.video = VideoTokens(config)
        if "current" in config.streams:
            self.current = CurrentTokens(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        if config.class_task:
            hidden = config.dim if config.head == "mlp" else None
            self.class_heads = nn.ModuleDict(
                {name: class_head(config.dim, hidden) for name in config.streams}
            )
            if config.spare_head and config.modality == "visual":
                self.spare_head = class_head(config.dim)
        if config.predicts_pixels:
            self.decoder = TokenDecoder(
                config.dim,
                self.video.native,
                self.video.native_dilated if config.dilated else None,
                style=config.decoder_style,
                channels=config.decoder_channels,
            )

    def forward(
        self,
        video: Tensor | None = None,
        current: Tensor | None = None,
        *,
        video_valid: Tensor | None = None,
        current_valid: Tensor | None = None,
    ) -> Output:
        """The judgement of a batch.

        video_valid (B, T), current_valid (B, Tc) bool: tubelets with a frame, and time steps, that are False have no
        influence on anything; the decoder sees zeros in their place.
        """
        return self.judge(video, current, video_valid=video_valid, current_valid=current_valid)[0]

    def judge(
        self,
        video: Tensor | None = None,
        current: Tensor | None = None,
        *,
        video_valid: Tensor | None = None,
        current_valid: Tensor | None = None,
    ) -> tuple[Output, Tensor]:
        """The output, and the class token (B, dim) of the first stream, video where there is one."""
        z, grids = self.tokens(video, current)
        keep = self._kept(z, grids, video_valid, current_valid)
        for layer in self.layers[:-1]:
            z = layer(z, keep=keep)
        z = self.layers[-1](z, self.rows_read, keep)
        seen = keep.get("video")
        if self.dense and seen is not None:
            z["video"] = z["video"] * seen[..., None]
        output = Output(
            self.classify(z) if self.config.class_task else None,
            self.segment(z["video"], *grids) if self.dense else None,
        )
        return output, z[self.config.streams[0]][:, 0]

    def _kept(
        self,
        z: Streams,
        grids: tuple[Grid, Grid],
        video_valid: Tensor | None,
        current_valid: Tensor | None,
    ) -> dict[str, Tensor | None]:
        """Which tokens of each stream may be attended to, in token order; class tokens always."""
        keep: dict[str, Tensor | None] = {}
        if "video" in z and video_valid is not None:
            scales = [frames_kept(video_valid, grid) for grid in reversed(grids) if count(grid)]
            if self.config.token_order == "standard_first":
                scales.reverse()
            keep["video"] = kept([None, *scales], (1, *(0 for _ in scales)), z["video"])
        if "current" in z and current_valid is not None:
            keep["current"] = kept([None, current_valid], (1, 0), z["current"])
        return keep

    @property
    def smooths_labels(self) -> bool:
        return self.config.class_task

    @property
    def rows_read(self) -> dict[str, int]:
        """The streams of which the heads read the class token alone."""
        return {name: 1 for name in self.config.streams if not (name == "video" and self.dense)}

    def tokens(self, video: Tensor | None, current: Tensor | None) -> tuple[Streams, tuple[Grid, Grid]]:
        z: Streams = {}
        grids = ((0, 0, 0), (0, 0, 0))
        if "video" in self.config.streams:
            z["video"], *grids_found = self.video(wanted(video, "video"), self.input_norm)
            grids = tuple(grids_found)
        if "current" in self.config.streams:
            z["current"] = self.current(wanted(current, "current"), self.input_norm)
        return z, grids

    def classify(self, z: Streams) -> Tensor:
        """(12): the logits of the streams' class tokens, added."""
        logits = [head(z[name][:, 0]) for name, head in self.class_heads.items()]
        return logits[0] if self.config.fusion == "v_only" or len(logits) == 1 else logits[0] + logits[1]

    def segment(self, tokens: Tensor, grid: Grid, dilated_grid: Grid) -> Tensor:
        """(9)-(11) on the video tokens without their class token."""
        config = self.config
        if not config.dilated:
            return self.decoder(self._at_native_time(tokens[:, 1:], grid), grid=self._native_time(grid))
        sizes = (1, count(dilated_grid), count(grid))
        if config.token_order == "dilated_first":
            _, dilated, standard = tokens.split(sizes, dim=1)
        else:
            _, standard, dilated = tokens.split((1, sizes[2], sizes[1]), dim=1)
        return self.decoder(
            self._at_native_time(standard, grid),
            self._at_native_time(dilated, dilated_grid),
            self._native_time(grid),
            self._native_time(dilated_grid),
        )

    def _native_time(self, grid: Grid) -> Grid:
        return (self.video.native[0], *grid[1:])

    def _at_native_time(self, tokens: Tensor, grid: Grid) -> Tensor:
        """The decoder's first map has a fixed number of time steps: clips of another length are resampled to it."""
        if grid[0] == self.video.native[0]:
            return tokens
        return resize_table(tokens, grid, self._native_time(grid))


def fuse_unimodal(visual: FmFormer, current: FmFormer) -> FmFormer:
    """Table IV and Table V, ID 1: two separately trained models whose logits are added, as one model."""
    if visual.modality != "visual" or current.modality != "current":
        raise InputError(
            f"fuse_unimodal: expected visual and current models, got {visual.modality} and {current.modality}"
        )
    config = visual.meta.config | {
        "modality": "both",
        "interaction": "sa",
        "current_length": current.config.current_length,
        "spare_head": False,
    }
    fused = create_model("fmformer", **config).to(visual.input_norm.like)
    own = {key: value for key, value in visual.state_dict().items() if not key.startswith("spare_head")}
    fused.load_state_dict(own | current.state_dict())
    return cast(FmFormer, fused)


def count(grid: Grid) -> int:
    return grid[0] * grid[1] * grid[2]


def dilated_indices(side: int, device: torch.device) -> Tensor:
    """Rows (or columns) that the dilated patches hold, patch after patch: 15 g + 2 p, p = 0..7."""
    origin = EXTENT * torch.arange(side // EXTENT, device=device)
    return (origin[:, None] + DILATION * torch.arange(PATCH[1], device=device)).flatten()


def sliced(table: Tensor, length: int, what: str) -> Tensor:
    if length > table.shape[1]:
        raise InputError(
            f"fmformer: expected at most {table.shape[1]} tokens, as the position table holds, got {length} of {what}; "
            f"shorten the input or set pos_resize='interp'"
        )
    return table[:, :length]


def wanted(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise InputError(f"fmformer: expected {name}, got None")
    return value


OFFICIAL: dict[str, Any] = {
    "current_length": 240,
    "block": "official",
    "dilated_impl": "nearest",
    "patch_norm": True,
    "share_patch_weights": False,
    "token_order": "standard_first",
    "pos_resize": "slice",
    "head": "linear",
    "decoder_style": "official",
    "official_unimodal": True,
    "spare_head": True,
    "raw_input": True,
    "init_std": 1.0,
}

NANO: dict[str, Any] = {"dim": 48, "depth": 2, "mlp_dim": 96, "decoder_channels": [48, 32, 16]}

# For a demonstration on a CPU: frames alone, and pixels alone, as a dozen events teach no class token.
DEMO: dict[str, Any] = {
    "dim": 48,
    "depth": 2,
    "mlp_dim": 96,
    "modality": "visual",
    "class_task": False,
    "dilated": False,
    "decoder_channels": [32, 16, 8],
}

REGISTRATION = Registration(
    name="fmformer",
    title="FmFormer",
    modality="both",
    dense=True,
    config=FmFormerConfig,
    build=FmFormer,
    tiny=TINY_CLIP | TINY_CURRENT | TINY_ENCODER | TINY_DECODER,
    presets={
        "paper": {},
        "official": OFFICIAL,
        "nano": NANO,
        "demo": DEMO,
    },
    source="Wu et al., IEEE TCSVT 35(3):2632-2645, 2025, arXiv 2406.09016; GaochangWu/FMF-Benchmark (MIT)",
    provenance={
        "tokens, encoder, heads": "paper (preset paper) or official code (preset official)",
        "MLP width 384": "official code",
        "class head width 96": "choice",
        "biases of the two linear maps": "choice",
        "input scaling": "choice (preset paper), official code (preset official)",
        "initialisation": "official code",
        "other lengths": "paper (interpolated tables, both ends kept: choice)",
    },
)
