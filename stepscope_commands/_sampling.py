"""A model, its sampler, and where its runs are made: what experiments and a reproduction ask alike."""

# Annotations are values here, not text: cyclopts reads those that a class inherits in the module of the heir.
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from stepscope_commands._options import (
    Device,
    DeviceMap,
    Dtype,
    Executor,
    Frames,
    Guidance,
    Lora,
    Model,
    Offload,
    Pixels,
    Revision,
    Samples,
    Steps,
)

if TYPE_CHECKING:
    import interp


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options of runs that may be changed, and so are sampled without a solver's memory."""

    model: Model = "tinywan"
    revision: Revision = None
    lora: Lora = None
    samples: Samples = None
    steps: Steps = None
    guidance: Guidance = None
    height: Pixels = None
    width: Pixels = None
    frames: Frames = None
    device: Device = None
    dtype: Dtype = None
    offload: Offload = None
    device_map: DeviceMap = None
    executor: Executor = "local"

    @property
    def asked(self) -> dict[str, Any]:
        """Sampler settings by name; None where the defaults stay."""
        names = ("steps", "guidance", "height", "width", "frames")
        return {name: getattr(self, name) for name in names}

    def check(self, *, batch: int) -> None:
        """Refuse what cannot make runs, before weights are loaded.

        Args:
            batch: Runs that one call of the pipeline makes.

        Raises:
            BadInput: with what there is.
        """
        from interp import batching, executors

        executors.check(self.executor, device_map=self.device_map)
        batching.check(batch)

    def load(self) -> "interp.Model":
        """The model; where others make the runs, its weights stay off the GPU here."""
        import torch

        import interp

        elsewhere = self.executor != "local"
        model = interp.load(
            self.model,
            dtype=getattr(torch, self.dtype or "bfloat16") if self.dtype or self.executor == "gpus" else None,
            device="cpu" if elsewhere else self.device,
            loras=self.lora or (),
            revision=self.revision,
            offload=None if elsewhere else self.offload,
            device_map=None if elsewhere else self.device_map,
            scheduler="euler",
        )
        if model.recipe and elsewhere:
            model.recipe |= {"offload": self.offload, "device_map": self.device_map, "device": self.device}
        return model

    def student_of(self, named: str | None) -> str:
        """The distilled model that stands beside the model: what is named, or tinywan's own; empty for none."""
        own = "tinywan-few-step" if self.model == "tinywan" else ""
        return own if named is None else "" if named == "none" else named
