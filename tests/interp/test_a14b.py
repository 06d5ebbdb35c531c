"""Wan2.2-I2V-A14B from its configuration alone: parameters, the expert of each step, what a capture writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from diffusers import UniPCMultistepScheduler

import interp
from interp import catalogue, schedulers
from tests import tiny
from tests.a14b import SCHEDULER, TRANSFORMER, configuration
from tests.interp.test_trace import Heard
from tests.test_cli import run

PARAMETERS = 14_288_901_184
"""Of one expert."""
TOKENS = 21 * 30 * 52
"""Of 81 frames of 480×832."""
# Steps of the high-noise expert by flow shift (the checkpoint's; that of Wan's own code) and number of steps: those of
# UniPC, as the checkpoint samples, and of Euler, as perturbations do. Both begin at sigma 1 and end at 0, but diffusers
# spaces them differently, so that they differ by a step where few are made.
HIGH = {
    (3.0, 20): (6, 5),
    (3.0, 40): (11, 10),
    (3.0, 50): (13, 13),
    (5.0, 20): (8, 7),
    (5.0, 40): (15, 14),
    (5.0, 50): (18, 18),
}


def counted() -> int:
    """Parameters of an expert by hand: 40 blocks, embeddings of patches, text and time, the head."""
    d, ffn = TRANSFORMER["num_attention_heads"] * TRANSFORMER["attention_head_dim"], TRANSFORMER["ffn_dim"]
    attention = 4 * (d * d + d) + 2 * d  # with a norm of queries and one of keys
    block = 2 * attention + (d * ffn + ffn) + (ffn * d + d) + 2 * d + 6 * d  # a norm before the text, six modulations
    patches = TRANSFORMER["in_channels"] * 4 * d + d
    text, time = TRANSFORMER["text_dim"] * d + d + d * d + d, 256 * d + d + d * d + d + d * 6 * d + 6 * d
    head = d * TRANSFORMER["out_channels"] * 4 + TRANSFORMER["out_channels"] * 4 + 2 * d
    return TRANSFORMER["num_layers"] * block + patches + text + time + head


def test_its_experts_have_the_parameters_of_the_checkpoint(tmp_path: Path) -> None:
    found = catalogue.cost(catalogue.skeleton(configuration(tmp_path)))
    assert found.parameters == {"transformer": PARAMETERS, "transformer_2": PARAMETERS}
    assert counted() == PARAMETERS
    assert found.weights == 2 * 2 * PARAMETERS  # both experts, bfloat16


@pytest.mark.parametrize("solver", ["own", "euler"])
@pytest.mark.parametrize(("shift", "steps"), HIGH)
def test_the_expert_of_each_step_is_that_of_the_boundary(solver: str, shift: float, steps: int) -> None:
    pipeline = tiny.pipeline(experts=2, boundary_ratio=0.9, layers=1)
    pipeline.scheduler = UniPCMultistepScheduler.from_config({**SCHEDULER, "flow_shift": shift})
    if solver == "euler":
        schedulers.use_euler(pipeline)
    model = interp.load(pipeline)
    settings = model.settings(**tiny.SIZE, steps=steps, guidance=1.0)
    _, made = model.traced.run(
        sites=[],
        settings=settings,
        geometry=model.geometry(settings),
        listener=Heard(),
        **model.inputs(tiny.sample(), seed=0, settings=settings),
    )
    high = HIGH[shift, steps][solver == "euler"]
    assert [step.expert for step in made] == ["transformer"] * high + ["transformer_2"] * (steps - high)
    asked: Any = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    asked.set_timesteps(steps)
    assert [step.timestep for step in made] == asked.timesteps.tolist()
    assert made[high - 1].timestep >= 900 > made[high].timestep
    assert made[high - 1].sigma > 0.9 > made[high].sigma - 0.002  # timesteps of UniPC are cut to whole numbers
    assert made[-1].sigma_next == 0


def test_its_scheduler_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    model = catalogue.skeleton(configuration(tmp_path))
    settings = model.settings()
    assert (settings.scheduler, settings.steps) == ("UniPCMultistepScheduler", 50)
    assert {name: settings.scheduler_config[name] for name in SCHEDULER} == SCHEDULER
    schedulers.use_euler(model.pipeline)
    assert model.settings().scheduler == "FlowMatchEulerDiscreteScheduler"
    assert model.settings().scheduler_config["shift"] == SCHEDULER["flow_shift"]


def test_a_dry_run_tells_the_bytes_of_every_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = configuration(tmp_path / "a14b")
    words = ["capture", "--model", model, "--world", "maze", "--into", tmp_path / "acts", "--dtype", "bfloat16"]
    keep = {
        "resid_post/full@layers=0,20,39@steps=0,25": TOKENS * 5120 * 2 * 3 * 2,
        "resid_post/energy": TOKENS * 4 * 40 * 50,
        "q/frame_mean@steps=0": 21 * 5120 * 4 * 40,
        "x0_hat/full": 21 * 60 * 104 * 16 * 4 * 50,
    }
    words += [word for one in keep for word in ("--keep", one)]
    assert run(*words, "--dry-run", "--guidance", "3.5") == 0
    said = capsys.readouterr().out
    assert "2 denoisers of 40 layers × 5120 channels, 28.6 B parameters, 57.2 GB as bfloat16" in said
    assert "one run: 50 steps, 100 forwards" in said
    for text, nbytes in keep.items():
        (line,) = (line for line in said.splitlines() if text.partition("@")[0] in line)
        assert f" {catalogue.human(nbytes)} " in line, line
    total = sum(keep.values()) + 81 * 480 * 832 * 3
    assert f"{total / 1e6:.2f} MB a run" in said
    assert re.search(r"time: about [\d.]+ (h|days)", said)
    assert not (tmp_path / "acts").exists()
