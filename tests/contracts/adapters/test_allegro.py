"""Allegro."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.contracts.adapters.contract import AdapterContract
from tests.contracts.adapters.support import NUMPY, RAW_SITES
from tests.tiny_models import allegro


@NUMPY
class TestAllegro(AdapterContract):
    build = staticmethod(allegro.pipeline)

    size: ClassVar[dict[str, Any]] = {"height": 128, "width": 128, "frames": 24, "max_sequence_length": 8}
    modules = RAW_SITES
    places = ((0, 0, 0), (1, 2, 4), (5, 7, 3), (2, 0, 7))
    refused: ClassVar = (
        ({"height": 136}, "multiple of 16"),
        ({"width": 144}, "128 + a multiple of 48"),
        ({"frames": 32}, "24 + a multiple of 16"),
    )
