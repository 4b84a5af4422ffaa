"""TN-BCL: losses worked by hand, detection against brute force, and what the paper says of the network.

Also tests fmfbench_models.parts: contrastive, two_stage.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmfbench.errors import InputError
from fmfbench_models import FitData, create_model, load_checkpoint, model_info
from fmfbench_models.checkpoint import save_checkpoint
from fmfbench_models.parts.contrastive import contrastive_loss, relations, similarity
from fmfbench_models.parts.two_stage import (
    Neighbours,
    TwoStage,
    contamination_threshold,
    cosine,
    fit_two_stage,
    youden_threshold,
)
from fmfbench_models.zoo.tn_bcl import SharedResidual, partners

TINY = {"num_frames": 4, "size": [16, 24], "current_length": 32, "dim": 24, "depth": 1, "mlp_dim": 48}

V = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], dtype=torch.float64)
T = torch.tensor([[0.6, 0.8], [1.0, 0.0], [-0.6, 0.8]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1])


def tiny(**more):
    torch.manual_seed(0)
    return create_model("tn_bcl", **(TINY | more))


def windows(size=12, seed=0, labels=None, spacing=1000):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % 2 if labels is None else torch.as_tensor(labels)
    return {
        "video": torch.randint(0, 256, (size, 3, 4, 16, 24), dtype=torch.uint8, generator=generator),
        "current": 8000 + 2000 * torch.randn(size, 32, 3, generator=generator),
        "class_label": labels,
        "sample_id": torch.arange(size) * spacing,
    }


def hand(**options):
    return {key: value.item() for key, value in contrastive_loss(V, T, relations(LABELS), **options).items()}


# --- losses -----------------------------------------------------------------------------------------------


def test_similarities_worked_by_hand():
    expected = torch.tensor([[0.6, 1.0, -0.6], [0.96, 0.8, 0.0], [0.8, 0.0, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(similarity(V, T), expected)
    one, two = similarity(V, V), similarity(T, T)
    assert [one[0, 1], one[0, 2], one[1, 2]] == pytest.approx([0.8, 0.0, 0.6])
    assert [two[0, 1], two[0, 2], two[1, 2]] == pytest.approx([0.6, 0.28, -0.6])


@pytest.mark.parametrize(
    ("options", "inter", "total"),
    [
        ({"mining": "paper"}, 0.08 + 0.64 / 3, 0.36),
        ({"mining": "paper", "exclude_self": True}, 0.08 + 0.64 / 3, 0.76),
        ({}, 0.8, 4 / 3),  # the default of the function is that of the model
        ({"mining": "hard"}, 0.8, 4 / 3),
        ({"mining": "hard", "exclude_self": True}, 0.8, 4 / 3),
    ],
)
def test_losses_worked_by_hand(options, inter, total):
    assert hand(**options, loss="inter") == pytest.approx({"loss": inter, "inter_loss": inter})
    found = hand(**options, loss="quintuple")
    assert (found["loss"], found["inter_loss"]) == pytest.approx((total, inter))
    assert found["intra_loss"] == pytest.approx(total - inter)


def test_hinges_worked_by_hand():
    # cmml, hardest: v anchors .2-.6-.6, .2-.8+0, .2-.8+.8; t anchors .2-.6+.8, .2-.8+0, .2-.8-0 (hinged, mean)
    assert hand(loss="cmml", mining="hard", margin=0.2)["loss"] == pytest.approx(0.2 / 3 + 0.4 / 3)
    # tbnn, all triplets between the modalities: v3 (.2-.8+.8, .2-.8+0), t1 (.2-.6+.8, .2-.96+.8)
    assert hand(loss="tbnn", margin=0.2)["inter_loss"] == pytest.approx(0.1 / 3 + (0.4 + 0.04) / 2 / 3)


def looped(v, t, labels, loss, mining, exclude_self, gamma, gamma_0, margin):
    """The definitions, one anchor and one candidate at a time."""
    count = len(labels)

    def cos(a, b):
        return float(a @ b / (a.norm() * b.norm()))

    def term(anchors, candidates, within):
        total = 0.0
        for a in range(count):
            same = [
                cos(anchors[a], candidates[j])
                for j in range(count)
                if labels[j] == labels[a] and not (within and exclude_self and j == a)
            ]
            other = [cos(anchors[a], candidates[j]) for j in range(count) if labels[j] != labels[a]]
            easy = mining == "paper"
            if loss == "tbnn":
                hinges = [max(0.0, margin - p + n) for p in same for n in other]
                total += sum(hinges) / len(hinges) if hinges else 0.0
                continue
            p = (max if easy else min)(same) if same else None
            n = (min if easy else max)(other) if other else None
            if loss == "cmml":
                total += 0.0 if p is None or n is None else max(0.0, margin - p + n)
            else:
                total += (0.0 if p is None else gamma_0 - p) + (0.0 if n is None else max(0.0, n - gamma))
        return total / count

    result = term(v, t, False) + term(t, v, False)
    if loss in {"quintuple", "tbnn"}:
        result += term(v, v, True) + term(t, t, True)
    return result


@pytest.mark.parametrize("loss", ["inter", "quintuple", "tbnn", "cmml"])
@pytest.mark.parametrize("mining", ["paper", "hard"])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_losses_equal_the_looped_definition(loss, mining, exclude_self):
    generator = torch.Generator().manual_seed(7)
    options = {"gamma": 0.1, "gamma_0": 0.9, "margin": 0.3}
    for count in (2, 5, 9):
        v = torch.randn(count, 4, dtype=torch.float64, generator=generator)
        t = torch.randn(count, 4, dtype=torch.float64, generator=generator)
        labels = torch.randint(0, 3, (count,), generator=generator)
        labels[-1] = 3  # a label of one
        found = contrastive_loss(
            v, t, relations(labels), loss=loss, mining=mining, exclude_self=exclude_self, **options
        )
        wanted = looped(v, t, labels, loss, mining, exclude_self, **options)
        assert found["loss"].item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("loss", ["inter", "quintuple", "tbnn", "cmml"])
def test_losses_ignore_the_length_of_embeddings(loss):
    scale = torch.tensor([[0.1], [3.0], [40.0]], dtype=torch.float64)
    one = contrastive_loss(V, T, relations(LABELS), loss=loss, mining="hard")["loss"]
    other = contrastive_loss(V * scale, T * scale.flip(0), relations(LABELS), loss=loss, mining="hard")[
        "loss"
    ]
    torch.testing.assert_close(one, other)


def test_an_anchor_without_candidates_adds_nothing_and_no_nan():
    v = V.clone().requires_grad_()
    for loss in ("inter", "quintuple", "tbnn", "cmml"):
        found = contrastive_loss(v, T, relations(torch.zeros(3)), loss=loss, exclude_self=True)["loss"]
        assert torch.isfinite(found)
        (gradient,) = torch.autograd.grad(found, v)
        assert torch.isfinite(gradient).all()
    alone = contrastive_loss(v[:1], T[:1], relations(torch.zeros(1)), exclude_self=True)
    assert alone["loss"].item() == pytest.approx(0.8)  # two times 1 - S(v1, t1); nothing within


def test_relations_are_by_label_while_there_are_two():
    ids = torch.tensor([0, 40, 100])
    same, other = relations(LABELS, ids, 50)
    assert same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert torch.equal(other, ~same)


def test_relations_of_one_label_are_by_distance_in_time():
    ids, one = torch.tensor([0, 49, 99]), torch.zeros(3)
    same, other = relations(one, ids, 50)  # 49 apart is near, 50 apart is far
    assert same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert torch.equal(other, ~same)
    assert relations(one)[0].all()


# --- detection --------------------------------------------------------------------------------------------


def test_neighbours_worked_by_hand():
    line = Neighbours(np.arange(4.0)[:, None])
    assert line.distance(np.array([[10.0], [1.5]]), 2).tolist() == [7.5, 0.5]
    assert line.leave_one_out(2).tolist() == [1.5, 1.0, 1.0, 1.5]
    assert line.distance(np.array([[10.0]]), 9).tolist() == [8.5]  # fewer than k: those that are there
    assert line.distance(np.zeros((0, 1)), 2).shape == (0,)


def test_neighbours_leave_out_those_near_in_time():
    line = Neighbours(np.arange(4.0)[:, None])
    places = np.array([30, 0, 10, 11])
    # the ones at 10 and 11 may not use each other: distances 2 and 1 for the third point, 3 and 2 for the fourth
    assert line.leave_one_out(2, places, guard=10).tolist() == [1.5, 1.0, 1.5, 2.5]
    assert np.isnan(line.leave_one_out(2, places, guard=31)).all()


@pytest.mark.parametrize("guard", [1, 3, 8, 40])
def test_neighbours_equal_brute_force(guard):
    rng = np.random.default_rng(guard)
    points, places = rng.normal(size=(60, 5)), rng.permutation(120)[:60]
    points[10] = points[11]  # equal points stay each other's neighbours
    tree = Neighbours(points)
    every = np.linalg.norm(points[:, None] - points, axis=2)
    for k in (1, 4):
        wanted = []
        for i in range(60):
            allowed = [every[i, j] for j in range(60) if j != i and abs(places[j] - places[i]) >= guard]
            wanted.append(np.mean(sorted(allowed)[:k]) if allowed else np.nan)
        np.testing.assert_allclose(tree.leave_one_out(k, places, guard), wanted)
        queries = rng.normal(size=(7, 5))
        distances = np.sort(np.linalg.norm(queries[:, None] - points, axis=2), axis=1)[:, :k].mean(1)
        np.testing.assert_allclose(tree.distance(queries, k), distances)


def test_youden_worked_by_hand():
    threshold = youden_threshold(np.array([0.9, 0.8, 0.7]), np.array([0.75, 0.3]))
    assert 0.75 < threshold <= 0.8


def youden(normal, abnormal, threshold):
    return (abnormal < threshold).mean() - (normal < threshold).mean()


@pytest.mark.parametrize("seed", range(6))
def test_youden_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    normal, abnormal = rng.integers(0, 12, 30) / 10, rng.integers(0, 9, 20) / 10
    found = youden(normal, abnormal, youden_threshold(normal, abnormal))
    assert found == pytest.approx(max(youden(normal, abnormal, t) for t in np.arange(-0.05, 1.3, 0.05)))
    assert found > 0


def test_youden_at_the_ends():
    low, high = np.array([0.1, 0.2]), np.array([0.8, 0.9])
    assert youden_threshold(low, high) < 0.1  # the wrong way round: nothing is predicted abnormal
    assert 0.2 < youden_threshold(high, low) < 0.8


def test_contamination_is_the_share_of_normal_distances_above():
    distances = np.arange(1001.0)
    assert contamination_threshold(distances, 0.001) == pytest.approx(999.0)
    assert (distances > contamination_threshold(distances, 0.1)).sum() == 100


def test_outlyingness_is_positive_exactly_where_a_stage_speaks():
    stages = TwoStage(2.0, 0.5, 0.7, 0.1)
    rng = np.random.default_rng(0)
    distance, agreement = rng.uniform(0, 4, 500), rng.uniform(-1, 1, 500)
    found = stages.outlyingness(distance, agreement) > 0
    assert np.array_equal(found, (distance > 2.0) | (agreement < 0.7))
    assert stages.outlyingness(np.array([3.0]), np.array([0.8])).tolist() == [2.0]
    assert stages.outlyingness(np.array([1.0]), np.array([0.5])).tolist() == pytest.approx([2.0])


def test_a_fit_without_spread_keeps_finite_scales():
    one = fit_two_stage(Neighbours(np.zeros((1, 2))), np.ones(3), np.ones(3), k=5, contamination=0.01)
    assert (one.distance_threshold, one.distance_scale, one.similarity_scale) == (0.0, 1.0, 1.0)
    crowded = fit_two_stage(
        Neighbours(np.arange(4.0)[:, None]),
        np.ones(3),
        np.zeros(3),
        k=2,
        contamination=0.5,
        places=np.arange(4),
        guard=100,
    )
    assert crowded.distance_threshold == pytest.approx(1.25)  # the guard leaves nothing and is dropped


def test_cosine_of_a_zero_row_is_zero():
    v, t = np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert cosine(v, t).tolist() == pytest.approx([np.sqrt(0.5), 0.0])


def test_partners_are_of_the_other_label_or_half_the_samples_away():
    labels = np.array([0, 1, 0, 0, 1])
    partner = partners(labels, 3)
    assert (labels[partner] != labels).all()
    assert np.array_equal(partner, partners(labels, 3))
    assert partners(np.zeros(5, int), 3).tolist() == [2, 3, 4, 0, 1]


# --- the network ------------------------------------------------------------------------------------------


def test_parameters_of_each_part():
    assert model_info("tn_bcl").parameters == 1_273_926
    model = create_model("tn_bcl")

    def count(*parts):
        return sum(p.numel() for part in parts for p in part.parameters())

    assert count(model.visual_embed, model.visual) == 626_592
    assert count(model.current_embed, model.current) == 600_774
    assert count(model.shared.srn) == 37_248
    assert count(model.shared.fc) == 9_312


def test_shared_residual_without_its_residual_is_its_last_map():
    torch.manual_seed(0)
    shared = SharedResidual(8).double()
    x = torch.randn(5, 8, dtype=torch.float64)
    whole = shared(x)
    for parameter in shared.srn.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(shared(x), torch.relu(shared.fc(x)))
    assert not torch.allclose(whole, shared(x))


def test_embeddings_are_the_papers():
    model, batch = tiny().eval(), windows()
    seen = {}
    model.current.register_forward_hook(lambda module, inputs, output: seen.update(t=output))
    with torch.no_grad():
        aux = model(batch["video"], batch["current"]).aux
        torch.testing.assert_close(aux["v2"], model.shared(aux["v1"]))
        torch.testing.assert_close(aux["t2"], model.shared(seen["t"]))
    assert (aux["v1"] >= 0).all()
    assert (seen["t"] < 0).any()  # no ReLU on the current's side
    torch.testing.assert_close(
        aux["similarity"], torch.diagonal(similarity(aux["v2"], aux["t2"])), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("loss", ["quintuple", "inter", "tbnn", "cmml"])
def test_gradients_reach_both_trunks_through_the_shared_network(loss):
    model, batch = tiny(loss=loss, mining="hard").train(), windows()
    output = model(**model.takes(batch))
    terms = model.objective(output, batch, 1.0)
    terms["loss"].backward()
    for part in (model.visual, model.current, model.shared):
        assert all(p.grad is not None for p in part.parameters())
        assert any(p.grad.abs().max() > 0 for p in part.parameters())


def test_objective_is_the_configured_loss():
    batch = windows()
    options = {"loss": "quintuple", "mining": "hard", "exclude_self": True, "gamma": 0.1, "gamma_0": 0.7}
    model = tiny(**options).eval()
    output = model(**model.takes(batch))
    expected = contrastive_loss(
        output.aux["v2"], output.aux["t2"], relations(batch["class_label"]), **options
    )
    torch.testing.assert_close(model.objective(output, batch, 1.0)["loss"], expected["loss"])


def test_objective_of_one_label_takes_clips_apart_as_inconsistent():
    model = tiny(far_frames=1500, gamma=-1.0).eval()
    batch = windows(labels=torch.zeros(12, dtype=torch.long))
    output = model(**model.takes(batch))
    found = model.objective(output, batch, 1.0)["loss"]
    expected = contrastive_loss(
        output.aux["v2"],
        output.aux["t2"],
        relations(batch["class_label"], batch["sample_id"], 1500),
        gamma=-1.0,
        mining="hard",
    )["loss"]
    torch.testing.assert_close(found, expected)
    positive = contrastive_loss(
        output.aux["v2"], output.aux["t2"], relations(batch["class_label"]), gamma=-1.0, mining="hard"
    )["loss"]
    assert found > positive  # the pairs far apart add their similarity


def test_class_head_trains_beside_the_contrast_and_gives_the_logits():
    batch = windows()
    model, plain = tiny(supervised=True).eval(), tiny().eval()
    assert model.num_parameters() == plain.num_parameters() + 2 * 48 + 2 * 48 + 2
    output = model(**model.takes(batch))
    terms = model.objective(output, batch, 3.0)
    expected = torch.nn.functional.cross_entropy(output.logits, batch["class_label"])
    torch.testing.assert_close(terms["class_loss"], expected)
    torch.testing.assert_close(terms["loss"], terms["inter_loss"] + terms["intra_loss"] + 3 * expected)
    before = output.logits
    model.fit(FitData(train=[batch]))
    after = model(**model.takes(batch))
    torch.testing.assert_close(after.logits, before)
    assert after.aux["outlyingness"].shape == (12,)


# --- fitted -----------------------------------------------------------------------------------------------


def fitted(**more):
    model = tiny(**more)
    model.fit(FitData(train=[], validation=[windows(12, 1), windows(10, 2)], seed=5))
    return model.eval()


def test_decision_is_that_of_the_two_stages():
    model, batch = fitted(k=2, contamination=0.3), windows(30, 9)
    with torch.no_grad():
        output = model(**model.takes(batch))
    stages = model.two_stage()
    distance, agreement = output.aux["distance"].numpy(), output.aux["similarity"].numpy()
    abnormal = (distance > stages.distance_threshold) | (agreement < stages.similarity_threshold)
    assert 0 < abnormal.sum() < 30
    assert np.array_equal((output.scores() > 0.5).numpy(), abnormal)
    assert np.array_equal(
        np.argsort(output.scores().numpy(), kind="stable"),
        np.argsort(output.aux["outlyingness"].numpy(), kind="stable"),
    )
    torch.testing.assert_close(output.logits[:, 0], -output.logits[:, 1])


def test_fit_keeps_normal_validation_embeddings_alone():
    model = tiny(k=2)
    first, second = windows(12, 1), windows(10, 2)
    train = windows(8, 3)
    model.fit(FitData(train=[train], validation=[first, second]))
    with torch.no_grad():
        v1 = torch.cat([model(**model.takes(b)).aux["v1"][b["class_label"] == 0] for b in (first, second)])
    np.testing.assert_allclose(model.neighbours().points, v1.double().numpy())
    model.fit(FitData(train=[train]))  # nothing validates: training samples
    assert len(model.normal_bits) == 4
    model.fit(FitData(train=[train], validation=[first | {"class_label": torch.zeros(12, dtype=torch.long)}]))
    assert len(model.normal_bits) == 12


def test_fit_keeps_at_most_max_rows_evenly_spread():
    model, batch = tiny(max_rows=3), windows(9, labels=[0] * 8 + [1])
    model.fit(FitData(train=[], validation=[batch]))
    with torch.no_grad():
        v1 = model(**model.takes(batch)).aux["v1"]
    np.testing.assert_allclose(model.neighbours().points, v1[[0, 4, 7]].double().numpy())


def test_fit_leaves_unlabelled_samples_out():
    model = tiny()
    model.fit(FitData(train=[], validation=[windows(6, labels=[0, 0, 255, 0, 1, 255])]))
    assert len(model.normal_bits) == 3


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 1, 1], [255, 255, 0]])
def test_fit_wants_two_normal_samples(labels):
    with pytest.raises(InputError, match="two or more normal validation samples"):
        tiny().fit(FitData(train=[], validation=[windows(3, labels=labels)]))


def test_what_is_fitted_travels_with_a_checkpoint(tmp_path):
    model, batch = fitted(), windows(8, 4)
    save_checkpoint(tmp_path / "model.safetensors", model)
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.two_stage() == model.two_stage()
    assert np.array_equal(loaded.neighbours().points, model.neighbours().points)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(**model.takes(batch)).logits, model(**model.takes(batch)).logits, rtol=0, atol=0
        )


def test_tree_follows_its_buffer():
    model = fitted()
    before = model.neighbours()
    assert model.neighbours() is before
    other = tiny()
    other.fit(FitData(train=[], validation=[windows(12, 6), windows(10, 7)]))
    model.load_state_dict(other.state_dict())
    assert np.array_equal(model.neighbours().points, other.neighbours().points)
    assert not np.array_equal(model.neighbours().points, before.points)


def test_training_mode_needs_no_tree():
    model, batch = fitted().train(), windows(4)
    assert "distance" not in model(**model.takes(batch)).aux


def planted(size, seed):
    """Abnormal clips have a red spot somewhere, abnormal currents one phase above the others."""
    generator = torch.Generator().manual_seed(seed)
    batch = windows(size, seed, torch.randint(0, 2, (size,), generator=generator))
    video = torch.randint(60, 120, (size, 3, 4, 16, 24), generator=generator)
    for row in torch.nonzero(batch["class_label"])[:, 0].tolist():
        top, left = (int(torch.randint(0, side, (1,), generator=generator)) for side in (11, 19))
        video[row, 0, :, top : top + 5, left : left + 5] += 100
    current = 8000 + 300 * torch.randn(size, 32, 3, generator=generator)
    current[..., 0] += 1500 * batch["class_label"][:, None]
    return batch | {"video": video.to(torch.uint8), "current": current}


def test_learns_a_planted_rule_and_finds_all_three_kinds():
    train, validation, test = planted(320, 1), planted(120, 2), planted(160, 3)
    model = tiny().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        rows = torch.randperm(320, generator=generator)[:32]
        batch = {name: value[rows] for name, value in train.items()}
        loss = model.objective(model(**model.takes(batch)), batch, 1.0)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.fit(FitData(train=[train], validation=[validation]))
    model.eval()
    normal, abnormal = (torch.nonzero(test["class_label"] == value)[:60, 0] for value in (0, 1))

    def scores(clips, currents):
        with torch.no_grad():
            return model(test["video"][clips], test["current"][currents]).scores()

    good = scores(normal, normal)
    assert (good > 0.5).float().mean() < 0.2
    for clips, currents in ((abnormal, abnormal), (abnormal, normal), (normal, abnormal)):
        count = min(len(clips), len(currents))
        bad = scores(clips[:count], currents[:count])
        assert (bad > 0.5).float().mean() > 0.9
        assert (bad[:, None] > good).float().mean() > 0.95  # AUROC


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"srn_layers": 0},
        {"max_rows": 0},
        {"guard_frames": 0},
        {"far_frames": 0},
        {"contamination": 0.0},
        {"contamination": 1.0},
    ],
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(InputError, match="tn_bcl: expected"):
        tiny(**wrong)


def test_clips_are_apart_when_their_currents_are():
    assert create_model("tn_bcl").config.frames_apart == 5500  # 220 s at 25 frames a second
    assert tiny().config.frames_apart == 400
    assert tiny(far_frames=1).config.frames_apart == 1


def test_smallest_configurations_are_taken():
    assert len(tiny(srn_layers=1).shared.srn) == 1
    assert fitted(k=1, max_rows=2, contamination=0.999).neighbours().points.shape == (2, 24)
