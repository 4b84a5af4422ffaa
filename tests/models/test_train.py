"""Training runs: what they leave behind, that they resume exactly, and what they refuse.

Also tests fmfbench_models.parts: progress.
Also tests fmfbench_models.training: folder, nano, runlog, samples, settings.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest_run import torchrun
from safetensors.torch import load_file

import fmfbench
from fmfbench.errors import InputError, TrainingError
from fmfbench.torch import WindowDataset, make_loader
from fmfbench.windows.protocol import get_protocol
from fmfbench_models import create_model, load_checkpoint
from fmfbench_models.checkpoint import read_tensors, write_tensors
from fmfbench_models.parts.progress import Progress
from fmfbench_models.training.nano import train_nano
from fmfbench_models.training.parallel import World
from fmfbench_models.training.runlog import read_log
from fmfbench_models.training.samples import (
    current_statistics,
    fit_and_validation,
    held_out_part,
)
from fmfbench_models.training.settings import make_settings
from fmfbench_models.training.train import train
from fmfbench_models.training.validation import evaluate

CHANGES = {
    "shift": 2,
    "jitter": 0.1,
    "current_jitter": 0.2,
    "shuffle_phases": True,
}  # all depend on the sample alone
QUICK = {"epochs": 2, "batch_size": 16, **CHANGES}
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def finished(furnace_store, options, tmp_path_factory):
    """An undisturbed run, which others are compared with."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return train("fmformer", furnace_store, out, options={**options, **QUICK}, device="cpu")


