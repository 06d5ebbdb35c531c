"""Compressed chunks: smaller, exact, and never silently wrong."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import store
from store import codecs, files, shard
from store.zarr_meta import ArrayMeta
from tests.store import small


def activations() -> np.ndarray:
    """Bits of bfloat16 `[frame, y, x, channel]` with massive channels."""
    rng = np.random.default_rng(0)
    size = np.exp(rng.normal(0, 0.5, 256))
    size[:4] = 200
    values = (rng.normal(0, 1, (2, 30, 40, 256)) * size).astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def meta(codec: codecs.Codec, dtype: str = "bfloat16") -> ArrayMeta:
    names, shape = ("frame", "y", "x", "channel"), activations().shape
    return ArrayMeta.sharded(names, shape, dtype, files_along=(), split="frame", codec=codec, attributes={})


@pytest.mark.parametrize("codec", ["none", "zstd", "blosc"])
def test_a_shard_comes_back(tmp_path, codec):
    """Every codec with every dtype: stores of before `blosc` hold floats in zstd."""
    values = activations()
    written = files.write_new(tmp_path / "shard", shard.encode(values, meta(codec)))
    np.testing.assert_array_equal(shard.read(tmp_path / "shard", meta(codec), written.nbytes), values)
    assert ArrayMeta._from_json(json.loads(meta(codec).to_json())) == meta(codec)


def test_blosc_shuffles_before_it_compresses():
    values = activations()
    sizes = {codec: len(codecs.compress(codec, values)) for codec in ("zstd", "blosc")}
    assert sizes["blosc"] < 0.9 * sizes["zstd"] < 0.9 * values.nbytes


@pytest.mark.parametrize("codec", ["zstd", "blosc"])
@pytest.mark.parametrize("damage", ["cut", "header", "size", "nothing"])
def test_what_does_not_decompress_is_damaged(codec, damage):
    values = np.arange(20_000, dtype=np.uint8)
    packed = bytearray(codecs.compress(codec, values))
    out = np.empty(len(values) + (damage == "size"), np.uint8)
    if damage == "cut":
        del packed[len(packed) // 2 :]
    elif damage == "header":
        packed[:8] = bytes(8)
    elif damage == "nothing":
        packed = bytearray()
    with pytest.raises(ValueError, match=r"."):
        codecs.decompress(codec, memoryview(packed), out)


def test_compact_says_what_it_needs(acts, monkeypatch):
    codecs._blosc.cache_clear()
    monkeypatch.setitem(sys.modules, "numcodecs.blosc", None)
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        with pytest.raises(store.InvalidArray, match="numcodecs: install it, or write profile fast"):
            small.add_energy(writer, profile="compact")
        small.write_energy(writer, 0)
    codecs._blosc.cache_clear()
