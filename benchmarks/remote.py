"""A block-shuffled epoch from an S3 server on this machine beside one from its disk: at least half the rate.

    python benchmarks/remote.py [--frames 20000] [--rounds 3]

The server is moto (or the one of FMFBENCH_TEST_S3, with the credentials of the environment), a Python program that has
a core of this machine: what it takes from the reader counts too. 64x64 frames of noise over a gradient, windows of the
paper protocol, two threads. Local and remote epochs take turns. Exit 1 below half the local rate.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.io import savemat

import fmfbench
from fmfbench.files.remote import RemotePath
from fmfbench.store.upload import upload
from fmfbench.torch import WindowDataset, make_loader

TARGET = 0.5


def make_store(folder: Path, frames: int) -> Path:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 64).astype(np.uint8)[:, None, None, None]
    for number in range(4):
        count = frames // 4
        content = {
            "video": np.asfortranarray(ramp + rng.integers(0, 30, (64, 64, 3, count), np.uint8)),
            "current": rng.normal(8000, 100, (3, count)),
            "label": (rng.random((1, count)) < 0.3).astype(np.uint8),
            "train_test_index": np.zeros((1, count)),
        }
        savemat(folder / f"run{number}.mat", content)
    return fmfbench.convert(folder, folder / "fmf.zarr")


def epoch(place: str) -> float:
    """Windows a second."""
    dataset = WindowDataset(fmfbench.open_dataset(place).windows("train"))
    loader = make_loader(dataset, shuffle="block", buffer_bytes=96 << 20, num_workers=2)
    start = time.perf_counter()
    count = sum(len(batch["sample_id"]) for batch in loader)
    return count / (time.perf_counter() - start)


def start_server() -> subprocess.Popen[bytes] | None:
    import botocore.session

    server = None
    if "FMFBENCH_TEST_S3" in os.environ:
        os.environ["AWS_ENDPOINT_URL"] = os.environ["FMFBENCH_TEST_S3"]
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        names = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
        }
        os.environ |= {**names, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
    client = botocore.session.get_session().create_client(
        "s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1"
    )
    client.create_bucket(Bucket="fmfbench-epoch")
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("FMFBENCH_MATERIAL")) as name:
        store = make_store(Path(name), options.frames)
        server = start_server()
        try:
            url = "s3://fmfbench-epoch/fmf.zarr"
            upload(store, RemotePath(url))
            rates = [(epoch(str(store)), epoch(url)) for _ in range(options.rounds)]
            os.environ["FMFBENCH_DISK_CACHE"] = str(Path(name) / "cache")
            epoch(url)
            cached = epoch(url)
        finally:
            if server is not None:
                server.terminate()
                server.wait(10)
    ratio = statistics.median(remote / local for local, remote in rates)
    local, remote = (statistics.median(column) for column in zip(*rates, strict=True))
    print(
        f"windows a second: {local:,.0f} from the disk, {remote:,.0f} from the server, {cached:,.0f} by the disk cache"
    )
    print(f"ratio {ratio:.2f}, target {TARGET}: {'met' if ratio >= TARGET else 'MISSED'}")
    sys.exit(ratio < TARGET)


if __name__ == "__main__":
    main()
