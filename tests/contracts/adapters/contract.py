"""What the adapter of every model family must get right, on a tiny pipeline with random weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import xarray as xr

import interp
import store
from interp import attention, batching, catalogue, noise
from interp.adapters import adapt
from interp.editing import Edits
from interp.interventions import Edit, LatentEdit, LayerEdit
from interp.listeners import Start
from interp.model import finished, videos
from interp.sites import LayerSite, sites
from tests import tiny
from tests.contracts.adapters.support import (
    BEFORE_ATTENTION,
    HEADS,
    QUERIES,
    Asked,
    Keep,
    Keeps,
    Traced,
    dense_softmax,
    differences,
    replaced_draw,
)

Tensor = torch.Tensor


def _begin(here: list[Any], place: Any, *args: Any) -> None:
    here.append(place)


def _end(here: list[Any], *args: Any) -> None:
    here.clear()


class AdapterContract:
    """Inherit it, and say how a tiny pipeline of the family is built.

    `build` returns a new pipeline with the same random weights each time, at least two layers deep.
    """

    build: ClassVar[Callable[[], Any]]

    size: ClassVar[dict[str, Any]] = {"height": 32, "width": 48, "frames": 9, "max_sequence_length": 8}
    guidance: ClassVar[float] = 3.0
    modules: ClassVar[dict[str, str]]
    """Layer site → path of its module in a block, spelt out a second time."""
    partial: ClassVar[dict[str, tuple[int, ...]]] = {}
    """Layers of the sites that not every layer has."""
    places: ClassVar[tuple[tuple[int, int, int], ...]] = ((0, 0, 0), (1, 2, 4), (2, 3, 5), (2, 0, 5))
    """Tokens (frame, y, x) that patches are planted in."""
    local: ClassVar[tuple[str, ...]] = BEFORE_ATTENTION
    """Sites of layer 0 that a planted patch changes in its own token only."""
    prompt_free: ClassVar[tuple[str, ...]] = BEFORE_ATTENTION
    """Sites of layer 0 that do not depend on the prompt."""
    prompts: ClassVar[tuple[str, str]] = ("go", "walk far")
    """Two that must not be confused; of other lengths, where the uncond branch does not depend on the length."""
    refused: ClassVar[tuple[tuple[dict[str, Any], str], ...]] = (
        ({"height": 33}, "multiple of"),
        ({"frames": 8}, "1 + a multiple of 4"),
    )
    """Settings that the pipeline cannot run with, and a part of the sentence that says so."""
    tolerance: ClassVar[float] = 1e-5
    rounding: ClassVar[float] = batching.TOLERANCE
    """Between runs made in a batch and one by one."""
    edited_step: ClassVar[int] = 1
    """Of two, one whose layers the video follows from."""
    left: ClassVar[float] = 0.0
    """Sigma that the last step leaves."""
    video_tolerance: ClassVar[float] = 2e-4
    """Between the video and x̂0 of the last step, decoded."""
    exploding: ClassVar[bool] = False
    """Whether x_s is x0 + sigma·noise."""
    rising: ClassVar[bool] = False
    """Whether the scheduler counts its timesteps upwards."""
    draws: ClassVar[Any] = None
    """The pipeline's module, where it cannot be given its starting noise: the first that it draws is replaced."""

    joint: ClassVar[bool] = False
    """Whether text or a history is among the keys of self-attention."""
    others: ClassVar[bool] = True
    """Whether a pipeline of a family with such keys has them."""
    text_first: ClassVar[bool] = False
    """Whether they lie before the video's."""
    heads_first: ClassVar[bool] = False
    """Whether q and k hold heads before tokens."""
    sharing: ClassVar[int] = 1
    """Heads that share a head of values."""
    looking: ClassVar[tuple[tuple[int, int, int], tuple[int, int, int]]] = ((0, 1, 1), (1, 2, 2))
    """Token whose query, and token whose key, are planted in layer 0: at most one apart on each axis."""

    @property
    def tensors(self) -> list[str]:
        """Layer sites whose values are tensors."""
        return [name for name in self.modules if name != "pattern"]

    def native(self, latent_bcfyx: Tensor) -> Tensor:
        """Starting noise as the pipeline takes it."""
        return latent_bcfyx

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> interp.Model:
        return interp.load(cls.build())

    def trace(
        self,
        model: interp.Model,
        names: Sequence[str] = (),
        *,
        prompt: str = "walk",
        steps: int = 2,
        decoded: bool = False,
        **extra: Any,
    ) -> Traced:
        """A guided run with the given sites of all layers that have them; decoding, the dearest part, is left out."""
        settings = self.settings(model, steps=steps)
        extra = extra if decoded else {"output_type": "latent", **extra}
        keep = Keep()
        wanted = [
            (site, list(model.adapter.layers(name))) for name in names if isinstance(site := sites[name], LayerSite)
        ]
        noise = [extra.pop("latents")] if self.draws and "latents" in extra else []
        with replaced_draw(self.draws, noise) if noise else nullcontext():
            output, infos = model.traced.run(
                sites=wanted,
                settings=settings,
                geometry=model.geometry(settings),
                listener=keep,
                **{**model.inputs(tiny.sample(prompt=prompt), seed=3, settings=settings), **extra},
            )
        frames = videos(output)
        return Traced(frames[0] if isinstance(frames, list) else frames, keep.layers, keep.values, infos)

    def settings(self, model: interp.Model, **asked: Any) -> interp.model.SamplerSettings:
        return model.settings(**{**self.size, "guidance": self.guidance, "steps": 2, **asked})

    def first(self, run: Traced, site: str, layer: int, branch: str = "cond") -> Tensor:
        """The value of a site at the first step."""
        (found,) = [
            v for (s, at), v in run.layers.items() if (s, at.step, at.branch, at.layer) == (site, 0, branch, layer)
        ]
        return found

    def guided(self, model: interp.Model) -> bool:
        return any(model.adapter.guidance(self.settings(model), expert) > 1 for expert in model.adapter.denoisers())

    def noise(self, model: interp.Model) -> Tensor:
        """Starting noise `[1, c, f, y, x]`."""
        geometry = model.geometry(self.settings(model))
        shape = (1, geometry.latent_channels, *geometry.latent)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def test_sites_are_those_of_the_table(self, model: interp.Model) -> None:
        assert dict(model.adapter.modules) == self.modules
        layers = model.geometry(self.settings(model)).layers
        for site in sites:
            if isinstance(site, LayerSite):
                there = self.partial.get(site.name, tuple(range(layers)) if site.name in self.modules else ())
                assert model.adapter.layers(site.name) == there, site.name

    def test_values_labels_and_video_are_those_of_plain_hooks_bit_for_bit(self, model: interp.Model) -> None:
        run = self.trace(model, self.tensors, decoded=True)
        plain = self.build()
        adapter, settings = adapt(plain), self.settings(model)
        geometry = model.geometry(settings)
        seen: list[tuple[str, str, int, Any]] = []
        with ExitStack() as stack:
            for expert, denoiser in adapter.denoisers().items():
                for layer, block in enumerate(self.blocks(denoiser)):
                    for name, path in ((name, self.modules[name]) for name in self.tensors):
                        if name in self.partial and layer not in self.partial[name]:
                            continue
                        slot, module = self.slot(block, name), self.module(block, path)

                        def keep(
                            m: Any, args: Any, kwargs: Any, out: Any, at: Any = (name, expert, layer), slot: str = slot
                        ) -> None:
                            value = (args, kwargs) if slot == "input" else out
                            seen.append((*at, adapter.hidden(value, slot).clone()))

                        stack.callback(module.register_forward_hook(keep, with_kwargs=True).remove)
            inputs = model.inputs(tiny.sample(), seed=3, settings=settings)
            frames = videos(plain(**inputs))
        assert torch.equal(run.frames, frames)
        assert finished(plain(**{**inputs, "generator": torch.Generator("cpu").manual_seed(3)})).shape == (
            *geometry.video,
            3,
        )
        ours: dict[tuple[str, str, int], list[Tensor]] = {}
        for (site, label), value in run.layers.items():
            ours.setdefault((site, label.expert, label.layer), []).append(value)
        theirs: dict[tuple[str, str, int], list[Tensor]] = {}
        for name, expert, layer, value in seen:
            theirs.setdefault((name, expert, layer), []).extend(self.grid(value, geometry, name, layer, model))
        assert set(ours) == set(theirs)
        for key, values in theirs.items():
            assert len(ours[key]) == len(values), key
            assert all(map(torch.equal, ours[key], values)), key
        branches = 2 if self.guided(model) else 1
        each = sum(len(model.adapter.layers(name)) for name in self.tensors)
        assert len(run.layers) == each * branches * settings.steps
        for step in range(settings.steps):
            expected = {"cond", "uncond"} if branches == 2 else {"cond"}
            assert {label.branch for _, label in run.layers if label.step == step} == expected

    def blocks(self, denoiser: Any) -> Sequence[Any]:
        """Blocks of a denoiser, spelt out a second time."""
        return denoiser.transformer_blocks

    def module(self, block: Any, path: str) -> Any:
        """A block's module by its path in `modules`."""
        return block.get_submodule(path)

    def slot(self, block: Any, site: str) -> str:
        """Whether a site is what its module is given or what it returns, spelt out a second time."""
        return "input" if site in ("resid_pre", "z") else "output"

    def grid(self, value: Tensor, geometry: interp.Geometry, site: str, layer: int, model: interp.Model) -> Tensor:
        """A hooked value as `[b, f, y, x, c]`."""
        from interp.adapters import Forward, Place

        forward = Forward("transformer", None, len(value), 0, {})
        return model.adapter.tokens(value, geometry, Place(site, layer, forward))

    def test_attention_is_that_of_the_dense_softmax(self, model: interp.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blocks of a few keys give what the whole matrix gives, made from what an untraced pipeline hands over."""
        if "pattern" not in self.modules:
            with pytest.raises(interp.BadSpec, match="has no pattern"):
                interp.plan(model.adapter, interp.parse(["pattern/map@queries=0:0:0"]), self.settings(model))
            return
        monkeypatch.setattr(attention, "BLOCK", 7 * 2 * 64)
        run = self.trace(model, ["pattern"], decoded=True)
        monkeypatch.undo()
        ours: dict[tuple[str, int], list[Any]] = {}
        for (_, label), maps in run.layers.items():
            ours.setdefault((label.expert, label.layer), []).append(maps)
        plain = self.build()
        geometry = model.geometry(self.settings(model))
        theirs: dict[tuple[str, int], list[Tensor]] = {}
        here: list[tuple[str, int]] = []
        softmax = torch.nn.functional.scaled_dot_product_attention

        def heard(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **rest: Any) -> Tensor:
            for place in here:
                dense = dense_softmax(query, key, attn_mask)
                theirs.setdefault(place, []).extend(self.rows(dense, geometry, place[1]))
            return softmax(query, key, value, attn_mask=attn_mask, **rest)

        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", heard)
        with ExitStack() as stack:
            for expert, denoiser in adapt(plain).denoisers().items():
                for layer, block in enumerate(self.blocks(denoiser)):
                    module = self.module(block, self.modules["pattern"])
                    begin, end = partial(_begin, here, (expert, layer)), partial(_end, here)
                    stack.callback(module.register_forward_pre_hook(begin).remove)
                    stack.callback(module.register_forward_hook(end).remove)
            frames = plain(**model.inputs(tiny.sample(), seed=3, settings=self.settings(model)))
        assert torch.equal(run.frames, videos(frames))
        assert set(ours) == set(theirs)
        assert model.adapter.joint == self.joint
        for place, dense in theirs.items():
            assert len(ours[place]) == len(dense) > 0
            for maps, row_hnm in zip(ours[place], dense, strict=True):
                expected = torch.stack([row_hnm[:, list(cells)].mean(1) for cells in QUERIES], dim=1)[list(HEADS)]
                count = math.prod(geometry.tokens)
                torch.testing.assert_close(maps.video.flatten(2).double(), expected[..., :count], atol=1e-6, rtol=1e-4)
                torch.testing.assert_close(maps.text.double(), expected[..., count:].sum(-1), atol=1e-6, rtol=1e-4)
                torch.testing.assert_close(maps.video.sum((2, 3, 4)) + maps.text, torch.ones(2, 3))
                none = expected[..., count:].sum(-1) == 0  # some prompts are empty
                assert torch.equal(maps.text == 0, none)
        assert any(bool((maps.text > 0).all()) for maps in run.layers.values()) == (self.joint and self.others)

    def rows(self, dense_rhnm: Tensor, geometry: interp.Geometry, layer: int) -> list[Tensor]:
        """The whole softmax of each row of a batch, video tokens before others; spelt out a second time."""
        length, grid = dense_rhnm.shape[-1], geometry.tokens
        video = [self.at(token, grid, length) for token in range(math.prod(grid))]
        order = video + sorted(set(range(length)) - set(video))
        return [row[:, order][:, :, order] for row in dense_rhnm]

    def at(self, token: int, grid: interp.Grid, length: int) -> int:
        """Where a token of the video lies among `length` tokens; spelt out a second time."""
        return token + length - math.prod(grid) if self.text_first else token

    def test_a_planted_key_is_looked_at(self, tmp_path: Path) -> None:
        """Where one query and one key point the same way, the map's maximum is at the token of that key."""
        if "pattern" not in self.modules:
            return
        pipe = self.build()
        model = interp.load(pipe)
        settings = self.settings(model, steps=2)
        grid = model.geometry(settings).tokens
        asking, seen = (int(np.ravel_multi_index(place, grid)) for place in self.looking)
        for denoiser in model.adapter.denoisers().values():
            block = self.blocks(denoiser)[0]
            for site, token in (("q", asking), ("k", seen)):
                self.module(block, self.modules[site]).register_forward_hook(partial(self.plant, token, grid))
        spec = interp.parse([f"pattern/map@layers=0@heads=mean@queries={':'.join(map(str, self.looking[0]))}"])
        acts = store.open(tmp_path / "acts", mode="a")
        interp.capture(model, [tiny.sample()], spec, into=acts, settings=settings)
        for found in acts.load("pattern", "map").isel(run=0, branch=0, layer=0, query=0).values:
            assert tuple(np.unravel_index(int(found.argmax()), grid)) == self.looking[1]
            assert found.max() > 0.4
        assert [
            row[0] for row in acts.sql("SELECT reduction FROM arrays WHERE site = 'pattern' ORDER BY 1").fetchall()
        ] == (["map", "text"] if self.joint else ["map"])

    def plant(self, token: int, grid: interp.Grid, module: Any, args: Any, value: Tensor) -> Tensor:
        """A query or key of all heads that is long and points in one direction."""
        value, axis = value.clone(), 2 if self.heads_first else 1
        value.select(axis, self.at(token, grid, value.shape[axis])).fill_(20.0)
        return value

    def test_values_have_the_planned_shapes(self, model: interp.Model) -> None:
        run, geometry = self.trace(model, self.tensors, steps=1), model.geometry(self.settings(model))
        for (site, label), value in run.layers.items():
            assert value.shape == (*geometry.tokens, geometry.width), (site, label)
        for values in run.values:
            shapes = {name: value.shape for name, value in values.velocity.items()} | {"latent": values.latent.shape}
            assert set(shapes.values()) == {(*geometry.latent, geometry.latent_channels)}, shapes

    def test_a_loud_head_lights_its_own_number(self, tmp_path: Path) -> None:
        """Values of one head a hundred times as large show in that head of `v` and `z`, wherever they are read."""
        pipe = self.build()
        loud = interp.load(pipe)
        settings = self.settings(loud, steps=2)
        heads = loud.geometry(settings).heads
        there = [site for site in "qkvz" if loud.adapter.layers(site)]
        for denoiser in loud.adapter.denoisers().values():
            for block in self.blocks(denoiser):
                with torch.no_grad():
                    for weight in self.values(block).parameters():
                        weight.unflatten(0, (heads // self.sharing, -1))[-1] *= 100
        items = [f"{site}/{kind}" for site in there for kind in ("head_energy", "energy")]
        acts = store.open(tmp_path / "acts", mode="a")
        interp.capture(loud, [tiny.sample()], interp.parse(items), into=acts, settings=settings)
        for site in there:
            each = acts.load(site, "head_energy").isel(run=0)
            assert each.dims == ("step", "branch", "layer", "head", "frame", "y", "x")
            assert each["head"].values.tolist() == list(range(heads))
            xr.testing.assert_allclose((each**2).sum("head") ** 0.5, acts.load(site, "energy").isel(run=0), rtol=1e-4)
            if site in "vz":
                mean = each.mean(("frame", "y", "x")).compute()
                quiet, planted = mean.isel(head=slice(-self.sharing)), mean.isel(head=slice(-self.sharing, None))
                assert (planted.min("head") > quiet.max("head")).all(), site

    def values(self, block: Any) -> Any:
        """The projection of a block's values of attention."""
        return self.module(block, self.modules["v"])

    def test_a_planted_patch_lights_its_own_token(self, model: interp.Model) -> None:
        geometry = model.geometry(self.settings(model))
        patch = model.adapter.patch
        noise = self.noise(model)
        watched = sorted({*self.local, "resid_post"} & set(self.modules))
        clean = self.trace(model, watched, steps=1, latents=self.native(noise))
        for where in self.places:
            planted = noise.clone()
            frame, y, x = (slice(place * size, (place + 1) * size) for place, size in zip(where, patch, strict=True))
            planted[:, :, frame, y, x] += 25.0
            run = self.trace(model, watched, steps=1, latents=self.native(planted))
            for site in watched:
                if 0 not in model.adapter.layers(site):
                    continue
                change = (self.first(run, site, 0) - self.first(clean, site, 0)).norm(dim=-1)
                assert tuple(torch.unravel_index(change.argmax(), change.shape)) == where, site
                if site in self.local:
                    assert torch.count_nonzero(change) == 1, site
            latent = (run.values[0].latent - clean.values[0].latent).norm(dim=-1)
            assert latent[frame, y, x].min() > 0
            assert torch.count_nonzero(latent) == latent[frame, y, x].numel()
        assert geometry.tokens != geometry.latent or patch == (1, 1, 1)

    def test_every_layer_reads_the_token_that_it_is_given(self, model: interp.Model) -> None:
        """A token changed before a layer changes this layer's q, k and v in that token only, text or not beside it."""
        where, watched = self.places[-1], [site for site in self.local if site != "resid_pre" and site in self.modules]
        clean = self.trace(model, watched, steps=1)
        denoiser = next(iter(model.adapter.denoisers().values()))
        for layer, block in list(enumerate(self.blocks(denoiser)))[1:]:

            def change(module: Any, args: Any, kwargs: Any, layer: int = layer) -> None:
                hidden = model.adapter.hidden((args, kwargs), "input")
                numbers = torch.arange(hidden[..., 0].numel()).view(*hidden.shape[:-1], 1).expand_as(hidden)
                geometry = model.geometry(self.settings(model))
                number = self.grid(numbers, geometry, "resid_pre", layer, model)[(-1, *where, 0)]
                hidden[torch.unravel_index(number, hidden.shape[:-1])] += torch.linspace(-25, 25, hidden.shape[-1])

            hook = block.register_forward_pre_hook(change, with_kwargs=True)
            run = self.trace(model, watched, steps=1)
            hook.remove()
            for site in watched:
                if layer in model.adapter.layers(site):
                    found = (self.first(run, site, layer) - self.first(clean, site, layer)).norm(dim=-1)
                    assert tuple(torch.unravel_index(found.argmax(), found.shape)) == where, (site, layer)
                    assert torch.count_nonzero(found) == 1, (site, layer)

    def test_text_is_kept_apart(self, model: interp.Model) -> None:
        """Prompts of other words and lengths leave what has not met them yet as it is, and change the rest."""
        names = [*dict.fromkeys([*self.prompt_free, "resid_post"])]
        names = [name for name in names if name in self.modules]
        short, long = (self.trace(model, names, prompt=prompt, steps=1) for prompt in self.prompts)
        last = max(label.layer for site, label in short.layers if site == "resid_post")
        assert [key for key in short.layers] == [key for key in long.layers]
        for site in set(names) & set(self.prompt_free):
            if 0 in model.adapter.layers(site):
                assert torch.equal(self.first(short, site, 0), self.first(long, site, 0)), site
        assert not torch.equal(self.first(short, "resid_post", last), self.first(long, "resid_post", last))
        if self.guided(model):
            uncond = [self.first(run, "resid_post", last, "uncond") for run in (short, long)]
            assert torch.equal(*uncond), "the prompt changes the uncond branch: the branches are swapped"

    def test_steps_and_guidance_are_what_ran(self, model: interp.Model) -> None:
        run = self.trace(model, steps=4)
        assert [info.step for info in run.steps] == [0, 1, 2, 3]
        assert [info.timestep for info in run.steps] == sorted(
            (info.timestep for info in run.steps), reverse=not self.rising
        )
        for before, after in zip(run.steps, run.steps[1:], strict=False):
            assert before.sigma_next == pytest.approx(after.sigma)
            assert after.sigma < before.sigma
        assert run.steps[-1].sigma_next == pytest.approx(self.left)
        for values in run.values:
            assert values.info.expert in model.adapter.denoisers()
            if values.info.guidance > 1:
                cond, uncond, guided = (self.moving(values.velocity[name]) for name in ("cond", "uncond", "guided"))
                assert not torch.equal(cond, uncond)
                expected = uncond + values.info.guidance * (cond - uncond)
                torch.testing.assert_close(guided, expected, atol=self.tolerance, rtol=1e-4)
            else:
                assert torch.equal(self.moving(values.velocity["guided"]), self.moving(values.velocity["cond"]))

    def moving(self, value_fyxc: Tensor) -> Tensor:
        """The part of a latent that the pipeline does not hold fixed."""
        return value_fyxc

    def test_x0_hat_of_the_last_step_is_the_video(self, model: interp.Model) -> None:
        """Hardly any noise is left after the last step, so what it predicts is what the pipeline decodes."""
        run = self.trace(model, steps=3, decoded=True)
        x0_hat = sites["x0_hat"].value(run.values[-1], None)  # type: ignore[attr-defined]
        decoded = model.adapter.decode(x0_hat[None])[0].permute(0, 3, 1, 2)
        torch.testing.assert_close(decoded, run.frames[0].to(decoded), atol=self.video_tolerance, rtol=1e-3)

    def final(self, model: interp.Model, inputs: dict[str, Any]) -> Tensor:
        """The finished latent as the sampler holds it."""
        return model.pipeline(**{**inputs, "output_type": "latent"}).frames

    def test_decoding_is_the_pipelines_own(self, model: interp.Model) -> None:
        """The final latent, decoded by the adapter, is the finished video bit for bit."""
        settings = self.settings(model)
        latent = self.final(model, model.inputs(tiny.sample(), seed=0, settings=settings))
        frames = videos(model.pipeline(**model.inputs(tiny.sample(), seed=0, settings=settings)))
        decoded = model.adapter.decode(model.adapter.latent(latent, model.geometry(settings)))[0]
        assert torch.equal(decoded.permute(0, 3, 1, 2), frames[0])

    def test_what_does_not_fit_is_refused_in_one_line(self, model: interp.Model) -> None:
        for asked, rule in self.refused:
            with pytest.raises(interp.BadInput) as error:
                self.settings(model, **asked)
            assert rule in str(error.value)
            assert "\n" not in str(error.value)

    def test_what_it_costs_is_told_without_its_weights(self, model: interp.Model, tmp_path: Path) -> None:
        model.pipeline.save_pretrained(tmp_path / "tiny")
        for weights in tmp_path.rglob("*.safetensors"):
            weights.unlink()
        told = catalogue.cost(catalogue.skeleton(tmp_path / "tiny", dtype=torch.float32), self.settings(model))
        assert told == catalogue.cost(model, self.settings(model))._replace(model="tiny")
        there = {site for site in self.modules if self.partial.get(site) != ()}
        assert {cost.site for cost in told.costs} == {*there, "latent", "velocity", "x0_hat"}

    def edited(
        self, model: interp.Model, edits: Sequence[Edit], *, steps: int = 2, names: Sequence[str] = (), **extra: Any
    ) -> Traced:
        """A guided run with some edits."""
        return self.trace(model, names, steps=steps, editors=[Edits(edits)], **extra)

    def everywhere(self, model: interp.Model, site: str, change: Any, *, text: Any = None) -> LayerEdit:
        """An edit of a site in all layers, steps and branches."""
        layers = frozenset(model.adapter.layers(site))
        return LayerEdit(site, frozenset(range(9)), layers, frozenset({"cond", "uncond"}), change, text)

    def test_edits_that_change_nothing_leave_every_bit(self, model: interp.Model) -> None:
        """Every value of every site, its text tokens and x_s are put back as copies of themselves."""
        clean = self.trace(model, self.tensors, decoded=True)
        seen: list[str] = []

        def again(value: Tensor, where: Any) -> Tensor:
            seen.append(type(where).__name__)
            return value.clone()

        edits: list[Edit] = [self.everywhere(model, site, again, text=again) for site in self.tensors]
        edits.append(LatentEdit(frozenset(range(9)), again))
        run = self.edited(model, edits, names=self.tensors, decoded=True)
        assert {"Where", "Upcoming"} == set(seen)
        assert seen.count("Upcoming") == 2
        assert torch.equal(run.frames, clean.frames)
        assert all(torch.equal(run.layers[key], value) for key, value in clean.layers.items())
        for ours, theirs in zip(run.values, clean.values, strict=True):
            assert torch.equal(ours.latent, theirs.latent)

    def test_an_edit_changes_its_own_tokens_alone(self, model: interp.Model) -> None:
        """At the edited place and step; what comes before it is untouched, and what is decoded differs."""
        clean = self.trace(model, self.tensors)
        step = self.edited_step
        for site in [name for name in self.tensors if model.adapter.layers(name)]:
            layer, where = model.adapter.layers(site)[0], self.places[1]

            def planted(value: Tensor, at: Any, where: tuple[int, int, int] = where) -> Tensor:
                changed = value.clone()
                changed[where] += torch.linspace(
                    -3, 3, value.shape[-1]
                )  # what is the same in all channels is normed away
                return changed

            edit = LayerEdit(site, frozenset({step}), frozenset({layer}), frozenset({"cond"}), planted)
            run = self.edited(model, [edit], names=self.tensors)
            for (name, label), value in clean.layers.items():
                if label.step < step or (label.step == step and label.branch == "uncond"):
                    assert torch.equal(run.layers[name, label], value), (site, name, label)
                elif (label.step, name, label.layer) == (step, site, layer):
                    expected = value.clone()
                    expected[where] += torch.linspace(-3, 3, value.shape[-1])
                    assert torch.equal(run.layers[name, label], expected), site
            assert not torch.equal(run.frames, clean.frames), site

    def test_an_edit_of_x_s_is_what_the_step_starts_from(self, model: interp.Model) -> None:
        clean = self.trace(model, steps=3)
        held = model.adapter.held
        for step in (0, 2):

            def doubled(value: Tensor, upcoming: Any, step: int = step) -> Tensor:
                assert (upcoming.step, upcoming.first) == (step, held)
                return 2 * value

            run = self.edited(model, [LatentEdit(frozenset({step}), doubled)], steps=3)
            ours, theirs = (self.moving(each.values[step].latent) for each in (run, clean))
            assert torch.equal(ours, 2 * theirs)
            assert torch.equal(run.values[step].latent[:held], clean.values[step].latent[:held])
            for before in range(step):
                assert torch.equal(run.values[before].latent, clean.values[before].latent)

    def test_a_run_that_begins_later_is_the_same_bit_for_bit(self, model: interp.Model) -> None:
        if not model.adapter.restarts or not noise.repeats(model.pipeline.scheduler):
            pytest.skip("its steps do not follow from x_s alone")
        clean = self.trace(model, self.tensors, steps=4, decoded=True)
        start = Start(2, clean.values[2].latent.float()[None], clean.steps[:2])
        run = self.trace(model, self.tensors, steps=4, start=start, decoded=True)
        assert run.steps == clean.steps
        assert torch.equal(run.frames, clean.frames)
        assert {label.step for _, label in run.layers} == {2, 3}
        assert all(torch.equal(clean.layers[key], value) for key, value in run.layers.items())
        assert "set_timesteps" not in vars(model.pipeline.scheduler)

    def test_noise_that_keeps_x0_hat_is_the_mixture_of_the_noise_level(self, model: interp.Model) -> None:
        """What the adapter and the scheduler say of x_s fits together: a·x̂0 + σ·ε of the step before is x_s."""
        if not noise.repeats(model.pipeline.scheduler):
            pytest.skip("x_s is no mixture of one step's x̂0 and noise")
        seen: list[tuple[Tensor, Any]] = []

        def look(value: Tensor, upcoming: Any) -> Tensor:
            seen.append((value.clone(), upcoming))
            return value

        run = self.edited(model, [LatentEdit(frozenset({1, 2}), look)], steps=3)
        share = model.adapter.clean_share
        assert (share(0.0), share(1.0)) == (1, self.exploding)
        assert [upcoming.step for _, upcoming in seen] == [1, 2]
        for value, upcoming in seen:
            before = run.values[upcoming.step - 1]
            sigma = before.info.sigma
            x_before = before.latent[model.adapter.held :].float()
            held = (x_before - share(sigma) * upcoming.x0_hat_fyxc) / sigma
            expected = upcoming.clean_share * upcoming.x0_hat_fyxc + upcoming.sigma * held
            torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-3)

    def several(self, model: interp.Model, names: Sequence[str], runs: Sequence[Asked], **extra: Any) -> list[Traced]:
        """Guided runs of other samples, prompts and seeds, made together in one call of the pipeline."""
        settings, keeps = self.settings(model), Keeps(len(runs))
        output, infos = model.traced.run(
            sites=[
                (site, list(model.adapter.layers(name))) for name in names if isinstance(site := sites[name], LayerSite)
            ],
            settings=settings,
            geometry=model.geometry(settings),
            listener=keeps,
            runs=len(runs),
            **model.batch_inputs([(run.sample, run.seed) for run in runs], settings=settings),
            **extra,
        )
        made = videos(output)
        return [Traced(made[k : k + 1], keep.layers, keep.values, infos) for k, keep in enumerate(keeps.each)]

    @property
    def asked(self) -> tuple[Asked, Asked]:
        """Two runs with nothing in common."""
        first, second = (tiny.sample(seed=seed, prompt=prompt) for seed, prompt in enumerate(self.prompts))
        return Asked(first, 3), Asked(second, 4)

    def test_runs_of_a_batch_are_those_made_one_by_one(self, model: interp.Model) -> None:
        """Labels, every site, steps and video of two samples, prompts and seeds; the first noise to the bit."""
        if model.adapter.alone:
            assert "\n" not in model.adapter.alone
            pytest.skip(model.adapter.alone)
        alone = [self.several(model, list(self.modules), [run])[0] for run in self.asked]
        together = self.several(model, list(self.modules), self.asked)
        for ours, theirs in zip(together, alone, strict=True):
            assert list(ours.layers) == list(theirs.layers)
            assert ours.steps == theirs.steps
            held = model.adapter.held
            assert torch.equal(ours.values[0].latent[held:], theirs.values[0].latent[held:])
            assert differences(ours, theirs, self.rounding) == []
        assert len(differences(together[0], alone[1], self.rounding)) > 1, (
            "a batch with its rows swapped would not be noticed"
        )

    def test_an_edit_sees_its_own_run_of_a_batch_alone(self, model: interp.Model) -> None:
        if model.adapter.alone:
            pytest.skip(model.adapter.alone)
        site = next(name for name in self.tensors if model.adapter.layers(name))

        def louder(value: Tensor, at: Any) -> Tensor:
            return 1.5 * value

        own = Edits([self.everywhere(model, site, louder, text=louder), LatentEdit(frozenset({0, 1}), louder)])
        first, second = self.asked
        ours = self.several(model, [site], self.asked, editors=[Edits([]), own])
        assert differences(ours[0], self.several(model, [site], [first])[0], self.rounding) == []
        assert differences(ours[1], self.several(model, [site], [second], editors=[own])[0], self.rounding) == []
        assert differences(ours[1], self.several(model, [site], [second])[0], self.rounding) != []

    def test_the_pipeline_is_left_as_it_was(self, model: interp.Model) -> None:
        settings = self.settings(model)
        before = model.generate(tiny.sample(), settings=settings)
        self.trace(model, ["resid_post"])
        assert "step" not in vars(model.pipeline.scheduler)
        assert all("cache_context" not in vars(denoiser) for denoiser in model.adapter.denoisers().values())
        assert torch.equal(model.generate(tiny.sample(), settings=settings), before)


class SoundContract(AdapterContract):
    """For families that denoise sound beside the video, in a stream that meets it before the MLP."""

    def sound(self, seed: int) -> dict[str, Any]:
        """Arguments that change the sound alone: where the video's noise is given, the generator draws no other."""
        return {"generator": torch.Generator().manual_seed(seed)}

    def test_sound_is_kept_apart(self, model: interp.Model) -> None:
        """Other sound leaves what has not met it as it is, and changes the video that has."""
        names = ["resid_pre", "q", "attn_out", "cross_attn_out", "mlp_out", "resid_post"]
        noise = self.native(self.noise(model))
        one, other = (self.trace(model, names, steps=1, latents=noise, **self.sound(seed)) for seed in (0, 1))
        for site in names[:4]:
            assert torch.equal(self.first(one, site, 0), self.first(other, site, 0)), site
        for site in names[4:]:
            assert not torch.equal(self.first(one, site, 0), self.first(other, site, 0)), site
