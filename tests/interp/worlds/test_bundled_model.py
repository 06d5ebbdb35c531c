"""The bundled model against the worlds: its VAE keeps what scorers read, and it solves what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from PIL import Image

import interp
from interp.worlds import SPLITS, worlds
from store.records import Sample

FOLDER = Path(interp.__file__).parent / "models" / "tinywan"
EACH = 2


def test_true_videos_survive_the_vae() -> None:
    vae = AutoencoderKLWan.from_pretrained(FOLDER, subfolder="vae")
    for family in worlds:
        samples = [
            sample
            for split in SPLITS
            for level in family.difficulties
            for sample in family.generate(EACH, seed=11, difficulty=level, split=split)
        ]
        videos = torch.from_numpy(np.stack([sample.video for sample in samples if sample.video is not None]))
        with torch.no_grad():
            latents = vae.encode(videos.permute(0, 4, 1, 2, 3) / 127.5 - 1).latent_dist.mode()
            decoded = vae.decode(latents).sample
        back = (decoded * 127.5 + 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()
        for sample, video in zip(samples, back, strict=True):
            assert family.score(sample, video)["overall"] >= 0.9, sample


def test_it_solves_an_easy_maze() -> None:
    settings = json.loads((FOLDER / "stepscope.json").read_text())
    pipe = WanImageToVideoPipeline.from_pretrained(FOLDER)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.transformer.dtype == torch.float32
    sample = worlds["maze"].generate(1, seed=7)[0]
    assert worlds["maze"].score(sample, _generate(pipe, sample, settings))["overall"] >= 0.9


def _generate(pipe: WanImageToVideoPipeline, sample: Sample, settings: dict[str, int]) -> np.ndarray:
    videos = pipe(
        image=Image.fromarray(sample.first_frame),
        prompt=sample.record.prompt,
        height=settings["height"],
        width=settings["width"],
        num_frames=settings["frames"],
        num_inference_steps=4,
        guidance_scale=settings["guidance"],
        generator=torch.Generator().manual_seed(1),
        max_sequence_length=settings["max_sequence_length"],
    ).frames
    return np.round(np.asarray(videos[0]) * 255).astype(np.uint8)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_weights_ship_as_safetensors(part: str) -> None:
    kinds = {file.suffix for file in (FOLDER / part).iterdir()}
    assert kinds == {".json", ".safetensors"}


def test_the_whole_pipeline_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 35e6
