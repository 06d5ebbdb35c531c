"""What counts as energy."""

from __future__ import annotations

from typing import Final

from analyses._energy_cells import KINDS

__all__ = ["KIND", "KINDS", "UNITS"]

KIND: Final = "kind"
"""Axis of what counts as energy."""
UNITS: Final = {
    "raw": "activation",
    "masked": "activation",
    "massive": "activation",
    "standardised": "deviations of the channel",
}
