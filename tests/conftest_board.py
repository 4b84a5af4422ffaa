"""Bundles of a small data set, and how to take one apart and put it together again."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest_scores import build_data

from fmfbench.board.bundle import write_bundle
from fmfbench.exchange.labels import labels_from_dataset, write_labels
from fmfbench.exchange.predictions import write_predictions
from fmfbench.scoring.score import score

OPTIONS = {
    "context": None,
    "protocol": None,
    "resamples": 40,
    "block_seconds": None,
    "seed": 0,
    "per_second": False,
    "aupro_limit": 0.3,
}


def predictions(folder, data, name, seed, **meta):
    rng = np.random.default_rng(seed)
    ids = data.sample_ids("test")
    p = np.clip(data.class_labels(ids) * 0.4 + rng.random(len(ids)) * 0.6, 0, 1)
    mask = data.test_masks() ^ (rng.random((len(ids), 7, 9)) < 0.05)
    meta = {"model": name, "seed": seed, "fingerprint": data.fingerprint} | meta
    return write_predictions(folder / f"{name}.npz", sample_id=ids, score=p, mask=mask, meta=meta)


def bundle_of(folder, path, data, facts=None, **options):
    chosen = OPTIONS | options
    out = folder / f"{path.stem}.fmfb"
    return write_bundle(out, path, score(path, data, "test", **chosen), chosen, facts)


@pytest.fixture(scope="session")
def board_data():
    return build_data(3, lengths=(900, 700))


@pytest.fixture(scope="session")
def board_labels(board_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.npz"
    return write_labels(path, labels_from_dataset(board_data))


@pytest.fixture(scope="session")
def bundles(board_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    facts = {"parameters": 1234567, "train_seconds": 12.5}
    made = [
        bundle_of(folder, predictions(folder, board_data, name, seed), board_data, facts)
        for seed, name in enumerate(("alpha", "beta", "gamma"))
    ]
    lost = predictions(folder, board_data, "alpha-lost", 9, model="alpha", corrupt="video-missing")
    return [*made, bundle_of(folder, lost, board_data)]


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def put_together(path: Path, members: dict[str, bytes], *, rehash: bool = False) -> Path:
    """A zip of members; with `rehash` the receipt's hashes are those of the members."""
    members = dict(members)
    if rehash:
        receipt = json.loads(members["receipt.json"])
        receipt["members"] = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
            if name != "receipt.json"
        }
        members["receipt.json"] = json.dumps(receipt).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path
