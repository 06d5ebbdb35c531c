"""Stage `vae`: the autoencoder, on videos of every family and split."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interp.worlds import SPLITS
from training import checkpoint, data, families, loop, parallel
from training.config import Config, VaeConfig
from training.families import Family, Parts

if TYPE_CHECKING:
    from training.session import Session


def load(config: Config, parts: Parts) -> None:
    """Put the finished weights into `parts.vae`, and make it what its pipeline expects."""
    tensors, record = checkpoint.load(config.checkpoint("vae"))
    parts.vae.load_state_dict(checkpoint.under("model", tensors))
    families.of(parts.vae).settle(parts.vae, record)


def train(session: Session) -> None:
    """Train the autoencoder and write its checkpoint; continues where an earlier try stopped."""
    config = session.config
    options = config.vae
    vae = session.parts(vae_trained=False, trained=False).vae
    family = families.of(vae)
    known_moments: dict[str, Any] = {}
    if options.decoder_only or options.hold:
        record = checkpoint.record(config.checkpoint("vae"))
        if not record:
            raise ValueError(f"no trained encoder in {config.checkpoint('vae')}; train the whole VAE first")
        known_moments = {name: record[name] for name in family.measures}
    if options.decoder_only:
        for part in (vae.encoder, vae.quant_conv):
            if part is not None:
                part.requires_grad_(False)
    channels_last(vae)
    former = _former(config, session) if options.hold else None
    autoencode = functools.partial(_autoencode, family)
    autoencode = torch.compile(autoencode, dynamic=False) if config.compile else autoencode
    videos = functools.cache(lambda: _videos(config))
    shape = (options.batch, config.model.latent_channels, *data.latent_grid(config))

    def loss(step: loop.Step) -> tuple[Tensor, dict[str, Tensor]]:
        known, rarities = videos()
        rows = torch.randint(len(known), (options.batch,), generator=step.generator, device=config.device)
        video = data.to_model(known[rows]).contiguous(memory_format=torch.channels_last_3d)
        noise = torch.randn(shape, generator=step.generator, device=config.device)
        with torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.device != "cpu"):
            decoded, mean, logvar = autoencode(vae, video, noise)
        error = decoded.float() - video
        weighted = (rarities[rows].float()[:, None] * (error.abs() + error.pow(2))).mean()
        worst = crowded(error)
        told = {"error": error.detach().abs().mean(), "weighted": weighted.detach(), "worst": worst.detach()}
        total = weighted + options.worst * worst
        if former is not None:
            with torch.no_grad():
                old, _ = family.posterior(former, video)
            moved = (mean.float() - old).pow(2).mean() / old.var()
            return total + options.hold * moved, {**told, "moved": moved.detach()}
        kl = 0.5 * (mean.float().pow(2) + logvar.float().exp() - 1 - logvar.float()).mean()
        return total + (0.0 if options.decoder_only else options.kl * kl), told

    loop.run(
        config,
        options,
        stage="vae",
        file=config.checkpoint("vae"),
        weights=dict(vae.named_parameters()),
        loss=loss,
        extra=lambda step: {
            **({"part": part} if (part := _part(options)) else {}),
            **(known_moments or _moments(family, vae, data.to_model(videos()[0][:512]))),
            "samples": options.pool * parallel.size(),
        },
    )


def _part(options: VaeConfig) -> str:
    """What of it is trained on, in words; empty for all of it."""
    if options.decoder_only:
        return "decoder alone"
    return f"latents held at {options.hold:g}" if options.hold else ""


def _former(config: Config, session: Session) -> nn.Module:
    """The VAE as the checkpoint had it when this training began, whose latents the transformer knows."""
    file = config.out / "vae-former.safetensors"
    if not file.exists():
        tensors, _ = checkpoint.load(config.checkpoint("vae"))
        save_file({name: tensor.contiguous() for name, tensor in checkpoint.under("model", tensors).items()}, file)
    vae = session.parts(vae_trained=False, trained=False).vae
    vae.load_state_dict(load_file(file, device=str(config.device)))
    channels_last(vae)
    return vae.requires_grad_(False)


def crowded(error: Tensor) -> Tensor:
    """Error where it is crowded: the fourth-power mean over places of the mean absolute error around each.

    A scorer looks at the worst place of a frame, and a mean over a whole video does not see one lost thing. Nor does
    one over videos see the few that lose it: theirs is a quadratic one.

    Args:
        error: `[n, 3, F, H, W]`.

    Returns:
        Root mean square over the videos; a place is a window of 8×8 pixels, at every fourth one.
    """
    around = nn.functional.avg_pool2d(error.abs().amax(dim=1), 8, stride=4)
    return around.flatten(1).pow(4).mean(dim=1).clamp_min(1e-12).sqrt().mean().sqrt()


def channels_last(module: nn.Module) -> None:
    """Store the kernels of 3-D convolutions channels last, which is what the GPU computes with."""
    for weight in module.parameters():
        if weight.dim() == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)


def _autoencode(family: Family, vae: nn.Module, video: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Video, mean and log-variance of the posterior for `video`, with `noise` in place of a random draw."""
    mean, logvar = family.posterior(vae, video)
    return family.decoded(vae, mean + (0.5 * logvar).exp() * noise), mean, logvar


def _videos(config: Config) -> tuple[Tensor, Tensor]:
    """Videos uint8 `[n, F, H, W, 3]` and the weight of each pixel, float16 `[n, F, H, W]`."""
    mix = data.Mix(
        families=config.families,
        seed=data.stream(config, "vae"),
        device=config.device,
        splits=SPLITS,
        weights=config.vae.weights,
    )
    starts = range(0, config.vae.pool, config.chunk)
    parts = [mix.draw(start, min(config.chunk, config.vae.pool - start))[0] for start in starts]
    return torch.cat(parts), torch.cat([rarity(part) for video in parts for part in video.split(128)])


def rarity(video: Tensor) -> Tensor:
    """Weight of each pixel, so that a small thing in a big picture is learned too.

    Args:
        video: uint8 `[n, F, H, W, 3]`.

    Returns:
        float16 `[n, F, H, W]`: one over the root of the colour's share of the video, over its mean; three times
        as much in the first frame, which has a latent frame of its own where others have a quarter.
    """
    red, green, blue = (video >> 4).long().unbind(dim=-1)
    colour = (red * 256 + green * 16 + blue).flatten(1)
    count = torch.zeros(len(video), 4096, device=video.device).scatter_add_(1, colour, torch.ones_like(colour).float())
    weight = (count.gather(1, colour) / colour.shape[1]).rsqrt()
    weight = (weight / weight.mean(dim=1, keepdim=True)).view(video.shape[:-1])
    weight[:, 0] *= 3
    return weight.half()


@torch.no_grad()
def _moments(family: Family, vae: nn.Module, video: Tensor) -> dict[str, Any]:
    """How the latents of `video` are to be normalised."""
    return family.moments(torch.cat([family.posterior(vae, part)[0] for part in video.split(data.ENCODE)]))
