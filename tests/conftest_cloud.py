"""An S3 server of the test's own, on this machine alone, and a client that is not ours.

`FMFBENCH_TEST_S3=http://127.0.0.1:PORT` takes a server that runs already in the place of moto's, with credentials of
`FMFBENCH_TEST_S3_KEY` and `FMFBENCH_TEST_S3_SECRET` (default: testing, testing).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session
import pytest

KEY = os.environ.get("FMFBENCH_TEST_S3_KEY", "testing")
SECRET = os.environ.get("FMFBENCH_TEST_S3_SECRET", "testing")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Bucket:
    """A bucket filled by botocore."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.name = "fmfbench-tests"
        self.client: Any = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=endpoint,
            config=botocore.config.Config(retries={"max_attempts": 2}, s3={"addressing_style": "path"}),
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket=self.name)

    def upload(self, folder: Path, prefix: str) -> str:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())
        return f"s3://{self.name}/{prefix}"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's server on a free port of the loopback interface, or the one that the environment names."""
    if named := os.environ.get("FMFBENCH_TEST_S3"):
        yield named
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise RuntimeError("moto's server did not start within 30 s")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session")
def bucket(s3_endpoint: str) -> Bucket:
    return Bucket(s3_endpoint)


@pytest.fixture
def s3(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The bucket, with the environment that finds it."""
    for name, value in (*CREDENTIALS.items(), ("AWS_ENDPOINT_URL", bucket.endpoint)):
        monkeypatch.setenv(name, value)
    return bucket
