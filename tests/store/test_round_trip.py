"""Whatever fits the format comes back bit for bit: through `load`, and through plain zarr-python."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import store
from store import zarr_meta
from store.bfloat16 import to_float32
from store.zarr_bfloat16 import BFloat16
from tests.store import small

AXES = store.dims.ORDER[1:]
LABELS = st.text(min_size=1).filter(lambda label: not label.endswith("\0"))


class Case(NamedTuple):
    """One array, and how it is written."""

    dims: tuple[str, ...]
    dtype: str
    values: NDArray[Any]
    coords: dict[str, Any]
    files_along: tuple[str, ...]
    profile: str
    bundle: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any subset of the axes, any dtype, any bits (NaN payloads and -0.0 included), any layout of files."""
    dims = tuple(axis for axis in AXES if draw(st.booleans())) or (draw(st.sampled_from(AXES)),)
    shape = tuple(draw(st.integers(1, 4)) for _ in dims)
    dtype = draw(st.sampled_from(zarr_meta.DTYPES))
    kind = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = rng.integers(0, 2 if dtype == "bool" else 256, (*shape, kind.itemsize), dtype=np.uint8)
    coords: dict[str, Any] = {}
    for axis, size in zip(dims, shape, strict=True):
        if axis == "branch":
            coords[axis] = draw(st.lists(LABELS, min_size=size, max_size=size, unique=True))
        elif axis in zarr_meta.CELL or draw(st.booleans()):
            coords[axis] = draw(st.lists(st.integers(0, 2**40), min_size=size, max_size=size, unique=True))
    return Case(
        dims=dims,
        dtype=dtype,
        values=bits.view(kind)[..., 0],
        coords=coords,
        files_along=tuple(axis for axis in zarr_meta.CELL if draw(st.booleans())),
        profile=draw(st.sampled_from(["fast", "compact"])),
        bundle=draw(st.sampled_from([1, zarr_meta.BUNDLE])),
    )


def write(case: Case, path: Path) -> tuple[store.ActivationStore, str]:
    """A store with one run that holds the case as `site/values`."""
    acts = store.open(path, mode="a")
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        shape = case.values.shape
        writer.add_array(
            "site",
            "values",
            dims=case.dims,
            shape=shape,
            dtype=case.dtype,
            coords=case.coords,
            files_along=case.files_along,
            profile=case.profile,
        )
        along = [axis for axis in case.dims if axis in case.files_along]
        for place in np.ndindex(*(shape[case.dims.index(axis)] for axis in along)):
            index = dict(zip(along, place, strict=True))
            writer.write(
                "site", "values", index, case.values[tuple(index.get(axis, slice(None)) for axis in case.dims)]
            )
        steps = [
            info.model_copy(update={"step": step}) for step in case.coords.get("step", []) for info in small.infos(1)
        ]
        writer.set_steps(steps)
        return acts, writer.commit(1.0)


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@given(cases(), st.data())
def test_round_trip(case: Case, data: st.DataObject):
    zarr.dtype.data_type_registry.register("bfloat16", BFloat16)
    bundle, zarr_meta.BUNDLE = zarr_meta.BUNDLE, case.bundle
    try:
        with tempfile.TemporaryDirectory() as folder:
            acts, id = write(case, Path(folder))
            loaded = acts.load("site", "values", runs=[id])
            want = to_float32(case.values) if case.dtype == "bfloat16" else case.values
            assert loaded.dims == ("run", *case.dims)
            assert same_bits(loaded.values[0], want)
            for axis, labels in case.coords.items():
                assert loaded[axis].values.tolist() == list(labels)
            key = tuple(data.draw(st.slices(size) | st.integers(0, size - 1)) for size in want.shape)
            assert same_bits(np.asarray(loaded[(0, *key)].values), np.asarray(want[key]))
            plain = zarr.open_array(acts.run(id).path / "site" / "values" / "values", mode="r")
            assert same_bits(np.asarray(plain[...]), case.values)
            assert plain.metadata.dimension_names == case.dims
    finally:
        zarr_meta.BUNDLE = bundle


def test_bfloat16_bits_are_the_numbers_they_stand_for():
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], np.uint16)
    assert to_float32(bits).tolist() == [1.0, -2.0, np.inf, 2.0**-133]


def test_bfloat16_fill_values_survive_zarr():
    kind = BFloat16()
    for value in (1.5, -2.0, "NaN", "Infinity", "-Infinity"):
        assert kind.to_json_scalar(kind.from_json_scalar(value, zarr_format=3), zarr_format=3) == value
    assert zarr.dtype.parse_dtype(np.dtype("uint16"), zarr_format=3) == zarr.dtype.UInt16()


def test_a_label_that_numpy_would_cut_is_refused(tmp_path: Path) -> None:
    labels = {"branch": ["a\0"]}
    case = Case(("branch",), "float32", np.zeros(1, np.float32), labels, ("branch",), "fast", zarr_meta.BUNDLE)
    with pytest.raises(store.InvalidArray, match="NUL"):
        write(case, tmp_path / "acts")


@pytest.mark.parametrize("profile", ["fast", "compact"])
def test_frames_behind_another_axis(tmp_path: Path, profile: str) -> None:
    """An inner chunk is a frame also where the frames are not the first axis of a file."""
    values = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    labels = {"stat": ["mean", "std"]}
    acts, id = write(Case(("stat", "frame", "x"), "float32", values, labels, (), profile, zarr_meta.BUNDLE), tmp_path)
    plain = zarr.open_array(acts.run(id).path / "site" / "values" / "values", mode="r")
    assert plain.chunks == (2, 1, 4)
    np.testing.assert_array_equal(plain[...], values)
    np.testing.assert_array_equal(acts.load("site", "values").values[0], values)
    np.testing.assert_array_equal(acts.load("site", "values", frame=[2, 0]).values[0], values[:, [2, 0]])
