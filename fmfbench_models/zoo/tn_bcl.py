"""TN-BCL: two modalities whose embeddings must agree, trained by contrast; what disagrees, or lies apart, is abnormal.

Peng, Fan, Cheung, Liu, Cui, Li, "Towards Efficient Cross-Modal Anomaly Detection Using Triple-Adaptive Network and
Bi-Quintuple Contrastive Learning", IEEE Trans. Emerging Topics in Computational Intelligence 8(1), 2024,
doi 10.1109/TETCI.2023.3256466.

    v1 = ReLU(trunk(video))                   (4)
    v2 = ReLU(FC(v1 + SRN(v1)))               (6)    SRN and FC shared by the modalities
    t2 = ReLU(FC(t  + SRN(t)))                (7)    t: the current's trunk

Training pulls embeddings v2, t2 of one label together and pushes those of two labels apart, between and within the
modalities (`contrastive.py`). Detection (`two_stage.py`), fitted to validation samples: the mean distance of v1 to its
k nearest normal embeddings, then the cosine of v2 and t2.

What differs from the original. Clips of a furnace and their currents instead of images and tags: v1 is the class token
of a video transformer, t that of a current transformer, instead of the paper's "TNT" and BERT. The label of a clip is
that of both modalities. Candidates are those of the batch, and the hardest of them are taken: the printed equations
take the easiest of both kinds, and as an anchor may be its own positive, pull nothing together within a modality
(`mining="paper"`). Stage 2's threshold comes from validation pairs as they are and pairs that are mismatched on
purpose: each clip with the current of one of the other label. Trained on normal samples alone a batch has one label,
and clips `far_frames` or more apart are then taken as inconsistent; the mismatched pairs are clips with the current of
the clip half the validation samples away. A sample's score is one number for both stages, which the paper does not
give: the larger of the two deviations from their thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, FitData, Model, Output
from fmfbench_models.parts.bits import from_bits, to_bits
from fmfbench_models.parts.blocks import (
    INIT_STD,
    Encoder,
    PatchEmbedding,
    PreNormBlock,
    class_head,
    frames_kept,
    kept,
    key_mask,
    learned,
    needed,
    patch_grid,
    patchify,
)
from fmfbench_models.parts.contrastive import Loss, Mining, contrastive_loss, relations
from fmfbench_models.parts.losses import supervised_loss
from fmfbench_models.parts.two_stage import Neighbours, TwoStage, cosine, fit_two_stage
from fmfbench_models.registry import TINY_CLIP, TINY_CURRENT, TINY_ENCODER, Registration

__all__ = ["REGISTRATION", "SharedResidual", "TnBcl", "TnBclConfig"]

Array = NDArray[np.float64]

PATCH = (2, 8, 8)
PATCH_VALUES = 2 * 8 * 8 * 3
FRAMES_A_VALUE = 12.5  # of video, at 25 a second, to each value of current, at 2
LEAST_NORM = 1e-8  # of a cosine's denominator


@dataclass(frozen=True, kw_only=True)
class TnBclConfig:
    """num_frames T, size (H, W), current_length Tc: of the input. srn_layers: of the shared residual network.

    loss, mining, exclude_self, gamma, gamma_0, margin: see `contrastive.contrastive_loss`. far_frames: how far apart
    two clips are inconsistent where a batch holds one label; by default as many frames as the current spans, at 25
    frames and 2 values a second. supervised: also a class head on both embeddings, whose logits are then the model's.
    k, contamination: of the neighbours. guard_frames: how near in time a validation clip is no neighbour of
    another when the distance threshold is found. max_rows: how many normal clips at most, evenly spread, are kept.
    init_std: deviation of positions, class tokens and the like at the start. use_validity: positions of a window that
    are not valid are masked in training and prediction, not seen as they are filled.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    current_length: int = 440
    dim: int = 96
    depth: int = 5
    heads: int = 6
    mlp_dim: int = 384
    srn_layers: int = 4
    loss: Loss = "quintuple"
    mining: Mining = "hard"
    exclude_self: bool = False
    gamma: float = 0.4
    gamma_0: float = 1.0
    margin: float = 0.2
    far_frames: int | None = None
    supervised: bool = False
    k: int = 5
    contamination: float = 0.001
    guard_frames: int = 250
    max_rows: int = 2000
    init_std: float = INIT_STD
    use_validity: bool = False

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("srn_layers", "k", "max_rows", "guard_frames")}
        counts["far_frames"] = self.frames_apart
        if min(counts.values()) < 1:
            came = ", ".join(f"{name} {value}" for name, value in counts.items())
            raise InputError(f"tn_bcl: expected counts of 1 or more, got {came}")
        if not 0 < self.contamination < 1:
            raise InputError(f"tn_bcl: expected contamination between 0 and 1, got {self.contamination}")

    @property
    def frames_apart(self) -> int:
        """far_frames, its default put in."""
        return round(FRAMES_A_VALUE * self.current_length) if self.far_frames is None else self.far_frames


