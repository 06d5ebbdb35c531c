"""Loading a model: single files, tiles, offloading, and options that do not go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, UniPCMultistepScheduler
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from safetensors.torch import load_file, save_file

import interp
from interp import conditions
from interp.loading import load
from interp.worlds import worlds
from store import open as open_store
from store.records import CaptureItem, CaptureSpec
from tests import tiny
from tests.tiny_models import cogvideox

FOLDER = Path(interp.__file__).parent / "models" / "tinywan"
QUICK: dict[str, Any] = {"steps": 2, "guidance": 1.0}
SAMPLE = worlds["grounding"].generate(1, seed=5)[0]


def test_a_single_file_takes_the_place_of_the_transformers_weights(tmp_path: Path) -> None:
    tensors = load_file(FOLDER / "transformer" / "diffusion_pytorch_model.safetensors")
    changed = {**tensors, "blocks.0.ffn.net.2.bias": tensors["blocks.0.ffn.net.2.bias"] + 1}
    save_file(changed, tmp_path / "other.safetensors")
    plain, other = load("tinywan"), load("tinywan", transformer=tmp_path / "other.safetensors")
    old, new = (model.pipeline.transformer.state_dict() for model in (plain, other))
    differing = [name for name in old if not torch.equal(old[name], new[name])]
    assert differing == ["blocks.0.ffn.net.2.bias"]
    assert other.ref.weight_hash != plain.ref.weight_hash
    assert not torch.equal(
        other.generate(SAMPLE, settings=other.settings(**QUICK)),
        plain.generate(SAMPLE, settings=plain.settings(**QUICK)),
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what there is without a GPU")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"transformer": "nowhere.safetensors"}, "no such file; give a safetensors file"),
        ({"offload": "model", "device": "cpu"}, "no GPU to bring weights to"),
        ({"device_map": "cpu", "device": "cpu"}, "says where each part lies, and so does --device"),
        ({"device_map": "balanced", "offload": "model"}, "and so does --offload"),
        ({"device_map": "balanced"}, "--device-map balanced: this machine has no GPU"),
    ],
)
def test_options_that_cannot_be_are_said_in_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(interp.BadInput, match=says):
        load("tinywan", **options)


def test_a_file_that_is_no_transformer_is_said_in_one_line(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(interp.BadInput, match="--transformer") as caught:
        load("tinywan", transformer=tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)


def test_a_loaded_pipeline_takes_no_options_of_loading() -> None:
    pipeline = DiffusionPipeline.from_pretrained(FOLDER)
    with pytest.raises(interp.BadInput, match="revision, offload: not for a pipeline that is loaded already"):
        load(pipeline, revision="main", offload="group")


def test_a_variant_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(interp.UnknownModel, match="fp8"):
        load("tinywan", variant="fp8")


def test_tiles_decode_about_the_same_video() -> None:
    plain, tiled = load("tinywan"), load("tinywan", vae_tiling=True)
    assert tiled.pipeline.vae.use_tiling
    assert not plain.pipeline.vae.use_tiling
    whole, parts = (m.generate(SAMPLE, settings=m.settings(**QUICK)).float() for m in (plain, tiled))
    assert (whole - parts).abs().mean() < 8


def test_a_pipeline_whose_blocks_are_offloaded_is_traced_as_one_that_is_not(tmp_path: Path) -> None:
    """On a CPU the blocks go nowhere, but diffusers' hooks around each of them are the real ones."""
    spec = CaptureSpec(items=(CaptureItem(site="resid_post", reduction="full", layers=(0, 11)),))
    videos, blocks = [], []
    for name, offloaded in (("plain", False), ("offloaded", True)):
        pipeline: Any = DiffusionPipeline.from_pretrained(FOLDER)
        if offloaded:
            pipeline.transformer.enable_group_offload(
                onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
            )
        model = load(pipeline)
        acts = open_store(tmp_path / name, mode="a")
        settings = model.settings(**QUICK, height=96, width=96, frames=17)
        interp.capture(model, [SAMPLE], spec, into=acts, seeds=(0,), settings=settings)
        videos.append(model.generate(SAMPLE, settings=settings))
        blocks.append(acts.load("resid_post", "full", lazy=False))
    assert torch.equal(*videos)
    assert blocks[0].size > 0
    assert blocks[0].equals(blocks[1])


def test_a_pipeline_that_diffusers_places_is_traced_as_one_that_is_not(tmp_path: Path) -> None:
    """All parts lie on the CPU, but diffusers placed them."""
    spec = CaptureSpec(items=(CaptureItem(site="resid_post", reduction="full", layers=(0, 11)),))
    videos, blocks = [], []
    device_maps: tuple[Literal["cpu"] | None, ...] = (None, "cpu")
    for device_map in device_maps:
        model = load("tinywan", device_map=device_map)
        assert bool(getattr(model.pipeline, "hf_device_map", None)) == bool(device_map)
        assert model.recipe is not None
        assert model.recipe["device_map"] == device_map
        acts = open_store(tmp_path / str(device_map), mode="a")
        settings = model.settings(**QUICK)
        interp.capture(model, [SAMPLE], spec, into=acts, seeds=(0,), settings=settings)
        videos.append(model.generate(SAMPLE, settings=settings))
        blocks.append(acts.load("resid_post", "full", lazy=False))
        variant = conditions.variant_of(model, "tinywan-few-step")
        assert variant.generate(SAMPLE, settings=settings).shape == videos[-1].shape
    assert torch.equal(*videos)
    assert blocks[0].size > 0
    assert blocks[0].equals(blocks[1])


def test_a_pipeline_that_was_never_saved_is_called_by_its_class() -> None:
    pipeline = DiffusionPipeline.from_pretrained(FOLDER)
    assert load(pipeline).id == "tinywan"
    pipeline.register_to_config(_name_or_path="")
    assert load(pipeline).id == "WanImageToVideoPipeline"


def test_a_flow_model_is_given_euler_with_its_own_shift() -> None:
    pipeline = tiny.pipeline()
    pipeline.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0, num_train_timesteps=1000
    )
    model = interp.load(pipeline, scheduler="euler")
    assert model.settings(**tiny.SIZE).scheduler == "FlowMatchEulerDiscreteScheduler"
    assert model.pipeline.scheduler.config.shift == 5.0
    kept = interp.load(tiny.pipeline()).pipeline
    own = kept.scheduler
    assert interp.load(kept, scheduler="euler").pipeline.scheduler is own


def test_a_sampler_without_memory_is_kept_and_cogvideox_is_given_one() -> None:
    kept = cogvideox.pipeline()
    own = kept.scheduler
    assert interp.load(kept, scheduler="euler").pipeline.scheduler is own
    given = interp.load(cogvideox.pipeline(scheduler=CogVideoXDPMScheduler), scheduler="euler").pipeline.scheduler
    assert type(given) is CogVideoXDDIMScheduler
    assert torch.equal(given.alphas_cumprod, own.alphas_cumprod)
    for name in ("timestep_spacing", "prediction_type"):
        assert given.config[name] == own.config[name]


def test_a_solver_with_a_memory_that_is_no_flow_is_refused() -> None:
    pipeline = tiny.pipeline()
    pipeline.scheduler = UniPCMultistepScheduler(prediction_type="v_prediction")
    with pytest.raises(interp.BadInput, match=r"samples with UniPCMultistepScheduler, which is no flow"):
        interp.load(pipeline, scheduler="euler")
