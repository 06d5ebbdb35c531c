"""A loaded pipeline with what tracing needs to know about it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from pydantic import ValidationError
from transformers.utils import logging as transformers_logging

from interp import bundled
from interp.adapters import ModelAdapter, adapt
from interp.errors import BadInput, UnknownModel
from interp.geometry import Geometry
from interp.lora import Lora, apply, own_weights
from interp.memory import keep_pages
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

    def __repr__(self) -> str:
        parameters = sum(p.numel() for module in self.adapter.denoisers().values() for p in module.parameters())
        size = f"{parameters / 1e6:.1f} M denoiser parameters"
        return f"Model({self.id}: {type(self.pipeline).__name__}, {size}, {self.device})"


def finished(output: Any) -> torch.Tensor:
    """The video of a pipeline's output (`output_type="pt"`), uint8 `[frame, y, x, channel]` on the CPU."""
    return to_uint8(output.frames[0]).permute(0, 2, 3, 1).contiguous().cpu()


def load(
    name_or_path: str | Path | DiffusionPipeline,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    loras: Sequence[Lora | str] = (),
) -> Model:
    """Load a model.

    Args:
        name_or_path: A bundled model (`tinywan`, `tinywan-few-step`, `tinywan-experts`), a folder as
            `save_pretrained` writes it, a hub id, or a pipeline that is loaded already (which is left where it is).
        dtype: Of the weights; float32 on a CPU and bfloat16 on a GPU where not given.
        device: The GPU if there is one, where not given.
        loras: LoRAs to apply, in order, as `Lora` or as text, see `Lora.parse`.

    Raises:
        UnknownModel: if there is no such model.
        BadInput: if a LoRA does not load or fit.
        UnsupportedModel: if no adapter knows its pipeline.
    """
    wanted = [Lora.parse(lora) if isinstance(lora, str) else lora for lora in loras]
    if isinstance(name_or_path, DiffusionPipeline):
        return Model(name_or_path, id=_name_of(name_or_path), loras=apply(name_or_path, wanted))
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = dtype or (torch.float32 if where.type == "cpu" else torch.bfloat16)
    if where.type == "cpu":
        keep_pages()
    variant = bundled.VARIANTS.get(str(name_or_path))
    folder = _folder(variant.base if variant else str(name_or_path))
    source = str(folder or name_or_path)
    try:
        with _quiet() if folder and folder.parent == bundled.FOLDER else nullcontext():
            pipeline = DiffusionPipeline.from_pretrained(source, dtype=kind)
    except (OSError, ValueError) as error:
        raise UnknownModel(f"cannot load {str(name_or_path)!r}: {_first_line(error)}") from error
    defaults: dict[str, Any] = {}
    if folder and (folder / bundled.DEFAULTS_FILE).exists():
        defaults = json.loads((folder / bundled.DEFAULTS_FILE).read_text())
    own: tuple[Adapter, ...] = ()
    if variant:
        own, settings = bundled.specialise(pipeline, variant)
        defaults |= settings
    applied = own + apply(pipeline, wanted)
    revision = "" if folder else str(pipeline.config.get("_commit_hash") or "")
    id = str(name_or_path) if variant else folder.name if folder else source
    return Model(pipeline.to(where), id=id, revision=revision, defaults=defaults, loras=applied)


def _folder(name: str) -> Path | None:
    """The folder that `name` means, or None where it can only be a hub id."""
    if (bundled.FOLDER / name / "model_index.json").exists() and "/" not in name:
        return bundled.FOLDER / name
    path = Path(name)
    if path.is_dir():
        if not (path / "model_index.json").exists():
            raise UnknownModel(f"{name} is a folder without model_index.json: not a saved diffusers pipeline")
        return path.resolve()
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UnknownModel(
            f"no model {name!r}: bundled are {', '.join(bundled.names()) or 'none'}; "
            "or give a folder with model_index.json, or a hub id such as Wan-AI/Wan2.2-I2V-A14B-Diffusers"
        )
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """No loading bars: a bundled model is there in a second."""
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in (diffusers_logging, transformers_logging):
            library.enable_progress_bar()


def _name_of(pipeline: DiffusionPipeline) -> str:
    name = str(getattr(pipeline, "config", {}).get("_name_or_path") or "")
    return Path(name).name if Path(name).exists() else name or type(pipeline).__name__


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
