"""The models that ship in the package: folders as `save_pretrained` writes them, and variants made of LoRAs.

`tinywan-few-step` samples in 4 steps: tinywan under a LoRA that was distilled from its own trajectories.
`tinywan-experts` has two denoisers in the manner of Wan2.2: `transformer` for high noise and `transformer_2`
for low noise, tinywan twice, each under a LoRA that was trained on its own part of the noise levels.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final, NamedTuple

from interp.lora import SECOND, Lora, apply
from store.records import Adapter

FOLDER: Final = Path(__file__).parent / "models"
"""One folder each."""
DEFAULTS_FILE: Final = "stepscope.json"
"""Optional file beside `model_index.json`: sampler settings that suit the model."""


class Variant(NamedTuple):
    """A bundled model under LoRAs that ship with it."""

    base: str
    folder: str
    """Below the base's folder; holds the LoRAs and a `stepscope.json`."""
    loras: tuple[tuple[str, str], ...]
    """(component, file)."""

    @property
    def path(self) -> Path:
        """Folder of the LoRAs."""
        return FOLDER / self.base / self.folder


VARIANTS: Final = {
    "tinywan-few-step": Variant("tinywan", "few_step", (("transformer", "pytorch_lora_weights.safetensors"),)),
    "tinywan-experts": Variant(
        "tinywan", "experts", (("transformer", "high.safetensors"), (SECOND, "low.safetensors"))
    ),
}


def names() -> list[str]:
    """Names of everything that ships."""
    variants = [name for name, variant in VARIANTS.items() if (variant.path / DEFAULTS_FILE).exists()]
    return sorted([path.parent.name for path in FOLDER.glob("*/model_index.json")] + variants)


def add_expert(pipeline: Any, settings: dict[str, Any]) -> None:
    """Give `pipeline` the second denoiser that `settings` ask for by a `boundary_ratio`, which is taken out of them."""
    boundary = settings.pop("boundary_ratio", None)
    if boundary is not None:
        pipeline.register_modules(transformer_2=copy.deepcopy(pipeline.transformer))
        pipeline.register_to_config(boundary_ratio=boundary)


def apply_loras(pipeline: Any, variant: Variant) -> tuple[Adapter, ...]:
    """Make the base's `pipeline`, with the variant's experts, the `variant`.

    Returns:
        Records of the LoRAs.
    """
    loras = [Lora(str(variant.path / file), component) for component, file in variant.loras]
    shown = [f"{variant.base}/{variant.folder}/{file}" for _, file in variant.loras]
    return apply(pipeline, loras, names=shown)
