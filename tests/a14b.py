"""Wan2.2-I2V-A14B without its weights: the configuration that its folder has, and the names that its LoRAs use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

TRANSFORMER: Final[dict[str, Any]] = {
    "in_channels": 36,
    "out_channels": 16,
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "num_layers": 40,
    "ffn_dim": 13824,
    "text_dim": 4096,
}
SCHEDULER: Final[dict[str, Any]] = {
    "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
}
"""As diffusers' conversion of Wan's checkpoints writes it; Wan's own code samples this model with a shift of 5."""
PARTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "transformer": ("WanTransformer3DModel", TRANSFORMER),
    "transformer_2": ("WanTransformer3DModel", TRANSFORMER),
    "vae": ("AutoencoderKLWan", {}),
    "scheduler": ("UniPCMultistepScheduler", SCHEDULER),
}


def configuration(folder: Path) -> Path:
    """Write it into a folder, as `save_pretrained` would."""
    index: dict[str, Any] = {"_class_name": "WanImageToVideoPipeline", "boundary_ratio": 0.9}
    index |= {"text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"]}
    for name, (kind, config) in PARTS.items():
        index[name] = ["diffusers", kind]
        (folder / name).mkdir(parents=True)
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (folder / name / file).write_text(json.dumps({"_class_name": kind, **config}))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


class Naming(NamedTuple):
    """How a trainer names the weights of a LoRA of Wan."""

    begin: str
    separator: str
    """Between the parts of a module's name."""
    down: str
    up: str
    alpha: bool
    """Whether each module brings an alpha beside its weights."""


NAMINGS: Final = {
    "diffusion_model": Naming("diffusion_model.", ".", "lora_down.weight", "lora_up.weight", True),
    "diffusion_model_peft": Naming("diffusion_model.", ".", "lora_A.weight", "lora_B.weight", False),
    "musubi": Naming("lora_unet_", "_", "lora_down.weight", "lora_up.weight", True),
    "bare": Naming("", ".", "lora_A.default.weight", "lora_B.default.weight", False),
}
"""As files for Wan2.2 come: ComfyUI's and lightx2v's, ai-toolkit's, musubi-tuner's, and those of DiffSynth-Studio."""
OURS: Final = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
"""Modules of a block, by their name in Wan's own code; the name that diffusers gives them."""


def modules(blocks: int) -> Iterator[tuple[str, str]]:
    """Name in Wan's own code, and in diffusers, of every module that its LoRAs change."""
    for block in range(blocks):
        yield from ((f"blocks.{block}.{theirs}", f"blocks.{block}.{ours}") for theirs, ours in OURS.items())
