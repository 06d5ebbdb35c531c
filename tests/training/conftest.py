"""A model of a few thousand weights, trained for a few steps, that every test of training can use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training import model
from training.config import Config, WanConfig, preset
from training.families import Parts
from training.session import Session

TINY = WanConfig(
    latent_channels=4, vae_dim=4, layers=2, heads=2, head_dim=16, ffn_dim=32, text_dim=32, max_sequence_length=32
)


def tiny(out: Path) -> Config:
    """The dry preset with `TINY`, writing a checkpoint at every step."""
    dry = preset("dry", out=out, model=TINY, families=("maze", "tic_tac_toe"), checkpoint_seconds=0.0)
    options = replace(dry.transformer, pool=6, refresh=2, refresh_every=2, batch=2)
    few_step = replace(dry.few_step, prompts=2)
    return replace(dry, transformer=options, few_step=few_step, vae=replace(dry.vae, steps=2, pool=4))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return tiny(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session in which every stage has run, in about half a minute. Read it; change only copies."""
    from training import evaluate, experts, few_step, measure, transformer, vae

    session = Session(tiny(tmp_path_factory.mktemp("finished")))
    config = session.config
    vae.train(session)
    transformer.train(session)
    model.export(session.parts(), config, guidance=1.5)
    evaluate.choose(session)
    few_step.train(session)
    experts.train(session)
    evaluate.evaluate(session)
    measure.measure(config)
    return session


@pytest.fixture
def parts() -> Parts:
    built = model.build(TINY, seed=3)
    built.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.5, 2.0, 1.0])
    for part in (built.vae, built.text_encoder, built.transformer):
        part.eval()
    return built
