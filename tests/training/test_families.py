"""The second family: it is trained under the conditions of its real pipeline, and its process is its scheduler's."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
import store
from interp.worlds import worlds
from tests.test_cli import run
from training import __main__ as command
from training import card, data, evaluate, families, measure, model, sampling, scoring, ship, transformer, vae
from training.config import CogVideoXConfig, Config, preset
from training.families import Parts, cogvideox
from training.process import Flow, Preserving, Process
from training.session import Session

TINY = CogVideoXConfig(
    latent_channels=4, vae_dim=4, layers=2, heads=2, head_dim=16, text_dim=32, text_layers=1, max_sequence_length=32
)


@pytest.fixture
def parts() -> Parts:
    built = model.build(TINY, seed=3)
    families.of(built.vae).settle(built.vae, {"scaling_factor": 0.7})
    for part in (built.vae, built.text_encoder, built.transformer):
        part.eval()
    return built


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Every stage of tinycog on a model of a few thousand weights."""
    dry = preset("dry", out=tmp_path_factory.mktemp("cog"), trained="tinycog", model=TINY, families=("tic_tac_toe",))
    options = replace(dry.transformer, pool=6, refresh=2, refresh_every=2, batch=2)
    evaluation = replace(dry.evaluation, n=1, guidances=(1.5,), other_steps=(), n_failures=1)
    session = Session(replace(dry, transformer=options, vae=replace(dry.vae, steps=2, pool=4), evaluation=evaluation))
    config = session.config
    vae.train(session)
    transformer.train(session)
    model.export(session.parts(), config, guidance=1.5)
    evaluate.choose(session)
    evaluate.evaluate(session)
    measure.measure(config)
    return session


PROCESSES: list[Process] = [Flow(3.0), Preserving(families.named(TINY).scheduler(TINY))]


def test_what_is_put_on_latents_and_predicted_is_the_schedulers() -> None:
    scheduler = families.named(TINY).scheduler(TINY)
    process = Preserving(scheduler)
    x, noise = torch.randn(4, 2, 1, 3, 3), torch.randn(4, 2, 1, 3, 3)
    level = torch.tensor([0, 300, 998, 999])
    signal, sigma = (each.view(-1, 1, 1, 1, 1) for each in process.coefficients(level))
    torch.testing.assert_close(signal * x + sigma * noise, scheduler.add_noise(x, noise, level), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        process.velocity(x, noise, signal, sigma), scheduler.get_velocity(x, noise, level), rtol=1e-4, atol=1e-5
    )
    assert float(signal[-1]) == 0.0


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_another_answer_at_the_same_place_changes_what_is_predicted_by_its_distance_over_sigma(
    process: Process,
) -> None:
    x, noise, other = (torch.randn(3, 1, 1, 2, 2, dtype=torch.float64) for _ in range(3))
    level = process.at(torch.tensor([0.3, 0.6, 0.9]))
    signal, sigma = (each.double().view(-1, 1, 1, 1, 1) for each in process.coefficients(level))
    noise_of_other = (signal * x + sigma * noise - signal * other) / sigma
    change = process.velocity(other, noise_of_other, signal, sigma) - process.velocity(x, noise, signal, sigma)
    torch.testing.assert_close(change, (x - other) / sigma, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_levels_have_the_noise_share_that_is_asked_for(process: Process) -> None:
    def share(level: Tensor) -> Tensor:
        signal, sigma = process.coefficients(level)
        return sigma / (signal + sigma)

    assert float(process.coefficients(process.at(torch.ones(1)))[0]) == 0.0
    asked = torch.tensor([0.1, 0.5, 0.9, 1.0])
    torch.testing.assert_close(share(process.at(asked)), asked, rtol=0, atol=0.01)
    drawn = share(process.draw(2000, torch.Generator().manual_seed(0), low=0.5, high=0.8))
    assert float(drawn.min()) >= 0.5 - 1e-6
    assert float(drawn.max()) <= 0.8 + 1e-6


def _asked(count: int) -> dict[str, Any]:
    made = worlds["maze"].generate(count, seed=1)
    pictures = torch.from_numpy(np.stack([one.first_frame for one in made])).permute(0, 3, 1, 2) / 255
    settings = {"height": 96, "width": 96, "num_frames": 17, "num_inference_steps": 2, "max_sequence_length": 32}
    return {"image": pictures, "prompt": [one.record.prompt for one in made], **settings}


def _generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


@torch.no_grad()
def test_training_asks_the_denoiser_what_the_real_pipeline_asks_it(parts: Parts) -> None:
    pipe = families.named(TINY).pipeline(**parts.components())
    pipe.set_progress_bar_config(disable=True)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    original = pipe.scheduler.step
    pipe.scheduler.step = lambda v, t, x, **options: seen.append((v, t, x)) or original(v, t, x, **options)
    asked = _asked(1)
    pipe(**asked, guidance_scale=1.0, generator=_generators(1), output_type="latent")
    pixels = 2 * asked["image"][:, :, None].repeat(1, 1, 17, 1, 1) - 1
    condition = families.of(parts.vae).condition(pixels, lambda part: data.encode(parts.vae, part))
    ids = parts.tokenizer(asked["prompt"], padding="max_length", max_length=32, return_tensors="pt").input_ids
    config = Config(out=Path(), model=TINY)
    for v, t, x in seen:
        ours = transformer.velocity(config, parts, x.transpose(1, 2), condition, t[None], transformer.embed(parts, ids))
        torch.testing.assert_close(ours.transpose(1, 2), v, rtol=1e-4, atol=1e-5)
    assert len(seen) == 2


@torch.no_grad()
def test_many_pictures_at_once_give_what_the_real_pipeline_gives(parts: Parts) -> None:
    found = []
    for kind in (families.named(TINY).pipeline, families.named(TINY).batched):
        pipe = kind(**parts.components())
        pipe.set_progress_bar_config(disable=True)
        found.append(pipe(**_asked(2), guidance_scale=2.0, generator=_generators(2), output_type="latent").frames)
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)  # the last step divides by a small signal
    assert (found[0][0] - found[0][1]).abs().max() > 0.1


