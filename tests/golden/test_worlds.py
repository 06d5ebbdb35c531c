"""Samples are the same for ever: runs in stores name them by the hash of their contents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interp.worlds import SPLITS, worlds

GOLDEN = json.loads((Path(__file__).parent / "worlds.json").read_text())


@pytest.mark.parametrize("family", worlds.names())
def test_sample_ids_are_as_recorded(family: str) -> None:
    """A change here orphans what people have stored: raise it knowingly, and say so in the changelog."""
    found = {split: [sample.id for sample in worlds[family].generate(3, seed=0, split=split)] for split in SPLITS}
    assert found == GOLDEN[family]
