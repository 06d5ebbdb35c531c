"""Every choice of a training run, in one place; `PRESETS` names two sets of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from interp.worlds import FRAMES, SIZE


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shapes of tinywan. One latent cell, and so one token, is one 8×8-pixel cell of a world's board."""

    latent_channels: int = 16
    vae_dim: int = 16
    vae_mult: tuple[int, ...] = (1, 2, 4)
    vae_patch: int = 2
    """Pixels folded into channels before the first convolution, as Wan2.2-TI2V-5B does: a quarter of the cost."""
    layers: int = 12
    heads: int = 8
    head_dim: int = 32
    ffn_dim: int = 1024
    text_dim: int = 128
    text_layers: int = 2
    max_sequence_length: int = 48
    shift: float = 3.0
    """Of the flow-matching schedule, in training and in sampling."""


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """How the autoencoder is trained."""

    steps: int = 9000
    batch: int = 32
    rate: float = 2e-3
    kl: float = 3e-5
    """Weight of the KL term against the mean absolute error, both means over their elements."""


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """How transformer and text encoder are trained, jointly."""

    steps: int = 2800
    batch: int = 256
    rate: float = 6e-4
    warmup: int = 200
    ema: float = 0.999
    drop_prompt: float = 0.1
    pool: int = 98_304
    """Samples whose latents are held on the device."""
    refresh: int = 1024
    """Samples of the pool that are replaced by new ones every `refresh_every` steps."""
    refresh_every: int = 64


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How success is measured."""

    n: int = 200
    """Samples for each family, split and difficulty."""
    steps: int = 20
    guidances: tuple[float, ...] = (1.5, 3.0, 5.0)
    """Tried on validation samples; the best one is shipped."""
    n_choice: int = 96
    """Validation samples for each guidance, and for each number of steps."""
    other_steps: tuple[int, ...] = (4, 10, 50)
    batch: int = 200


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run."""

    out: Path
    families: tuple[str, ...] = ("maze",)
    seed: int = 0
    device: str = "cpu"
    compile: bool = False
    height: int = SIZE
    width: int = SIZE
    frames: int = FRAMES
    model: ModelConfig = field(default_factory=ModelConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def model_folder(self) -> Path:
        """Where the finished pipeline is written."""
        return self.out / "model"


def preset(name: str, *, out: Path, **changes: object) -> Config:
    """The choices called `name`: `full` is what is shipped, `dry` runs every line in a minute on a CPU."""
    config = Config(out=out)
    if name == "dry":
        config = replace(
            config,
            vae=replace(config.vae, steps=4, batch=2),
            transformer=replace(config.transformer, steps=4, batch=4, warmup=2, pool=12, refresh=6, refresh_every=2),
            evaluation=replace(
                config.evaluation, n=2, steps=2, guidances=(1.5, 3.0), n_choice=3, other_steps=(1,), batch=3
            ),
        )
    elif name != "full":
        raise ValueError(f"no preset {name!r}; there are: dry, full")
    return replace(config, **changes)  # pyright: ignore[reportArgumentType]
