"""Every choice of a training run, in one place; `preset` names two sets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from interp.worlds import FRAMES, SIZE

WEIGHTS: Mapping[str, int] = {
    "bounce": 3,
    "maze": 2,
    "weighted_grid": 2,
    "key_door": 2,
    "rotation": 2,
    "sort_sizes": 2,
    "colour_sequence": 2,
    "size_pattern": 2,
}
"""Turns that a family takes where it is more than one: what has more to learn is shown more."""
CROWDED: Mapping[str, int] = {
    "hide": 3,
    "maze": 4,
    "key_door": 8,
    "sort_sizes": 12,
    "detour": 2,
    "leave_return": 4,
    "move_two": 2,
    "weighted_grid": 3,
}
"""The same for the VAE: families in which things pass so close that it is the one to lose them.

`sort_sizes` most of all: with 4 turns, samples in which three bars cross came back at 0.73, below what `worlds check`
asks, and `key_door` with 3 at 0.80, where a key passes over its agent. Twelve and eight make them 24 and 16 % of what
the VAE sees."""
TRAINED = ("vae", "transformer", "few_step", "expert_high", "expert_low")
"""What has a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shapes that every family of models has. One token is one 8×8-pixel cell of a world's board."""

    name: ClassVar[str]
    """Of the model that ships."""
    family: ClassVar[str]
    """File in `training/families` that builds, trains and samples it."""
    latent_channels: int
    vae_dim: int
    vae_mult: tuple[int, ...] = (1, 2, 4)
    layers: int
    heads: int = 8
    head_dim: int = 32
    text_dim: int = 128
    text_layers: int = 3
    max_sequence_length: int = 48
    shift: float = 3.0
    """Of the sampler's noise levels towards noise, in training and in sampling."""

    @property
    def cell(self) -> int:
        """Pixels along a latent cell."""
        return 2 ** (len(self.vae_mult) - 1)


@dataclass(frozen=True, kw_only=True)
class WanConfig(ModelConfig):
    """Shapes of tinywan: a latent cell is a token."""

    name = "tinywan"
    family = "wan"
    latent_channels: int = 24
    vae_dim: int = 24
    vae_decoder_dim: int = 32
    vae_patch: int = 2
    """Pixels folded into channels before the first convolution, as Wan2.2-TI2V-5B does: a quarter of the cost."""
    layers: int = 12
    ffn_dim: int = 1280

    @property
    def cell(self) -> int:
        """See `ModelConfig.cell`."""
        return self.vae_patch * super().cell


@dataclass(frozen=True, kw_only=True)
class CogVideoXConfig(ModelConfig):
    """Shapes of tinycog: a token is `patch`×`patch` latent cells."""

    name = "tinycog"
    family = "cogvideox"
    latent_channels: int = 8
    vae_dim: int = 16
    vae_groups: int = 4
    layers: int = 10
    patch: int = 2
    time_dim: int = 32
    """Of the embedded timestep, from which every block makes its scales, shifts and gates: most of its weights."""


MODELS: Mapping[str, type[ModelConfig]] = {one.name: one for one in (WanConfig, CogVideoXConfig)}
"""Models that can be trained, by name."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How one set of weights is trained: on half a cosine, which ends when steps or minutes are used up."""

    steps: int | None = None
    """None leaves the end to `minutes`."""
    minutes: float | None = None
    """Of wall time for the whole stage, filling the pool included; None leaves the end to `steps`."""
    batch: int
    """Samples a step on each device."""
    rate: float
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.0
    """Decay of the averaged weights; 0 averages none."""
    muon: bool = False
    """Muon for the matrices of transformer blocks, in place of AdamW, at the same rate."""


@dataclass(frozen=True, kw_only=True)
class VaeConfig(Fit):
    """How the autoencoder is trained."""

    steps: int | None = 9000
    batch: int = 32
    rate: float = 1.5e-3
    weight_decay: float = 1e-4
    kl: float = 3e-5
    """Weight of the KL term against the mean absolute error, both means over their elements."""
    worst: float = 0.6
    """Weight of the error at the worst places; see `vae.crowded`."""
    pool: int = 32_768
    """Videos that each device draws from, of every family and split."""
    weights: Mapping[str, int] = field(default_factory=lambda: CROWDED)
    """Turns of a family where it is more than one."""
    decoder_only: bool = False
    """Leave the encoder of an earlier training as it is, so that latents stay what the transformer knows."""
    hold: float = 0.0
    """Instead: let it change, at this price for a mean squared move of the latents in units of their variance."""


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Fit):
    """How transformer and text encoder are trained, jointly."""

    steps: int | None = 6000
    batch: int = 256
    rate: float = 1e-3
    ema: float = 0.999
    muon: bool = True
    drop_prompt: float = 0.1
    pure_noise: float = 0.05
    """Share of samples at noise level 1 exactly, where every sampling starts and random levels never are."""
    pool: int = 131_072
    """Samples whose latents each device holds."""
    refresh: int = 8192
    """Samples of the pool that are replaced by new ones every `refresh_every` steps."""
    refresh_every: int = 192
    ambiguous: int = 96
    """Samples a step, on top of `batch`, of which all valid answers are known; their target is the mean over these."""
    answer_pool: int = 16_384
    """Such samples whose latents each device holds."""
    choosing: float = 0.15
    """Noise levels down to one less this, where answers are chosen, that half of the ambiguous samples are at."""


