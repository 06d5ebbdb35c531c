"""Kinds of models that can be trained: one file each, which says what of them is not common to all."""

from __future__ import annotations

from torch import nn

from training.config import ModelConfig
from training.families._base import ENCODE, Encoder, Family, Parts
from training.families.cogvideox import CogVideoX
from training.families.wan import Wan

__all__ = ["ENCODE", "FAMILIES", "Encoder", "Family", "Parts", "named", "of"]
FAMILIES: tuple[Family, ...] = (Wan(), CogVideoX())


def named(config: ModelConfig) -> Family:
    """The family that `config` describes a model of."""
    return next(family for family in FAMILIES if family.name == config.family)


def of(module: nn.Module) -> Family:
    """The family that an autoencoder or a denoiser belongs to."""
    return next(family for family in FAMILIES if isinstance(module, (family.autoencoder, family.denoiser)))