class Trunk(nn.Module):
    """Embedded tokens (b, n, dim) through an encoder, a class token before them: (b, dim), the class token's."""

    def __init__(
        self, tokens: int, dim: int, depth: int, heads: int, mlp_dim: int, init_std: float = INIT_STD
    ) -> None:
        super().__init__()
        self.class_token = learned(1, 1, dim, std=init_std)
        self.position = learned(1, 1 + tokens, dim, std=init_std)
        self.blocks = Encoder(*(PreNormBlock(dim, heads, mlp_dim) for _ in range(depth)))

    def forward(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """keep: (b, n) bool, the tokens that may be attended to."""
        mask = key_mask(kept([None, keep], (1, 0), tokens))
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], 1)
        return self.blocks(tokens + self.position, mask)[:, 0]


class SharedResidual(nn.Module):
    """x (b, dim) -> ReLU(FC(x + SRN(x))), equations 6 and 7: one module for both modalities.

    SRN: `layers` linear maps with ReLU between them.
    """

    def __init__(self, dim: int, layers: int = 4) -> None:
        super().__init__()
        maps: list[nn.Module] = [nn.Linear(dim, dim)]
        for _ in range(layers - 1):
            maps += [nn.ReLU(), nn.Linear(dim, dim)]
        self.srn = nn.Sequential(*maps)
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc(x + self.srn(x)))


