"""Runs of unequal labels, padded on request."""

from __future__ import annotations

import numpy as np
import pytest

import store
from tests.store import small


def load(acts, **options):
    return acts.load("resid_post", "energy", ragged="pad", **options)


def test_missing_steps_are_nan(acts):
    short, long = small.commit(acts, 0, steps=2), small.commit(acts, 1, steps=3)
    array = load(acts, runs=[short, long])
    assert array.shape == (2, 3, 1, 2, 3, 4, 4)
    np.testing.assert_array_equal(array.values[0, :2], small.energy(0, steps=2))
    assert np.isnan(array.values[0, 2]).all()
    np.testing.assert_array_equal(array.values[1], small.energy(1, steps=3))
    assert array.step.values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(array.sigma.values, [[1, 0.5, np.nan], [1, 2 / 3, 1 / 3]])
    assert array.expert.values[0].tolist() == ["transformer", "transformer_2", ""]
    one = array.isel(run=0, step=2, layer=1)
    assert one.shape == (1, 3, 4, 4)
    assert np.isnan(one.values).all()
    np.testing.assert_array_equal(
        load(acts, runs=[long, short], layer=1).mean("step").values[1, 0],
        small.energy(0, steps=2)[:, 0, 1].mean(axis=0),
    )


def test_layers_and_steps_at_once_in_any_order(acts):
    ids = [small.commit(acts, 0, steps=3, layers=2), small.commit(acts, 1, steps=2, layers=4)]
    values = load(acts, runs=ids).values
    assert values.shape == (2, 3, 1, 4, 3, 4, 4)
    np.testing.assert_array_equal(values[0, :, :, :2], small.energy(0, steps=3, layers=2))
    np.testing.assert_array_equal(values[1, :2], small.energy(1, steps=2, layers=4))
    missing = np.isnan(values).all(axis=(2, 4, 5, 6))
    assert missing.tolist() == [[[False, False, True, True]] * 3, [[False] * 4, [False] * 4, [True] * 4]]


@pytest.mark.parametrize("encoding", ["exact", "int8"])
def test_pictures_of_other_sizes(acts, encoding):
    sizes = {0: (2, 3, 4), 1: (1, 5, 2)}
    for seed, shape in sizes.items():
        with acts.begin_run(small.run(seed), small.PROVENANCE) as writer:
            writer.add_array(
                "q", "map", dims=("frame", "y", "x"), shape=shape, dtype="float32", coords={}, encoding=encoding
            )
            writer.write("q", "map", {}, np.full(shape, 1.0 + seed, np.float32))
            writer.commit(1.0)
    array = acts.load("q", "map", ragged="pad").sortby("seed")
    assert array.shape == (2, 2, 5, 4)
    for seed, (frames, height, width) in sizes.items():
        np.testing.assert_allclose(array.values[seed, :frames, :height, :width], 1.0 + seed)
        assert np.isfinite(array.values[seed]).sum() == frames * height * width


def test_whole_numbers_become_floats_only_where_some_are_missing(acts):
    for seed, frames in ((0, 2), (1, 3)):
        with acts.begin_run(small.run(seed), small.PROVENANCE) as writer:
            writer.add_array("output", "pixels", dims=("frame",), shape=(frames,), dtype="uint8", coords={})
            writer.write("output", "pixels", {}, np.arange(frames, dtype=np.uint8))
            writer.commit(1.0)
    padded = acts.load("output", "pixels", ragged="pad").sortby("seed")
    assert padded.dtype == np.float32
    np.testing.assert_array_equal(padded.values, [[0, 1, np.nan], [0, 1, 2]])
    alike = acts.load("output", "pixels", ragged="pad", where="seed = 1")
    assert alike.dtype == np.uint8


def test_other_axes_cannot_be_padded(acts):
    small.commit(acts, 0)
    with acts.begin_run(small.run(1), small.PROVENANCE) as writer:
        writer.add_array("resid_post", "energy", dims=("frame",), shape=(2,), dtype="float32", coords={})
        writer.write("resid_post", "energy", {}, np.zeros(2, np.float32))
        writer.commit(1.0)
    with pytest.raises(store.RaggedRuns, match=r"other axes, \[frame\] and \[step, branch, layer, frame, y, x\]"):
        load(acts)


def test_alike_runs_are_the_same_either_way(acts):
    for seed in (0, 1):
        small.commit(acts, seed)
    assert load(acts).identical(acts.load("resid_post", "energy"))


def test_another_word_is_refused(acts):
    small.commit(acts)
    with pytest.raises(ValueError, match="'refuse' or 'pad', not 'crop'"):
        acts.load("resid_post", "energy", ragged="crop")
