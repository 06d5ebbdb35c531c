"""Stage `measure`: what the exported folder costs on a CPU, and how big it is."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline

from interp.memory import keep_pages
from interp.worlds import worlds
from training import data, model
from training.config import Config
from training.evaluate import sample_videos

THREADS = 2


def measure(config: Config) -> dict[str, Any]:
    """Time sampling, encoding and decoding on two CPU threads; writes `cpu.json`."""
    keep_pages()
    torch.set_num_threads(THREADS)
    pipe = WanImageToVideoPipeline.from_pretrained(config.model_folder)
    pipe.set_progress_bar_config(disable=True)
    settings = json.loads((config.model_folder / "stepscope.json").read_text())
    sample = worlds[config.families[0]].generate(1, seed=0)[0]
    pixels = data.to_model(torch.from_numpy(sample.video)[None])
    latents = data.encode(pipe.vae, pixels)
    with torch.no_grad():
        result = {
            "threads": THREADS,
            "sample_seconds": _median(
                lambda: sample_videos(pipe, [sample], config, steps=settings["steps"], guidance=settings["guidance"]),
                repeats=3,
            ),
            "encode_seconds": _median(lambda: data.encode(pipe.vae, pixels)),
            "decode_seconds": _median(lambda: data.decode(pipe.vae, latents)),
            "parameters": {n: model.parameters(getattr(pipe, n)) for n in ("transformer", "text_encoder", "vae")},
            "bytes": {
                folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                for folder in sorted(config.model_folder.iterdir())
                if folder.is_dir()
            },
        }
    (config.out / "cpu.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _median(call: Callable[[], object], *, repeats: int = 5) -> float:
    call()
    seconds: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
