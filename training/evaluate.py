"""Stage `evaluate`: success of the exported folder, sampled through the real pipeline.

A sample is *solved* when its overall score is at least 0.9. Guidance is chosen on validation samples; the
table is measured on test samples. Both come from seeds that training never uses.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from numpy.typing import NDArray

from interp.worlds import SPLITS, worlds
from store.records import Sample
from training import checkpoint, data, model, transformer, vae
from training.config import Config

VALIDATION_SEED, TEST_SEED = 101, 202
SOLVED = 0.9
log = logging.getLogger("training")


class Interval(NamedTuple):
    """A proportion with its 95 % Wilson interval."""

    value: float
    low: float
    high: float


def wilson(hits: int, n: int, *, z: float = 1.959964) -> Interval:
    """The Wilson score interval of `hits` out of `n`."""
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


class BatchedPipeline(WanImageToVideoPipeline):
    """The pipeline for several first frames at once, which the original repeats instead of pairing."""

    def prepare_latents(
        self, image, batch_size, channels, height, width, frames, dtype, device, generator, latents, last_image
    ):
        """The original's result for each picture with its own generator, stacked."""
        pairs = [
            super(BatchedPipeline, self).prepare_latents(
                image[i : i + 1], 1, channels, height, width, frames, dtype, device, generator[i], latents, last_image
            )
            for i in range(batch_size)
        ]
        return tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))


def sample_videos(
    pipe: WanImageToVideoPipeline,
    samples: Sequence[Sample],
    config: Config,
    *,
    steps: int,
    guidance: float,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """One video for each sample, uint8 `[n, F, H, W, 3]`; noise from a CPU generator seeded with `seed`."""
    pictures = torch.from_numpy(np.stack([sample.first_frame for sample in samples])).permute(0, 3, 1, 2) / 255
    videos = pipe(
        image=pictures,
        prompt=[sample.record.prompt for sample in samples],
        negative_prompt=[""] * len(samples),
        height=config.height,
        width=config.width,
        num_frames=config.frames,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for _ in samples],
        max_sequence_length=config.model.max_sequence_length,
        output_type="np",
    ).frames
    return np.round(np.asarray(videos) * 255).astype(np.uint8)


def success(
    pipe: WanImageToVideoPipeline, samples: Sequence[Sample], config: Config, *, steps: int, guidance: float
) -> dict[str, Any]:
    """Share of solved samples with its interval, and the mean scores."""
    scores: list[dict[str, float]] = []
    for first in range(0, len(samples), config.evaluation.batch):
        part = samples[first : first + config.evaluation.batch]
        videos = sample_videos(pipe, part, config, steps=steps, guidance=guidance)
        scores += [
            worlds[sample.record.family].score(sample, video) for sample, video in zip(part, videos, strict=True)
        ]
    solved = wilson(sum(bool(score["overall"] >= SOLVED) for score in scores), len(scores))
    means = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
    return {"n": len(scores), "solved": solved._asdict(), **means}


def evaluate(config: Config) -> dict[str, Any]:
    """Measure the exported folder; writes `evaluation.json` and the chosen guidance into `stepscope.json`."""
    start, options = time.monotonic(), config.evaluation
    pipe = BatchedPipeline.from_pretrained(config.model_folder).to(config.device)
    pipe.set_progress_bar_config(disable=True)
    validation = [
        sample
        for family in config.families
        for sample in worlds[family].generate(options.n_choice, seed=VALIDATION_SEED)
    ]
    choices = {g: success(pipe, validation, config, steps=options.steps, guidance=g) for g in options.guidances}
    log.info("guidance %s", {g: choice["solved"]["value"] for g, choice in choices.items()})
    guidance = max(choices, key=lambda g: (choices[g]["solved"]["value"], choices[g]["overall"], -g))
    _write_guidance(config, guidance)
    cells: list[dict[str, Any]] = []
    for family in config.families:
        for split in SPLITS:
            for difficulty in worlds[family].difficulties:
                samples = worlds[family].generate(options.n, seed=TEST_SEED, difficulty=difficulty, split=split)
                cell = success(pipe, samples, config, steps=options.steps, guidance=guidance)
                cells.append({"family": family, "split": split, "difficulty": difficulty, **cell})
                log.info("%s %s %s %s", family, split, difficulty, cell["solved"])
    by_steps = {
        steps: success(pipe, validation, config, steps=steps, guidance=guidance) for steps in options.other_steps
    }
    result = {
        "families": config.families,
        "steps": options.steps,
        "guidance": guidance,
        "cells": cells,
        "by_guidance": [{"guidance": g, **choice} for g, choice in choices.items()],
        "by_steps": [{"steps": s, **choice} for s, choice in by_steps.items()],
        "full_precision": _full_precision(config, validation, guidance),
        "reconstruction": reconstruction(config, pipe, validation),
        "training": training(config),
        "device": torch.cuda.get_device_name() if config.device.startswith("cuda") else "CPU",
        "seconds": time.monotonic() - start,
    }
    (config.out / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def training(config: Config) -> dict[str, Any]:
    """How long the stages took and how much they saw."""
    vae_record, transformer_record = (checkpoint.record(stage.path(config)) for stage in (vae, transformer))
    options = config.transformer
    refreshes = (options.steps - 1) // options.refresh_every
    return {
        "vae_steps": vae_record["step"],
        "vae_batch": config.vae.batch,
        "vae_seconds": vae_record["seconds"],
        "transformer_steps": transformer_record["step"],
        "transformer_batch": options.batch,
        "transformer_seconds": transformer_record["seconds"],
        "samples_made": options.pool + refreshes * options.refresh,
        "seed": config.seed,
    }


def reconstruction(config: Config, pipe: WanImageToVideoPipeline, samples: Sequence[Sample]) -> dict[str, float]:
    """What the VAE loses on true videos: pixel error (0-255), PSNR in dB, and the scores of what comes back."""
    videos = np.stack([sample.video for sample in samples if sample.video is not None])
    with torch.no_grad():
        pixels = data.to_model(torch.from_numpy(videos).to(config.device))
        parts = pixels.split(data.ENCODE)
        decoded = torch.cat([data.decode(pipe.vae, data.encode(pipe.vae, part)) for part in parts])
        error = (decoded - pixels) * 127.5
        back = (decoded * 127.5 + 127.5).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()
    scores = [worlds[s.record.family].score(s, video)["overall"] for s, video in zip(samples, back, strict=True)]
    return {
        "n": len(samples),
        "mean_absolute_error": float(error.abs().mean()),
        "psnr": float(10 * torch.log10(255**2 / error.pow(2).mean())),
        "overall_mean": float(np.mean(scores)),
        "overall_min": float(np.min(scores)),
    }


def _full_precision(config: Config, samples: Sequence[Sample], guidance: float) -> dict[str, Any]:
    """The same success with the weights as trained, before they were rounded for shipping."""
    parts = model.build(config.model, seed=config.seed)
    for part in (parts.vae, parts.text_encoder, parts.transformer):
        part.to(config.device).eval()
    vae.load(config, parts)
    transformer.load(config, parts)
    pipe = BatchedPipeline(**parts.components())
    pipe.set_progress_bar_config(disable=True)
    return success(pipe, samples, config, steps=config.evaluation.steps, guidance=guidance)


def _write_guidance(config: Config, guidance: float) -> None:
    file = config.model_folder / "stepscope.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"guidance": guidance}, indent=2) + "\n")
