"""Swap whole layers for those of another run (E7)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from interp.interventions._registry import interventions
from interp.interventions.patch import Patch


class Swap(Patch):
    """The paper's layer swap: the residual stream behind layers, whole, as another run has it.

    A `Patch` of `resid_post` with all video tokens, under the name that the experiment has. Replacing all tokens of a
    layer fixes most of what follows, so report a grid of layers × steps, never one cell.

    Source: SCIENCE.md, E7.
    """

    kind = "swap"

    site: Literal["resid_post"] = "resid_post"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Always the residual stream behind a block."""
    region: None = None
    """Always all video tokens."""
    heads: None = None
    """Never single heads."""
    reset: Literal[False] = Field(default=False)


interventions.add(Swap.kind, Swap)
