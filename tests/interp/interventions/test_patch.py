"""Patching and swapping: the donor's values, where and when they were asked for, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

import interp
import store
from interp import donors
from interp.interventions import Box, Donor, Mask, NoiseAtStep, Patch, Swap
from tests import tiny
from tests.interp.interventions.contract import OTHER, SETTINGS, Bench, InterventionContract, Made
from tests.tiny_models import cogvideox

EVERY_LAYER: dict[str, Any] = {"site": "resid_post"}


class TestPatch(InterventionContract):
    kind = "patch"
    nothing: ClassVar = (
        {"donor": {}},
        {"donor": {}, "site": "latent"},
        {"donor": {}, "site": "attn_out", "layers": [0, 2], "steps": [1]},
        {"donor": {"seed": 0}, "site": "q", "heads": [1], "region": {"frame": [0, 1]}},
        {"donor": {}, "site": "z", "heads": [0]},
    )
    something: ClassVar = (
        {"donor": {"seed": 5}, "layers": [1], "steps": [0]},
        {"donor": {"seed": 5}, "site": "latent", "steps": [2], "region": {"x": [0, 2]}},
        {"donor": {"sample": OTHER.id}, "site": "mlp_out", "branches": ["cond"], "steps": [3]},
        {"donor": {"seed": 5}, "site": "v", "heads": [1], "steps": [2, 3]},
        {"donor": {"seed": 5}, "site": "z", "heads": [0], "steps": [2, 3]},
    )
    refused: ClassVar = (
        ({"donor": {}, "layers": [3]}, "layer 3, but there are 3: 0 to 2"),
        ({"donor": {}, "steps": [4]}, "step 4, but there are 4: 0 to 3"),
        ({"donor": {}, "branches": ["guided"]}, "branch 'guided'; there are cond, uncond"),
        ({"donor": {}, "site": "velocity"}, "has no velocity; it has resid_pre"),
        ({"donor": {}, "site": "pattern"}, "has no pattern; it has resid_pre"),
        ({"donor": {}, "site": "nowhere"}, "no site 'nowhere'"),
        ({"donor": {}, "site": "latent", "layers": [1]}, "latent has no layers"),
        ({"donor": {}, "site": "resid_post", "heads": [0]}, "resid_post has no heads"),
        ({"donor": {}, "site": "q", "heads": [2]}, "head 2, but there are 2: 0 to 1"),
        ({"donor": {}, "region": {"y": [0, 4]}}, "y 0 to 4, but the grid has 4"),
        ({"donor": {}, "region": {"size": [1, 2, 3], "bits": ""}}, "a mask of 1×2×3 cells, but the grid has 3×4×6"),
        ({"donor": {}, "region": {"size": [3, 4, 6], "bits": "AAAA"}}, "24 bits for 72 cells"),
        ({"donor": {}, "region": {"size": [3, 4, 6], "bits": "A?"}}, "bits cannot be read"),
        ({"donor": {}, "region": "text"}, "holds no text tokens in WanImageToVideoPipeline; layers that do: none"),
        ({"donor": {"run": "0" * 16}}, "0000000000000000"),
        ({"donor": {"sample": "f" * 16}}, "the donor's sample ffffffffffffffff is not in"),
    )

    def test_a_region_changes_its_own_tokens_at_its_layer_alone(self, bench: Bench, clean: Made) -> None:
        donor = bench.run(sample=OTHER)
        cells = np.zeros((3, 4, 6), bool)
        cells[1, 2, 3:5] = cells[2, 0, 0] = True
        patch = Patch(donor=Donor(run=donor.id), layers=(1,), steps=(2,), branches=("cond",), region=Mask.of(cells))
        made = bench.run(patch)
        cond, layer = 0, 1
        ours, theirs = made.resid_post[2, cond, layer], donor.resid_post[2, cond, layer]
        assert np.array_equal(ours[cells], theirs[cells])
        assert np.array_equal(ours[~cells], clean.resid_post[2, cond, layer][~cells])
        assert np.array_equal(made.resid_post[2, 1], clean.resid_post[2, 1])  # uncond
        assert np.array_equal(made.resid_post[2, cond, 0], clean.resid_post[2, cond, 0])
        assert not np.array_equal(made.resid_post[2, cond, 2][~cells], clean.resid_post[2, cond, 2][~cells])
        assert np.array_equal(made.latent[:3], clean.latent[:3])

    def test_a_box_is_the_mask_of_its_cells(self, bench: Bench, clean: Made) -> None:
        cells = np.zeros((3, 4, 6), bool)
        cells[1:3, :, 2:4] = True
        one, other = (
            bench.run(Patch(donor=Donor(seed=5), layers=(0,), steps=(3,), region=region))
            for region in (Box(frame=(1, 2), x=(2, 3)), Mask.of(cells))
        )
        assert one.same(other)
        assert one.id != other.id

    @pytest.mark.parametrize("site", ["q", "z"])
    def test_heads_change_their_own_channels_alone(self, bench: Bench, site: str) -> None:
        spec = interp.parse([f"{site}/full@layers=1@steps=0"])
        changed = [
            bench.acts.load(site, "full", runs=bench_ids(bench, spec, *change), lazy=False).to_numpy()[0, 0, 0, 0]
            for change in ((), (Patch(donor=Donor(seed=5), site=site, layers=(1,), steps=(0,), heads=(1,)),))
        ]
        donor = bench.acts.load(site, "full", runs=bench_ids(bench, spec, seed=5), lazy=False).to_numpy()[0, 0, 0, 0]
        half = tiny.WIDTH // 2
        assert np.array_equal(changed[1][..., :half], changed[0][..., :half])
        assert np.array_equal(changed[1][..., half:], donor[..., half:])
        assert not np.array_equal(donor, changed[0])

    def test_everything_from_a_donor_gives_its_answer(self, bench: Bench) -> None:
        """Another question, other noise: all of x_s, and what blocks hand on at every layer, step and branch."""
        donor = bench.run(sample=OTHER, seed=9)
        from_store = Donor(run=donor.id)
        made = bench.run(Patch(donor=from_store, site="latent", steps=(0,)), Patch(donor=from_store))
        assert np.array_equal(made.video, donor.video)
        assert np.array_equal(made.latent, donor.latent)

    def test_a_stored_donor_is_read_and_not_run_again(
        self, bench: Bench, clean: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        donor = bench.run(sample=OTHER)
        stored = Patch(donor=Donor(run=donor.id), layers=(1,), steps=(1,))
        afresh = Patch(donor=Donor(run=donor.id), site="mlp_out", layers=(1,), steps=(1,))
        runs: list[int] = []
        original = donors._captured
        monkeypatch.setattr(donors, "_captured", lambda *args: runs.append(1) or original(*args))
        read = bench.run(stored)
        assert runs == []
        bench.run(afresh)
        assert runs == [1]
        monkeypatch.setattr(donors, "_holder", lambda *args: None)
        again = Bench(bench.acts.path.parent / "again", pipeline=bench.model.pipeline)
        assert again.acts.path != bench.acts.path
        by_sample = again.run(Patch(donor=Donor(sample=OTHER.id), layers=(1,), steps=(1,)))
        assert by_sample.same(read)
        assert runs == [1, 1]

    def test_a_donor_with_interventions_of_its_own(self, bench: Bench, tmp_path: Path) -> None:
        """It donates what it has, also where that must be captured again."""
        noisy = bench.run(NoiseAtStep(steps=(1,)))
        patch = Patch(donor=Donor(run=noisy.id), site="latent", steps=(1,))
        assert np.array_equal(bench.run(patch).latent[1:], noisy.latent[1:])
        blind = interp.parse(["x0_hat/full"])
        change = NoiseAtStep(steps=(1,))
        (id,) = bench_ids(bench, blind, change)
        made = bench.run(Patch(donor=Donor(run=id), site="latent", steps=(1,)))
        assert np.array_equal(made.latent[1:], noisy.latent[1:])

    def test_a_donor_of_another_model_or_shape_is_refused(self, bench: Bench, clean: Made) -> None:
        other = tiny.pipeline()
        with torch.no_grad():
            other.transformer.blocks[0].ffn.net[2].bias[0] += 1
        stranger = Bench(bench.acts.path, pipeline=other).run()
        assert "with weights" in bench.refuses(Patch(donor=Donor(run=stranger.id)))
        longer = bench.run(steps=5)
        assert "has steps 5, this run has 4" in bench.refuses(Patch(donor=Donor(run=longer.id)))
        wider = bench.run(width=64)
        assert "has width 64, this run has 48" in bench.refuses(Patch(donor=Donor(run=wider.id)))
        spec = interp.parse(["latent/full"])
        settings = bench.model.settings(**{**SETTINGS, "guidance": 1.0})
        (id,) = interp.capture(bench.model, [tiny.sample()], spec, into=bench.acts, settings=settings).run_ids
        says = bench.refuses(Patch(donor=Donor(run=id)))
        assert "sampled without guidance and has no uncond; name the branches to take, of cond" in says
        bench.run(Patch(donor=Donor(run=id), branches=("cond",), steps=(3,)))
        shifted = Bench(bench.acts.path, pipeline=tiny.pipeline(experts=2))
        shifted.model.pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        assert "has other noise levels" in bench.refuses(Patch(donor=Donor(run=shifted.run().id)))

    def test_a_branch_that_does_not_run_is_refused(self, bench: Bench) -> None:
        says = bench.refuses(Patch(donor=Donor(), branches=("uncond",)), guidance=1.0)
        assert "without guidance (scale 1 or below) uncond does not run" in says

    def test_text_tokens_of_a_family_that_joins_them(self, tmp_path: Path) -> None:
        """Under another prompt, all text tokens of a layer from a run with the first prompt, and video tokens stay."""
        bench = Bench(tmp_path / "acts", pipeline=cogvideox.pipeline())
        asked = {"height": 32, "width": 48, "frames": 9, "max_sequence_length": 8, "guidance": 3.0, "steps": 2}
        model = bench.model
        settings = model.settings(**asked)
        spec = interp.parse(["k/full@layers=0", "resid_post/full", "latent/full"])
        kept: dict[str, Any] = {}
        ours, theirs = tiny.sample(prompt="go"), tiny.sample(prompt="walk")
        bench.acts.put_sample(theirs)
        for name, changes in {
            "clean": (),
            "itself": (Patch(donor=Donor(), site="k", layers=(0,), region="all"),),
            "text": (Patch(donor=Donor(sample=theirs.id), site="k", layers=(0,), steps=(0,), region="text"),),
        }.items():
            done = interp.capture(model, [ours], spec, into=bench.acts, settings=settings, interventions=changes)
            kept[name] = {
                site: bench.acts.load(site, "full", runs=done.run_ids, lazy=False).to_numpy()[0]
                for site in ("k", "resid_post", "latent")
            }
        for site in ("k", "resid_post", "latent"):
            assert np.array_equal(kept["itself"][site], kept["clean"][site])
        assert np.array_equal(kept["text"]["k"][0], kept["clean"]["k"][0])  # video tokens of k
        assert not np.array_equal(kept["text"]["resid_post"][0], kept["clean"]["resid_post"][0])


def bench_ids(bench: Bench, spec: store.CaptureSpec, *changes: Any, seed: int = 0) -> tuple[str, ...]:
    """Runs with a spec of their own."""
    settings = bench.model.settings(**SETTINGS)
    return interp.capture(
        bench.model, [tiny.sample()], spec, into=bench.acts, seeds=[seed], settings=settings, interventions=changes
    ).run_ids


class TestSwap(InterventionContract):
    kind = "swap"
    nothing: ClassVar = ({"donor": {}}, {"donor": {"seed": 0}, "layers": [1]})
    something: ClassVar = (
        {"donor": {"seed": 5}, "layers": [1], "steps": [0]},
        {"donor": {"sample": OTHER.id}, "steps": [2]},
    )
    refused: ClassVar = (({"donor": {}, "layers": [9]}, "layer 9"), ({"donor": {"run": "no"}}, "no"))

    def test_every_layer_at_every_step_gives_the_donors_answer(self, bench: Bench, clean: Made) -> None:
        """Another question under the same noise."""
        donor = bench.run(sample=OTHER)
        assert not np.array_equal(donor.video, clean.video)
        made = bench.run(Swap(donor=Donor(run=donor.id)))
        assert np.array_equal(made.video, donor.video)
        assert np.array_equal(made.x0_hat, donor.x0_hat)

    def test_it_is_the_patch_of_whole_layers(self, bench: Bench) -> None:
        swap, patch = (bench.run(kind(donor=Donor(seed=5), layers=(1,), steps=(0,))) for kind in (Swap, Patch))
        assert swap.same(patch)

    def test_it_has_no_region(self) -> None:
        with pytest.raises(interp.BadIntervention, match="region"):
            interp.intervening.from_json({"kind": "swap", "donor": {}, "region": "text"})
