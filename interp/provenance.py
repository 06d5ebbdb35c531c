"""Where and when a run was made: taken when it starts."""

from __future__ import annotations

import platform
import shutil
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from store.records import Provenance

PACKAGES = ("stepscope", "torch", "diffusers", "transformers", "nnsight", "numpy", "accelerate", "safetensors")
"""Packages whose versions decide the numbers."""


def take(device: torch.device) -> Provenance:
    """The provenance of something that starts now on `device`."""
    commit, dirty = _git()
    return Provenance(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=commit,
        git_dirty=dirty,
        packages=_versions(),
        python=platform.python_version(),
        device=_device_name(device),
        driver=_driver() if device.type == "cuda" else "",
        host=platform.node(),
        threads=torch.get_num_threads(),
    )


def _git() -> tuple[str, bool]:
    """Commit and dirty flag of the working directory; empty where there is no repository or no git."""
    commit = _output("git", "rev-parse", "HEAD")
    return commit, bool(commit and _output("git", "status", "--porcelain", "--untracked-files=no"))


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def _versions() -> dict[str, str]:
    installed = {name.lower() for dist in metadata.distributions() if (name := dist.metadata["Name"])}
    return {name: metadata.version(name) for name in PACKAGES if name in installed}


@cache
def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _driver() -> str:
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0]
