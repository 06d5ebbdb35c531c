"""What a CPU computes, by oneDNN where torch would take a slower way: convolutions of a VAE, matrices of a denoiser.

torch leaves a `conv3d` of a single video to oneDNN only above 20,480 values of channels × frames × rows; its rule is
that of pictures and overlooks the width (`use_mkldnn` in `aten/src/ATen/native/Convolution.cpp`). An autoencoder that
decodes frame after frame stays below it in most layers: decoding a video of tinywan took 0.46 s of CPU time that way
and takes 0.21 s by oneDNN. Matrices of float32 go to MKL, which on an AMD EPYC takes 3.5 ms for those of tinywan's MLP;
oneDNN takes 1.8 ms, as a convolution of kernel 1, and a forward 0.22 s instead of 0.34. On an Intel Xeon MKL is as it
should be, and the other way takes 1.2 times as long; so it is left there. All of this rounds: values differ by less
than 1e-4, as between a batch of one and of two.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any, Final

import torch

Tensor = torch.Tensor

FEW: Final = 64
"""Rows below which a matrix is left to torch: there, oneDNN takes longer to begin than to multiply."""


@cache
def mkl_is_slow() -> bool:
    """Whether torch multiplies by MKL on a processor that is not Intel's."""
    told = Path("/proc/cpuinfo")
    return torch.backends.mkl.is_available() and told.is_file() and "GenuineIntel" not in told.read_text()


def by_onednn(pipeline: Any) -> None:
    """Have the VAE's convolutions done by oneDNN wherever they are float32 on a CPU, and matrices where MKL is slow.

    Weights and results keep their names, shapes and types, and have gradients. Does nothing where torch was built
    without oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for module in _modules(pipeline, "vae"):
        if isinstance(module, torch.nn.Conv3d) and module.padding_mode == "zeros" and type(module.padding) is tuple:
            module._conv_forward = MethodType(_convolved, module)
    for module in _modules(pipeline, "transformer", "transformer_2") if mkl_is_slow() else ():
        if type(module) is torch.nn.Linear:
            module.__class__ = Linear  # as a class, since tracing wraps `forward`


def _modules(pipeline: Any, *parts: str) -> list[torch.nn.Module]:
    return [module for part in parts if (whole := getattr(pipeline, part, None)) for module in whole.modules()]


def _ours(value: Tensor) -> bool:
    """Whether a value is of the kind that oneDNN is given."""
    return value.device.type == "cpu" and value.dtype == torch.float32


def _convolved(module: torch.nn.Conv3d, value_bcfyx: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In the place of `torch.nn.Conv3d._conv_forward`."""
    if not _ours(value_bcfyx) or value_bcfyx.ndim != 5:
        return torch.nn.Conv3d._conv_forward(module, value_bcfyx, weight, bias)
    return torch.ops.aten.mkldnn_convolution(
        value_bcfyx, weight, bias, module.padding, module.stride, module.dilation, module.groups
    )


class Linear(torch.nn.Linear):
    """The same numbers but for rounding: a convolution of kernel 1 over rows that lie channels last."""

    def forward(self, input: Tensor) -> Tensor:
        """See `torch.nn.Linear.forward`."""
        rows = input.numel() // self.in_features
        if rows < FEW or not (_ours(input) and _ours(self.weight)):
            return super().forward(input)
        picture_bcyx = input.reshape(1, rows, 1, self.in_features).permute(0, 3, 1, 2)
        kernel = self.weight[:, :, None, None]
        out = torch.ops.aten.mkldnn_convolution(picture_bcyx, kernel, self.bias, (0, 0), (1, 1), (1, 1), 1)
        return out.permute(0, 2, 3, 1).reshape(*input.shape[:-1], self.out_features)
