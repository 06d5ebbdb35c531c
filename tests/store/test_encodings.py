"""Lossy numbers: the nearest there is, NaN where there was none, and errors that stay small beside massive channels."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import store
from store import encodings
from tests.store import small

AXES = ("step", "layer", "frame", "y", "x", "channel")


def tokens(seed: int = 0) -> np.ndarray:
    """`[step, layer, frame, y, x, channel]` with two massive channels, and others that differ a hundredfold."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(0, 1, 64))
    size[:2] = 500
    return (rng.normal(0, 1, (2, 2, 3, 8, 9, 64)) * size).astype(np.float32)


def write(acts, values, *, dtype="float32", files_along=("step", "layer"), seed=0, shape=None, **options) -> str:
    """One run that holds the values as `mlp_out/full`."""
    shape = shape or values.shape
    labels = {"step": range(shape[0]), "layer": range(shape[1])}
    with acts.begin_run(small.run(seed), small.PROVENANCE) as writer:
        writer.add_array(
            "mlp_out",
            "full",
            dims=AXES,
            shape=shape,
            dtype=dtype,
            coords=labels,
            files_along=files_along,
            **options,
        )
        for place in np.ndindex(*(shape[AXES.index(axis)] for axis in files_along)):
            writer.write("mlp_out", "full", dict(zip(files_along, place, strict=True)), values[place])
        writer.set_steps(small.infos(shape[0]))
        return writer.commit(1.0)


def error(loaded, values):
    """Mean relative L2 of a token."""
    return float((np.linalg.norm(loaded - values, axis=-1) / np.linalg.norm(values, axis=-1)).mean())


def test_float8_is_what_others_mean_by_it():
    codes = np.arange(256, dtype=np.uint8)
    theirs = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(encodings.float8_values(), theirs)
    there = np.sort(theirs[np.isfinite(theirs)])
    ties = (there[1:] + there[:-1]) / 2
    rng = np.random.default_rng(0)
    many = rng.normal(0, 1, 100_000) * 10.0 ** rng.integers(-4, 3, 100_000)
    values = np.concatenate([there, ties, np.nextafter(ties, np.float32(500)), many]).clip(-448, 448)
    values = values.astype(np.float32).reshape(1, -1, 1)
    values = np.concatenate([np.full((1, 1, 1), 448, np.float32), values], axis=1)  # so that the scale is 1
    numbers, scale = encodings.quantise("float8", values, (1,))
    assert scale.tolist() == [[[1.0]]]
    np.testing.assert_array_equal(numbers, values.astype(ml_dtypes.float8_e4m3fn).view(np.uint8))


@pytest.mark.parametrize(("encoding", "step"), [("int8", 1 / 254), ("float8", 1 / 16)])
def test_no_number_is_further_off_than_half_a_step(encoding, step):
    values = tokens()[0, 0]
    numbers, scale = encodings.quantise(encoding, values, (1, 2))
    out = np.empty_like(values)
    encodings.restore(encoding, numbers, scale, out)
    largest = np.abs(values).max(axis=(1, 2), keepdims=True)
    bound = step * (largest if encoding == "int8" else np.maximum(np.abs(values), largest / 448 * 2.0**-6))
    assert (np.abs(out - values) <= bound * 1.0001).all()
    assert np.abs(out - values).max() > 0


@pytest.mark.parametrize("encoding", ["int8", "float8"])
def test_what_is_not_finite_spoils_nothing_else(encoding):
    values = tokens()[0, 0]
    values[0, 0, 0, 5], values[1, 2, 3, 7], values[1, 2, 3, 8] = np.inf, np.nan, -np.inf
    values[2, :, :, 9] = 0
    values[2, :, :, 10] = np.nan
    values[2, :, :, 11] = 1e-44  # a scale that is no normal number
    out = np.empty_like(values)
    encodings.restore(encoding, *encodings.quantise(encoding, values, (1, 2)), out)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(np.isnan(out), ~finite)
    assert (out[2, :, :, 9] == 0).all()
    largest = np.where(finite, np.abs(values), 0).max(axis=(1, 2), keepdims=True)
    assert (np.abs(out - values)[finite] <= np.broadcast_to(largest / 14 + 1e-44, values.shape)[finite]).all()


@pytest.mark.parametrize("files_along", [("step", "layer"), ("step",), ()])
@pytest.mark.parametrize("profile", ["fast", "compact"])
@pytest.mark.parametrize(("encoding", "most"), [("int8", 0.012), ("float8", 0.03)])
def test_load_gives_floats_back(acts, encoding, most, profile, files_along):
    values = tokens()
    id = write(acts, values, encoding=encoding, profile=profile, files_along=files_along)
    loaded = acts.load("mlp_out", "full")
    assert loaded.dtype == np.float32
    everything = loaded.values[0]
    assert 0 < error(everything, values) < most
    part = acts.load("mlp_out", "full", step=1, layer=[1, 0], frame=2, channel=[3, 60]).isel(x=slice(2, 5))
    np.testing.assert_array_equal(part.values[0], everything[1, ::-1, 2, :, 2:5][..., [3, 60]])
    at = {"run_id": id, "step": [0, 1], "layer": [1, 0], "frame": [2, 1], "y": [7, 0], "x": [8, 1]}
    gathered = acts.gather("mlp_out", "full", at).values
    np.testing.assert_array_equal(gathered, everything[[0, 1], [1, 0], [2, 1], [7, 0], [8, 1]])


