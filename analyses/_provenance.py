"""Where and when a result was made, taken when its analysis starts."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from typing import Final

from store import Provenance

PACKAGES: Final = ("stepscope", "dask", "duckdb", "numpy", "scipy", "xarray", "zarr")
"""Distributions whose versions can change a result's numbers."""


def provenance() -> Provenance:
    """Commit of the working directory's repository, versions, machine, and the time now."""
    commit = _git("rev-parse", "HEAD")
    return Provenance(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=commit,
        git_dirty=bool(commit and _git("status", "--porcelain")),
        packages={name: version for name in PACKAGES if (version := _version(name))},
        python=platform.python_version(),
        device=platform.processor() or platform.machine(),
        host=platform.node(),
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _git(*arguments: str) -> str:
    """What git says, or nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