def weights(run):
    return load_checkpoint(run / "last.safetensors").state_dict()


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_folder_says_everything(finished, furnace_store):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "run.json",
        "log.jsonl",
        "curves.png",
        "best.safetensors",
        "last.safetensors",
        "state.safetensors",
    }
    data = fmfbench.open_dataset(furnace_store)
    run = json.loads((finished / "run.json").read_text())
    assert run["finished"] is True
    assert run["recipe"] == {**run["recipe"], "epochs": 2, "batch_size": 16, "lr": 5e-4, "alpha": 1.0}
    assert run["protocol"]["num_frames"] == run["config"]["num_frames"] == 4
    assert (run["config"]["size"], run["config"]["current_length"]) == ([16, 24], 8)
    meta = load_checkpoint(finished).meta
    assert meta.protocol == run["protocol"]
    assert meta.provenance["data"]["fingerprint"] == data.fingerprint == run["fingerprint"]
    assert meta.provenance["seed"] == 0
    assert set(meta.provenance["versions"]) == {"fmfbench", "torch", "numpy", "python"}
    mean, std = current_statistics(data)
    assert meta.normalisation["current_mean"] == pytest.approx(mean, rel=1e-6)
    assert meta.normalisation["current_std"] == pytest.approx(std, rel=1e-6)
    epochs = [line for line in read_log(finished / "log.jsonl") if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [0, 1]
    assert all(0 <= line["val_accuracy"] <= 1 and line["val_loss"] > 0 for line in epochs)
    assert (finished / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_same_seed_same_weights_on_any_number_of_workers(finished, furnace_store, options, tmp_path):
    again = train(
        "fmformer", furnace_store, tmp_path / "again", options={**options, **QUICK}, device="cpu", workers=2
    )
    assert_same_weights(weights(again), weights(finished))
    other = train(
        "fmformer", furnace_store, tmp_path / "b", options={**options, **QUICK}, device="cpu", seed=1
    )
    assert not torch.equal(weights(other)["video.position"], weights(finished)["video.position"])


def test_killed_and_resumed_gives_the_same_weights(finished, furnace_store, options, tmp_path):
    out = tmp_path / "killed"
    call = (
        "import sys, json, torch; torch.set_num_threads(1)\n"
        "from fmfbench_models.training.train import train\n"
        "options = json.loads(sys.argv[3])\n"
        "train('fmformer', sys.argv[1], sys.argv[2], options=options, device='cpu', save_seconds=0)\n"
    )
    arguments = [str(furnace_store), str(out), json.dumps({**options, **QUICK})]
    process = subprocess.Popen([sys.executable, "-c", call, *arguments])
    state, deadline = out / "state.safetensors", time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if state.is_file() and read_tensors(state)[1]["number"] >= 2:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read_tensors(state)[1]
    assert 0 < before["number"] < read_tensors(finished / "state.safetensors")[1]["number"], "killed too late"
    train("fmformer", furnace_store, out, options={**options, **QUICK}, device="cpu")
    assert_same_weights(weights(out), weights(finished))
    assert read_log(out / "log.jsonl") == read_log(finished / "log.jsonl")


def test_stopped_in_the_middle_of_an_epoch_goes_on_there(
    finished, furnace_store, options, tmp_path, monkeypatch
):
    """The same from inside, at every step: each call is stopped after the step that follows its first
    save."""
    from fmfbench_models.training import train as module

    saves = []
    original = module._Run._save_state

    def save_and_stop(self, loader):
        original(self, loader)
        saves.append(self.number)
        if self.number % 4 == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Run, "_save_state", save_and_stop)
    call = {"options": {**options, **QUICK}, "device": "cpu", "save_seconds": 0}
    while True:
        try:
            train("fmformer", furnace_store, tmp_path / "run", **call)
            break
        except KeyboardInterrupt:
            continue
    assert saves == sorted(saves)
    assert len(saves) > 10
    assert len(set(saves)) > 10
    assert_same_weights(weights(tmp_path / "run"), weights(finished))
    assert read_log(tmp_path / "run" / "log.jsonl") == read_log(finished / "log.jsonl")


def test_a_finished_run_is_left_alone(finished, furnace_store, options):
    before = (finished / "last.safetensors").stat().st_mtime_ns
    train("fmformer", furnace_store, finished, options={**options, **QUICK}, device="cpu")
    assert (finished / "last.safetensors").stat().st_mtime_ns == before


def test_a_run_on_other_files_of_the_same_labels_is_refused(finished, furnace_store, options, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    facts = json.loads(path.read_text())
    assert facts["sources"] == fmfbench.open_dataset(furnace_store).sources_digest is not None
    asked = {"options": {**options, **QUICK}, "device": "cpu"}
    path.write_text(json.dumps(facts | {"sources": "0" * 64}))
    with pytest.raises(InputError, match="got one with other source files of the data"):
        train("fmformer", furnace_store, tmp_path / "run", **asked)
    del facts["sources"]  # a folder of before this was kept
    path.write_text(json.dumps(facts))
    train("fmformer", furnace_store, tmp_path / "run", **asked)


def test_another_runs_folder_is_refused(finished, furnace_store, options, tmp_path):
    with pytest.raises(InputError, match="got one with other recipe, seed"):
        train("fmformer", furnace_store, finished, options={**options, **QUICK, "lr": 1e-3}, seed=5)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="got other files"):
        train("fmformer", furnace_store, tmp_path, options={**options, **QUICK})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "expected keys of the recipe .*, got colour"),
        ({"protocol.colour": 1}, "protocol: expected fields of .*, got colour"),
        ({"epochs": 0}, "expected epochs of 1 or more"),
        ({"epochs": "many"}, "epochs: expected an integer"),
        ({"lr": -1.0}, "expected lr above 0"),
        ({"flip": 1.5}, "expected flip in"),
        ({"jitter": 1.0}, "expected jitter in"),
        ({"current_jitter": -0.1}, "expected current_jitter in"),
        ({"shift": -1}, "expected shift of 0 or more pixels, got -1"),
        ({"preset": "poster"}, "expected a preset"),
        ({"protocol.num_frames": 3}, "even number of frames"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_before_anything_is_made(options, message, furnace_store, tmp_path):
    with pytest.raises(InputError, match=message):
        train("fmformer", furnace_store, tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_and_says_where(furnace_store, options, tmp_path):
    with pytest.raises(TrainingError, match=r"not finite at epoch 1, step [0-9]+ \(loss"):
        train("fmformer", furnace_store, tmp_path / "run", options={**options, **QUICK, "lr": 1e25})
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_official_preset_brings_its_protocol(furnace_store):
    data = fmfbench.open_dataset(furnace_store)
    settings = make_settings("fmformer", data, options={"preset": "official", "dilated": False})
    assert settings.protocol.name == "official"
    assert settings.config["size"] == [24, 16]  # transposed windows
    assert settings.config["current_length"] == 240
    assert make_settings("fmformer", data, options={"dilated": False}).protocol.name == "paper"


# --- samples
# --------------------------------------------------------------------------------------------------------


def test_the_original_recipe_is_the_publications_and_is_recorded(furnace_store, options, tmp_path):
    from fmfbench.scoring.score import score
    from fmfbench_models import list_models
    from fmfbench_models.inference.predict import predict
    from fmfbench_models.registry import registration

    data = fmfbench.open_dataset(furnace_store)
    having = {name for name in list_models() if registration(name).original_recipe is not None}
    assert having >= {"informer", "flowformer", "flashformer", "itransformer", "clipbert", "bilm", "st_mae"}
    sizes = {key: value for key, value in options.items() if key.startswith("protocol.")}
    for name in list_models():
        call = {"options": {**sizes, "recipe": "original", "every": 2}}
        if name in having:
            settings = make_settings(name, data, **call)
            told = registration(name).original_recipe
            for key, value in told.items():
                found = getattr(settings.recipe, key)
                assert (list(found) if isinstance(found, tuple) else found) == value
            assert settings.recipe.every == 2
            assert settings.to_dict()["recipe_name"] == "original"
        else:
            with pytest.raises(
                InputError, match=f"expected a model whose sources give a recipe of its own, got {name}"
            ):
                make_settings(name, data, **call)
    with pytest.raises(InputError, match="expected shared or original, got 'mine'"):
        make_settings("vit", data, options={**sizes, "recipe": "mine"})
    informer = make_settings("informer", data, options={**sizes, "recipe": "original"}).recipe
    assert (informer.optimiser, informer.lr, informer.clip, informer.epochs) == ("radam", 1e-3, 4.0, 100)
    small = {**sizes, "dim": 24, "depth": 1, "mlp_dim": 48, "epochs": 1}
    run = train(
        "itransformer", furnace_store, tmp_path / "run", options={**small, "recipe": "original"}, device="cpu"
    )
    with pytest.raises(InputError, match="got one with other recipe, recipe_name"):
        train("itransformer", furnace_store, run, options=small, device="cpu")
    assert load_checkpoint(run).meta.provenance["recipe_name"] == "original"
    path = predict(run, furnace_store, tmp_path / "a.npz", device="cpu")
    assert (
        "note: trained by the recipe of the original publication"
        in score(path, data, resamples=20).to_markdown()
    )


def test_validation_is_apart_from_fitting(furnace_store):
    data = fmfbench.open_dataset(furnace_store)
    protocol = get_protocol(
        "short", num_frames=4, stride=2, current_seconds=0.5, current_hz=16, tolerance=0.2
    )
    fit, validation = fit_and_validation(data, protocol)
    train_ids = data.sample_ids("train")
    assert np.isin(fit, train_ids).all()
    assert np.isin(validation, train_ids).all()
    assert not np.isin(fit, validation).any()
    assert len(fit) > 2 * len(validation) > 0
    # frame by frame and row by row: nothing that a validation window holds lies in time that is trained on
    samples = data.windows("train", protocol).samples
    rows = np.searchsorted(train_ids, validation)
    held, _ = samples.video_table(rows)
    recording, frame = data.locate(validation)
    fit_recording, fit_frame = data.locate(fit)
    for number in np.unique(recording):
        last_fit = fit_frame[fit_recording == number].max()
        assert held[recording == number].min() > last_fit
        own = list(data.recordings.values())[number]
        oldest = own.frame_time[frame[recording == number].min()] - 0.5e9
        assert own.frame_time[last_fit] <= oldest


def test_where_no_guard_fits_the_choices_are_named(furnace_store, tmp_path, options):
    """6 s of recording, windows of 220 s: no validation can be apart; the choices that are named work."""
    long = {key: value for key, value in options.items() if not key.startswith("protocol.current")}
    with pytest.raises(
        InputError, match=r"guard of 220.2 s.*validate=false.*current_seconds=2\.2 or less"
    ) as told:
        train("fmformer", furnace_store, tmp_path / "run", options=long, device="cpu")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()
    data = fmfbench.open_dataset(furnace_store)
    shorter = get_protocol("paper", num_frames=4, stride=2, tolerance=0.2, current_seconds=2.2)
    assert all(map(len, fit_and_validation(data, shorter)))
    with pytest.raises(InputError, match="guard of 2.7 s"):
        fit_and_validation(
            data, get_protocol("paper", num_frames=4, stride=2, tolerance=0.2, current_seconds=2.5)
        )


def test_the_log_says_the_guard(finished):
    (line,) = [line for line in read_log(finished / "log.jsonl") if line["kind"] == "samples"]
    assert line["guard_seconds"] == pytest.approx(0.7)
    assert line["validation"] > 0


def test_a_finished_run_lengthened_is_the_longer_run(furnace_store, options, tmp_path):
    """To the bit; the shorter one stays as it is."""

    def run(name, epochs, **more):
        chosen = {**options, **QUICK, "epochs": epochs}
        return train("fmformer", furnace_store, tmp_path / name, options=chosen, device="cpu", **more)

    short, whole = run("short", 1), run("whole", 2)
    before = {path.name: path.read_bytes() for path in short.iterdir()}
    longer = run("longer", 2, lengthen=short)
    for name in ("last.safetensors", "best.safetensors"):
        one, other = (load_file(folder / name) for folder in (longer, whole))
        assert all(torch.equal(one[key], other[key]) for key in other)
    assert read_log(longer / "log.jsonl") == read_log(whole / "log.jsonl")
    assert json.loads((longer / "run.json").read_text())["lengthened_from"] == "short"
    assert {path.name: path.read_bytes() for path in short.iterdir()} == before
    with pytest.raises(InputError, match="more epochs than the 1 that it has, got 1"):
        run("same", 1, lengthen=short)
    with pytest.raises(InputError, match="same settings but for its epochs, got other seed"):
        run("other", 2, lengthen=short, seed=4)
    with pytest.raises(InputError, match="run folder to lengthen"):
        run("none", 2, lengthen=tmp_path / "nothing")
    with pytest.raises(InputError, match="lengthen it into a new one: --lengthen"):
        run("short", 2)
    assert not any((tmp_path / name).exists() for name in ("same", "other", "none"))


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_weights_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


def test_off_a_terminal_a_line_now_and_then(capsys):
    with Progress(4, "step", "fmformer", initial=1, line_seconds=0.0) as bar:
        bar.tell(epoch=2, loss="0.5")
        bar.update()
        bar.update(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("fmformer: 2 of 4 steps (50 %), epoch 2, loss 0.5, 00:00 gone, ")
    assert lines[1].startswith("fmformer: 4 of 4 steps (100 %)")
    with Progress(4, "step", "fmformer") as bar:  # half a minute has not gone
        bar.update()
    with Progress(4, "step", "fmformer", hidden=True, line_seconds=0.0) as bar:
        bar.update()
    assert not capsys.readouterr().err


def test_validation_can_be_thinned_and_a_folder_without_that_key_resumes(
    furnace_store, options, tmp_path, monkeypatch
):
    from fmfbench_models.training import train as module

    seen = []
    real = module.evaluate

    def counts(model, loader, world, alpha):
        seen.append([int(i) for batch in loader for i in batch["sample_id"]])
        return real(model, loader, world, alpha)

    monkeypatch.setattr(module, "evaluate", counts)
    data = fmfbench.open_dataset(furnace_store)
    _, validation = fit_and_validation(data, make_settings("fmformer", data, options=options).protocol)
    available = np.intersect1d(validation, fmfbench.open_dataset(furnace_store).windows(
        "train", make_settings("fmformer", fmfbench.open_dataset(furnace_store), options=options).protocol
    ).sample_ids)  # fmt: skip
    for every in (1, 4):
        out = tmp_path / str(every)
        chosen = {**options, **QUICK, "epochs": 1, "validate_every": every}
        train("fmformer", furnace_store, out, options=chosen, device="cpu")
        assert seen.pop() == available[::every].tolist()
        assert not seen
    recipes = {
        every: json.loads((tmp_path / every / "run.json").read_text())["recipe"] for every in ("1", "4")
    }
    assert "validate_every" not in recipes["1"]  # what folders of before it was a key look like
    assert recipes["4"]["validate_every"] == 4
    with pytest.raises(InputError, match="other recipe"):
        train(
            "fmformer", furnace_store, tmp_path / "4", options={**options, **QUICK, "epochs": 1}, device="cpu"
        )


def test_held_out_part_is_the_last_in_time(furnace_store):
    data = fmfbench.open_dataset(furnace_store)
    ids = data.sample_ids("train")
    early, late = held_out_part(data, ids, 0.1)
    assert np.array_equal(np.sort(np.concatenate([early, late])), ids)
    recording, _ = data.locate(ids)
    for number in range(2):
        own = late[np.isin(late, ids[recording == number])]
        assert np.array_equal(own, ids[recording == number][-len(own) :])
    assert np.array_equal(held_out_part(data, ids, 0)[0], ids)


def test_statistics_are_of_train_frames_only(furnace_store):
    data = fmfbench.open_dataset(furnace_store)
    rows = np.concatenate(
        [r.current[: int(np.flatnonzero(r.split == 0)[-1]) + 1] for r in data.recordings.values()]
    )
    mean, std = current_statistics(data)  # this store has one current a frame, at the frame's own time
    assert mean == pytest.approx(rows.astype(float).mean(0).tolist(), rel=1e-9)
    assert std == pytest.approx(rows.astype(float).std(0).tolist(), rel=1e-6)


def test_selection_is_those_windows(furnace_store):
    windows = fmfbench.open_dataset(furnace_store).windows("train", "short")
    ids = windows.sample_ids[[3, 40, 7]]
    selection = windows.select(ids)
    batch = selection.batch([2, 0])
    assert batch["sample_id"].tolist() == [ids[2], ids[0]]
    assert np.array_equal(batch["video"], windows.batch([7, 3])["video"])
    with pytest.raises(InputError, match="got some that are not in it"):
        windows.select([10**6])


@pytest.mark.parametrize("cache", [None, "memory", "device"])
@pytest.mark.parametrize("shuffle", [False, True, "block"])
def test_a_loader_of_a_selection_gives_those_windows(furnace_store, cache, shuffle):
    windows = fmfbench.open_dataset(furnace_store).windows("train", "short", cache=cache)
    ids = windows.sample_ids[5:60:3]
    loader = make_loader(WindowDataset(windows.select(ids)), batch_size=4, shuffle=shuffle)
    batches = [{name: value.clone() for name, value in batch.items()} for batch in loader]
    found = torch.cat([batch["sample_id"] for batch in batches])
    assert sorted(found.tolist()) == ids.tolist()
    plain = windows.batch(np.searchsorted(windows.sample_ids, found.numpy()))
    for name, value in plain.items():
        own = torch.cat([batch[name] for batch in batches]).numpy()
        expected = np.moveaxis(value, -1, 1) if name == "video" else value
        assert np.array_equal(own, expected)


def test_nano_trains_on_every_train_sample(furnace_store, tmp_path):
    run = train_nano(furnace_store, tmp_path / "nano")
    meta = load_checkpoint(run).meta
    assert (meta.protocol["name"], meta.modality, meta.dense) == ("short", "visual", True)
    assert not (run / "best.safetensors").exists()
    epochs = [line for line in read_log(run / "log.jsonl") if line["kind"] == "epoch"]
    samples = len(fmfbench.open_dataset(furnace_store).sample_ids("train")[::3])
    assert [line["step"] for line in epochs] == [samples // 16 * n for n in (1, 2, 3, 4, 5)]


# --- validation figures
# ---------------------------------------------------------------------------------------------


def test_validation_figures_against_a_plain_count(options):
    from sklearn.metrics import f1_score, jaccard_score

    torch.manual_seed(0)
    model = create_model(
        "fmformer",
        **{k: v for k, v in options.items() if "." not in k},
        num_frames=4,
        size=[16, 24],
        current_length=8,
    )
    generator = torch.Generator().manual_seed(3)
    batches = [
        {
            "video": torch.randint(0, 256, (n, 3, 4, 16, 24), dtype=torch.uint8, generator=generator),
            "current": 8000 + 2000 * torch.randn(n, 8, 3, generator=generator),
            "class_label": torch.randint(0, 2, (n,), generator=generator),
            "mask": torch.randint(0, 2, (n, 16, 24), dtype=torch.uint8, generator=generator),
            "sample_id": torch.arange(n) + 10 * n,
        }
        for n in (5, 4)
    ]
    found = evaluate(model, batches, ALONE)
    model.eval()
    with torch.no_grad():
        outputs = [model(b["video"], b["current"]) for b in batches]
    pred = torch.cat([o.scores() for o in outputs]) > 0.5
    true = torch.cat([b["class_label"] for b in batches])
    assert found["val_accuracy"] == (pred == (true == 1)).double().mean().item()
    assert found["val_f1"] == pytest.approx(f1_score(true, pred), abs=1e-12)
    pixels = torch.cat([o.masks() for o in outputs]).flatten()
    labels = torch.cat([b["mask"] for b in batches]).flatten()
    assert found["val_miou"] == pytest.approx(jaccard_score(labels, pixels, average="macro"), abs=1e-12)


# --- many processes
# -------------------------------------------------------------------------------------------------


SCRIPT = """
import gc, json, sys, torch
gc.disable()
torch.set_num_threads(1)
from fmfbench_models.training.parallel import World, gather_by_id, joined
from fmfbench_models.training.train import train

store, out, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with joined("cpu") as world:
    train("fmformer", store, out, options=options, device="cpu")
    own = torch.arange(7)[world.rank :: world.size] * 3 % 7
    ids, squares, pairs = gather_by_id(world, own, own.double() ** 2, torch.stack([own, -own], 1))
    assert ids.tolist() == list(range(7)), ids
    assert squares.tolist() == [i * i for i in range(7)]
    assert pairs.tolist() == [[i, -i] for i in range(7)]
# What held the group is gone with it: otherwise its threads run into the interpreter's end, and may abort.
wrapped = torch.nn.parallel.DistributedDataParallel
assert not any(isinstance(thing, wrapped) for thing in gc.get_objects())
"""


def test_two_processes_give_the_weights_of_one(furnace_store, options, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    options = {**options, **QUICK, "dense_task": False}
    torchrun(tmp_path / "script.py", furnace_store, tmp_path / "two", json.dumps(options))
    train("fmformer", furnace_store, tmp_path / "one", options=options, device="cpu")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=2e-5)
    start = create_model("fmformer", **load_checkpoint(tmp_path / "one").meta.config).state_dict()
    assert not torch.equal(
        start["layers.0.first.own.video.qkv.weight"], one["layers.0.first.own.video.qkv.weight"]
    )
    others = json.dumps({**options, "lr": 1.0})
    told = torchrun(tmp_path / "script.py", furnace_store, tmp_path / "two", others, fails=True)
    assert "got one with other recipe" in told
    figures = [read_log(tmp_path / name / "log.jsonl")[-1] for name in ("one", "two")]
    assert figures[0]["val_accuracy"] == figures[1]["val_accuracy"]
    assert figures[0]["val_loss"] == pytest.approx(figures[1]["val_loss"], rel=1e-3)
