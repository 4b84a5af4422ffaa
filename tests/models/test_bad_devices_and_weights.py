"""`--device cuda` without a GPU and weights files that are none: one line, exit 2, no folder left behind.

Also tests fmfbench_models.parts: torch_file.
"""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from conftest_run import call

from fmfbench.errors import InputError
from fmfbench_models.checkpoint import load_official
from fmfbench_models.parts.torch_file import read_torch_file


def _zip() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.zeros(3))
    return out.getvalue()


def _other_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return out.getvalue()


NONE = {
    "text.pth": b"hello world, not weights",
    "empty.pth": b"",
    "short.pth": b"\x80",
    "pickle.pth": b"\x80\x04nonsense",
    "object.pth": pickle.dumps({"a": io.BytesIO}),
    "list.pth": pickle.dumps([1, 2]),
    "png.pth": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "numpy.pth": _zip(),
    "zip.pth": _other_zip(),
    "header.safetensors": (16).to_bytes(8, "little") + b'{"a": 1}xxxxxxxx',
    "long.safetensors": b"\xff" * 8 + b"{",
    "html.pth": b"<!DOCTYPE html><html></html>",
    "lfs.pth": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("name", NONE)
def test_weights_that_are_none(furnace_store, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(NONE[name])
    arguments = [
        "train",
        "clipbert",
        "--data",
        furnace_store,
        "--out",
        tmp_path / "run",
        "--backbone-weights",
        path,
    ]
    result = call(*arguments, code=2)
    assert len(result.output.strip().splitlines()) == 1
    assert name in result.output
    assert "weights_only" not in result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_random_bytes_never_end_in_a_traceback(tmp_path):
    rng = np.random.default_rng(0)
    good = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, good)
    for seed in range(60):
        raw = bytearray(good.getvalue()) if seed % 2 else bytearray(rng.integers(0, 256, 200, dtype=np.uint8))
        for place in rng.integers(0, len(raw), 8):
            raw[place] = int(rng.integers(256))
        (tmp_path / "w.pth").write_bytes(raw)
        said = ""
        try:
            read_torch_file(tmp_path / "w.pth")
        except InputError as error:
            said = str(error)
        assert "\n" not in said


def test_predictions_given_as_weights_are_named_for_what_they_are(tmp_path):
    np.savez(tmp_path / "p.npz", sample_id=np.arange(3), class_score=np.zeros(3))
    with pytest.raises(
        InputError, match=r"p\.npz: expected .* got an \.npz archive \(sample_id\.npy, class_score"
    ):
        read_torch_file(tmp_path / "p.npz")
    with pytest.raises(InputError) as caught:
        load_official(tmp_path / "p.npz")
    assert str(caught.value).count("p.npz") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(furnace_store, tmp_path):
    for arguments in (
        ("train", "expert", "--data", furnace_store, "--out", tmp_path / "run", "--device", "cuda"),
        ("train", "fmformer", "--data", furnace_store, "--out", tmp_path / "run", "--device", "cuda"),
        ("reproduce", "table2", "--data", furnace_store, "--out", tmp_path / "run", "--device", "cuda"),
    ):
        result = call(*arguments, code=2)
        assert "expected a GPU, got none" in result.output
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("predict", "run", "--data", "x"), ("calibrate", "run", "--data", "x")])
def test_no_batch_without_a_window(command, tmp_path):
    found = call(*command, "--out", tmp_path / "p.npz", "--batch-size", "0", code=2)
    assert "'--batch-size': 0 is not in the range x>=1" in found.output
