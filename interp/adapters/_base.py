"""What a model family must say about itself so that it can be traced."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import PIL.Image
import torch

from interp import noise
from interp.errors import BadInput, UnsupportedModel
from interp.geometry import Geometry, Grid
from interp.sites import LayerSite
from store.records import Sample, SamplerSettings

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

Tensor = torch.Tensor

Layout = Literal["named", "batch", "order", "cond"]
"""How a family runs guidance: forwards named by `cache_context("cond")` or `("uncond")`; both branches as rows of one
forward, uncond first; nameless forwards in the order of `ModelAdapter.order`; or the cond branch alone, guidance
being an input of the denoiser or distilled into it."""


class Forward(NamedTuple):
    """One call of a denoiser."""

    expert: str
    context: str | None
    """Name of the `cache_context` under which the pipeline called it, if any."""
    rows: int
    """Rows of its batch that belong to each run: with 2, those of all runs under one branch, then under the other."""
    number: int
    """Forwards that this step had before it."""
    inputs: Mapping[str, Any]
    """What the denoiser was given, by the names of its parameters."""


class Place(NamedTuple):
    """Where a layer's value was seen."""

    site: str
    layer: int
    forward: Forward


def block_sites(
    attention: str = "attn1",
    *,
    cross: str | None = None,
    mlp: str = "ff",
    q: str = "norm_q",
    k: str = "norm_k",
    v: str = "to_v",
    z: str = "to_out.0",
    pattern: bool = True,
) -> dict[str, str]:
    """`ModelAdapter.modules` of blocks that are built as most are.

    `q`, `k`, `v` and `z` lie in the module of attention; `pattern` is false where that is no softmax over all keys.
    """
    return {
        "resid_pre": "",
        "resid_post": "",
        "attn_out": attention,
        **({"cross_attn_out": cross} if cross else {}),
        "mlp_out": mlp,
        "q": f"{attention}.{q}",
        "k": f"{attention}.{k}",
        "v": f"{attention}.{v}",
        "z": f"{attention}.{z}",
        **({"pattern": attention} if pattern else {}),
    }


