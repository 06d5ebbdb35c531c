"""Samples keep their pictures and their truth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import store
from tests.store import small


def test_a_sample_comes_back_whole(acts):
    sample = small.sample()
    id = acts.put_sample(sample)
    found = acts.sample(id)
    assert (found.id, found.record) == (id, sample.record)
    assert acts.has_sample(id)
    for name, array in sample.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), array)
        assert getattr(found, name).dtype == array.dtype


def test_a_sample_without_truth(acts):
    bare = store.Sample(store.SampleRecord(family="custom", prompt=""), first_frame=np.zeros((1, 1, 3), np.uint8))
    found = acts.sample(acts.put_sample(bare))
    assert found.arrays().keys() == {"first_frame"}


def test_putting_twice_keeps_one(acts):
    assert acts.put_sample(small.sample()) == acts.put_sample(small.sample())
    assert len(acts.sample_ids()) == 1
    assert len(list((acts.path / "samples").iterdir())) == 1


def test_plain_xarray_opens_a_sample(acts):
    id = acts.put_sample(small.sample())
    data = xr.open_zarr(acts.path / "samples" / id, consolidated=False)
    assert data.video.dims == ("frame", "y", "x", "channel")
    assert data.regions.dims == ("answer", "frame", "y", "x")
    np.testing.assert_array_equal(data.regions.values, small.sample().regions)


@pytest.mark.parametrize("flip", [0, -1])
def test_a_damaged_picture_is_an_error(acts, flip):
    id = acts.put_sample(small.sample())
    file = acts.path / "samples" / id / "video" / "c.0.0.0.0"
    data = bytearray(file.read_bytes())
    data[flip] ^= 1
    file.write_bytes(data)
    with pytest.raises(store.DamagedArray, match="checksum"):
        acts.sample(id)
    file.unlink()
    with pytest.raises(store.DamagedArray, match="missing"):
        acts.sample(id)


def test_an_unknown_sample_is_named(acts):
    acts.put_sample(small.sample())
    with pytest.raises(store.SampleNotFound, match=r"no sample '0000000000000000' .* there are 1"):
        acts.sample("0" * 16)
