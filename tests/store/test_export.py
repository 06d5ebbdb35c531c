"""An exported array opens in other programs, with the same values and labels."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
import safetensors
import xarray as xr

import store
from store import maintenance
from tests.store import small


@pytest.fixture
def array(acts):
    """Two runs, lazily."""
    for seed in (0, 1):
        small.commit(acts, seed)
    return acts.load("resid_post", "energy")


def test_numpy(array, tmp_path):
    found = maintenance.export(array, tmp_path / "energy.npy")
    read = np.load(tmp_path / "energy.npy", mmap_mode="r")
    np.testing.assert_array_equal(read, array.values, strict=True)
    assert found == (tmp_path / "energy.npy", array.shape, "float32", (tmp_path / "energy.npy").stat().st_size)


def test_safetensors(array, tmp_path):
    maintenance.export(array, tmp_path / "energy.safetensors")
    with safetensors.safe_open(tmp_path / "energy.safetensors", "np") as file:
        assert list(file.keys()) == ["energy"]
        np.testing.assert_array_equal(file.get_tensor("energy"), array.values, strict=True)
        metadata = file.metadata()
    assert json.loads(metadata["dims"]) == list(array.dims)
    coords = json.loads(metadata["coords"])
    assert coords["run"] == [["run"], array.run.values.tolist()]
    assert coords["sigma"] == [["step"], array.sigma.values.tolist()]
    assert json.loads(metadata["attrs"])["site"] == "resid_post"


def test_netcdf(array, tmp_path):
    maintenance.export(array, tmp_path / "energy.nc")
    with xr.open_dataset(tmp_path / "energy.nc", engine="h5netcdf") as found:
        xr.testing.assert_equal(found.energy, array.load())
        assert found.energy.attrs["site"] == "resid_post"
        assert found.branch.values.tolist() == ["cond"]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16", "bfloat16", "int64"])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".nc"])
def test_every_kind_of_number(acts, tmp_path, dtype, suffix):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype("uint16" if dtype == "bfloat16" else dtype)
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array("latent", "full", dims=("y", "x"), shape=(2, 3), dtype=dtype, coords={})
        writer.write("latent", "full", {}, values)
        writer.commit(1.0)
    array, out = acts.load("latent", "full"), tmp_path / f"full{suffix}"
    if (dtype, suffix) == ("float16", ".nc"):  # NetCDF has no half precision
        with pytest.raises(store.StoreError, match=r"float16.*\.npy"):
            maintenance.export(array, out)
        return
    maintenance.export(array, out)
    if suffix == ".npy":
        read = np.load(out)
    elif suffix == ".safetensors":
        with safetensors.safe_open(out, "np") as file:
            read = file.get_tensor("full")
    else:
        with xr.open_dataset(out, engine="h5netcdf") as found:
            read = found.full.values
    np.testing.assert_array_equal(read, array.values, strict=True)


def test_selections_keep_their_labels(acts, array, tmp_path):
    part = acts.load("resid_post", "energy", step=1, branch="cond", frame=[0, 2])
    maintenance.export(part, tmp_path / "part.nc")
    with xr.open_dataset(tmp_path / "part.nc", engine="h5netcdf") as found:
        xr.testing.assert_equal(found.energy, part.load())


def test_nothing_is_overwritten_unasked(array, tmp_path):
    out = tmp_path / "energy.npy"
    out.write_bytes(b"thesis")
    with pytest.raises(FileExistsError, match="is there already; choose another name") as found:
        maintenance.export(array, out)
    assert isinstance(found.value, store.StoreError)
    assert out.read_bytes() == b"thesis"
    maintenance.export(array, out, overwrite=True)
    np.testing.assert_array_equal(np.load(out), array.values)
    assert [path.name for path in tmp_path.iterdir() if path.name != "acts"] == ["energy.npy"]


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".nc"])
def test_a_file_that_fails_never_appears(acts, array, tmp_path, suffix):
    next(acts.path.glob("runs/*/resid_post/energy/energy/c.1*")).unlink()
    with pytest.raises(store.DamagedArray):
        maintenance.export(array, tmp_path / f"energy{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["acts"]


def test_a_full_disk_is_one_line(array, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(store.StoreFull, match=r"no space left to write .*energy\.npy"):
        maintenance.export(array, tmp_path / "energy.npy")


@pytest.mark.parametrize("name", ["energy", "energy.mat", ".npy"])
def test_an_unknown_format_is_named(array, tmp_path, name):
    with pytest.raises(store.StoreError, match=r"use one of \.npy, \.safetensors, \.nc"):
        maintenance.export(array, tmp_path / name)


def test_reading_has_a_speed(acts, array):
    speed = maintenance.read_speed(acts)
    assert speed is not None
    assert speed > 0
    assert maintenance.read_speed(acts, nbytes=100) > 0


def test_an_empty_store_has_none(acts):
    assert maintenance.read_speed(acts) is None
