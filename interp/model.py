"""A loaded pipeline with what tracing needs to know about it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from pydantic import ValidationError

from interp.adapters import ModelAdapter, adapt
from interp.errors import BadInput
from interp.geometry import Geometry
from interp.lora import own_weights
from interp.reductions.pixels import to_uint8
from interp.trace import TracedPipeline
from store.records import Adapter, ModelRef, Sample, SamplerSettings


class Model:
    """A video diffusion pipeline, ready to be generated from and traced.

    Args:
        pipeline: A loaded diffusers pipeline of a family with an adapter.
        id: Name kept in the records: a hub id, or a folder's name without its path.
        revision: Hub commit, empty for a local folder.
        defaults: Sampler settings that suit the model; what is missing comes from its family.
        loras: Records of the LoRAs that were applied to the pipeline.

    Raises:
        UnsupportedModel: if no adapter knows the pipeline.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        *,
        id: str,
        revision: str = "",
        defaults: dict[str, Any] | None = None,
        loras: tuple[Adapter, ...] = (),
    ) -> None:
        self.pipeline: Any = pipeline
        self.id = id
        self.revision = revision
        self.loras = loras
        self.adapter: ModelAdapter = adapt(pipeline)
        self.recipe: dict[str, Any] | None = None
        """How `interp.load` is called to get the same model in another process; None where it cannot be."""
        self._defaults = {**self.adapter.defaults(), **(defaults or {})}

    @cached_property
    def traced(self) -> TracedPipeline:
        """The pipeline under nnsight; made when it is first traced."""
        return TracedPipeline(self.adapter)

    @cached_property
    def ref(self) -> ModelRef:
        """Exactly which weights these are; hashes all of them once."""
        return ModelRef(
            id=self.id,
            revision=self.revision,
            weight_hash=_weight_hash(self.pipeline),
            adapters=self.loras,
            pipeline=type(self.pipeline).__name__,
            dtype=str(next(iter(self.adapter.denoisers().values())).dtype).removeprefix("torch."),
        )

    @property
    def device(self) -> torch.device:
        """Where the pipeline runs."""
        return self.pipeline._execution_device

    def settings(self, **asked: Any) -> SamplerSettings:
        """Sampler settings: the model's defaults with what is `asked` (None asks for the default).

        Raises:
            BadInput: if a setting is unknown or cannot be.
        """
        scheduler = self.pipeline.scheduler
        given = {name: value for name, value in asked.items() if value is not None}
        try:
            settings = SamplerSettings(
                **{**self._defaults, **given},
                scheduler=type(scheduler).__name__,
                scheduler_config=_plain(scheduler.config),
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
        self.adapter.check(settings)
        return settings

    def geometry(self, settings: SamplerSettings) -> Geometry:
        """Shapes of a run with `settings`."""
        return self.adapter.geometry(settings)

    def generate(self, sample: Sample, *, seed: int = 0, settings: SamplerSettings | None = None) -> torch.Tensor:
        """One video by the bare pipeline, without tracing.

        Returns:
            uint8 `[frame, y, x, channel]` on the CPU.
        """
        settings = settings or self.settings()
        return finished(self.pipeline(**self.inputs(sample, seed=seed, settings=settings)))

    def inputs(self, sample: Sample, *, seed: int, settings: SamplerSettings) -> dict[str, Any]:
        """Keyword arguments of the pipeline call for one run."""
        return {
            **self.adapter.inputs(sample, settings),
            # Drawn on the CPU, so that a seed means the same noise on every device.
            "generator": torch.Generator("cpu").manual_seed(seed),
            "output_type": "pt",
        }

    def batch_inputs(self, each: Sequence[tuple[Sample, int]], *, settings: SamplerSettings) -> dict[str, Any]:
        """Keyword arguments of the pipeline call for runs that are made together, each a sample and a seed."""
        inputs = [self.inputs(sample, seed=seed, settings=settings) for sample, seed in each]
        return inputs[0] if len(inputs) == 1 else self.adapter.batched(inputs)

    def __repr__(self) -> str:
        parameters = sum(p.numel() for module in self.adapter.denoisers().values() for p in module.parameters())
        size = f"{parameters / 1e6:.1f} M denoiser parameters"
        return f"Model({self.id}: {type(self.pipeline).__name__}, {size}, {self.device})"


def finished(output: Any) -> torch.Tensor:
    """The video of a pipeline's output (`output_type="pt"`), uint8 `[frame, y, x, channel]` on the CPU."""
    return all_finished(output)[0]


def all_finished(output: Any) -> torch.Tensor:
    """The videos of a pipeline's output, uint8 `[b, frame, y, x, channel]` on the CPU."""
    return to_uint8(videos(output)).permute(0, 1, 3, 4, 2).contiguous().cpu()


def videos(output: Any) -> Any:
    """The batch of videos in a pipeline's output, also of one that gives a single video by another name."""
    return output.frames if hasattr(output, "frames") else output.video[None]


def _weight_hash(pipeline: Any) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of every parameter and buffer of the pipeline, LoRAs left out."""
    sha = hashlib.sha256()
    for name, module in sorted(pipeline.components.items()):
        if not isinstance(module, torch.nn.Module):
            continue
        for key, value in sorted(own_weights(module.state_dict()).items()):
            sha.update(f"{name}.{key} {value.dtype} {tuple(value.shape)}\n".encode())
            sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _plain(config: Any) -> dict[str, Any]:
    """A diffusers configuration as JSON, without the fields that diffusers keeps for itself."""
    public = {key: value for key, value in copy.deepcopy(dict(config)).items() if not key.startswith("_")}
    return json.loads(json.dumps(public, default=str))