@dataclass(frozen=True, kw_only=True)
class FewStepConfig(Fit):
    """How the few-step LoRA is distilled."""

    steps: int | None = 1200
    batch: int = 128
    rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 0.0
    ema: float = 0.99
    rank: int = 16
    sampler_steps: int = 4
    substeps: int = 6
    """Teacher's steps for one of the student's."""
    prompts: int = 10_240
    """Teacher's trajectories in each round, on all devices together."""
    rounds: int = 2
    """In the first, inputs are the teacher's; later, where the student itself would be."""


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig(Fit):
    """How the two experts are specialised, each as a LoRA on its own noise levels."""

    steps: int | None = 1000
    batch: int = 128
    rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 0.0
    ema: float = 0.99
    rank: int = 16
    boundary_ratio: float = 0.85
    """Noise level from which on the high-noise expert runs: with shift 3, in 7 of 20 steps."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How success is measured."""

    n: int = 200
    """Samples for each family, split and difficulty."""
    steps: int = 20
    guidances: tuple[float, ...] = (1.5, 2.5, 4.0)
    """Tried on validation samples; `evaluate.chosen` says which is shipped."""
    n_choice: int = 30
    """Validation samples of a family, for each guidance, number of steps and variant."""
    n_reconstruction: int = 8
    """True videos for each family, split and difficulty that go through the VAE."""
    other_steps: tuple[int, ...] = (4, 10, 50)
    n_ambiguous: int = 4
    """Ambiguous samples of a family of which `seeds` videos are made."""
    seeds: int = 200
    n_evidence: int = 32
    """Ambiguous samples of a family whose x̂0 is read at every step."""
    n_failures: int = 8
    """Failed samples in the picture."""
    batch: int = 400
    dtype: str = "float32"
    """Of the denoiser; the VAE and the text encoder stay in float32."""
    workers: int = 0
    """Processes on each device that make and score samples; 0 does it in this one."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run."""

    out: Path
    families: tuple[str, ...] = ("maze",)
    weights: Mapping[str, int] = field(default_factory=lambda: WEIGHTS)
    seed: int = 0
    device: str = "cpu"
    compile: bool = False
    chunk: int = 1024
    """Samples drawn at once: many, so that a GPU is not kept waiting by the number of its kernels."""
    checkpoint_seconds: float = 60.0
    height: int = SIZE
    width: int = SIZE
    frames: int = FRAMES
    model: ModelConfig = field(default_factory=WanConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    few_step: FewStepConfig = field(default_factory=FewStepConfig)
    experts: ExpertsConfig = field(default_factory=ExpertsConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def checkpoint(self, stage: str) -> Path:
        """File of one of `TRAINED`."""
        return self.out / f"{stage}.safetensors"

    @property
    def measured(self) -> Path:
        """Where parts of an evaluation are kept."""
        return self.out / "measured"

    @property
    def model_folder(self) -> Path:
        """Where the finished pipeline is written."""
        return self.out / "model"


FULL: Mapping[str, Mapping[str, Any]] = {
    "tinycog": {
        "vae": VaeConfig(batch=16, rate=2e-3, pool=16_384),
        "transformer": TransformerConfig(pool=16_384, refresh=2048, answer_pool=4096),
        "evaluation": EvaluationConfig(n=100, n_ambiguous=2, seeds=100, n_evidence=16, n_choice=18),
    }
}
"""Choices that differ: tinycog has a tenth of tinywan's time, and an autoencoder that costs four times as much."""


def _dry(model: ModelConfig) -> ModelConfig:
    """`model` with next to no weights."""
    small = replace(model, layers=2, heads=2, text_dim=32, text_layers=1)
    return replace(small, ffn_dim=64) if isinstance(small, WanConfig) else small


def preset(name: str, *, out: Path, trained: str = "tinywan", **changes: object) -> Config:
    """The choices called `name` for the model `trained`: `full` is what is shipped, `dry` runs every line on a CPU."""
    config = Config(out=out, model=MODELS[trained](), **FULL.get(trained, {}))  # pyright: ignore[reportCallIssue]
    if name == "dry":
        config = replace(
            config,
            chunk=24,
            model=_dry(config.model),
            vae=replace(config.vae, steps=4, batch=2, pool=8),
            transformer=replace(
                config.transformer,
                steps=4,
                batch=4,
                warmup=2,
                pool=12,
                refresh=6,
                refresh_every=2,
                ambiguous=2,
                answer_pool=8,
            ),
            few_step=replace(config.few_step, steps=4, batch=2, warmup=2, prompts=4, substeps=2),
            experts=replace(config.experts, steps=2, batch=2, warmup=2),
            evaluation=replace(
                config.evaluation,
                n=2,
                steps=3,
                guidances=(1.5, 3.0),
                n_choice=3,
                n_reconstruction=1,
                other_steps=(1,),
                n_ambiguous=1,
                seeds=2,
                n_evidence=1,
                n_failures=2,
                batch=6,
            ),
        )
    elif name != "full":
        raise ValueError(f"no preset {name!r}; there are: dry, full")
    return replace(config, **changes)  # pyright: ignore[reportArgumentType]
