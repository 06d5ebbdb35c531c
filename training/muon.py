"""Muon, for the hidden matrices of a transformer, beside AdamW for all other weights.

`torch.optim.Muon` orthogonalises one matrix after the other: thousands of kernels for a model of many small ones. Here
matrices of one shape are orthogonalised together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

Optimizers = list[tuple[torch.optim.Optimizer, list[str]]]
"""Optimizers, each with the names of its weights."""
STEPS = 5
HIDDEN = re.compile(r"^transformer\.(transformer_)?blocks\.\d+\.(?!norm)")
"""Names of what is inside of transformer blocks; norms that are made of the timestep have matrices, too."""
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of a Newton-Schulz step (Jordan et al. 2024, "Muon: an optimizer for hidden layers")."""


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with the rate of an AdamW (`adjust_lr_fn="match_rms_adamw"`), on batches of matrices.

    Args:
        params: Matrices `[rows, columns]`.
        lr: Rate, as AdamW would have it.
        weight_decay: Decoupled.
    """

    def __init__(self, params: list[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step for all matrices that have a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault(weight.shape, []).append(weight)
            for shape, weights in shapes.items():
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                directions = orthogonal(torch.stack(self._momenta(weights, group["momentum"])))
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, list(directions.to(weights[0].dtype)), alpha=-rate)

    def _momenta(self, weights: list[nn.Parameter], momentum: float) -> list[Tensor]:
        """Nesterov momenta after the gradients of this step."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        return list(torch._foreach_lerp(gradients, buffers, momentum))


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, about: singular values of `[n, rows, columns]` become 0.7 to 1.2."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def optimizers(weights: Mapping[str, nn.Parameter], *, rate: float, weight_decay: float, muon: bool) -> Optimizers:
    """AdamW, and for matrices inside of transformer blocks Muon where it is asked for."""
    hidden = [name for name, weight in weights.items() if muon and weight.ndim == 2 and HIDDEN.search(name)]
    others = [name for name in weights if name not in set(hidden)]
    values = [weights[name] for name in others]
    fused = values[0].device.type != "cpu"
    adamw = torch.optim.AdamW(values, lr=rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=fused)
    found: Optimizers = [(adamw, others)]
    if hidden:
        found.append((Muon([weights[name] for name in hidden], lr=rate, weight_decay=weight_decay), hidden))
    return found
