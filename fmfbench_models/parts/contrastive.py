"""Contrastive losses over the pairs of a batch: TN-BCL's, and those of two methods that it is compared with.

Peng, Fan, Cheung, Liu, Cui, Li, "Towards Efficient Cross-Modal Anomaly Detection Using Triple-Adaptive Network and
Bi-Quintuple Contrastive Learning", IEEE TETCI 8(1), 2024; equation numbers are its.

S is the cosine. Of an anchor a, candidates with its label are positives, those with another label negatives; the paper
lets them range over all N samples, here over the batch. As equations 9 and 10 are printed, the positive taken is the
most similar one and the negative the least similar one, the easiest of each (`mining="paper"`); "hard" takes the
hardest.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "Loss",
    "Mining",
    "contrastive_loss",
    "margin_triplets",
    "mined",
    "ranked_triplets",
    "relations",
    "triple",
]

Mining = Literal["paper", "hard"]
Loss = Literal["quintuple", "inter", "tbnn", "cmml"]
Relation = tuple[Tensor, Tensor]  # (N, N) bool each: same label, other label

_INF = float("inf")


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each row of a (N, d) with each of b (M, d): (N, M); a row of zeros has cosine 0 with all."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def relations(labels: Tensor, sample_ids: Tensor | None = None, far_frames: int = 0) -> Relation:
    """Which pairs of a batch count as consistent and which as inconsistent: (N, N) bool each.

    By label. A batch of one label has no inconsistent pairs, which is what training on normal samples alone
    gives: there, if `sample_ids` are given, clips fewer than `far_frames` frames apart are consistent and all
    others inconsistent.
    """
    same = labels[:, None] == labels
    if sample_ids is not None and bool(same.all()):
        same = (sample_ids[:, None] - sample_ids).abs() < far_frames
    return same, ~same


def mined(s: Tensor, relation: Relation, mining: Mining) -> tuple[Tensor, Tensor]:
    """S(a, p) and S(a, n) of each anchor, a row of s (N, N); +inf and -inf where it has no candidate.

    paper: equations 9 and 10, argmax over the positives and argmin over the negatives; hard: the reverse.
    """
    same, other = relation
    if mining == "paper":
        positive = s.masked_fill(~same, -_INF).amax(1)
        negative = s.masked_fill(~other, _INF).amin(1)
    else:
        positive = s.masked_fill(~same, _INF).amin(1)
        negative = s.masked_fill(~other, -_INF).amax(1)
    return positive.masked_fill(~same.any(1), _INF), negative.masked_fill(~other.any(1), -_INF)


def triple(s: Tensor, relation: Relation, mining: Mining, gamma: float, gamma_0: float) -> Tensor:
    """(g0 - S(a, p)) + max(0, S(a, n) - g) of each anchor (equation 8): (N,). A missing term is left out."""
    positive, negative = mined(s, relation, mining)
    pull = torch.where(positive.isinf(), 0.0, gamma_0 - positive)
    return pull + F.relu(negative - gamma)


def margin_triplets(s: Tensor, relation: Relation, mining: Mining, margin: float) -> Tensor:
    """max(0, m - S(a, p) + S(a, n)) of each anchor's mined triplet: (N,); 0 where it has none."""
    positive, negative = mined(s, relation, mining)
    return F.relu(margin - positive + negative)


def ranked_triplets(s: Tensor, relation: Relation, margin: float) -> Tensor:
    """max(0, m - S(a, p) + S(a, n)), the mean over all triplets of each anchor: (N,); 0 where it has none."""
    same, other = relation
    hinge = F.relu(margin - s[:, :, None] + s[:, None, :])  # anchor, positive, negative
    wanted = same[:, :, None] & other[:, None, :]
    return (hinge * wanted).sum((1, 2)) / wanted.sum((1, 2)).clamp(min=1)


def contrastive_loss(
    v: Tensor,
    t: Tensor,
    relation: Relation,
    *,
    loss: Loss = "quintuple",
    mining: Mining = "hard",
    exclude_self: bool = False,
    gamma: float = 0.4,
    gamma_0: float = 1.0,
    margin: float = 0.2,
) -> dict[str, Tensor]:
    """The objective of N pairs of embeddings v and t (N, d): "loss" and its parts, each a mean over anchors.

    Args:
        relation: what `relations` gave, of the pairs with one another.
        loss: inter: equation 17, both directions between modalities. quintuple: equation 28, those and the same
            within each modality. tbnn: hinge over every triplet, between and within modalities. cmml: hinge over
            the mined triplets, between modalities, both directions.
        mining: see above; "hard" as TN-BCL's own default, "paper" as printed.
        exclude_self: within a modality an anchor is not its own positive; as printed (equations 18, 22) it may be.
        gamma, gamma_0: of equation 8. margin: of the hinges.
    """

    def term(s: Tensor, pairs: Relation) -> Tensor:
        if loss == "tbnn":
            return ranked_triplets(s, pairs, margin).mean()
        if loss == "cmml":
            return margin_triplets(s, pairs, mining, margin).mean()
        return triple(s, pairs, mining, gamma, gamma_0).mean()

    s = similarity(v, t)
    same, other = relation
    parts = {"inter_loss": term(s, (same, other)) + term(s.T, (same.T, other.T))}
    if loss in ("quintuple", "tbnn"):
        if exclude_self:
            same = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        parts["intra_loss"] = sum(
            (term(similarity(x, x), (same, other)) for x in (v, t)), torch.zeros_like(s[0, 0])
        )
    total = torch.stack(list(parts.values())).sum()
    return {"loss": total, **parts}
