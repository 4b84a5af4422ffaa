"""The fixtures of an S3 server."""

from conftest_cloud import bucket, s3, s3_endpoint  # noqa: F401
