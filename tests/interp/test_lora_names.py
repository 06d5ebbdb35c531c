"""LoRAs under the names that files for Wan2.2 use: each does what the same weights do in diffusers' own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import interp
from interp import catalogue
from interp.lora import as_diffusers
from tests import tiny
from tests.a14b import NAMINGS, Naming, configuration, modules

RANK = 2
ALPHA = 1.0
"""Half of the rank: what a file says of it must be heard."""
BLOCKS = 3


def _pairs(model: torch.nn.Module, blocks: int) -> dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]]:
    """Random weights of every module, down and up."""
    generator, linear = torch.Generator().manual_seed(0), dict(model.named_modules())
    found: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = {}
    for names in modules(blocks):
        module: Any = linear[names[1]]
        down = torch.randn((RANK, module.in_features), generator=generator) * 0.2
        found[names] = down, torch.randn((module.out_features, RANK), generator=generator) * 0.2
    return found


def _file(folder: Path, naming: Naming) -> Path:
    """A LoRA of the tiny model; where no alpha can be told, the weights hold it."""
    state: dict[str, torch.Tensor] = {}
    for (theirs, _), (down, up) in _pairs(tiny.transformer(), BLOCKS).items():
        name = naming.begin + theirs.replace(".", naming.separator)
        state[f"{name}.{naming.down}"] = down if naming.alpha else down * ALPHA / RANK
        state[f"{name}.{naming.up}"] = up
        if naming.alpha:
            state[f"{name}.alpha"] = torch.tensor(ALPHA)
    save_file(state, folder / "lora.safetensors")
    return folder / "lora.safetensors"


def _reference(folder: Path) -> Path:
    state: dict[str, torch.Tensor] = {}
    for (_, ours), (down, up) in _pairs(tiny.transformer(), BLOCKS).items():
        state[f"transformer.{ours}.lora_A.weight"] = down * ALPHA / RANK
        state[f"transformer.{ours}.lora_B.weight"] = up
    save_file(state, folder / "reference.safetensors")
    return folder / "reference.safetensors"


def _added(lora: str, component: str) -> dict[str, torch.Tensor]:
    """What a LoRA adds to the weights of each module of an expert."""
    model = interp.load(tiny.pipeline(layers=BLOCKS, experts=2), loras=[f"{component}={lora}"])
    assert [record.component for record in model.ref.adapters] == [component]
    found: dict[str, torch.Tensor] = {}
    for name, module in getattr(model.pipeline, component).named_modules():
        if hasattr(module, "lora_A"):
            (key,) = module.lora_A
            found[name] = module.lora_B[key].weight @ module.lora_A[key].weight * module.scaling[key]
    return found


@pytest.mark.parametrize(
    ("naming", "component"), [*((name, "transformer_2") for name in NAMINGS), ("bare", "transformer")]
)
def test_a_file_in_another_naming_does_the_same(naming: str, component: str, tmp_path: Path) -> None:
    wanted = _added(str(_reference(tmp_path)), component)
    found = _added(str(_file(tmp_path, NAMINGS[naming])), component)
    assert set(found) == set(wanted) == {ours for _, ours in modules(BLOCKS)}
    assert all(weight.abs().max() > 0.01 for weight in wanted.values())
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight)


@pytest.mark.parametrize("naming", NAMINGS)
def test_at_full_size_every_weight_finds_its_module(naming: str, tmp_path: Path) -> None:
    """All 400 modules of the 40 blocks, in Wan's own names, and of the right shape."""
    pipeline = catalogue.skeleton(configuration(tmp_path)).pipeline
    for expert in (pipeline.transformer, pipeline.transformer_2):
        linear: dict[str, Any] = dict(expert.named_modules())
        how = NAMINGS[naming]
        state: dict[str, torch.Tensor] = {}
        for theirs, ours in modules(40):
            name = how.begin + theirs.replace(".", how.separator)
            state[f"{name}.{how.down}"] = torch.zeros((1, linear[ours].in_features))
            state[f"{name}.{how.up}"] = torch.zeros((linear[ours].out_features, 1))
            if how.alpha:
                state[f"{name}.alpha"] = torch.tensor(1.0)
        found = pipeline.lora_state_dict(as_diffusers(state))
        assert len(found) == 2 * len(list(modules(40))) == 800
        for key, weight in found.items():
            module = linear[key.removeprefix("transformer.").rpartition(".lora_")[0]]
            size = module.in_features if ".lora_A." in key else module.out_features
            assert size in weight.shape


def test_names_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    save_file({"layers.0.q.lora_A.default.weight": torch.zeros(2, 32)}, tmp_path / "strange.safetensors")
    with pytest.raises(interp.BadInput, match=r"strange\.safetensors"):
        interp.load(tiny.pipeline(), loras=[str(tmp_path / "strange.safetensors")])
