"""Model families: one file each, found by the class name of the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.adapters._base import Forward, ModelAdapter, Place
from interp.adapters._refused import REFUSED
from interp.errors import UnsupportedModel
from interp.registry import Registry

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

adapters: Registry[type[ModelAdapter]] = Registry(kind="model family", package=__name__)


def adapt(pipeline: DiffusionPipeline) -> ModelAdapter:
    """The adapter of `pipeline`.

    Raises:
        UnsupportedModel: saying why, where that is known, or naming the pipelines that can be traced.
    """
    name = type(pipeline).__name__
    for adapter in adapters:
        if name in adapter.pipelines:
            return adapter(pipeline)
    if name in REFUSED:
        raise UnsupportedModel(f"{name} cannot be traced: {REFUSED[name]}; `stepscope models ls` lists what can")
    known = sorted(pipeline for adapter in adapters for pipeline in adapter.pipelines)
    raise UnsupportedModel(
        f"no adapter for {name}; these pipelines can be traced: {', '.join(known)}. "
        "A new family is one file in interp/adapters/ (docs: How to add a model family)."
    )


__all__ = ["REFUSED", "Forward", "ModelAdapter", "Place", "adapt", "adapters"]
