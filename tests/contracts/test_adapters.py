"""What the adapter of every model family must get right, on a tiny pipeline with random weights."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

import interp
from interp.recorder import Label
from interp.sites import LayerSite, StepValues, sites
from tests import tiny


class AdapterContract:
    """Inherit it, and say how a tiny pipeline of the family is built.

    `pipeline` returns a new pipeline with the same random weights each time, at least two blocks deep.
    """

    size: ClassVar[dict[str, Any]]

    def pipeline(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def model(self) -> interp.Model:
        return interp.load(self.pipeline())

    def first_layer(self, model: interp.Model, latents: torch.Tensor) -> tuple[torch.Tensor, StepValues]:
        """`resid_post` of layer 0 at the first step, cond branch, for given starting noise."""
        settings = model.settings(**self.size, steps=1)
        site = sites["resid_post"]
        assert isinstance(site, LayerSite)
        seen: dict[Label, torch.Tensor] = {}
        steps: list[StepValues] = []

        class Listener:
            def wants(self, site: str, label: Label) -> bool:
                return label.branch == "cond"

            def layer(self, site: str, label: Label, value_bfyxc: torch.Tensor) -> None:
                seen[label] = value_bfyxc[0].clone()

            def step(self, values: StepValues) -> None:
                steps.append(values.of(0))

        model.traced.run(
            sites=[(site, [0])],
            settings=settings,
            geometry=model.geometry(settings),
            listener=Listener(),
            **model.inputs(tiny.sample(), seed=0, settings=settings),
            latents=latents,
        )
        assert len(seen) == 1
        return next(iter(seen.values())), steps[0]

    def noise(self, model: interp.Model) -> torch.Tensor:
        """Starting noise as the pipeline takes it."""
        geometry = model.geometry(model.settings(**self.size))
        shape = (1, geometry.latent_channels, *geometry.latent)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def test_values_have_the_planned_grid(self, model: interp.Model) -> None:
        geometry = model.geometry(model.settings(**self.size))
        hidden, step = self.first_layer(model, self.noise(model))
        assert hidden.shape == (*geometry.tokens, geometry.width)
        assert step.latent.shape == (*geometry.latent, geometry.latent_channels)

    @pytest.mark.parametrize("where", [(0, 0, 0), (1, 2, 4), (2, 3, 5), (2, 0, 5)])
    def test_a_planted_patch_lights_its_own_token(self, model: interp.Model, where: tuple[int, int, int]) -> None:
        geometry = model.geometry(model.settings(**self.size))
        patch = [cells // tokens for cells, tokens in zip(geometry.latent, geometry.tokens, strict=True)]
        noise = self.noise(model)
        planted = noise.clone()
        frame, y, x = (slice(place * size, (place + 1) * size) for place, size in zip(where, patch, strict=True))
        planted[:, :, frame, y, x] += 25.0

        clean_hidden, clean_step = self.first_layer(model, noise)
        hidden, step = self.first_layer(model, planted)
        change = (hidden - clean_hidden).norm(dim=-1)
        assert tuple(torch.unravel_index(change.argmax(), change.shape)) == where
        latent_change = (step.latent - clean_step.latent).norm(dim=-1)
        assert latent_change[frame, y, x].min() > 0
        assert torch.count_nonzero(latent_change) == patch[0] * patch[1] * patch[2]

    def test_decoding_is_the_pipelines_own(self, model: interp.Model) -> None:
        """The final latent, decoded by the adapter, is the finished video bit for bit."""
        settings = model.settings(**self.size, steps=2)
        inputs = model.inputs(tiny.sample(), seed=0, settings=settings)
        latent = model.pipeline(**{**inputs, "output_type": "latent"}).frames
        frames = model.pipeline(**model.inputs(tiny.sample(), seed=0, settings=settings)).frames
        decoded = model.adapter.decode(model.adapter.latent(latent, model.geometry(settings)))[0]
        assert torch.equal(decoded.permute(0, 3, 1, 2), frames[0])


class TestWan(AdapterContract):
    size = tiny.SIZE

    def pipeline(self) -> Any:
        return tiny.pipeline()


class TestWanTwoExperts(AdapterContract):
    size = tiny.SIZE

    def pipeline(self) -> Any:
        return tiny.pipeline(experts=2)


class TestWanPatches(AdapterContract):
    """Patches of 1×2×2 cells, as in the released checkpoints."""

    size: ClassVar[dict[str, Any]] = {**tiny.SIZE, "height": 64, "width": 96}

    def pipeline(self) -> Any:
        return tiny.pipeline(patch_size=(1, 2, 2))


def test_a_pipeline_without_adapter_is_refused_by_name() -> None:
    from diffusers import DiffusionPipeline

    class Other(DiffusionPipeline):
        def __init__(self) -> None:
            super().__init__()

    with pytest.raises(interp.UnsupportedModel, match=r"no adapter for Other.*WanImageToVideoPipeline"):
        interp.load(Other())
