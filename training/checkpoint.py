"""Checkpoints as safetensors: named tensors, and a record as JSON in the header. No pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def save(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write `tensors` and `record` to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, partial, metadata={"record": json.dumps(record)})
    os.replace(partial, path)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and record of `path`."""
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
        return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118 - not a mapping


def record(path: Path) -> dict[str, Any]:
    """The record of `path`, empty where there is no such file."""
    if not path.exists():
        return {}
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["record"])


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` under `prefix.`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `named` put under `prefix.`."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def optimizer_state(optimizer: torch.optim.Optimizer, names: Iterable[str]) -> dict[str, Tensor]:
    """Moments and step counts of an optimizer; `names` in the order of its one group, frozen ones have none."""
    states = optimizer.state_dict()["state"]
    return {f"{name}/{key}": value for i, name in enumerate(names) for key, value in states.get(i, {}).items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, names: Iterable[str], tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`."""
    state: dict[int, dict[str, Tensor]] = {}
    numbers = {name: i for i, name in enumerate(names)}
    for key, tensor in tensors.items():
        name, moment = key.rsplit("/", 1)
        state.setdefault(numbers[name], {})[moment] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for weight, moments in optimizer.state.items():
        for name, moment in moments.items():
            if moment.shape == weight.shape:  # fused, it wants both in one layout
                moments[name] = torch.empty_like(weight).copy_(moment)
