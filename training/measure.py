"""Stage `measure`: what the exported folder costs on a CPU, and how big it is."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from interp.memory import keep_pages
from interp.onednn import by_onednn
from interp.provenance import device_name
from training import data, families, few_step, lora, model, scoring
from training.config import Config
from training.sampling import sample
from training.scoring import Cell

THREADS = 2
LIMIT = 64 << 20
"""Bytes that the whole folder may have."""


class TooBig(ValueError):
    """A folder that may not be shipped."""


def measure(config: Config) -> dict[str, Any]:
    """Time sampling, encoding and decoding on two CPU threads, set up as by `interp.load`; writes `cpu.json`.

    What other processors took stays there beside it.

    Raises:
        TooBig: if the folder has more than `LIMIT` bytes.
    """
    keep_pages()
    torch.set_num_threads(THREADS)
    folder = config.model_folder
    sizes = {
        part.name: sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
        for part in sorted(folder.iterdir())
    }
    if sum(sizes.values()) > LIMIT:
        raise TooBig(f"{folder} has {sum(sizes.values()) / 2**20:.1f} MiB, more than {LIMIT >> 20}")
    family = families.named(config.model)
    pipe = family.pipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    by_onednn(pipe)
    settings = model.settings(config)
    cell = Cell(config.families[0], "in_domain", "easy", 0, 1)
    pictures, prompts = scoring.questions(cell)
    pixels = data.to_model(torch.from_numpy(scoring.truths(cell)))
    latents = data.encode(pipe.vae, pixels)

    def run(steps: int, guidance: float) -> Callable[[], object]:
        return lambda: sample(pipe, pictures, prompts, config, seeds=[0], steps=steps, guidance=guidance)

    timed = {
        "sample": _median(run(settings["steps"], settings["guidance"]), repeats=3),
        "encode": _median(lambda: data.encode(pipe.vae, pixels)),
        "decode": _median(lambda: data.decode(pipe.vae, latents)),
    }
    file, processor = config.out / "cpu.json", device_name(torch.device("cpu")) or platform.machine()
    known = json.loads(file.read_text())["timings"] if file.exists() else {}
    result: dict[str, Any] = {
        "threads": THREADS,
        "timings": {**known, processor: timed},
        "parameters": {n: model.parameters(getattr(pipe, n)) for n in ("transformer", "text_encoder", "vae")},
        "loras": {file.relative_to(folder).as_posix(): weights(file) for file in lora_files(config)},
        "bytes": sizes,
    }
    if family.variants:
        lora.fuse(pipe, folder / few_step.FOLDER / few_step.WEIGHTS)
        timed["few_step"] = _median(run(config.few_step.sampler_steps, 1.0), repeats=3)
    file.write_text(json.dumps(result, indent=2) + "\n")
    return result


def lora_files(config: Config) -> list[Path]:
    """Files of weights on top of the model's own."""
    folders = (config.model_folder / name for name in ("few_step", "experts"))
    return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def weights(file: Path) -> int:
    """Numbers in a safetensors file."""
    with safe_open(file, framework="pt") as tensors:
        return sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118 - not a mapping


def _median(call: Callable[[], object], *, repeats: int = 5) -> float:
    call()
    seconds: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