@torch.no_grad()
def test_the_picture_has_the_same_latents_whatever_the_seed(parts: Parts) -> None:
    posterior = parts.vae.encode(torch.rand(1, 3, 1, 96, 96)).latent_dist
    torch.testing.assert_close(posterior.sample(torch.Generator().manual_seed(1)), posterior.mean, rtol=0, atol=1e-5)


@torch.no_grad()
def test_joint_attention_for_the_compiler_is_the_originals_bit_for_bit(parts: Parts) -> None:
    x, condition = torch.randn(2, 2, 4, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    ask = (parts, x, condition, torch.tensor([3, 700]), torch.randn(2, 5, 32))
    family = families.of(parts.transformer)
    before = family.predict(*ask)
    for block in parts.transformer.transformer_blocks:
        block.attn1.set_processor(cogvideox.JointAttention())
    assert torch.equal(family.predict(*ask), before)


def test_the_last_clean_estimate_is_the_video(trained: Session) -> None:
    sampler, seen = sampling.Sampler(trained), []
    pictures, prompts = scoring.questions(scoring.Cell("maze", "in_domain", "easy", 1, 1))
    with sampling.watched(sampler.pipe("shipped"), seen.append):
        videos = sampler.videos(pictures, prompts, seeds=[0], steps=3, guidance=2.0)
    last = data.to_uint8(data.decode(sampler.pipe("shipped").vae, seen[-1])).numpy()
    assert abs(last.astype(int) - videos).max() <= 1
    assert len(seen) == 3


def test_its_card_tells_of_its_own_parts_and_of_no_variants(trained: Session) -> None:
    assert set(command.stages(trained, parcel=Path(), root=Path())).isdisjoint({"few_step", "experts"})
    text = card.render(trained.config)
    for wanted in ("# Model card: tinycog", "CogVideoXImageToVideoPipeline", "`T5EncoderModel`", "--model tinycog"):
        assert wanted in text
    for unwanted in ("Wan", "few-step", "experts", "flow"):
        assert unwanted not in text
    assert card.file_name(trained.config) == "model-card-tinycog.md"


SMALL = ["--difficulty", "easy", "--guidance", "1", "--steps", "4"]


def test_it_goes_through_experiments_and_analyses(
    trained: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", trained.config.model_folder, *SMALL, "--into", tmp_path / "acts"]
    noise = ["experiment", "noise", "--world", "grounding", "--n", "1", "--at", "1", "--noisy-frames", "2"]
    assert run(*noise, "--dose", "0.5", "--batch", "7", *words, "--json") == 0
    said = capsys.readouterr()
    assert "sampled with CogVideoXDDIMScheduler" in said.err
    found = store.open(tmp_path / "acts").result(json.loads(said.out)["result_id"]).data
    assert (found["video_change"] > 0).all()
    assert run("capture", "--world", "shelf", "--n", "8", "--batch", "8", *words) == 0
    asked = ["--store", tmp_path / "acts", "--where", "s.family = 'shelf'", "--json"]
    for name, options in {
        "trajectory": [],
        "exploration": [],
        "probes": ["--set", 'labels=["side"]', "--set", "folds=3"],
    }.items():
        capsys.readouterr()
        assert run("analyze", name, *asked, *options) == 0
        result = json.loads(capsys.readouterr().out)
        assert "n = 8" in json.dumps(result), result


def test_it_ships_is_installed_under_its_name_and_trained_on(
    trained: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel, config = tmp_path / "parcel", replace(trained.config, out=tmp_path / "again")
    ship.ship(trained.config, parcel)
    ship.unship(config, parcel)
    ship.restore(config)
    before = trained.parts(shipped=True)
    after = Session(config).parts()
    for part in ("vae", "transformer"):
        for ours, theirs in zip(getattr(after, part).parameters(), getattr(before, part).parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)  # the VAE is kept in float16, too
    assert after.vae.config["scaling_factor"] == before.vae.config["scaling_factor"]
    models = tmp_path / "interp" / "models"
    monkeypatch.setattr("interp.bundled.FOLDER", models)
    assert "tinycog" not in interp.bundled.names()
    ship.install(config, tmp_path / "interp" / "models" / "tinycog")
    assert "tinycog" in interp.bundled.names()
    assert interp.load("tinycog").settings().frames == 17
    shutil.rmtree(models)
