"""What a model would cost, from its configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers.initialization import meta_device_safe_creation_ops

import interp
from interp import catalogue
from tests import tiny
from tests.a14b import configuration
from tests.tiny_models import kandinsky6


@pytest.fixture
def a14b(tmp_path: Path) -> Path:
    """The configuration of Wan2.2-I2V-A14B, without any weights."""
    return configuration(tmp_path)


def test_a_model_of_full_size_costs_what_was_measured(a14b: Path) -> None:
    """The numbers of the design: 32,760 tokens × 5120, 335 MB a layer and step, 671 GB a run of 50 steps."""
    found = catalogue.cost(catalogue.skeleton(a14b))
    assert found.family == "wan"
    assert list(found.parameters) == ["transformer", "transformer_2"]
    assert all(13.9e9 < number < 14.5e9 for number in found.parameters.values())
    assert (found.layers, found.width, found.tokens, found.latent) == (40, 5120, (21, 30, 52), (21, 60, 104, 16))
    costs = {(cost.site, cost.reduction): cost for cost in found.costs}
    full = costs["resid_post", "full"]
    assert (full.dtype, full.cell, full.layers) == ("bfloat16", (21, 30, 52, 5120), 40)
    assert full.nbytes == 32_760 * 5120 * 2 * 40 * 50
    assert round(full.nbytes / 40 / 50 / 1e6) == 335
    assert round(full.nbytes / 1e9) == 671
    assert costs["resid_post", "energy"].nbytes == 32_760 * 4 * 40 * 50
    assert (found.forwards, round(found.flops / found.forwards / 1e15, 1)) == (100, 1.8)
    assert "671 GB" in str(catalogue.cost(catalogue.skeleton(a14b)).table())
    assert "2 denoisers of 40 layers × 5120 channels" in str(found)


def test_settings_and_dtype_change_the_cost(a14b: Path) -> None:
    model = catalogue.skeleton(a14b, dtype=torch.float32)
    found = catalogue.cost(model, model.settings(steps=10, frames=41, guidance=1.0))
    costs = {(cost.site, cost.reduction): cost for cost in found.costs}
    assert costs["q", "full"].nbytes == 11 * 30 * 52 * 5120 * 4 * 40 * 10
    assert found.forwards == 10


def test_what_is_told_does_not_depend_on_what_was_loaded_before(tmp_path: Path) -> None:
    """transformers hides `torch.linspace` while it loads, and torch remembers that as what follows `torch.device`."""
    kandinsky6.pipeline().save_pretrained(tmp_path)
    torch.utils._device._device_constructors.cache_clear()
    try:
        with meta_device_safe_creation_ops(), torch.device("meta"):
            assert torch.empty(1).is_meta
        with torch.device("meta"):
            assert not torch.linspace(0, 1, 2).is_meta, "the fault is planted"
        assert catalogue.skeleton(tmp_path).pipeline.audio_vae.mel_converter.mel_basis.is_meta
    finally:
        torch.utils._device._device_constructors.cache_clear()


def test_a_skeleton_has_no_weights(a14b: Path) -> None:
    pipeline = catalogue.skeleton(a14b).pipeline
    assert pipeline.text_encoder is None
    for module in (pipeline.transformer, pipeline.transformer_2, pipeline.vae):
        assert all(weight.is_meta for weight in module.parameters())


def test_the_bundled_model_costs_what_it_would_write() -> None:
    model = interp.load("tinywan")
    told = catalogue.cost(catalogue.skeleton("tinywan", dtype=torch.float32))
    assert told == catalogue.cost(model)
    assert told.default == interp.plan(model.adapter, interp.DEFAULT, model.settings()).nbytes


def test_weights_that_stay_in_float32_are_counted_as_such() -> None:
    """The model computes in bfloat16 although its first parameter does not, as a loaded checkpoint of Wan's."""
    pipeline = tiny.pipeline()
    pipeline.transformer.to(torch.bfloat16)
    kept = next(pipeline.transformer.parameters())
    kept.data = kept.data.float()
    found = catalogue.cost(interp.load(pipeline))
    assert found.dtype == "bfloat16"
    assert found.weights == sum(found.parameters.values()) * 2 + kept.numel() * 2


def test_damaged_settings_of_a_model_are_one_line(a14b: Path) -> None:
    (a14b / "stepscope.json").write_text("{")
    with pytest.raises(interp.UnknownModel, match=r"cannot read .*stepscope.json"):
        catalogue.skeleton(a14b)


def test_what_is_no_model_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(interp.UnknownModel, match="no model 'tinywam'"):
        catalogue.skeleton("tinywam")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "NoSuchPipeline"}))
    with pytest.raises(interp.UnsupportedModel, match="the installed diffusers has no NoSuchPipeline"):
        catalogue.skeleton(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(interp.UnknownModel, match="cannot read the configuration"):
        catalogue.skeleton(tmp_path)


@pytest.mark.parametrize(("nbytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (671_088_640_000, "671 GB")])
def test_bytes_are_readable(nbytes: int, text: str) -> None:
    assert catalogue.human(nbytes) == text
