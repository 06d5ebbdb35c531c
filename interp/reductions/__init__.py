"""Reductions: what is kept of a site. One file each."""

from __future__ import annotations

from interp.reductions._base import Reduction
from interp.registry import Registry

reductions: Registry[Reduction] = Registry(kind="reduction", package=__name__)

__all__ = ["Reduction", "reductions"]
