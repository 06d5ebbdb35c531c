"""The version that `--version` prints at every word of the command line."""

from __future__ import annotations


def version(package: str = "stepscope") -> str:
    """The installed version of a distribution, or that it is not installed."""
    from importlib import metadata  # a tenth of the time that help takes

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
