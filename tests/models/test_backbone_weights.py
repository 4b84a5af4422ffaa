"""Published weights for a trunk: given to `train` and `reproduce`, kept with the model, said beside its figures."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from conftest_run import invoke

from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.provenance import backbone_text
from fmfbench.scoring.score import score
from fmfbench.scoring.tables import scores_markdown
from fmfbench_models import create_model, load_checkpoint
from fmfbench_models.inference.predict import predict
from fmfbench_models.parts import backbones
from fmfbench_models.parts.backbones import ResNet18, Vgg19, random_backbone, trunk_of
from fmfbench_models.registry import registration
from fmfbench_models.reproduce import plan, reproduce
from fmfbench_models.training.train import train

SMALL = {**registration("bilm").tiny, "freeze_encoder": True, "epochs": 1, "batch_size": 16}
SMALL = {key: value for key, value in SMALL.items() if key not in ("num_frames", "size", "current_length")}
TINY = {"preset": "tiny", "device": "cpu"}


def weights_file(path, kind, cut, seed=100):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(kind(cut).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    return weights_file(tmp_path_factory.mktemp("weights") / "resnet18-mine.pth", ResNet18, 3)


@pytest.fixture(scope="module")
def options(options):
    return {**{key: value for key, value in options.items() if key.startswith("protocol.")}, **SMALL}


@pytest.fixture(scope="module")
def trained(furnace_store, options, resnet_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    call = {"options": options, "device": "cpu", "backbone_weights": resnet_file}
    return train("bilm", furnace_store, out, **call)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_trunk_begins_with_the_file_and_the_checkpoint_says_so(trained, resnet_file):
    model = load_checkpoint(trained)
    state = torch.load(resnet_file, weights_only=True)
    for name, value in model.backbone.state_dict().items():  # frozen: still as it began
        assert torch.equal(value, state[name])
    facts = {"trunk": "ResNet18", "weights": "file", "file": resnet_file.name, "sha256": digest(resnet_file)}
    assert model.meta.provenance["backbone"] == facts
    assert json.loads((trained / "run.json").read_text())["backbone"] == facts


def test_without_a_file_it_is_drawn_and_the_checkpoint_says_so(furnace_store, options, tmp_path):
    run = train("bilm", furnace_store, tmp_path / "run", options=options, device="cpu")
    model = load_checkpoint(run)
    assert model.meta.provenance["backbone"] == {"trunk": "ResNet18", "weights": "random"}
    torch.manual_seed(0)
    drawn = create_model("bilm", **model.meta.config)
    assert torch.equal(model.backbone.conv1.weight, drawn.backbone.conv1.weight)
    plain = {key: options[key] for key in options if key in ("epochs", "batch_size") or "." in key}
    other = train("itransformer", furnace_store, tmp_path / "other", options=plain, device="cpu")
    assert load_checkpoint(other).meta.provenance["backbone"] is None


def test_every_result_says_which(trained, furnace_store, resnet_file, tmp_path):
    path = predict(trained, furnace_store, tmp_path / "a.npz", device="cpu")
    facts = load_checkpoint(trained).meta.provenance["backbone"]
    assert read_predictions(path).meta["backbone"] == facts
    told = f"backbone ResNet18, first weights of {resnet_file.name} (sha256 {digest(resnet_file)[:12]})"
    scored = score(path, furnace_store, resamples=20)
    assert f"note: {told}" in scored.to_markdown()
    assert f"a.npz: {told}" in scores_markdown([scored])
    assert [note for note in scored.to_dict()["notes"] if told in note]
    page = tmp_path / "page.html"
    done = invoke("score", path, "--data", furnace_store, "--resamples", "20", "--report", page)
    assert done.exit_code == 0
    assert told in done.stdout
    assert told in page.read_text()


def test_a_model_that_training_never_saw_does_not_say_random(furnace_store, options, tmp_path):
    sizes = {"num_frames": 4, "size": (16, 24), "current_length": 8}
    chosen = {key: value for key, value in SMALL.items() if key not in ("epochs", "batch_size")}
    model = create_model("bilm", **sizes, **chosen)
    protocol = {"num_frames": 4, "stride": 2, "current_seconds": 4}
    from fmfbench.windows.protocol import get_protocol

    path = predict(
        model, furnace_store, tmp_path / "b.npz", protocol=get_protocol("paper", **protocol), device="cpu"
    )
    assert (
        "origin of the first weights not recorded" in score(path, furnace_store, resamples=20).to_markdown()
    )


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, None),
        (3, None),
        ("", None),
        ({"weights": "random"}, None),
        ("ResNet18,\nfirst weights drawn at random", "ResNet18, first weights drawn at random"),
        (random_backbone(Vgg19(1)), "Vgg19, first weights drawn at random"),
        (
            {"trunk": "Vgg19", "weights": "imagenet", "file": "v.pth", "sha256": "dcbb9e9dad56aa"},
            "Vgg19, first weights of ImageNet, v.pth (sha256 dcbb9e9dad56)",
        ),
        ({"trunk": "X", "weights": []}, "X, origin of the first weights not recorded"),
    ],
)
def test_what_a_prediction_file_says_is_read_with_care(found, text):
    assert backbone_text(found) == text


def test_imagenet_is_what_the_published_files_are_by_their_content(resnet_file, monkeypatch):
    assert backbones.check_backbone_weights(ResNet18(2), resnet_file)["weights"] == "file"
    monkeypatch.setitem(backbones.PUBLISHED, "ResNet18", (digest(resnet_file)[:8],))
    assert backbones.check_backbone_weights(ResNet18(2), resnet_file)["weights"] == "imagenet"


def test_a_run_goes_on_with_the_same_weights_only(trained, furnace_store, options, resnet_file, tmp_path):
    call = {"options": options, "device": "cpu"}
    before = (trained / "last.safetensors").stat().st_mtime_ns
    renamed = tmp_path / resnet_file.name
    renamed.write_bytes(resnet_file.read_bytes())  # the same file elsewhere is the same file
    train("bilm", furnace_store, trained, **call, backbone_weights=renamed)
    assert (trained / "last.safetensors").stat().st_mtime_ns == before
    other = weights_file(tmp_path / "other.pth", ResNet18, 2, seed=1)
    for weights in (other, None):
        with pytest.raises(InputError, match="got one with other backbone; choose"):
            train("bilm", furnace_store, trained, **call, backbone_weights=weights)
    without = train("bilm", furnace_store, tmp_path / "without", **call)
    with pytest.raises(InputError, match="got one with other backbone; choose"):
        train("bilm", furnace_store, without, **call, backbone_weights=resnet_file)


def test_what_cannot_be_loaded_is_one_line_and_nothing_is_made(furnace_store, resnet_file, tmp_path):
    state = torch.load(resnet_file, weights_only=True)
    short = tmp_path / "short.pth"
    torch.save({name: value for name, value in state.items() if name != "layer2.1.bn2.bias"}, short)
    vgg = weights_file(tmp_path / "vgg19.pth", Vgg19, 2)
    cases = [
        (
            "vit",
            resnet_file,
            "expected a model with a convolutional trunk to load backbone weights into, got vit, which has none",
        ),
        ("bilm", vgg, "expected ResNet18's tensor conv1.weight of shape (64, 3, 7, 7), got none"),
        ("clipbert", short, "expected ResNet18's tensor layer2.1.bn2.bias of shape (128,), got none"),
        ("bilm", tmp_path / "absent.pth", "expected a file of backbone weights, got no file"),
    ]
    for model, file, message in cases:
        done = invoke(
            "train", model, "--data", furnace_store, "--out", tmp_path / "run", "--backbone-weights", file
        )
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"Error: {file}: {message}")
        assert not (tmp_path / "run").exists()


def test_every_trunk_is_found_and_no_other_model_has_one():
    from fmfbench_models import list_models

    with torch.device("meta"):
        found = {
            name: type(trunk).__name__ for name in list_models() if (trunk := trunk_of(create_model(name)))
        }
    assert {"clipbert": "ResNet18", "bilm": "ResNet18"}.items() <= found.items()
    assert not {"vit", "fmformer", "expert", "crnn3d", "dcnn_svm"} & set(found)


# --- reproduce


def test_a_table_gives_each_file_to_the_trunks_it_fits_and_says_which_began_how(
    furnace_store, resnet_file, tmp_path
):
    out, names = tmp_path / "out", ["clipbert", "bilm", "itransformer"]
    mark = digest(resnet_file)[:8]
    plain = reproduce("table2", furnace_store, out, models=names, **TINY)
    steps = plan("table2", furnace_store, out, models=names, backbone_weights=[resnet_file], **TINY)
    states = [step["state"] for step in steps["steps"] if "@" not in step["row"]]  # but for what is lost
    assert states == ["done", "to do", "to do"]  # in the table's order
    assert set(steps["backbones"]) == {"clipbert", "bilm"}
    asked = [
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--models",
        ",".join(names),
        "--backbone-weights",
        resnet_file,
    ]
    done = invoke("reproduce", "table2", "--data", furnace_store, "--out", out, *asked)
    assert done.exit_code == 0, done.output
    assert done.stdout == (out / f"table2-tiny-1ep-backbone-{mark}.md").read_text() + "\n"
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    found = {
        line.split("|")[1].strip(): line for line in reversed(lines)
    }  # the first table: of whole windows
    column = [cell.strip() for cell in found["method"].split("|")].index("trunk's first weights")
    cells = {name: line.split("|")[column].strip() for name, line in found.items() if "|" in line[1:]}
    assert (cells["ClipBERT"], cells["BiLM"], cells["iTransformer"]) == ("other file", "other file", "-")
    assert f"BiLM: backbone ResNet18, first weights of {resnet_file.name}" in done.stdout
    runs = {path.name for path in (out / "runs" / "tiny-1ep").iterdir()}
    assert runs == {"clipbert", "bilm", "itransformer", f"clipbert-{mark}", f"bilm-{mark}"}
    again = reproduce("table2", furnace_store, out, models=names, **TINY)
    assert again == plain  # with its own models still, random ones
    rows = {row["name"]: row for row in again["rows"]}
    assert rows["bilm"]["first_weights"] == "random"
    assert rows["bilm"]["backbone"] == "ResNet18, first weights drawn at random"


def test_a_file_that_no_row_can_use_is_refused(furnace_store, resnet_file, tmp_path):
    other = weights_file(tmp_path / "other.pth", ResNet18, 2, seed=1)
    vgg = weights_file(tmp_path / "vgg19.pth", Vgg19, 1)
    for names, files, message in [
        (["vit", "itransformer"], [resnet_file], "none of those asked for has one; leave them out"),
        (["vit", "bilm"], [vgg], "expected ResNet18's tensor conv1.weight"),
        (
            ["bilm"],
            [resnet_file, other],
            "expected one file of backbone weights for bilm, .*got .*mine.pth too",
        ),
    ]:
        for call in (reproduce, plan):
            with pytest.raises(InputError, match=message):
                call("table2", furnace_store, tmp_path / "out", models=names, backbone_weights=files, **TINY)
    assert not (tmp_path / "out").exists()
