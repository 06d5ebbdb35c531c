"""Ablation, steering, block noise and ensembles: what they make of the values, by NumPy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from interp.interventions import Ablate, BlockNoise, Box, Steer
from interp.interventions.ensemble import Ensemble, average
from tests import tiny
from tests.interp.interventions.contract import Bench, InterventionContract, Made

WINDOW = {"layers": (1,), "steps": (2,)}
"""Behind layer 1 at step 2, both branches."""


def at_window(made: Made, branch: int = 0) -> np.ndarray:
    """`[frame, y, x, channel]` of `resid_post` there."""
    return made.resid_post[2, branch, 1]


class TestAblate(InterventionContract):
    kind = "ablate"
    nothing: ClassVar = (
        {"mode": "zero", "region": {"size": [3, 4, 6], "bits": "AAAAAAAAAAAA"}},
        {"mode": "mean", "site": "latent", "region": {"size": [3, 4, 6], "bits": "AAAAAAAAAAAA"}},
    )
    something: ClassVar = (
        {"mode": "zero", **WINDOW},
        {"mode": "mean", "site": "attn_out"},
        {"mode": "resample", **WINDOW},
        {"mode": "mean", "site": "latent", "steps": [1], "region": {"frame": [1, 2]}},
    )
    refused: ClassVar = (
        ({"layers": [3]}, "layer 3"),
        ({"site": "latent", "heads": [0]}, "latent has no heads"),
        ({"site": "q", "heads": []}, "names no head"),
    )

    @pytest.mark.parametrize("branch", [0, 1])
    def test_what_is_left(self, bench: Bench, clean: Made, branch: int) -> None:
        before = at_window(clean, branch)
        zero, mean, dealt = (
            at_window(bench.run(Ablate(mode=mode, **WINDOW)), branch) for mode in ("zero", "mean", "resample")
        )
        assert not zero.any()
        np.testing.assert_allclose(mean, np.broadcast_to(before.mean((0, 1, 2)), before.shape), atol=1e-5)
        tokens, again = (set(map(bytes, value.reshape(-1, tiny.WIDTH))) for value in (before, dealt))
        assert tokens == again
        assert not np.array_equal(before, dealt)

    def test_tokens_are_dealt_alike_in_both_branches(self, bench: Bench, clean: Made) -> None:
        made = bench.run(Ablate(mode="resample", **WINDOW))
        orders = []
        for branch in (0, 1):
            before, dealt = (at_window(each, branch).reshape(-1, tiny.WIDTH) for each in (clean, made))
            orders.append([np.flatnonzero((before == token).all(-1))[0] for token in dealt])
        assert orders[0] == orders[1]


class TestSteer(InterventionContract):
    kind = "steer"
    nothing: ClassVar = ({"direction": [1.0] * tiny.WIDTH, "scale": 0.0}, {"direction": [0.0] * tiny.WIDTH})
    something: ClassVar = (
        {"direction": np.linspace(-1, 1, tiny.WIDTH).tolist(), **WINDOW},
        {"direction": [1.0, 0.0, -1.0, 0.0], "site": "latent", "steps": [3], "scale": 0.5},
    )
    refused: ClassVar = (
        ({"direction": [1.0]}, "the direction has 1 numbers, but resid_post has 32 channels"),
        ({"direction": [1.0], "site": "latent"}, "latent has 4 channels"),
        ({"direction": [float("nan")] * tiny.WIDTH}, "not finite"),
    )

    def test_it_is_added(self, bench: Bench, clean: Made) -> None:
        direction = np.linspace(-1, 1, tiny.WIDTH)
        region = Box(frame=(1, 1))
        made = bench.run(Steer(direction=tuple(direction.tolist()), scale=2.0, region=region, **WINDOW))
        expected = at_window(clean).copy()
        expected[1] += 2 * direction.astype(np.float32)
        np.testing.assert_allclose(at_window(made), expected, atol=1e-5)


class TestBlockNoise(InterventionContract):
    kind = "block_noise"
    nothing: ClassVar = ({"alpha": 0.0},)
    something: ClassVar = ({"alpha": 0.1, **WINDOW}, {"alpha": 0.5, "site": "mlp_out", "steps": [0], "draw": 1})
    refused: ClassVar = (({"alpha": 0.1, "steps": [7]}, "step 7"),)

    def test_it_is_noise_of_the_values_own_size_and_the_same_in_both_branches(self, bench: Bench, clean: Made) -> None:
        made = bench.run(BlockNoise(alpha=0.5, **WINDOW))
        noises = [(at_window(made, b) - at_window(clean, b)) / at_window(clean, b).std() for b in (0, 1)]
        assert noises[0].std() == pytest.approx(0.5, rel=0.05)
        assert abs(noises[0].mean()) < 0.05
        np.testing.assert_allclose(*noises, atol=1e-3)

    def test_a_negative_alpha_is_none(self) -> None:
        with pytest.raises(ValueError, match="greater than or equal to 0"):
            BlockNoise(alpha=-1.0)


class TestEnsemble(InterventionContract):
    kind = "ensemble"
    nothing: ClassVar = (
        {"seeds": [0]},
        {"seeds": [0], "weights": "agreement", **WINDOW},
        {"seeds": [0], "weights": "median", "site": "latent"},
    )
    something: ClassVar = (
        {"seeds": [0, 1, 2], "layers": [1], "steps": [0]},
        {"seeds": [2, 0], "weights": "median", "site": "latent", "steps": [2]},
        {"seeds": [0, 1, 2], "weights": "agreement", "layers": [0, 1], "steps": [1]},
    )
    refused: ClassVar = (
        ({"seeds": [1, 2]}, "the run's own seed 0 must be one of the members"),
        ({"seeds": [0, 0]}, "each once"),
        ({"seeds": []}, "members, and each once: none"),
        ({"seeds": [0], "layers": [5]}, "layer 5"),
    )

    @pytest.mark.parametrize("weights", ["uniform", "median"])
    def test_it_is_the_average_of_the_clean_runs(self, bench: Bench, clean: Made, weights: str) -> None:
        members = [at_window(bench.run(seed=seed)) for seed in (0, 1, 2)]
        made = bench.run(Ensemble(seeds=(0, 1, 2), weights=weights, **WINDOW))
        expected = {"uniform": np.mean, "median": np.median}[weights](members, axis=0)
        np.testing.assert_allclose(at_window(made), expected, atol=1e-5)
        assert np.array_equal(made.latent[:3], clean.latent[:3])

    def test_members_are_captured_where_the_store_lacks_them(self, bench: Bench, tmp_path) -> None:
        ensemble = Ensemble(seeds=(0, 1, 2), **WINDOW)
        assert Bench(tmp_path / "acts", pipeline=bench.model.pipeline).run(ensemble).same(bench.run(ensemble))

    def test_agreement_is_the_mean_cosine_with_the_others(self) -> None:
        members = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0)) + 0.7
        unit = members / members.norm(dim=-1, keepdim=True)
        cosine = torch.einsum("mtc,ntc->mnt", unit, unit)
        share = ((cosine.sum(1) - 1) / 3).clamp(min=0)
        expected = (share[..., None] * members).sum(0) / share.sum(0)[:, None]
        torch.testing.assert_close(average(members, "agreement"), expected)
        two = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
        assert torch.equal(average(two, "agreement"), torch.zeros(1, 2))
