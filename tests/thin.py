"""tinywan with a narrow denoiser and autoencoder of random weights: for tests of what commands do, not of answers.

It has the bundled model's layers, heads, tokens, latents, videos and settings; a step takes a tenth of the time.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from interp import bundled

TINYWAN: Final = bundled.FOLDER / "tinywan"
NARROWER: Final[dict[str, tuple[Any, dict[str, int]]]] = {
    "transformer": (WanTransformer3DModel, {"attention_head_dim": 8, "ffn_dim": 64}),
    "vae": (AutoencoderKLWan, {"base_dim": 4, "decoder_base_dim": 4}),
}


def save(folder: Path) -> Path:
    """Write it to `folder`, which is not there yet."""
    shutil.copytree(TINYWAN, folder, ignore=shutil.ignore_patterns(*NARROWER, *_variants()))
    torch.manual_seed(0)
    for part, (kind, narrower) in NARROWER.items():
        config = json.loads((TINYWAN / part / "config.json").read_text())
        kind.from_config(config | narrower).save_pretrained(folder / part)
    return folder


def _variants() -> list[str]:
    return [variant.folder for variant in bundled.VARIANTS.values()]
