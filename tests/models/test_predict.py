"""Prediction files, the online detector, ONNX and the commands: all say what the model says.

Also tests fmfbench_models.inference: engine, export.
Also tests fmfbench_cli: predict.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fmfbench_cli.main import main

import fmfbench
from fmfbench.errors import InputError, MissingDependencyError, PredictionError
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.score import score
from fmfbench_models import create_model, load_checkpoint
from fmfbench_models.detector import Detector
from fmfbench_models.inference.export import export_onnx
from fmfbench_models.inference.predict import PredictionJob, predict
from fmfbench_models.training.train import train

LEARN = {"epochs": 12, "batch_size": 16, "lr": 3e-3}


@pytest.fixture(scope="module")
def run(furnace_store, options, tmp_path_factory):
    return train(
        "fmformer",
        furnace_store,
        tmp_path_factory.mktemp("run") / "run",
        options={**options, **LEARN},
        device="cpu",
    )


@pytest.fixture(scope="module")
def transposed_run(furnace_store, options, tmp_path_factory):
    """Trained a little on windows whose rows and columns are exchanged, as the released loader gives them."""
    return train(
        "fmformer",
        furnace_store,
        tmp_path_factory.mktemp("run") / "run",
        options={**options, "epochs": 1, "batch_size": 16, "protocol.transposed": True, "size": [24, 16]},
        device="cpu",
    )


def by_hand(run, data, split):
    """(ids, scores, upright masks), one window at a time."""
    model = load_checkpoint(run)
    windows = data.windows(split, model.meta.protocol)
    scores, masks = [], []
    for window in windows:
        video = torch.from_numpy(window["video"]).permute(3, 0, 1, 2)[None]
        with torch.no_grad():
            output = model(video, torch.from_numpy(window["current"])[None])
        scores.append(output.logits.softmax(1)[0, 1].item())
        mask = output.pixel_logits[0].argmax(0).numpy()
        masks.append(mask.T if windows.protocol.transposed else mask)
    return windows.sample_ids, np.array(scores), np.array(masks)


@pytest.mark.parametrize("which", ["run", "transposed_run"])
def test_predictions_are_the_models(which, furnace_store, tmp_path, request):
    folder, data = request.getfixturevalue(which), fmfbench.open_dataset(furnace_store)
    predict(folder, furnace_store, tmp_path / "p.npz", batch_size=7, device="cpu")
    found = read_predictions(tmp_path / "p.npz")
    ids, scores, masks = by_hand(folder, data, "test")
    assert np.array_equal(found.sample_id, ids)
    np.testing.assert_allclose(found.score, scores, rtol=0, atol=1e-5)
    got = unpack_masks(found.mask_bits, found.mask_shape)
    assert got.shape == (len(ids), 16, 24)
    assert (got != masks).mean() < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


@pytest.mark.parametrize("which", ["run", "transposed_run"])
@pytest.mark.parametrize("kind", ["float16", "float32", "uint8"])
def test_pixel_scores_are_the_models(which, kind, furnace_store, tmp_path, request):
    folder, data = request.getfixturevalue(which), fmfbench.open_dataset(furnace_store)
    predict(folder, data, tmp_path / "p.npz", batch_size=7, device="cpu", pixel_scores=kind)
    predict(folder, data, tmp_path / "q.npz", batch_size=7, device="cpu")
    found, plain = (read_predictions(tmp_path / name) for name in ("p.npz", "q.npz"))
    assert plain.pixel_score is None
    assert np.array_equal(found.score, plain.score)
    assert np.array_equal(found.mask_bits, plain.mask_bits)
    model = load_checkpoint(folder)
    windows = data.windows("test", model.meta.protocol)
    values = found.pixel_score.load()
    assert (values.dtype, values.shape) == (kind, (len(windows), 16, 24))
    for row in (0, 9, len(windows) - 1):
        window = windows[row]
        with torch.no_grad():
            output = model(
                torch.from_numpy(window["video"]).permute(3, 0, 1, 2)[None],
                torch.from_numpy(window["current"])[None],
            )
        expected = output.pixel_logits[0].double().softmax(0)[1].numpy()
        expected = expected.T if windows.protocol.transposed else expected
        stored = values[row] / 255 if kind == "uint8" else values[row]
        step = {"float16": 5e-4, "float32": 1e-5, "uint8": 2.1e-3}[kind]
        np.testing.assert_allclose(stored, expected, rtol=0, atol=step)
    ranking = score(tmp_path / "p.npz", data, resamples=50).to_dict()["ranking"]
    assert ranking["pixel_score"] == kind
    assert 0 <= ranking["aupro"] <= 1
    if which == "run":
        assert ranking["pixel_auroc"] > 0.9
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["p.npz", "q.npz"]


def test_pixel_scores_are_refused_where_there_are_none(furnace_store, options, tmp_path):
    small = {k: v for k, v in options.items() if "." not in k}
    model = create_model("fmformer", **small, dense_task=False)
    with pytest.raises(InputError, match="judges whole frames only"):
        predict(model, furnace_store, tmp_path / "p.npz", protocol="short", pixel_scores="float16")
    with pytest.raises(InputError, match="expected uint8, float16, float32, got 'int4'"):
        predict(model, furnace_store, tmp_path / "p.npz", protocol="short", pixel_scores="int4")
    assert not list(tmp_path.iterdir())


def test_the_file_says_where_it_is_from(run, furnace_store, tmp_path):
    predict(run, furnace_store, tmp_path / "p.npz", split="train", meta={"note": "mine"})
    with np.load(tmp_path / "p.npz") as file:
        meta = json.loads(str(file["meta"]))
    data = fmfbench.open_dataset(furnace_store)
    assert (meta["model"], meta["protocol"], meta["context"]) == ("fmformer", "paper", "full")
    assert meta["protocol_fields"]["num_frames"] == 4
    assert (meta["fingerprint"], meta["seed"], meta["note"]) == (data.fingerprint, 0, "mine")


def test_a_trained_model_has_learnt_its_furnace(run, furnace_store, tmp_path):
    predict(run, furnace_store, tmp_path / "p.npz")
    metrics = score(tmp_path / "p.npz", fmfbench.open_dataset(furnace_store), split="test").to_dict()[
        "metrics"
    ]
    assert metrics["accuracy"] > 0.9
    assert metrics["miou"] > 0.8


def test_dense_only_model_scores_by_its_highest_pixel(furnace_store, options, tmp_path):
    model = create_model("fmformer", **{k: v for k, v in options.items() if "." not in k}, class_task=False)
    predict(model, furnace_store, tmp_path / "p.npz", protocol="short", device="cpu")
    data = fmfbench.open_dataset(furnace_store)
    window = data.windows("test", "short")[5]
    with torch.no_grad():
        output = model(
            torch.from_numpy(window["video"]).permute(3, 0, 1, 2)[None],
            torch.from_numpy(window["current"])[None],
        )
    expected = output.pixel_logits.softmax(1)[0, 1].max().item()
    assert read_predictions(tmp_path / "p.npz").score[5] == pytest.approx(expected, abs=1e-6)


def test_refusals(run, furnace_store, tmp_path, monkeypatch):
    model = create_model("fmformer", depth=1)
    with pytest.raises(InputError, match="never trained; name a protocol"):
        predict(model, furnace_store, tmp_path / "p.npz")
    with pytest.raises(InputError, match="one of train.*got 'exam'"):
        predict(run, furnace_store, tmp_path / "p.npz", split="exam")
    with pytest.raises(InputError, match="got none"):
        predict(run, furnace_store, tmp_path / "p.npz", split="unused")
    with pytest.raises(InputError, match="no such store"):
        predict(run, tmp_path / "nowhere", tmp_path / "p.npz")
    with monkeypatch.context() as patch:
        patch.setattr(
            "fmfbench_models.inference.predict._run", None
        )  # what cannot be written is refused before the work
        with pytest.raises(PredictionError, match="expected an existing folder"):
            predict(run, furnace_store, tmp_path / "no" / "p.npz")
        with pytest.raises(PredictionError, match="got a folder"):
            predict(run, furnace_store, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["float16", "float32", "uint8"])
def test_pixel_scores_of_nan_are_refused(kind, furnace_store, options, tmp_path):
    model = create_model("fmformer", **{k: v for k, v in options.items() if "." not in k})
    model.decoder.out.bias.data.fill_(float("nan"))
    with pytest.raises(PredictionError, match="got NaN from the model"):
        predict(model, furnace_store, tmp_path / "p.npz", protocol="short", pixel_scores=kind)
    assert not list(tmp_path.iterdir())


# --- online ---------------------------------------------------------------------------------------------------------


def rough_recording(seed=0, frames=90):
    """Frames with a gap, currents with a late start, a gap and a missing phase."""
    rng = np.random.default_rng(seed)
    times = np.arange(frames) * 40_000_000
    times[50:] += 3_000_000_000
    video = rng.integers(0, 256, (frames, 16, 24, 3), dtype=np.uint8)
    current_time = 700_000_000 + np.arange(14) * 500_000_000
    current_time = np.delete(current_time, [4, 5, 6])
    current = (8000 + 1000 * rng.standard_normal((len(current_time), 3))).astype(np.float32)
    current[7, 1] = np.nan
    return times, video, current_time, current


@pytest.mark.parametrize("which", ["run", "transposed_run"])
def test_online_equals_offline(which, request):
    """Against the planner over the whole recording, where the detector keeps only what it needs."""
    from fmfbench.windows.plan import Timeline, plan_current, plan_video

    folder = request.getfixturevalue(which)
    model = load_checkpoint(folder)
    detector = Detector(folder)
    times, video, current_time, current = rough_recording()
    line = Timeline("whole", times, np.zeros(len(times), np.uint8), current_time, np.isfinite(current).all(1))
    protocol, row = detector.protocol, 0
    for e, time in enumerate(times.tolist()):
        while row < len(current) and current_time[row] <= time:
            detector.current(int(current_time[row]), current[row])
            row += 1
        got = detector.frame(time, video[e])
        vp, cp = (plan(line, np.array([e]), protocol, False) for plan in (plan_video, plan_current))
        rows = np.where(cp.index[0][:, None] >= 0, current[cp.index[0]], 0)
        clip = torch.from_numpy(video[vp.index[0]]).permute(3, 0, 1, 2)[None]
        clip = clip.transpose(3, 4) if protocol.transposed else clip
        with torch.no_grad():
            output = model(clip.contiguous(), torch.from_numpy(rows.astype(np.float32))[None])
        assert got.score == output.scores().item()
        mask = output.masks()[0].numpy()
        assert np.array_equal(got.mask, mask.T if protocol.transposed else mask)
        assert got.mask.shape == (16, 24)
        assert np.array_equal(got.video_valid, vp.valid[0])
        assert np.array_equal(got.current_valid, cp.valid[0])
    assert len(detector._frames) == 3 * 2 + 1
    assert len(detector._current) < len(current)


def test_online_equals_the_prediction_file(run, furnace_store, tmp_path):
    predict(run, furnace_store, tmp_path / "p.npz", split="all")
    found = read_predictions(tmp_path / "p.npz")
    recording = next(iter(fmfbench.open_dataset(furnace_store).recordings.values()))
    detector, scores, row = Detector(run), [], 0
    for time, image in zip(recording.frame_time.tolist(), recording.read_video(), strict=True):
        while row < len(recording.current) and recording.current_time[row] <= time:
            detector.current(int(recording.current_time[row]), recording.current[row])
            row += 1
        scores.append(detector.frame(time, image).score)
    np.testing.assert_allclose(scores, found.score[: len(scores)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", ["run", "transposed_run"])
def test_every_engine_gives_the_same(which, request):
    pytest.importorskip("onnxruntime")
    folder = request.getfixturevalue(which)
    plain, fast = Detector(folder), Detector(folder, engine="onnx")
    times, video, current_time, current = rough_recording()
    for detector in (plain, fast):
        for time, row in zip(current_time[:10].tolist(), current, strict=False):
            detector.current(time, row)
    judged = 0
    for time, image in zip(times.tolist()[-6:], video, strict=False):
        a, b = plain.frame(time, image), fast.frame(time, image)
        assert abs(a.score - b.score) <= 1e-5
        assert a.mask.shape == b.mask.shape == (16, 24)
        assert (a.mask != b.mask).mean() < 0.01
        judged += 1
    assert judged == 6


@pytest.mark.parametrize("masked", [False, True])
def test_predict_with_onnx_gives_the_same(masked, run, furnace_store, tmp_path):
    """Windows that reach before the recording among them: where a model masks what is not valid, it does there too."""
    pytest.importorskip("onnxruntime")
    found = {}
    model = load_checkpoint(run)
    model.use_validity = masked
    for engine in ("torch", "onnx"):
        written = predict(model, furnace_store, tmp_path / f"{engine}.npz", split="train", engine=engine)
        found[engine] = read_predictions(written)
    windows = fmfbench.open_dataset(furnace_store).windows("train", found["torch"].meta["protocol_fields"])
    assert not windows.batch(range(20))["current_valid"].all()
    np.testing.assert_allclose(found["torch"].score, found["onnx"].score, rtol=0, atol=1e-5)
    assert found["onnx"].meta["engine"] == "onnx"
    assert "engine" not in found["torch"].meta


def test_unknown_engine_is_refused(run):
    with pytest.raises(InputError, match="one of torch, onnx, compile, compiled, got 'tensorrt'"):
        Detector(run, engine="tensorrt")


def test_onnx_engine_names_the_package_that_is_missing(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match="pip install onnx onnxruntime"):
        Detector(run, engine="onnx")


def test_detector_refuses_disorder(run):
    detector, image = Detector(run), np.zeros((16, 24, 3), np.uint8)
    detector.current(10, [1.0, 2.0, 3.0])
    detector.frame(10, image)
    with pytest.raises(InputError, match="in order of time, got 10 after 10"):
        detector.current(10, [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="in order of time, got 9 after 10"):
        detector.frame(9, image)
    with pytest.raises(InputError, match="three phases"):
        detector.current(11, [1.0])
    with pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8"):
        detector.frame(11, image.astype(np.float32))
    with pytest.raises(InputError, match="expected a frame of shape .* as before, got"):
        detector.frame(11, np.zeros((24, 16, 3), np.uint8))


# --- ONNX -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"preset": "paper"},
        {"preset": "official"},
        {"modality": "visual", "class_task": False},
        {"modality": "current"},
    ],
    ids=str,
)
def test_onnx_gives_the_same(config, options, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    small = {key: value for key, value in options.items() if "." not in key}
    model = create_model("fmformer", **small, num_frames=4, size=[32, 48], current_length=20, **config).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    for size in (1, 3):
        batch = {
            "video": torch.randint(0, 256, (size, 3, 4, 32, 48), dtype=torch.uint8, generator=generator),
            "current": 8000 + 2000 * torch.randn(size, 20, 3, generator=generator),
        }
        inputs = {name: value.numpy() for name, value in model.takes(batch).items()}
        found = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))
        with torch.no_grad():
            output = model(**model.takes(batch))
        for name in ("logits", "pixel_logits"):
            expected = getattr(output, name)
            assert (name in found) == (expected is not None)
            if expected is not None:
                np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-4, atol=1e-4)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["fmfbench"])
    assert facts["name"] == "fmformer"


# --- commands -------------------------------------------------------------------------------------------------------


def call(module, *arguments):
    import importlib

    command = importlib.import_module(f"fmfbench_cli.{module}").command
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_commands_from_training_to_a_score(furnace_store, options, tmp_path):
    sets = [f"--set={key}={json.dumps(value)}" for key, value in options.items()]
    done = call(
        "train", "fmformer", "--data", furnace_store, "--out", tmp_path / "run", "--epochs", 1, *sets,
        "--set", "batch_size=32", "--set", "modality=visual", "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0
    assert "fmfbench predict" in done.output
    assert load_checkpoint(tmp_path / "run").modality == "visual"
    done = call(
        "predict", tmp_path / "run", "--data", furnace_store, "-o", tmp_path / "p.npz", "--device", "cpu"
    )
    assert done.exit_code == 0
    assert (
        score(tmp_path / "p.npz", fmfbench.open_dataset(furnace_store)).to_dict()["metrics"]["accuracy"] >= 0
    )
    done = call(
        "predict", tmp_path / "run", "--data", furnace_store, "-o", tmp_path / "q.npz", "--device", "cpu",
        "--pixel-scores", "--json",
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert (told["predictions"], told["split"]) == (str(tmp_path / "q.npz"), "test")
    assert (told["pixel_score"], told["mask_shape"]) == ("float16", [16, 24])
    assert told["meta"]["model"] == "fmformer"
    assert told["num_samples"] == len(read_predictions(tmp_path / "p.npz").sample_id)
    done = call(
        "predict", tmp_path / "run", "--data", furnace_store, "-o", tmp_path / "q.npz", "--device", "cpu",
        "--pixel-scores", "--pixel-type", "uint8",
    )  # fmt: skip
    assert read_predictions(tmp_path / "q.npz").pixel_score.dtype == np.uint8
    with pytest.raises(InputError, match="KEY=VALUE"):
        call("train", "fmformer", "--data", furnace_store, "--out", tmp_path / "x", "--set", "lr")
    with pytest.raises(InputError, match="expected one of"):
        call("train", "gpt", "--data", furnace_store, "--out", tmp_path / "x")


def test_models_lists_what_there_is():
    table = call("models").output
    line = next(line for line in table.splitlines() if line.startswith("fmformer "))
    assert line.split()[:5] == ["fmformer", "both", "3,312,166", "yes", "gradient"]
    (info,) = json.loads(call("models", "fmformer", "--json").output)
    assert info["parameters"] == 3_312_166
    assert "--set depth=6" in call("models", "fmformer").output


@pytest.mark.parametrize("which", ["run", "transposed_run"])
def test_a_plan_says_what_is_written_and_writes_nothing(which, furnace_store, tmp_path, request):
    job = PredictionJob(
        model=request.getfixturevalue(which),
        data=furnace_store,
        out=tmp_path / "p.npz",
        batch_size=7,
        device="cpu",
        pixel_scores="float16",
    )
    plan = job.plan()
    assert list(tmp_path.iterdir()) == []
    found = read_predictions(job.run())
    assert plan["num_samples"] == len(found.sample_id)
    assert plan["num_batches"] == -(-len(found.sample_id) // 7)
    assert plan["mask_bytes"] == found.mask_bits.nbytes
    assert plan["pixel_score_bytes"] == len(found.sample_id) * 16 * 24 * 2
    assert {name: found.meta[name] for name in ("model", "protocol", "context", "split", "recipe")} == {
        name: plan[name] for name in ("model", "protocol", "context", "split", "recipe")
    }


def test_a_plan_refuses_what_a_run_would(run, furnace_store, tmp_path):
    for wrong, match in (
        ({"split": "exam"}, "exam"),
        ({"out": tmp_path / "absent" / "p.npz"}, "existing folder"),
        ({"pixel_scores": "float64"}, "pixel scores: expected"),
        ({"protocol": "none such"}, "none such"),
    ):
        job = replace(PredictionJob(model=run, data=furnace_store, out=tmp_path / "p.npz"), **wrong)
        for call in (job.plan, job.run):
            with pytest.raises((InputError, PredictionError), match=match):
                call()
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_the_command(run, furnace_store, tmp_path):
    arguments = ["predict", run, "--data", furnace_store, "-o", tmp_path / "p.npz", "--dry-run"]
    said = CliRunner().invoke(main, [*map(str, arguments)])
    assert said.exit_code == 0, said.output
    samples = len(fmfbench.open_dataset(furnace_store).windows("test", "short"))
    assert f"p.npz: {samples} samples of split test, in {-(-samples // 64)} batches" in said.output
    as_json = json.loads(CliRunner().invoke(main, [*map(str, arguments), "--json"]).output)
    assert (as_json["num_samples"], as_json["pixel_score_bytes"]) == (samples, 0)
    assert list(tmp_path.iterdir()) == []
