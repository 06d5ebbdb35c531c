"""Stage `transformer`: denoiser and text encoder, jointly, by flow matching on a pool of latents.

x_s = (1-s)·x0 + s·noise, and the model learns the velocity noise - x0, conditioned exactly as
`WanImageToVideoPipeline` conditions it when it samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn

from training import answers, checkpoint, data, loop, parallel
from training.config import Config
from training.model import Parts

if TYPE_CHECKING:
    from training.session import Session

TRAINED = ("transformer", "text_encoder")


class SelfAttention:
    """What `WanAttnProcessor` computes in self-attention, to be compiled for training.

    The original writes the turned pairs into two slices of an empty tensor, of which the compiler makes a kernel that
    took 43 of the 154 ms of a training step on one H200.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Output of the layer, as `hidden_states` `[n, tokens, channels]`."""
        assert rotary_emb is not None
        cos, sin = rotary_emb[0][..., 0::2], rotary_emb[1][..., 1::2]

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1))

        def turned(x: Tensor) -> Tensor:
            first, second = heads(x).unflatten(-1, (-1, 2)).unbind(-1)
            pairs = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
            return pairs.flatten(-2).type_as(x)

        q, k = turned(attn.norm_q(attn.to_q(hidden_states))), turned(attn.norm_k(attn.to_k(hidden_states)))
        v = heads(attn.to_v(hidden_states))
        found = nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return attn.to_out[0](found.transpose(1, 2).flatten(2).type_as(q))


def load(config: Config, parts: Parts) -> None:
    """Put the averaged weights into `parts`."""
    tensors, _ = checkpoint.load(config.checkpoint("transformer"))
    for name in TRAINED:
        module = getattr(parts, name)
        module.load_state_dict(checkpoint.under(f"ema.{name}", tensors), strict=name == "transformer")


def embed(parts: Parts, ids: Tensor) -> Tensor:
    """Prompt embeddings as the pipeline makes them: zero where the prompt has ended."""
    mask = (ids != parts.tokenizer.pad_token_id).long()
    return parts.text_encoder(ids, mask).last_hidden_state * mask[:, :, None]


def velocity(config: Config, parts: Parts, noisy: Tensor, condition: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
    """The denoiser's velocity, float32 `[n, C, T, h, w]`, at noise level `sigma` `[n]` for embeddings `text`."""
    inputs = torch.cat([noisy, data.mask_channels(noisy), condition], dim=1)
    with torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.device != "cpu"):
        result = parts.transformer(
            hidden_states=inputs, timestep=1000 * sigma, encoder_hidden_states=text, return_dict=False
        )[0]
    return result.float()


def noise_levels(n: int, generator: torch.Generator, *, shift: float, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Sigmas `[n]` between `low` and `high`: a logit-normal number, shifted towards noise."""
    ends = torch.tensor([low, high], dtype=torch.float64)
    below = torch.special.ndtr(torch.logit(ends / (shift - (shift - 1) * ends)))  # share of numbers below each end
    u = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
    u = below[0].item() + (below[1] - below[0]).item() * u.clamp(1e-7, 1 - 1e-7)
    plain = torch.sigmoid(torch.special.ndtri(u))
    return (shift * plain / (1 + (shift - 1) * plain)).float()


def flow_matching(
    config: Config,
    parts: Parts,
    batch: tuple[Tensor, Tensor, Tensor],
    generator: torch.Generator,
    *,
    low: float = 0.0,
    high: float = 1.0,
    among: answers.Ambiguous | None = None,
) -> Tensor:
    """Mean squared error of the velocity at noise levels between `low` and `high`.

    Args:
        config: Noise levels.
        parts: The model.
        batch: Latents, condition and ids of samples, one answer each.
        generator: Of noise and noise levels.
        low: Lowest noise level.
        high: Highest noise level.
        among: Ambiguous samples to learn from as well. What is learned of them is the velocity to the mean over their
            answers given x_s, half of the time where these are chosen.
    """
    latents, condition, ids = batch
    sigma = _levels(config, len(latents), generator, low=low, high=high)
    if among is not None:
        early = 1 - config.transformer.choosing * torch.rand(
            len(among.valid), generator=generator, device=sigma.device
        ).pow(2)
        anywhere = _levels(config, len(early), generator, low=low, high=high)
        half = torch.arange(len(early), device=sigma.device) % 2 == 0
        sigma = torch.cat([sigma, torch.where(half, early.clamp_min(low), anywhere)])
        latents, condition, ids = (
            torch.cat(pair) for pair in ((latents, among.latents), (condition, among.condition), (ids, among.ids))
        )
    s = sigma.view(-1, 1, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    noisy, target = (1 - s) * latents + s * noise, noise - latents
    if among is not None:
        n = len(among.valid)
        mean = answers.expected(among.answers, among.valid, noisy[-n:], sigma[-n:])
        target[-n:] += (latents[-n:] - mean) / s[-n:].clamp_min(answers.SMALLEST)
    with torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.device != "cpu"):
        text = embed(parts, ids)
    return (velocity(config, parts, noisy, condition, sigma, text) - target).pow(2).mean()


def _levels(config: Config, n: int, generator: torch.Generator, *, low: float, high: float) -> Tensor:
    """Noise levels `[n]`, a share of them at 1 exactly."""
    sigma = noise_levels(n, generator, shift=config.model.shift, low=low, high=high)
    if high < 1:
        return sigma
    pure = torch.rand(n, generator=generator, device=sigma.device) < config.transformer.pure_noise
    return torch.where(pure, torch.ones_like(sigma), sigma)


def window(config: Config, step: int) -> int:
    """Samples of the stream that the pool has seen in `step`."""
    options = config.transformer
    return options.pool + step // options.refresh_every * options.refresh


def among(session: Session, pool: data.LatentPool, generator: torch.Generator) -> answers.Ambiguous | None:
    """The ambiguous part of a batch, where there is one."""
    options = session.config.transformer
    known = session.answers(pool) if options.ambiguous else None
    return None if known is None else known.batch(options.ambiguous, generator, drop=options.drop_prompt)


def train(session: Session) -> None:
    """Train and write the checkpoint; continues where an earlier try stopped."""
    config = session.config
    options = config.transformer
    parts = session.parts(trained=False)
    if config.compile:
        for block in parts.transformer.blocks:
            block.attn1.set_processor(SelfAttention())
        parts.transformer.compile_repeated_blocks(fullgraph=True)
    model = nn.ModuleDict({name: getattr(parts, name) for name in TRAINED})

    def loss(step: loop.Step) -> tuple[Tensor, dict[str, Tensor]]:
        pool = session.pool(parts, window(config, step.number))
        batch = pool.batch(options.batch, step.generator, drop=options.drop_prompt)
        value = flow_matching(config, parts, batch, step.generator, among=among(session, pool, step.generator))
        return value, {"loss": value.detach()}

    loop.run(
        config,
        options,
        stage="transformer",
        file=config.checkpoint("transformer"),
        weights=dict(model.named_parameters()),
        loss=loss,
        extra=lambda step: {"window": (seen := window(config, max(0, step - 1))), "samples": seen * parallel.size()},
    )
