"""The version that is installed."""

from __future__ import annotations

__all__ = ["installed_version"]


def installed_version() -> str:
    """As pip knows it, for example '0.2.0'."""
    from importlib.metadata import version  # 16 ms that `import fmfbench` need not take

    return version("fmfbench")
