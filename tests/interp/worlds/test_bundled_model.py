"""The bundled model against the worlds: its VAE keeps what scorers read, and it solves what it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

import interp
from interp.worlds import worlds

MODELS = Path(interp.__file__).parent / "models"
FOLDER = MODELS / "tinywan"
LIMIT = 80 << 20
"""Bytes of all that ships: pipelines and LoRAs."""


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    return AutoencoderKLWan.from_pretrained(FOLDER, subfolder="vae")


@pytest.mark.parametrize("name", worlds.names())
def test_true_videos_survive_the_vae(name: str, vae: AutoencoderKLWan) -> None:
    """One easy sample in domain and one out of it; `stepscope worlds check` looks at all difficulties."""
    family = worlds[name]
    samples = [
        family.generate(1, seed=11, difficulty=family.difficulties[0], split=split)[0]
        for split in ("in_domain", "out_of_domain")
    ]
    videos = torch.from_numpy(np.stack([sample.video for sample in samples if sample.video is not None]))
    with torch.no_grad():
        latents = vae.encode(videos.permute(0, 4, 1, 2, 3) / 127.5 - 1).latent_dist.mode()
        decoded = vae.decode(latents).sample
    back = (decoded * 127.5 + 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 4, 1).numpy()
    for sample, video in zip(samples, back, strict=True):
        assert family.score(sample, video)["overall"] >= 0.9, sample


@pytest.mark.parametrize(
    ("name", "family", "steps"),
    [("tinywan", "grounding", 20), ("tinywan-few-step", "grounding", 4), ("tinycog", "occlusion", 20)],
)
def test_it_solves_an_easy_task_with_its_own_settings(name: str, family: str, steps: int) -> None:
    model = interp.load(name)
    sample = worlds[family].generate(1, seed=7, difficulty="easy")[0]
    settings = model.settings()
    assert settings.steps == steps
    assert worlds[family].score(sample, model.generate(sample, seed=1, settings=settings).numpy())["overall"] >= 0.9


def test_the_second_model_is_of_another_kind() -> None:
    first, second = interp.load("tinywan"), interp.load("tinycog")
    for part in ("transformer", "vae", "text_encoder", "scheduler"):
        assert type(getattr(first.pipeline, part)) is not type(getattr(second.pipeline, part))
    assert [tuple(model.geometry(model.settings()).tokens) for model in (first, second)] == [(5, 12, 12)] * 2


def test_the_few_step_variant_is_tinywan_under_its_lora() -> None:
    plain, few = interp.load("tinywan"), interp.load("tinywan-few-step")
    assert few.ref.weight_hash == plain.ref.weight_hash
    assert [lora.path for lora in few.ref.adapters] == ["tinywan/few_step/pytorch_lora_weights.safetensors"]


def test_the_expert_variant_changes_denoiser_where_its_boundary_is() -> None:
    model = interp.load("tinywan-experts")
    assert list(model.adapter.denoisers()) == ["transformer", "transformer_2"]
    assert [lora.component for lora in model.ref.adapters] == ["transformer", "transformer_2"]
    settings = model.settings(steps=4)
    assert model.geometry(settings).experts == ("transformer", "transformer_2")
    sample = worlds["grounding"].generate(1, seed=7)[0]
    assert worlds["grounding"].score(sample, model.generate(sample, seed=1, settings=settings).numpy())["answer"] == 1


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("name", ["tinywan", "tinycog"])
def test_weights_ship_as_safetensors(name: str, part: str) -> None:
    kinds = {file.suffix for file in (MODELS / name / part).iterdir()}
    assert kinds == {".json", ".safetensors"}


def test_all_models_are_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) <= LIMIT
