"""Selecting and stacking runs lazily, and refusing what would be wrong."""

from __future__ import annotations

import os
import pickle

import crc32c
import numpy as np
import pytest
import xarray as xr

import store
from store import files
from tests.store import small


@pytest.fixture
def two(acts):
    """Two runs of one sample, seeds 0 and 1."""
    return [small.commit(acts, seed) for seed in (0, 1)]


def load(acts, **options):
    return acts.load("resid_post", "energy", **options)


@pytest.fixture
def reads(monkeypatch):
    """Every (offset, bytes) read from a shard."""
    seen: list[tuple[int, int]] = []
    read_into = files.Reader.read_into

    def counted(self, target, offset):
        if self.path.name.startswith("c.") and self.path.parent.name == "energy":
            seen.append((offset, len(target)))
        read_into(self, target, offset)

    monkeypatch.setattr(files.Reader, "read_into", counted)
    return seen


def test_runs_are_stacked_with_their_labels(acts, two):
    array = load(acts)
    assert array.dims == ("run", "step", "branch", "layer", "frame", "y", "x")
    assert array.run.values.tolist() == two
    assert array.seed.values.tolist() == [0, 1]
    assert array.sample_id.values.tolist() == ["5a" * 8] * 2
    assert array.sigma.dims == ("step",)
    assert array.expert.values.tolist() == ["transformer", "transformer_2"]
    np.testing.assert_array_equal(array.values, np.stack([small.energy(0), small.energy(1)]))


def test_labels_select_as_in_xarray(acts, two):
    everything = load(acts).compute()
    for options, want in (
        ({"step": 1}, everything.sel(step=1)),
        ({"branch": "cond", "frame": [2, 0]}, everything.sel(branch="cond", frame=[2, 0])),
        ({"layer": slice(1, None)}, everything.sel(layer=slice(1, None))),
        ({"frame": slice(None, 2, 2)}, everything.sel(frame=[0, 2])),
        ({"frame": np.array([1]), "layer": np.int64(0)}, everything.sel(frame=[1], layer=0)),
    ):
        found = load(acts, **options)
        assert found.identical(want) or found.compute().identical(want), options


def test_labels_are_not_positions(acts):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array(
            "q", "full", dims=("step", "layer"), shape=(2, 2), dtype="int16", coords={"step": [10, 30], "layer": [7, 3]}
        )
        for step, layer in np.ndindex(2, 2):
            writer.write("q", "full", {"step": step, "layer": layer}, np.int16(10 * step + layer))
        writer.set_steps([info.model_copy(update={"step": at}) for at in (10, 30) for info in small.infos(1)])
        writer.commit(1.0)
    assert acts.load("q", "full", step=30, layer=7).values.tolist() == [10]
    assert acts.load("q", "full", step=slice(11, 40)).step.values.tolist() == [30]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 9}, "resid_post/energy has no step 9; it has 0, 1"),
        ({"layer": [0, 99]}, "no layer 99"),
        ({"branch": "uncond"}, "no branch uncond; it has cond"),
        ({"frame": slice(5, 9)}, "no frame in slice"),
        ({"frame": []}, "no frame an empty list; it has 0…2"),
        ({"frame": slice("a", "b")}, "does not compare"),
        ({"step": True}, "no step True"),
        ({"step": -1}, "no step -1"),
    ],
)
def test_an_unknown_label_is_named(acts, two, options, message):
    with pytest.raises(store.UnknownLabel, match=message):
        load(acts, **options)


def test_an_axis_that_is_not_there_is_named(acts):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array("output", "pixels", dims=("frame",), shape=(2,), dtype="uint8", coords={})
        writer.write("output", "pixels", {}, np.zeros(2, np.uint8))
        writer.commit(1.0)
    with pytest.raises(store.UnknownLabel, match="no axis layer; it has frame"):
        acts.load("output", "pixels", layer=0)


