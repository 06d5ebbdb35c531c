"""Training conditions equal sampling conditions, and an interrupted run ends where an uninterrupted one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.worlds import worlds
from training import checkpoint, data, model, onepass, tokenizer, transformer, vae
from training.config import Config, WanConfig, preset
from training.families import Parts, wan
from training.families.wan import BatchedPipeline
from training.process import Flow
from training.sampling import sample
from training.session import Session


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    model.build(WanConfig(layers=1), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_one_pass_equals_the_vae_frame_by_frame(parts: Parts) -> None:
    video = torch.rand(1, 3, 17, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    posterior = parts.vae.encode(video).latent_dist
    mean, logvar = onepass.encode(parts.vae, video)
    torch.testing.assert_close(mean, posterior.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logvar, posterior.logvar, rtol=1e-4, atol=1e-5)
    decoded = onepass.decode(parts.vae, mean).clamp(-1, 1)
    torch.testing.assert_close(decoded, parts.vae.decode(mean).sample, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_image_condition_is_the_pipelines(config: Config, parts: Parts) -> None:
    sample = worlds["maze"].generate(1)[0]
    pixels = data.to_model(torch.from_numpy(sample.video)[None])
    pipe = BatchedPipeline(**parts.components())
    generator = [torch.Generator().manual_seed(0)]
    _, condition = pipe.prepare_latents(
        pixels[:, :, 0], 1, 4, 96, 96, 17, torch.float32, torch.device("cpu"), generator, None, None
    )
    ours = wan.Wan().condition(pixels, lambda still: data.encode(parts.vae, still))
    torch.testing.assert_close(condition, torch.cat([wan.mask_channels(ours), ours], dim=1), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_prompts_are_embedded_as_by_the_pipeline(parts: Parts) -> None:
    prompts = ["Solve the maze: red goes to blue.", ""]
    pipe = BatchedPipeline(**parts.components())
    theirs, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=24)
    ids = parts.tokenizer(prompts, padding="max_length", max_length=24, truncation=True, return_tensors="pt").input_ids
    torch.testing.assert_close(transformer.embed(parts, ids), theirs)


def test_a_batch_of_pictures_gives_what_each_gives_alone(config: Config, parts: Parts) -> None:
    samples = worlds["maze"].generate(2, seed=1)
    pictures, prompts = np.stack([one.first_frame for one in samples]), [one.record.prompt for one in samples]
    pipe = BatchedPipeline(**parts.components())
    pipe.set_progress_bar_config(disable=True)
    together = sample(pipe, pictures, prompts, config, seeds=[4, 5], steps=2, guidance=2.0)
    alone = [
        sample(pipe, pictures[i : i + 1], prompts[i : i + 1], config, seeds=[4 + i], steps=2, guidance=2.0)[0]
        for i in range(2)
    ]
    assert np.abs(together.astype(int) - np.stack(alone)).max() <= 1
    assert (together[0] != together[1]).any()


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for name, stop_at in (("through", None), ("interrupted", 3)):
        run = replace(config, out=tmp_path / name)
        vae.train(Session(run))
        if stop_at is not None:
            with monkeypatch.context() as patch:
                _stop_after(patch, stop_at)
                with pytest.raises(KeyboardInterrupt):
                    transformer.train(Session(run))
            assert checkpoint.record(run.checkpoint("transformer"))["step"] == stop_at
        transformer.train(Session(run))
        ends.append(checkpoint.load(run.checkpoint("transformer"))[0])
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def _stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    calls = iter(range(steps))
    original = data.LatentPool.batch

    def batch(self: data.LatentPool, n: int, generator: torch.Generator, *, drop: float = 0.0) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(self, n, generator, drop=drop)

    patch.setattr(data.LatentPool, "batch", batch)


def test_rare_colours_and_the_first_frame_weigh_more() -> None:
    video = torch.zeros(1, 17, 96, 96, 3, dtype=torch.uint8)
    video[:, :, :8, :8] = 255
    weight = vae.rarity(video).float()
    assert weight[0, 1, 0, 0] > 5 * weight[0, 1, 50, 50]
    assert weight[0, 0, 50, 50] == pytest.approx(3 * float(weight[0, 1, 50, 50]), rel=0.01)


def test_moments_come_back_in_the_layout_of_their_weights(tmp_path: Path) -> None:
    def fused() -> tuple[torch.nn.Conv3d, torch.optim.Optimizer]:
        conv = torch.nn.Conv3d(2, 3, 3)
        conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last_3d)
        return conv, torch.optim.AdamW(conv.parameters(), fused=True)

    def step(conv: torch.nn.Conv3d, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        conv(torch.ones(1, 2, 4, 4, 4)).square().sum().backward()
        optimizer.step()

    first, before = fused()
    step(first, before)
    file, names = tmp_path / "moments.safetensors", ["weight", "bias"]
    checkpoint.save(file, checkpoint.optimizer_state(before, names), {})
    second, after = fused()
    second.load_state_dict(first.state_dict())
    checkpoint.restore_optimizer(after, names, checkpoint.load(file)[0])
    assert after.state[second.weight]["exp_avg"].stride() == second.weight.stride()  # on a GPU, others are refused
    for conv, optimizer in ((first, before), (second, after)):
        step(conv, optimizer)
    assert torch.equal(first.weight, second.weight)


def test_a_mix_takes_every_difficulty_in_turn_and_never_twice() -> None:
    mix = data.Mix(families=("maze",), seed=1, device="cpu")
    videos, prompts = mix.draw(0, 12)
    first, second = mix.draw(0, 5), mix.draw(5, 7)
    assert torch.equal(videos, torch.cat([first[0], second[0]]))
    assert prompts == first[1] + second[1]
    assert len({video.numpy().tobytes() for video in videos}) == 12


def test_a_heavier_family_has_more_turns_and_no_sample_twice() -> None:
    mix = data.Mix(families=("maze", "tic_tac_toe"), seed=1, device="cpu", weights={"maze": 2})
    turns = [cell.family for cell, _ in mix.turns()]
    assert turns.count("maze") == 6
    assert turns.count("tic_tac_toe") == 3
    videos, _ = mix.draw(0, 3 * len(turns))
    assert len({video.numpy().tobytes() for video in videos}) == 3 * len(turns)


def test_the_pool_holds_the_newest_samples_however_it_got_there(config: Config, parts: Parts) -> None:
    pools = [data.LatentPool(config, parts.vae, parts.tokenizer) for _ in range(2)]
    for end in (6, 8, 10):
        pools[0].advance(end)
    pools[1].advance(10)
    batches = [pool.batch(32, torch.Generator().manual_seed(0)) for pool in pools]
    for one, other in zip(*batches, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)  # float16, encoded in other batches


def test_noise_levels_keep_to_their_range_and_lean_to_noise() -> None:
    def drawn(**ends: float) -> torch.Tensor:
        return Flow(3.0).draw(20_000, torch.Generator().manual_seed(0), **ends)

    every, high, low = drawn(), drawn(low=0.85), drawn(high=0.85)
    assert float(every.median()) == pytest.approx(0.75, abs=0.01)  # 0.5 before the shift
    assert float(high.min()) >= 0.85 - 1e-6
    assert float(low.max()) <= 0.85 + 1e-6
    torch.testing.assert_close(high.median(), every[every >= 0.85].median(), atol=0.01, rtol=0)
    torch.testing.assert_close(low.median(), every[every < 0.85].median(), atol=0.01, rtol=0)


@pytest.mark.parametrize("family", worlds.names())
def test_words_of_worlds_are_one_token_and_prompts_are_not_cut(family: str) -> None:
    tokens = tokenizer.build(WanConfig().max_sequence_length)
    for split in ("in_domain", "out_of_domain"):
        for prompt in {one.record.prompt for one in worlds[family].generate(12, seed=7, split=split)}:
            ids = tokens(prompt, truncation=False).input_ids
            assert len(ids) <= tokens.model_max_length
            assert tokens.unk_token_id not in ids
            assert not any(token.startswith("##") for token in tokens.convert_ids_to_tokens(ids)), prompt


def test_unknown_words_fall_back_to_letters() -> None:
    tokens = tokenizer.build(24)
    assert len(tokens.tokenize("The purple square walks through the maze")) == 7
    assert tokens.tokenize("zyx") == ["z", "##y", "##x"]


def test_an_unknown_preset_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are: dry, full"):
        preset("wet", out=tmp_path)


def test_self_attention_for_the_compiler_is_the_originals_bit_for_bit() -> None:
    net = wan.Wan().transformer(WanConfig(layers=2, heads=2, ffn_dim=64, text_dim=32))
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(2, net.config["in_channels"], 3, 4, 4, generator=generator),
        "timestep": torch.tensor([3.0, 700.0]),
        "encoder_hidden_states": torch.randn(2, 5, 32, generator=generator),
    }
    before = net(**inputs).sample
    for block in net.blocks:
        block.attn1.set_processor(wan.SelfAttention())
    assert torch.equal(net(**inputs).sample, before)
