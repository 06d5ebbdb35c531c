"""Training conditions equal sampling conditions, and an interrupted run ends where an uninterrupted one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.worlds import worlds
from training import checkpoint, data, model, onepass, tokenizer, transformer, vae
from training.config import Config, ModelConfig, preset
from training.evaluate import BatchedPipeline, sample_videos, wilson

TINY = ModelConfig(
    latent_channels=4, vae_dim=4, layers=2, heads=2, head_dim=16, ffn_dim=32, text_dim=32, max_sequence_length=24
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    dry = preset("dry", out=tmp_path, model=TINY)
    options = replace(dry.transformer, pool=6, refresh=2, refresh_every=2, batch=2)
    return replace(dry, transformer=options, vae=replace(dry.vae, steps=2))


@pytest.fixture
def parts() -> model.Parts:
    built = model.build(TINY, seed=3)
    built.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.5, 2.0, 1.0])
    for part in (built.vae, built.text_encoder, built.transformer):
        part.eval()
    return built


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    model.build(TINY, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_one_pass_equals_the_vae_frame_by_frame(parts: model.Parts) -> None:
    video = torch.rand(1, 3, 17, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    posterior = parts.vae.encode(video).latent_dist
    mean, logvar = onepass.encode(parts.vae, video)
    torch.testing.assert_close(mean, posterior.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logvar, posterior.logvar, rtol=1e-4, atol=1e-5)
    decoded = onepass.decode(parts.vae, mean).clamp(-1, 1)
    torch.testing.assert_close(decoded, parts.vae.decode(mean).sample, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_image_condition_is_the_pipelines(config: Config, parts: model.Parts) -> None:
    sample = worlds["maze"].generate(1)[0]
    pixels = data.to_model(torch.from_numpy(sample.video)[None])
    pipe = BatchedPipeline(**parts.components())
    generator = [torch.Generator().manual_seed(0)]
    _, condition = pipe.prepare_latents(
        pixels[:, :, 0], 1, 4, 96, 96, 17, torch.float32, torch.device("cpu"), generator, None, None
    )
    ours = data.encode(parts.vae, data.condition_video(pixels))
    torch.testing.assert_close(condition, torch.cat([data.mask_channels(ours), ours], dim=1), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_prompts_are_embedded_as_by_the_pipeline(parts: model.Parts) -> None:
    prompts = ["Solve the maze: red goes to blue.", ""]
    pipe = BatchedPipeline(**parts.components())
    theirs, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=24)
    ids = parts.tokenizer(prompts, padding="max_length", max_length=24, truncation=True, return_tensors="pt").input_ids
    torch.testing.assert_close(transformer.embed(parts, ids), theirs)


def test_a_batch_of_pictures_gives_what_each_gives_alone(config: Config, parts: model.Parts) -> None:
    samples = worlds["maze"].generate(2, seed=1)
    pipe = BatchedPipeline(**parts.components())
    pipe.set_progress_bar_config(disable=True)
    together = sample_videos(pipe, samples, config, steps=2, guidance=2.0)
    alone = [sample_videos(pipe, [sample], config, steps=2, guidance=2.0)[0] for sample in samples]
    assert np.abs(together.astype(int) - np.stack(alone)).max() <= 1
    assert (together[0] != together[1]).any()


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for name, stop_at in (("through", None), ("interrupted", 3)):
        run = replace(config, out=tmp_path / name)
        vae.train(run, model.build(TINY, seed=0))
        if stop_at is not None:
            with monkeypatch.context() as patch:
                _stop_after(patch, stop_at)
                with pytest.raises(KeyboardInterrupt):
                    _train(run)
            assert checkpoint.record(transformer.path(run))["step"] == stop_at
        _train(run)
        ends.append(checkpoint.load(transformer.path(run))[0])
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def _train(config: Config) -> None:
    parts = model.build(TINY, seed=0)
    vae.load(config, parts)
    parts.vae.eval().requires_grad_(False)
    transformer.train(config, parts)


def _stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    calls = iter(range(steps))
    original = data.LatentPool.batch

    def batch(self: data.LatentPool, n: int, generator: torch.Generator) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(self, n, generator)

    patch.setattr(data.LatentPool, "batch", batch)


def test_rare_colours_and_the_first_frame_weigh_more() -> None:
    video = torch.zeros(1, 17, 96, 96, 3, dtype=torch.uint8)
    video[:, :, :8, :8] = 255
    weight = vae.rarity(video).float()
    assert weight[0, 1, 0, 0] > 5 * weight[0, 1, 50, 50]
    assert weight[0, 0, 50, 50] == pytest.approx(3 * float(weight[0, 1, 50, 50]), rel=0.01)


def test_a_mix_takes_every_difficulty_in_turn_and_never_twice() -> None:
    mix = data.Mix(families=("maze",), seed=1, device="cpu")
    videos, prompts = mix.draw(0, 12)
    first, second = mix.draw(0, 5), mix.draw(5, 7)
    assert torch.equal(videos, torch.cat([first[0], second[0]]))
    assert prompts == first[1] + second[1]
    assert len({video.numpy().tobytes() for video in videos}) == 12


def test_words_of_worlds_are_one_token_and_others_fall_back_to_letters() -> None:
    tokens = tokenizer.build(24)
    assert len(tokens.tokenize("The purple square walks through the maze")) == 7
    assert tokens.tokenize("zyx") == ["z", "##y", "##x"]
    for sample in worlds["maze"].generate(60):
        ids = tokens(sample.record.prompt).input_ids
        assert tokens.unk_token_id not in ids
        assert len(ids) <= 24
        assert not any(token.startswith("##") for token in tokens.convert_ids_to_tokens(ids))


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 200, 0.0, 0.0188), (162, 200, 0.7500, 0.8583), (200, 200, 0.9812, 1.0)]
)
def test_wilson_intervals(hits: int, n: int, low: float, high: float) -> None:
    interval = wilson(hits, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
    assert interval.low <= interval.value <= interval.high