def test_where_selects_by_run_and_sample(acts):
    ids = [acts.put_sample(small.sample(seed, family=family)) for seed, family in ((0, "maze"), (1, "detour"))]
    runs = {(id, seed): small.commit(acts, seed, sample_id=id) for id in ids for seed in (0, 1)}
    assert load(acts, where="family = 'maze' AND seed = 1").run.values.tolist() == [runs[ids[0], 1]]
    assert load(acts, where="seed = $seed -- comment", params={"seed": 0}).sizes["run"] == 2
    order = [runs[ids[1], 1], runs[ids[0], 0], runs[ids[1], 0]]
    assert load(acts, runs=order).run.values.tolist() == order
    assert load(acts, runs=order, where="seed = 0").run.values.tolist() == order[1:]
    by_sample = sorted(ids)
    assert load(acts).run.values.tolist() == [runs[id, seed] for id in by_sample for seed in (0, 1)]


@pytest.fixture
def four(acts):
    """Two runs of each of two samples, and one of a sample that is not stored."""
    ids = [acts.put_sample(small.sample(seed, family=family)) for seed, family in ((0, "maze"), (1, "detour"))]
    runs = {(id, seed): small.commit(acts, seed, sample_id=id) for id in ids for seed in (1, 0)}
    lonely = small.commit(acts, 2)
    return [runs[id, seed] for id in ids for seed in (0, 1)] + [lonely]


def test_columns_order_and_label_the_runs(acts, four):
    zero, one, other_zero, other_one, lonely = four
    array = load(acts, by=["family", "seed"])
    assert array.run.values.tolist() == [other_zero, other_one, zero, one, lonely]
    assert array.family.dims == ("run",)
    assert array.family.values.tolist() == ["detour", "detour", "maze", "maze", ""]
    assert array.chunks is not None
    known = load(acts, by=["seed", "family"], where="family IS NOT NULL")
    assert known.run.values.tolist() == [other_zero, zero, other_one, one]
    grid = known.set_index(run=["family", "seed"]).unstack("run")
    np.testing.assert_array_equal(grid.sel(family="maze", seed=1).values, small.energy(1))
    assert "family" not in load(acts).coords


def test_named_runs_keep_their_order_beside_their_columns(acts, four):
    wanted = four[::-1]
    array = load(acts, runs=wanted, by="family", layer=1, lazy=False)
    assert array.run.values.tolist() == wanted
    assert array.family.values.tolist() == ["", "detour", "detour", "maze", "maze"]


def test_values_go_where_they_are_wanted(acts, two):
    told = load(acts, runs=two, lazy=False)
    for dtype in (np.float32, np.float64):
        out = np.full(told.size, np.nan, dtype)
        found = load(acts, runs=two, lazy=False, out=out)
        assert np.shares_memory(found.values, out)
        xr.testing.assert_equal(found, told)
    one = load(acts, runs=two[:1], layer=1, lazy=False, out=out[: told[0].sel(layer=1).size])
    np.testing.assert_array_equal(one.values[0], told[0].sel(layer=1).values)
    for wrong in (out[1:], np.empty(told.size, np.int64), np.empty(2 * told.size)[::2]):
        with pytest.raises(ValueError, match=r"`out` must be \d+ contiguous floats"):
            load(acts, runs=two, lazy=False, out=wrong)
    with pytest.raises(ValueError, match="lazy=False"):
        load(acts, runs=two, out=out)


def test_columns_keep_their_kind_and_say_what_is_missing(acts, four):
    kinds = load(acts, by=["steps", "git_dirty", "guidance", "started", "interventions"])
    assert [kinds[name].dtype.kind for name in ("steps", "git_dirty", "guidance", "started", "interventions")] == [
        *"ibfMU"
    ]
    with_hole = load(acts, runs=[four[0], four[4]], by=["answers", "has_video"])
    np.testing.assert_array_equal(with_hole.answers, [2.0, np.nan])
    np.testing.assert_array_equal(with_hole.has_video, [1.0, np.nan])


@pytest.mark.parametrize("by", ["famly", 'seed"; DROP VIEW runs; --', ["seed", "layer"], "seed + 1"])
def test_what_is_no_column_is_named(acts, two, by):
    for options in ({}, {"runs": two}):
        with pytest.raises(store.QueryError, match="not found in FROM clause"):
            load(acts, by=by, **options)


