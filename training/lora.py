"""LoRAs on the transformer, in the format that the pipeline's ordinary loader reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from training import checkpoint

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
"""What is adapted in every block: the projections of both attentions, and both of the feed-forward layer."""


def add(transformer: WanTransformer3DModel, *, rank: int, seed: int) -> dict[str, nn.Parameter]:
    """Freeze `transformer` and put a LoRA of strength 1 on it, which changes nothing yet.

    Returns:
        What is to be trained, by name; in float32.
    """
    transformer.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # On the CPU, so that every device starts from the same numbers.
        device = transformer.device
        transformer.to("cpu").add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)))
        transformer.to(device)
    return {name: weight for name, weight in transformer.named_parameters() if weight.requires_grad}


def save(transformer: WanTransformer3DModel, file: Path, trained: Path) -> None:
    """Write the averaged LoRA of the checkpoint `trained` as `file`, in float16.

    Args:
        transformer: With the LoRA that was trained, which takes the averaged weights.
        file: Where to; its folder is made.
        trained: Checkpoint of the stage.
    """
    average(transformer, checkpoint.under("ema", checkpoint.load(trained)[0]))
    layers: dict[str, nn.Module | Tensor] = {
        name: value.half().contiguous() for name, value in get_peft_model_state_dict(transformer).items()
    }
    WanImageToVideoPipeline.save_lora_weights(file.parent, transformer_lora_layers=layers, weight_name=file.name)
    file.chmod(0o644)


@torch.no_grad()
def average(transformer: WanTransformer3DModel, weights: Mapping[str, Tensor]) -> None:
    """Put `weights` in the place of the transformer's own."""
    own = dict(transformer.named_parameters())
    for name, value in weights.items():
        own[name].copy_(value)


def fuse(pipe: WanImageToVideoPipeline, file: Path, *, component: str = "transformer") -> None:
    """Load the LoRA `file` by the pipeline's own loader and add it to the weights of `component`."""
    pipe.load_lora_weights(
        str(file.parent),
        weight_name=file.name,
        load_into_transformer_2=component == "transformer_2",
        local_files_only=True,
    )
    pipe.fuse_lora(components=[component])
    pipe.unload_lora_weights()
