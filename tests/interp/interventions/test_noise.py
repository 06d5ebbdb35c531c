"""Noise in x_s: at which step and frame, how much, and what σ-matched means."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from diffusers import LTXImageToVideoPipeline, UniPCMultistepScheduler

import interp
from interp.interventions import NoiseAtFrame, NoiseAtStep
from tests import tiny
from tests.interp.interventions.contract import STEPS, Bench, InterventionContract, Made
from tests.tiny_models import ltx


class TestNoiseAtStep(InterventionContract):
    kind = "noise_at_step"
    nothing: ClassVar = (
        {"steps": [0], "dose": 0.0},
        {"steps": [1, 3], "dose": 0.0},
        {"steps": [2], "dose": 0.0, "matched": True},
    )
    something: ClassVar = (
        {"steps": [0]},
        {"steps": [2]},
        {"steps": [3], "dose": 0.3},
        {"steps": [2], "matched": True},
        {"steps": [1, 3], "matched": True, "dose": 0.5, "draw": 1},
    )
    refused: ClassVar = (
        ({"steps": [4]}, "noise_at_step asks for step 4, but there are 4: 0 to 3"),
        ({"steps": [-1]}, "step -1"),
        ({"steps": []}, "names no step"),
    )

    def test_only_x_s_of_its_step_is_new_and_it_is_noise(self, bench: Bench, clean: Made) -> None:
        made = bench.run(NoiseAtStep(steps=(2,)))
        assert np.array_equal(made.latent[:2], clean.latent[:2])
        assert np.array_equal(made.x0_hat[:2], clean.x0_hat[:2])
        noise = made.latent[2]
        assert noise.mean() == pytest.approx(0, abs=0.1)
        assert noise.std() == pytest.approx(1, abs=0.1)
        assert abs(np.corrcoef(noise.ravel(), clean.latent[2].ravel())[0, 1]) < 0.2

    def test_matched_noise_keeps_x0_hat_and_sigma(self, bench: Bench, clean: Made) -> None:
        """x_s = (1−σ)·x̂0 + σ·ε′ with x̂0 of the step before, ε′ new, of unit variance, and the same at every dose."""
        sigma = bench.acts.run(clean.id).steps[2].sigma
        x0_hat = clean.x0_hat[1]
        held = (clean.latent[2] - (1 - sigma) * x0_hat) / sigma
        fresh = (bench.run(NoiseAtStep(steps=(2,), matched=True)).latent[2] - (1 - sigma) * x0_hat) / sigma
        assert fresh.std() == pytest.approx(1, abs=0.1)
        assert abs(np.corrcoef(fresh.ravel(), held.ravel())[0, 1]) < 0.2
        half = bench.run(NoiseAtStep(steps=(2,), matched=True, dose=0.6)).latent[2]
        np.testing.assert_allclose(half, (1 - sigma) * x0_hat + sigma * (0.8 * held + 0.6 * fresh), atol=1e-5)

    def test_a_dose_of_plain_noise_keeps_the_variance(self, bench: Bench, clean: Made) -> None:
        whole = bench.run(NoiseAtStep(steps=(2,))).latent[2]
        half = bench.run(NoiseAtStep(steps=(2,), dose=0.6)).latent[2]
        np.testing.assert_allclose(half, 0.8 * clean.latent[2] + 0.6 * whole, atol=1e-5)

    def test_draws_and_runs_have_noise_of_their_own(self, bench: Bench) -> None:
        made = [bench.run(NoiseAtStep(steps=(0,), draw=draw), seed=seed) for draw in (0, 1) for seed in (0, 1)]
        noises = [each.latent[0].ravel() for each in made]
        correlation = np.corrcoef(noises) - np.eye(4)
        assert np.abs(correlation).max() < 0.2

    def test_they_compose_in_order(self, bench: Bench) -> None:
        """The second replaces what the first has done, and the other way round."""
        first, second = NoiseAtStep(steps=(2,)), NoiseAtStep(steps=(2,), draw=1)
        assert np.array_equal(bench.run(first, second).latent[2], bench.run(second).latent[2])
        assert np.array_equal(bench.run(second, first).latent[2], bench.run(first).latent[2])


class TestNoiseAtFrame(InterventionContract):
    kind = "noise_at_frame"
    nothing: ClassVar = ({"frames": [1], "dose": 0.0}, {"frames": [0, 2], "dose": 0.0, "matched": True})
    something: ClassVar = (
        {"frames": [1]},
        {"frames": [0, 2], "steps": [1, 2]},
        {"frames": [2], "steps": [2], "matched": True, "dose": 0.5},
    )
    refused: ClassVar = (
        ({"frames": [3]}, "latent frame 3, but there are 3: 0 to 2"),
        ({"frames": []}, "names no frame"),
        ({"frames": [0], "steps": [9]}, "step 9"),
    )

    def test_only_its_frames_and_steps_are_new(self, bench: Bench, clean: Made) -> None:
        made = bench.run(NoiseAtFrame(frames=(1,), steps=(2,)))
        assert np.array_equal(made.latent[:2], clean.latent[:2])
        assert np.array_equal(made.latent[2, [0, 2]], clean.latent[2, [0, 2]])
        assert abs(np.corrcoef(made.latent[2, 1].ravel(), clean.latent[2, 1].ravel())[0, 1]) < 0.3

    def test_noise_is_fresh_at_each_step(self, bench: Bench) -> None:
        made = bench.run(NoiseAtFrame(frames=(1,)))
        frames = [made.latent[step, 1].ravel() for step in range(STEPS)]
        assert np.abs(np.corrcoef(frames) - np.eye(STEPS)).max() < 0.3

    def test_a_frame_that_is_held_fixed_is_refused(self, tmp_path) -> None:
        bench = Bench(tmp_path / "acts", pipeline=ltx.pipeline(kind=LTXImageToVideoPipeline))
        asked = {"height": 64, "width": 96, "frames": 17, "guidance": 3.0}
        says = bench.refuses(NoiseAtFrame(frames=(0,)), **asked)
        assert "holds latent frame 0 fixed" in says


def test_a_solver_with_a_past_forgets_it_and_the_record_says_so(tmp_path) -> None:
    """A run of UniPC whose x_s is changed at step 2 goes on as one that begins there."""
    pipeline = tiny.pipeline()
    pipeline.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )
    bench = Bench(tmp_path / "acts", pipeline=pipeline)
    clean, made = bench.run(), bench.run(NoiseAtStep(steps=(2,)))
    (record,) = bench.acts.run(made.id).run.interventions
    assert record == {"kind": "noise_at_step", "steps": [2], "reset": True}
    assert np.array_equal(made.latent[:2], clean.latent[:2])
    # First order, as at the start: x_(s+1) lies on the line from x_s to x̂0 alone.
    steps = bench.acts.run(made.id).steps
    ratio = steps[3].sigma / steps[2].sigma
    expected = ratio * made.latent[2] + (1 - ratio) * made.x0_hat[2]
    np.testing.assert_allclose(made.latent[3], expected, atol=1e-5)
    second = ratio * clean.latent[2] + (1 - ratio) * clean.x0_hat[2]
    assert np.abs(clean.latent[3] - second).max() > 1e-3  # with its past, UniPC leaves that line


def test_a_dose_beyond_one_is_no_dose() -> None:
    with pytest.raises(interp.BadIntervention, match="dose: Input should be less than or equal to 1"):
        interp.intervening.from_json({"kind": "noise_at_step", "steps": [1], "dose": 1.5})
