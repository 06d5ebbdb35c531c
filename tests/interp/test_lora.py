"""LoRAs: applied through the pipeline's own loader, recorded, and traced without changing a bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from peft import LoraConfig, get_peft_model_state_dict

import interp
from interp.lora import Lora
from tests import tiny

TARGETS = ["to_q", "to_v", "ffn.net.2"]


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of rank 2 with random weights, as the pipeline saves it."""
    transformer = tiny.transformer()
    transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=TARGETS))
    generator = torch.Generator().manual_seed(0)
    for name, weight in transformer.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    folder = tmp_path_factory.mktemp("lora")
    WanImageToVideoPipeline.save_lora_weights(folder, transformer_lora_layers=get_peft_model_state_dict(transformer))
    return folder / "pytorch_lora_weights.safetensors"


def _video(model: interp.Model, **asked: Any) -> torch.Tensor:
    return model.generate(tiny.sample(), settings=model.settings(**tiny.SIZE, steps=3, **asked))


def test_it_changes_the_video_and_is_in_the_record(lora: Path) -> None:
    plain, changed = interp.load(tiny.pipeline()), interp.load(tiny.pipeline(), loras=[str(lora)])
    assert not torch.equal(_video(plain), _video(changed))
    (record,) = changed.ref.adapters
    assert (record.path, record.scale, record.component) == (lora.name, 1.0, "transformer")
    assert len(record.weight_hash) == 64
    assert changed.ref.weight_hash == plain.ref.weight_hash
    assert plain.ref.adapters == ()


def test_its_strength_scales_it(lora: Path) -> None:
    plain = interp.load(tiny.pipeline())
    nothing = interp.load(tiny.pipeline(), loras=[Lora(str(lora), scale=0.0)])
    half = interp.load(tiny.pipeline(), loras=[f"{lora}*0.5"])
    assert torch.equal(_video(plain), _video(nothing))
    assert half.ref.adapters[0].scale == 0.5
    merged = tiny.pipeline()
    merged.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="one")
    merged.fuse_lora(components=["transformer"], lora_scale=0.5)
    merged.unload_lora_weights()
    difference = (_video(half).float() - _video(interp.load(merged)).float()).abs()
    assert difference.max() <= 1
    assert not torch.equal(_video(half), _video(plain))


def test_each_expert_takes_its_own(lora: Path) -> None:
    def pipe() -> Any:
        return tiny.pipeline(experts=2, boundary_ratio=0.8)

    plain = interp.load(pipe())
    second = interp.load(pipe(), loras=[f"transformer_2={lora}"])
    assert second.ref.adapters[0].component == "transformer_2"
    assert not torch.equal(_video(plain), _video(second))
    high_only = interp.load(pipe(), loras=[f"transformer_2={lora}"])
    high_only.pipeline.register_to_config(boundary_ratio=0.0)  # the second expert never runs
    plain.pipeline.register_to_config(boundary_ratio=0.0)
    assert torch.equal(_video(plain), _video(high_only))


def test_tracing_does_not_change_it(lora: Path, tmp_path: Path) -> None:
    model = interp.load(tiny.pipeline(), loras=[str(lora)])
    settings = model.settings(**tiny.SIZE, steps=2)
    spec = interp.parse(["resid_post/full"])
    captured = interp.capture(model, [tiny.sample()], spec, into=tmp_path / "acts", settings=settings)
    import store

    acts = store.open(tmp_path / "acts")
    (run_id,) = captured.run_ids
    assert acts.run(run_id).run.model.adapters == model.ref.adapters
    untouched = interp.load(tiny.pipeline(), loras=[str(lora)])
    stored = acts.load("output", "pixels").isel(run=0).values
    torch.testing.assert_close(
        torch.from_numpy(stored), untouched.generate(tiny.sample(), settings=settings), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no/such/place", "cannot apply the LoRA"),
        ("transformer_2=x", "no transformer_2"),
        ("x*strong", "no strength"),
    ],
)
def test_what_cannot_be_applied_is_said_in_one_line(text: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(interp.BadInput, match=says) as error:
        interp.load(tiny.pipeline(), loras=[text])
    assert "\n" not in str(error.value)


def test_a_lora_for_another_model_is_refused(lora: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = {key.replace("blocks.0", "layers.0"): value.clone() for key, value in load_file(lora).items()}
    other = {key.replace("transformer.", "unet."): value for key, value in other.items()}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(interp.BadInput, match=r"other\.safetensors"):
        interp.load(tiny.pipeline(), loras=[str(tmp_path / "other.safetensors")])