def test_a_column_does_not_replace_a_coordinate(acts):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        labels = {"step": [0, 1], "guidance": ("step", np.array([1.0, 2.0]))}
        writer.add_array("q", "full", dims=("step",), shape=(2,), dtype="int16", coords=labels)
        for step in range(2):
            writer.write("q", "full", {"step": step}, np.int16(step))
        writer.set_steps(small.infos(2))
        writer.commit(1.0)
    assert acts.load("q", "full").guidance.values.tolist() == [1.0, 2.0]
    with pytest.raises(store.QueryError, match="full has a coordinate guidance of its own"):
        acts.load("q", "full", by="guidance")


def test_no_run_is_an_error(acts, two):
    for options, message in (
        ({"where": "seed = 7"}, "no run .* answers seed = 7; there are 2 runs"),
        ({"runs": []}, "empty list"),
        ({"runs": ["0" * 16]}, "no run '0000000000000000'"),
        ({"runs": ["0" * 16], "where": "true"}, "no run '0000000000000000'"),
    ):
        with pytest.raises(store.RunNotFound, match=message):
            load(acts, **options)
    with pytest.raises(store.QueryError, match="sead"):
        load(acts, where="sead = 7")
    with pytest.raises(store.QueryError):
        load(acts, where="true); SELECT (true")


def test_an_array_that_no_run_holds_is_named(acts, two):
    with pytest.raises(store.UnknownArray, match=r"resid_pre/energy is not in .*; there is resid_post/energy"):
        acts.load("resid_pre", "energy")


def test_runs_without_the_array_are_left_out_unless_named(acts, two):
    with acts.begin_run(small.run(2), small.PROVENANCE) as writer:
        empty = writer.commit(1.0)
    assert load(acts).run.values.tolist() == two
    with pytest.raises(store.UnknownArray, match=empty):
        load(acts, runs=[*two, empty])


def test_ragged_runs_are_named_with_what_differs(acts, two):
    longer = small.commit(acts, 2, steps=3)
    with pytest.raises(store.RaggedRuns, match=f"2 with step = 0, 1 .*; 1 with step = 0…2 .{longer}.; select alike"):
        load(acts, runs=[*two, longer])
    alike = load(acts, runs=[*two, longer], step=[0, 1])
    assert alike.sizes["run"] == 3
    assert alike.sigma.dims == ("run", "step")  # same steps, other noise levels
    assert load(acts, runs=[*two, longer], step=1).sigma.values.tolist() == [0.5, 0.5, pytest.approx(2 / 3)]


def test_nothing_is_read_before_it_is_computed(acts, two, reads):
    array = load(acts)
    assert array.chunks == ((1, 1), (1, 1), (1,), (1, 1), (3,), (4,), (4,))
    assert array.mean("frame").isel(step=0).shape == (2, 1, 2, 4, 4)
    assert reads == []


@pytest.mark.parametrize("how", ["load", "isel"])
def test_one_frame_reads_one_inner_chunk(acts, two, reads, how):
    chunk, index = 4 * 4 * 4, 3 * 16 + 4
    if how == "load":
        frame = load(acts, runs=two[:1], step=1, layer=0, frame=2)
    else:
        frame = load(acts).isel(run=0, step=1, layer=0, frame=2)
    values = frame.squeeze().values
    assert reads == [(3 * chunk, index), (2 * chunk, chunk)]
    np.testing.assert_array_equal(values, small.energy(0)[1, 0, 0, 2])


@pytest.mark.parametrize("frames", [None, [1, 2]])
def test_neighbouring_chunks_of_a_file_are_read_at_once(acts, two, reads, frames):
    chunk, index = 4 * 4 * 4, 3 * 16 + 4
    found = load(acts, runs=two[:1], frame=frames, lazy=False).values[0]
    expected = small.energy(0) if frames is None else small.energy(0)[:, :, :, frames]
    np.testing.assert_array_equal(found, expected)
    first, count = (0, 3) if frames is None else (1, 2)
    assert sorted(reads) == sorted([(3 * chunk, index), (first * chunk, count * chunk)] * 4)