def test_bfloat16_can_be_kept_in_a_byte(acts):
    bits = (tokens().view(np.uint32) >> 16).astype(np.uint16)
    write(acts, bits, dtype="bfloat16", encoding="int8")
    values = store.bfloat16.to_float32(bits)
    assert error(acts.load("mlp_out", "full").values[0], values) < 0.012


def test_a_lossy_array_says_so(acts):
    id = write(acts, tokens(), encoding="int8", attrs={"units": "1"})
    rows = acts.sql("SELECT reduction, dtype, encoding, nbytes FROM arrays ORDER BY reduction").fetchall()
    count = tokens().size
    assert rows == [("full", "int8", "int8", count), ("full_scale", "float32", "exact", 4 * count // 72)]
    said = {"name": "int8", "scale": "full_scale", "of": "float32"}
    assert acts.load("mlp_out", "full").attrs == {
        "units": "1",
        "encoding": said,
        "site": "mlp_out",
        "reduction": "full",
    }
    assert [array.encoding for array in acts.run(id).arrays] == ["int8", "exact"]


@pytest.mark.parametrize("lost", ["file", "array"])
def test_lost_scales_are_an_error(acts, lost):
    path = acts.run(write(acts, tokens(), encoding="int8")).path / "mlp_out" / "full_scale" / "full_scale"
    (path / ("c.0.0.0.0" if lost == "file" else "zarr.json")).unlink()
    with pytest.raises(store.DamagedArray, match="full_scale"):
        acts.load("mlp_out", "full")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int16"}, "int8 keeps float16, float32, float64, bfloat16, not int16"),
        ({"dims": ("step", "channel"), "shape": (1, 2)}, "takes a scale over y and x"),
        ({"attrs": {"encoding": "mine"}}, "attribute encoding is the store's own"),
    ],
)
def test_what_cannot_be_kept_so_is_refused(acts, options, message):
    fields = {"dims": ("step", "y"), "shape": (1, 2), "dtype": "float32", "coords": {"step": [0]}}
    with (
        acts.begin_run(small.run(), small.PROVENANCE) as writer,
        pytest.raises(store.InvalidArray, match=message),
    ):
        writer.add_array("q", "full", **fields | options, encoding="int8")


def test_the_scales_name_is_taken(acts):
    fields = {"dims": ("step", "y"), "shape": (1, 2), "dtype": "float32", "coords": {"step": [0]}}
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array("q", "full_scale", **fields)
        with pytest.raises(store.InvalidArray, match="q/full_scale was added before"):
            writer.add_array("q", "full", **fields, encoding="int8")


def test_a_default_encoding_is_not_part_of_an_id():
    item = store.CaptureItem(site="q", reduction="full")
    assert "encoding" not in item.model_dump()
    assert "encoding" not in item.canonical()
    lossy = store.CaptureItem(site="q", reduction="full", encoding="int8")
    assert store.CaptureItem.model_validate_json(lossy.canonical()) == lossy
    runs = [small.run(capture=store.CaptureSpec(items=(one,))) for one in (item, lossy)]
    assert runs[0].id != runs[1].id


@pytest.mark.parametrize("encoding", ["int8", "float8"])
def test_numbers_made_elsewhere_are_taken_as_they_are(acts, encoding):
    values = tokens()
    made = {place: encodings.quantise(encoding, values[place], (1, 2)) for place in np.ndindex(values.shape[:2])}
    ids = [write(acts, values, encoding=encoding), write(acts, made, encoding=encoding, seed=1, shape=values.shape)]
    first, second = ([(array.dtype, array.shards) for array in acts.run(id).arrays] for id in ids)
    assert first == second


def test_numbers_of_another_kind_are_refused(acts):
    values = tokens()
    good = encodings.quantise("int8", values[0, 0], (1, 2))
    fields = {"dims": AXES, "shape": values.shape, "dtype": "float32", "coords": {"step": range(2), "layer": range(2)}}
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array("q", "full", **fields, files_along=("step", "layer"), encoding="int8")
        writer.add_array("k", "full", **fields, files_along=("step", "layer"))
        place = {"step": 0, "layer": 0}
        for wrong in (
            good._replace(numbers=good.numbers.view(np.uint8)),
            good._replace(numbers=good.numbers[1:]),
            good._replace(scale=good.scale[:, 0]),
            good._replace(scale=good.scale.astype(np.float64)),
        ):
            with pytest.raises(store.InvalidArray, match="a block is int8 of"):
                writer.write("q", "full", place, wrong)
        with pytest.raises(store.InvalidArray, match="takes values, not numbers with a scale"):
            writer.write("k", "full", place, good)
        writer.write("q", "full", place, good)