class TnBcl(Model):
    """Two trunks, the shared residual network, and once fitted the two stages of detection."""

    validity = ("video_valid", "current_valid")
    fitted_buffers = ("normal_bits",)
    normal_bits: Tensor
    stage_bits: Tensor

    def __init__(self, config: TnBclConfig) -> None:
        super().__init__(modality="both", dense=False)
        self.config = config
        self.use_validity = config.use_validity
        t, h, w = self.grid = patch_grid(config.num_frames, config.size, PATCH, what="tn_bcl")
        sizes = (config.dim, config.depth, config.heads, config.mlp_dim, config.init_std)
        self.visual_embed = PatchEmbedding(PATCH_VALUES, config.dim, norm=True)
        self.visual = Trunk(t * h * w, *sizes)
        self.current_embed = PatchEmbedding(3, config.dim, norm=True)
        self.current = Trunk(config.current_length, *sizes)
        self.shared = SharedResidual(config.dim, config.srn_layers)
        self.head = class_head(2 * config.dim) if config.supervised else None
        self.register_buffer("normal_bits", torch.zeros(0, config.dim, dtype=torch.int64))
        self.register_buffer("stage_bits", torch.zeros(4, dtype=torch.int64))
        self._neighbours: Neighbours | None = None

    def forward(
        self,
        video: Tensor | None = None,
        current: Tensor | None = None,
        *,
        video_valid: Tensor | None = None,
        current_valid: Tensor | None = None,
    ) -> Output:
        """The judgement of a batch.

        aux: v1, v2, t2 (B, dim), similarity (B,) of v2 and t2, and once fitted, in eval mode, distance and
        outlyingness (B,).

        video_valid (B, T), current_valid (B, Tc) bool: tubelets with a frame, and time steps, that are False have no
        influence.
        """
        config = self.config
        video = needed(video, (3, config.num_frames, *config.size), what="tn_bcl: video")
        current = needed(current, (config.current_length, 3), what="tn_bcl: current")
        tubelets = self.visual_embed(self.input_norm.video(patchify(video, PATCH)))
        v1 = F.relu(self.visual(tubelets, frames_kept(video_valid, self.grid)))
        t = self.current(self.current_embed(self.input_norm.current(current)), current_valid)
        v2, t2 = self.shared(v1), self.shared(t)
        agreement = F.cosine_similarity(v2, t2, dim=1, eps=LEAST_NORM)
        aux = {"v1": v1, "v2": v2, "t2": t2, "similarity": agreement}
        if len(self.normal_bits) and not self.training:
            aux |= self._detect(v1, agreement)
        if self.head is not None:
            return Output(self.head(torch.cat([v2, t2], 1)), None, aux)
        # x / (1 + |x|) keeps sign and order, and probabilities from being rounded to 1
        s = F.softsign(aux["outlyingness"]) if "outlyingness" in aux else 0.5 - agreement
        return Output(torch.stack([-s, s], 1), None, aux)

    def _detect(self, v1: Tensor, agreement: Tensor) -> dict[str, Tensor]:
        if torch.onnx.is_in_onnx_export():  # a graph has no tree: all distances, of which the k smallest
            return self._detect_traced(v1, agreement)
        distance = self.neighbours().distance(v1.detach().cpu().double().numpy(), self.config.k)
        outlying = self.two_stage().outlyingness(distance, agreement.detach().cpu().double().numpy())
        like = self.input_norm.like
        return {
            "distance": torch.as_tensor(distance).to(like),
            "outlyingness": torch.as_tensor(outlying).to(like),
        }

    def _detect_traced(self, v1: Tensor, agreement: Tensor) -> dict[str, Tensor]:
        """As `_detect`, in tensors alone."""
        points, stages = torch.from_numpy(from_bits(self.normal_bits)), self.two_stage()
        apart = (v1.double()[:, None] - points).square().sum(2).sqrt()
        distance = apart.topk(min(self.config.k, len(points)), dim=1, largest=False).values.mean(1)
        by_distance = (distance - stages.distance_threshold) / stages.distance_scale
        by_similarity = (stages.similarity_threshold - agreement.double()) / stages.similarity_scale
        like = self.input_norm.like
        outlying = torch.maximum(by_distance, by_similarity)
        return {"distance": distance.to(like.dtype), "outlyingness": outlying.to(like.dtype)}

    def objective(self, output: Output, batch: Batch, alpha: float) -> dict[str, Tensor]:
        """The contrastive loss, and with a class head alpha times its cross-entropy."""
        config = self.config
        relation = relations(batch["class_label"], batch.get("sample_id"), config.frames_apart)
        terms = contrastive_loss(
            output.aux["v2"],
            output.aux["t2"],
            relation,
            loss=config.loss,
            mining=config.mining,
            exclude_self=config.exclude_self,
            gamma=config.gamma,
            gamma_0=config.gamma_0,
            margin=config.margin,
        )
        if self.head is None:
            return terms
        class_loss = supervised_loss(output.logits, None, batch)["loss"]
        return terms | {"loss": terms["loss"] + alpha * class_loss, "class_loss": class_loss}

    def neighbours(self) -> Neighbours:
        """The tree of normal embeddings, built again where the buffer holds others."""
        points = from_bits(self.normal_bits)
        if self._neighbours is None or not np.array_equal(self._neighbours.points, points):
            self._neighbours = Neighbours(points.copy())  # the buffer may be written to in place
        return self._neighbours

    def two_stage(self) -> TwoStage:
        return TwoStage(*from_bits(self.stage_bits).tolist())

    def fit(self, data: FitData) -> None:
        """Fit both stages to validation samples, or to training samples where none validate.

        A validation set of one label, as training on normal samples alone leaves it, is enough.
        """
        v1, v2, t2, labels, ids = self._embed(data.validation if data.validation is not None else data.train)
        normal = np.flatnonzero(labels == 0)
        if len(normal) < 2:
            raise InputError(
                f"tn_bcl: expected two or more normal validation samples to fit detection to, got {len(normal)} "
                f"of {len(labels)}; validate on more"
            )
        partner = partners(labels, data.seed)
        pick = normal[np.unique(np.linspace(0, len(normal) - 1, self.config.max_rows).round().astype(int))]
        neighbours = Neighbours(v1[pick])
        stages = fit_two_stage(
            neighbours,
            cosine(v2[normal], t2[normal]),
            cosine(v2, t2[partner]),
            k=self.config.k,
            contamination=self.config.contamination,
            places=ids[pick],
            guard=self.config.guard_frames,
        )
        device = self.normal_bits.device
        self.normal_bits = to_bits(v1[pick]).to(device)
        numbers = (
            stages.distance_threshold,
            stages.distance_scale,
            stages.similarity_threshold,
            stages.similarity_scale,
        )
        self.stage_bits.copy_(to_bits(np.array(numbers)))

    @torch.no_grad()
    def _embed(
        self, batches: Iterable[Batch]
    ) -> tuple[Array, Array, Array, NDArray[np.int64], NDArray[np.int64]]:
        """v1, v2, t2 (n, dim), labels (n,) and ids (n,) of labelled samples."""
        self.eval()
        found: dict[str, list[Array]] = {
            name: [np.zeros((0, self.config.dim))] for name in ("v1", "v2", "t2")
        }
        labels, ids = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for batch in batches:
            inputs = {name: value.to(self.device) for name, value in self.takes(batch).items()}
            label = batch["class_label"].cpu().numpy().astype(np.int64)
            aux = self(**inputs).aux
            for name, rows in found.items():
                rows.append(aux[name].cpu().double().numpy()[label <= 1])
            labels.append(label[label <= 1])
            ids.append(batch["sample_id"].cpu().numpy()[label <= 1])
        v1, v2, t2 = (np.concatenate(rows) for rows in found.values())
        return v1, v2, t2, np.concatenate(labels), np.concatenate(ids)