def test_chunks_may_lie_in_any_order(acts, two):
    """Zarr's index says where each is; other writers order them otherwise."""
    shard = acts.run(two[0]).path / "resid_post" / "energy" / "energy" / "c.1.0.0.0.0.0"
    data, chunk = shard.read_bytes(), 4 * 4 * 4
    index = np.frombuffer(data[3 * chunk : -4], "<u8").reshape(3, 2).copy()
    index[:, 0] = [2 * chunk, 0, chunk]
    table = index.tobytes()
    body = [data[at * chunk : (at + 1) * chunk] for at in (1, 2, 0)]
    shard.write_bytes(b"".join([*body, table, crc32c.crc32c(table).to_bytes(4, "little")]))
    np.testing.assert_array_equal(load(acts, runs=two[:1], lazy=False).values[0], small.energy(0))


def test_files_along_an_inner_axis_fill_every_other_place(acts):
    """What a file holds is not contiguous in what is read."""
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        small.add_energy(writer, files_along=("layer",))
        for layer in range(2):
            writer.write("resid_post", "energy", {"layer": layer}, small.energy(0)[:, :, layer])
        writer.set_steps(small.infos(2))
        id = writer.commit(1.0)
    np.testing.assert_array_equal(load(acts, runs=[id], lazy=False).values[0], small.energy(0))
    np.testing.assert_array_equal(load(acts, runs=[id], step=1, lazy=False).values[0], small.energy(0)[1])


def test_small_cells_may_share_a_file(acts, reads):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        small.add_energy(writer, files_along=("step",))
        for step in range(2):
            writer.write("resid_post", "energy", {"step": step}, small.energy(0)[step])
        writer.set_steps(small.infos(2))
        id = writer.commit(1.0)
    assert [array.shards.keys() for array in acts.run(id).arrays] == [{"c.0.0.0.0.0.0", "c.1.0.0.0.0.0"}]
    assert load(acts).chunks[1:4] == ((1, 1), (1,), (2,))
    np.testing.assert_array_equal(load(acts, layer=1, frame=[2, 0]).values[0], small.energy(0)[:, :, 1][:, :, [2, 0]])
    assert acts.sql("SELECT count(DISTINCT (step, layer, frame)) FROM token_stats").fetchall() == [(12,)]


@pytest.mark.parametrize("damage", ["removed", "cut", "grown", "index", "zarr.json", "coordinate", "label"])
def test_damage_is_an_error_and_never_zeros(acts, two, damage):
    folder = acts.run(two[0]).path / "resid_post" / "energy"
    shard = folder / "energy" / "c.1.0.1.0.0.0"
    if damage == "removed":
        shard.unlink()
    elif damage == "cut":
        os.truncate(shard, 10)
    elif damage == "grown":
        shard.write_bytes(shard.read_bytes() + b"\0")
    elif damage == "index":
        data = bytearray(shard.read_bytes())
        data[-10] ^= 1
        shard.write_bytes(data)
    elif damage == "zarr.json":
        (folder / "energy" / "zarr.json").write_text("{")
    elif damage == "coordinate":
        (folder / "sigma" / "c.0").unlink()
    else:
        label = folder / "layer" / "c.0"
        label.write_bytes(b"\1" + label.read_bytes()[1:])
    with pytest.raises(store.DamagedArray, match=r"missing|bytes instead of|checksum|does not describe"):
        load(acts).compute()
    if damage in ("removed", "cut", "grown"):
        with pytest.raises(store.DamagedArray):
            load(acts)  # before anything is read
        np.testing.assert_array_equal(load(acts, step=0).values[0], small.energy(0)[0])


def test_a_file_lost_after_loading_is_an_error(acts, two):
    array = load(acts)
    (acts.run(two[0]).path / "resid_post" / "energy" / "energy" / "c.0.0.0.0.0.0").unlink()
    with pytest.raises(store.DamagedArray, match="missing"):
        array.compute()


def test_a_lazy_array_travels_to_other_processes(acts, two):
    array = pickle.loads(pickle.dumps(load(acts)))
    np.testing.assert_array_equal(array.values[1], small.energy(1))
