"""Where and when something is made: taken when it starts, the same for runs and for results."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata

from store.records import Provenance


def take_provenance(
    packages: Sequence[str], *, device: str = "", driver: str = "", threads: int | None = None
) -> Provenance:
    """Commit of the working directory's repository, versions, machine, and the time now.

    Args:
        packages: Distributions whose versions can change the numbers; those that are installed are kept.
        device: Name of the GPU or CPU; the platform's own word for the CPU if empty.
        driver: Version of the GPU's driver.
        threads: CPU threads that were used; those that this process may use if None.
    """
    commit = _git("rev-parse", "HEAD")
    return Provenance(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=commit,
        git_dirty=bool(commit and _git("status", "--porcelain", "--untracked-files=no")),
        packages={name: version for name in packages if (version := _version(name))},
        python=platform.python_version(),
        device=device or platform.processor() or platform.machine(),
        driver=driver,
        host=platform.node(),
        threads=_threads() if threads is None else threads,
    )


def _git(*arguments: str) -> str:
    """What git says, or nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache  # a search through all that is installed, and no version changes while we run
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