def partners(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(n,): whose current makes a mismatched pair with each clip, of clips in order of time.

    One of another label, drawn with `seed`; where all have one label, the clip half of them away.
    """
    count = len(labels)
    if (labels == labels[0]).all():
        return (np.arange(count) + count // 2) % count
    rng = np.random.default_rng(seed)
    partner = np.empty(count, np.int64)
    for value in (0, 1):
        rows = np.flatnonzero(labels == value)
        partner[rows] = rng.choice(np.flatnonzero(labels != value), len(rows))
    return partner


REGISTRATION = Registration(
    name="tn_bcl",
    title="TN-BCL",
    modality="both",
    dense=False,
    config=TnBclConfig,
    build=TnBcl,
    tiny=TINY_CLIP | TINY_CURRENT | TINY_ENCODER,
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96}},
    training="both",
    source="Peng et al., IEEE TETCI 8(1), 2024, doi 10.1109/TETCI.2023.3256466",
    provenance={
        "shared residual network and FC, their ReLUs": "paper",
        "inter-modal and bi-quintuple losses, cosine, gamma 0.4": "paper",
        "gamma_0 1 (not given), candidates from the batch": "choice",
        "hard mining, least similar positive and most similar negative": "choice",
        "mining as printed, easiest positive and easiest negative (option)": "paper",
        "exclude_self (option)": "choice",
        "ball-tree neighbours of normal validation embeddings, contamination 0.001": "paper",
        "k 5, neighbours in time left out": "choice",
        "similarity threshold by Youden's index on validation": "paper",
        "mismatched validation pairs as its abnormal ones": "choice",
        "one score for both stages": "choice",
        "video and current transformers as trunks, width 96, depth 5, 6 heads": "choice (heads: paper)",
        "loss tbnn, cmml": "Wang et al., TPAMI 2019; Ye et al., 2020, as the TN-BCL paper describes them",
        "class head (supervised)": "choice",
        "time apart as inconsistency where all labels are one": "choice",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
