import numpy as np
import pytest
from conftest_run import invoke

from fmfbench.exchange.predictions import read_predictions
from fmfbench_models.training.train import train


@pytest.fixture(scope="module")
def run(furnace_store, options, tmp_path_factory):
    learn = {**options, "epochs": 1, "batch_size": 32}
    return train(
        "fmformer", furnace_store, tmp_path_factory.mktemp("run") / "run", options=learn, device="cpu"
    )


def predicted(run, store, path, *arguments):
    return invoke("predict", run, "--data", store, "-o", path, "--device", "cpu", *arguments)


@pytest.mark.parametrize("preset", ["video-missing", "mist", "time-offset+1"])
def test_a_preset_changes_what_the_model_sees_and_is_written_down(run, furnace_store, tmp_path, preset):
    assert predicted(run, furnace_store, tmp_path / "plain.npz").exit_code == 0
    assert predicted(run, furnace_store, tmp_path / "hurt.npz", "--corrupt", preset).exit_code == 0
    plain, hurt = (read_predictions(tmp_path / name) for name in ("plain.npz", "hurt.npz"))
    assert np.array_equal(plain.sample_id, hurt.sample_id)
    assert not np.array_equal(plain.score, hurt.score)
    assert (plain.meta.get("corrupt"), hurt.meta["corrupt"]) == (None, preset)


def test_no_such_preset(run, furnace_store, tmp_path):
    result = predicted(run, furnace_store, tmp_path / "p.npz", "--corrupt", "fog")
    assert result.exit_code == 2
    assert "corruption: expected one of video-missing" in result.stderr