class ModelAdapter(ABC):
    """A family of video diffusion pipelines: its denoisers, their blocks, its token grid.

    An adapter holds no state besides the pipeline: it only answers questions about it. What is concrete here suits
    most families: one `transformer`, latents `[b, c, f, y, x]` of a causal VAE, tokens frame by frame and row by row.

    Shape legend: b batch rows, n tokens, c channels, f frames, y rows, x columns.
    """

    pipelines: ClassVar[tuple[str, ...]]
    """Class names of the diffusers pipelines that this adapter serves."""

    modules: ClassVar[Mapping[str, str]]
    """Layer site → path of its module inside a block, empty for the block itself; sites left out do not exist here."""

    layout: ClassVar[Layout]
    """How guidance runs."""
    order: ClassVar[tuple[str, ...]] = ("cond", "uncond")
    """Branches of the forwards of one step, where the layout is `order`."""
    text: ClassVar[Literal["none", "first", "last"]] = "none"
    """Where text tokens, or those of a history, lie in a value that holds them and the video's."""
    schedulers: ClassVar[Literal["one", "copies"]] = "one"
    """Whether it is the pipeline's scheduler that makes the steps, or copies of it, one for each latent frame."""
    restarts: ClassVar[bool] = True
    """Whether a run can begin at a later step, from x_s of the video alone: not where the pipeline draws noise at each
    step, denoises sound beside the video, steps frames by copies of its scheduler, or counts steps of its own."""
    exploding: ClassVar[bool] = False
    """Whether x_s is x0 + sigma·noise though its scheduler, a flow's, does not say so."""
    joint: ClassVar[bool] = False
    """Whether other tokens than the video's, text or a history, are among the keys of self-attention."""
    singles: ClassVar[Mapping[str, str]] = {}
    """Pipelines of which a call can make one video only, and why."""
    head_axis: ClassVar[int] = 2
    """Axis of the heads in a value of four axes: 1 for `[b, head, n, d]`, 2 for `[b, n, head, d]`."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.pipeline: Any = pipeline

    def denoisers(self) -> dict[str, torch.nn.Module]:
        """Expert name → denoiser, in the order in which they run."""
        return {"transformer": self.pipeline.transformer}

    def blocks(self, denoiser: Any) -> Sequence[torch.nn.Module]:
        """The transformer blocks of one denoiser, first to last: the layer axis."""
        return denoiser.transformer_blocks

    def module(self, block: torch.nn.Module, site: str) -> torch.nn.Module | None:
        """The module in `block` that `site` is read at, or None where this block has no such site."""
        return block.get_submodule(self.modules[site]) if site in self.modules else None

    def slot(self, block: torch.nn.Module, site: LayerSite) -> str:
        """Whether `site` is the `input` or the `output` of its module in `block`."""
        return site.slot

    def layers(self, site: str) -> tuple[int, ...]:
        """Layers that have `site`."""
        first = next(iter(self.denoisers().values()))
        return tuple(k for k, block in enumerate(self.blocks(first)) if self.module(block, site) is not None)

    @abstractmethod
    def defaults(self) -> dict[str, Any]:
        """Sampler settings of this family where nothing else is asked, without the scheduler."""

    def check(self, settings: SamplerSettings) -> None:
        """Refuse what the pipeline would refuse or silently change.

        Raises:
            BadInput: with the pipeline's rule.
        """
        check_size(settings, self.multiple)
        check_frames(settings.frames, self.time)
        check_single(settings)

    def geometry(self, settings: SamplerSettings) -> Geometry:
        """Shapes of a run with `settings`."""
        denoisers = self.denoisers()
        first = next(iter(denoisers.values()))
        latent = Grid(
            (settings.frames - 1) // self.time + 1, settings.height // self.space, settings.width // self.space
        )
        return Geometry(
            layers=len(self.blocks(first)),
            width=self.width,
            experts=tuple(denoisers),
            tokens=Grid(*(-(-cells // size) for cells, size in zip(latent, self.patch, strict=True))),
            latent=latent,
            latent_channels=self.channels,
            video=Grid(settings.frames, settings.height, settings.width),
            heads=self.heads,
        )

    @abstractmethod
    def inputs(self, sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
        """Keyword arguments of the pipeline call, without generator and output type."""

    @property
    def alone(self) -> str | None:
        """Why a call of this pipeline can make one video only; None where it makes several, each as by itself."""
        return self.singles.get(type(self.pipeline).__name__)

    def batched(self, each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Keyword arguments of one call that makes the videos of several: of `inputs`, with generator and output type.

        Prompts and generators become lists, so that each video is drawn as by itself, and pictures one tensor; the rest
        is the same in all.
        """
        joined = dict(each[0])
        for name in {"prompt", "negative_prompt", "generator"} & set(joined):
            joined[name] = [one[name] for one in each]
        if "image" in joined:
            joined["image"] = self.pictures([one["image"] for one in each], joined)
        return joined

    def pictures(self, images: Sequence[PIL.Image.Image], inputs: Mapping[str, Any]) -> Any:
        """First frames of a batch as the pipeline takes them.

        As a tensor `[b, 3, y, x]` in 0-1, resized as the pipeline resizes one, which then leaves it as it is.
        """
        processor = self.pipeline.video_processor
        fitted = [processor.resize(image, inputs["height"], inputs["width"]) for image in images]
        return processor.numpy_to_pt(processor.pil_to_numpy(fitted))

    def prepare(self, drawn_by: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What `prepare_latents` of the pipeline returns, `drawn_by` with these arguments."""
        return drawn_by(*args, **kwargs)

    def guidance(self, settings: SamplerSettings, expert: str) -> float:
        """The guidance scale in force while `expert` runs; 1.0 where only the cond branch runs."""
        return 1.0 if self.layout == "cond" else max(settings.guidance, 1.0)

    def rows(self, given: Mapping[str, Any]) -> int:
        """Rows of the batch that a denoiser is given, by the names of its parameters; of all runs."""
        return len(given["hidden_states"])

    def branches(self, forward: Forward) -> tuple[str, ...]:
        """Which branch each row of a forward belongs to; of a batch, the rows of its runs follow each other.

        Raises:
            UnsupportedModel: if the pipeline does not run as its family does in this version of diffusers.
        """
        if self.layout == "named" and forward.context in ("cond", "uncond"):
            return (forward.context,)
        if self.layout == "batch" and forward.rows <= 2:
            return ("uncond", "cond")[2 - forward.rows :]
        if self.layout == "order" and forward.rows == 1 and forward.number < len(self.order):
            return (self.order[forward.number],)
        if self.layout == "cond" and forward.rows == 1:
            return ("cond",)
        raise UnsupportedModel(
            f"{type(self.pipeline).__name__} ran forward {forward.number} of a step with {forward.rows} rows under the "
            f"context {forward.context!r}: this version of diffusers runs its branches in another way"
        )

    def hidden(self, value: Any, slot: str) -> Tensor:
        """The video's hidden state among what a module was given (`slot` is `input`) or returned (`output`)."""
        if slot == "input":
            args, kwargs = value
            return args[0] if args else kwargs["hidden_states"]
        return value[0] if isinstance(value, tuple) else value

    def replaced(self, value: Any, slot: str, hidden: Tensor) -> Any:
        """`value` with another hidden state of the video in it: the inverse of `hidden`."""
        if slot == "input":
            args, kwargs = value
            return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})
        return (hidden, *value[1:]) if isinstance(value, tuple) else hidden

    def prepared(self, latent: Tensor) -> Tensor:
        """The latent that `prepare_latents` of the pipeline returns, as the sampler holds it (a view)."""
        return latent

    def moving(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """The frames of a latent of the sampler that are denoised `[b, f, y, x, c]` (a view): all but those `held`."""
        grid = self.latent(latent, geometry)[..., : geometry.latent_channels]
        unseen = geometry.latent.frames - grid.shape[1]  # the scheduler may not see what is held
        return grid[:, self.held - unseen :]

    def clean_share(self, sigma: float) -> float:
        """Coefficient of x0 in x_s at the noise level `sigma`."""
        return 1.0 if self.exploding else noise.clean_share(self.pipeline.scheduler, sigma)

    @property
    def initial(self) -> float:
        """Standard deviation of the noise that sampling starts from."""
        return float(getattr(self.pipeline.scheduler, "init_noise_sigma", 1.0))

    def text_layers(self, site: str) -> tuple[int, ...]:
        """Layers whose value at `site` holds text tokens beside the video's."""
        return ()

    def text_tokens(self, hidden: Tensor, geometry: Geometry) -> Tensor:
        """Text tokens `[b, n, c]` of a value that holds them (see `text_layers`)."""
        if hidden.ndim == 4:
            hidden = hidden.movedim(self.head_axis, 2).flatten(2)
        count = math.prod(geometry.tokens)
        return hidden[:, : hidden.shape[1] - count] if self.text == "first" else hidden[:, count:]

    def tokens(self, hidden: Tensor, geometry: Geometry, place: Place) -> Tensor:
        """Video tokens `[b, f, y, x, c]` of a value, text tokens cut off; a view where heads are not apart."""
        if hidden.ndim == 4:
            hidden = hidden.movedim(self.head_axis, 2).flatten(2)
        count = math.prod(geometry.tokens)
        start = hidden.shape[1] - count if self.text == "first" else 0
        return hidden[:, start : start + count].unflatten(1, geometry.tokens)

    def predicted(self, output: Any, geometry: Geometry, forward: Forward) -> Tensor:
        """What a forward predicted, `[b, f, y, x, c]`, in the scheduler's parametrisation."""
        return self.latent(output[0], geometry)

    def whole_step(self, calls: Sequence[Mapping[str, Any]], forward: Forward) -> Mapping[str, Any] | None:
        """Arguments of a whole step, from those of the scheduler's calls since the last one, or None while it goes on.

        Most pipelines call the scheduler once a step.
        """
        return calls[-1]

    def given(self, sample: Tensor, guided: Tensor, geometry: Geometry, forward: Forward) -> tuple[Tensor, Tensor]:
        """x_s and the guided prediction `[b, f, y, x, c]` of a whole step, from what the scheduler was given.

        Where a pipeline holds cells fixed, x_s has the value that it imposes and the prediction is 0.
        """
        return self.latent(sample, geometry), self.latent(guided, geometry)

    def latent(self, latent: Tensor, geometry: Geometry) -> Tensor:
        """A latent video of the sampler as `[b, f, y, x, c]` (a view)."""
        return latent.permute(0, 2, 3, 4, 1)

    @abstractmethod
    def decode(self, latent_bfyxc: Tensor) -> Tensor:
        """Pixels `[b, f, y, x, 3]` of latent videos, in 0-1, exactly as the pipeline decodes its results."""

    @property
    def width(self) -> int:
        """Channels of the residual stream."""
        return self._config.num_attention_heads * self._config.attention_head_dim

    @property
    @abstractmethod
    def patch(self) -> tuple[int, int, int]:
        """Latent cells of one token: frames, rows, columns."""

    @property
    def channels(self) -> int:
        """Channels of the latent video."""
        return self.pipeline.vae.config.latent_channels

    @property
    def heads(self) -> int:
        """Heads of self-attention."""
        return self._config.num_attention_heads

    @property
    def held(self) -> int:
        """Latent frames, from the first on, that the pipeline holds fixed: what is changed there is overwritten."""
        return 0

    @property
    def space(self) -> int:
        """Pixels of one latent cell along y and x."""
        return self.pipeline.vae_scale_factor_spatial

    @property
    def time(self) -> int:
        """Video frames of one latent frame, but for the first, which is one frame."""
        return self.pipeline.vae_scale_factor_temporal

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this many pixels."""
        return self.space * max(self.patch[1:])

    @property
    def _config(self) -> Any:
        """Configuration of the first denoiser."""
        first: Any = next(iter(self.denoisers().values()))
        return first.config


def check_size(settings: SamplerSettings, multiple: int) -> None:
    """Refuse a picture that is no multiple of `multiple` pixels.

    Raises:
        BadInput: with the rule.
    """
    for name, value in (("height", settings.height), ("width", settings.width)):
        if value % multiple:
            raise BadInput(f"{name} {value} does not fit: this model needs a multiple of {multiple} pixels")


def check_frames(frames: int, time: int, *, first: int = 1) -> None:
    """Refuse a number of frames that is not `first` + a multiple of `time`.

    Raises:
        BadInput: with the rule and two numbers that fit.
    """
    if (frames - first) % time:
        near = (frames - first) // time * time + first
        rule = f"{first} + a multiple of {time}" if first else f"a multiple of {time}"
        raise BadInput(f"{frames} frames do not fit: this model needs {rule}, for example {near} or {near + time}")


def check_single(settings: SamplerSettings) -> None:
    """Refuse a guidance scale for a second denoiser.

    Raises:
        BadInput: if there is one.
    """
    if settings.guidance_2 is not None:
        raise BadInput("guidance_2 was given, but this model has one denoiser; leave it out")


def held_first(held: Tensor, latent: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    """x_s and guided velocity `[b, f, y, x, c]` behind frames that are held fixed: their velocity is 0."""
    return torch.cat([held.to(latent), latent], dim=1), torch.cat([velocity.new_zeros(held.shape), velocity], dim=1)


def pixels(pipeline: Any, video: Tensor) -> Tensor:
    """Pixels `[b, f, y, x, 3]`, in 0-1, of decoded videos `[b, 3, f, y, x]`."""
    return pipeline.video_processor.postprocess_video(video, output_type="pt").permute(0, 1, 3, 4, 2)


def question(sample: Sample, settings: SamplerSettings) -> dict[str, Any]:
    """The arguments that most pipelines call by the same names."""
    return {
        "prompt": sample.record.prompt,
        "negative_prompt": sample.record.negative_prompt,
        "height": settings.height,
        "width": settings.width,
        "num_frames": settings.frames,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "max_sequence_length": settings.max_sequence_length,
    }


def picture(sample: Sample) -> PIL.Image.Image:
    """The first frame of a sample."""
    return PIL.Image.fromarray(sample.first_frame)


def without(inputs: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """`inputs` but for those that a pipeline does not take."""
    return {name: value for name, value in inputs.items() if name not in set(names)}
