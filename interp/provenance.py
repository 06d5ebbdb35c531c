"""Where and when a run is made: what the store's own provenance cannot know of the device."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch

from store import Provenance, take_provenance

PACKAGES = ("stepscope", "torch", "diffusers", "transformers", "nnsight", "numpy", "accelerate", "safetensors")
"""Distributions whose versions decide the numbers."""


def take(device: torch.device) -> Provenance:
    """The provenance of a run that starts now on `device`."""
    driver = _driver() if device.type == "cuda" else ""
    return take_provenance(PACKAGES, device=device_name(device), driver=driver, threads=torch.get_num_threads())


@cache
def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's; empty where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


@cache
def _driver() -> str:
    """Version of the GPU's driver; empty where its tool is missing."""
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""
