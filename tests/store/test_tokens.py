"""Raw tokens as a lazy table and one by one: the right rows, from no more chunks than needed."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

import store
from store import files
from tests.store import small

WIDE = ("step", "branch", "layer", "frame", "y", "x", "channel")
COLUMNS = ["run_id", "step", "branch", "layer", "frame", "y", "x"]


@pytest.fixture
def reads(monkeypatch):
    """(file, offset, bytes) of every read from a shard."""
    seen: list[tuple[str, int, int]] = []
    read_into = files.Reader.read_into

    def counted(self, target, offset):
        if self.path.name.startswith("c.") and self.path.parent.name in ("energy", "full"):
            seen.append((self.path.name, offset, len(target)))
        read_into(self, target, offset)

    monkeypatch.setattr(files.Reader, "read_into", counted)
    return seen


@pytest.fixture
def two(acts):
    """Two runs with `resid_post/energy`, ids by seed."""
    return [small.commit(acts, seed) for seed in (0, 1)]


def wide(seed: int = 0) -> np.ndarray:
    """`[step, branch, layer, frame, y, x, channel]`, exact in bfloat16."""
    shape = (2, 1, 2, 3, 8, 9, 4)
    return np.random.default_rng([seed, 3]).integers(-100, 100, shape).astype(np.float32)


def write_wide(acts, seed: int = 0, **options) -> str:
    """One run that holds `wide` as `q/full` in bfloat16."""
    values = wide(seed)
    along = options.setdefault("files_along", ("step", "branch", "layer"))
    with acts.begin_run(small.run(seed), small.PROVENANCE) as writer:
        labels = {"step": [0, 1], "branch": ["cond"], "layer": [3, 20], "frame": [5, 6, 7]}
        writer.add_array("q", "full", dims=WIDE, shape=values.shape, dtype="bfloat16", coords=labels, **options)
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)
        for place in np.ndindex(*(values.shape[WIDE.index(axis)] for axis in along)):
            index = dict(zip(along, place, strict=True))
            writer.write("q", "full", index, bits[tuple(index.get(axis, slice(None)) for axis in WIDE)])
        writer.set_steps(small.infos(2))
        return writer.commit(1.0)


def expected(ids) -> pl.DataFrame:
    """All rows of `resid_post/energy` of runs with seeds 0 and 1."""
    rows = [
        (id, step, "cond", layer, frame, y, x, float(small.energy(seed)[step, 0, layer, frame, y, x]))
        for seed, id in enumerate(ids)
        for step, layer, frame, y, x in itertools.product(range(2), range(2), range(3), range(4), range(4))
    ]
    kinds = [pl.String, pl.Int64, pl.String, pl.Int64, pl.Int64, pl.Int64, pl.Int64, pl.Float32]
    return pl.DataFrame(rows, schema=dict(zip([*COLUMNS, "value"], kinds, strict=True)), orient="row")


def same(found: pl.DataFrame, wanted: pl.DataFrame) -> bool:
    return found.sort(found.columns).equals(wanted.select(found.columns).sort(found.columns))


def test_every_token_is_a_row(acts, two):
    frame = acts.tokens("resid_post", "energy")
    assert frame.collect_schema() == expected(two).schema
    assert same(frame.collect(), expected(two))


@pytest.mark.parametrize(
    "predicate",
    [
        pl.col("layer") == 1,
        (pl.col("step") == 0) & (pl.col("frame") > 0) & (pl.col("y") < 2),
        (pl.col("layer") == 1) | (pl.col("y") == 3),
        ~((pl.col("x") == 0) | (pl.col("step") == 1)),
        pl.col("value") > 0.5,
        (pl.col("value") > pl.col("x") / 4) & pl.col("frame").is_in([0, 2]),
        pl.col("branch") == "uncond",
        pl.col("x") + pl.col("y") == pl.col("frame"),
        pl.lit(False),
    ],
)
def test_filters_mean_what_they_mean_in_memory(acts, two, predicate):
    frame = acts.tokens("resid_post", "energy").filter(predicate)
    assert same(frame.collect(), expected(two).filter(predicate))
    counted = frame.select("frame").collect()
    assert same(counted, expected(two).filter(predicate).select("frame"))


def test_only_the_chunks_that_a_filter_needs_are_read(acts, two, reads):
    chunk, index = 4 * 4 * 4, 3 * 16 + 4
    frame = acts.tokens("resid_post", "energy")
    asked = (pl.col("run_id") == two[1]) & (pl.col("step") == 1) & (pl.col("layer") == 0) & (pl.col("frame") == 2)
    assert len(frame.filter(asked, pl.col("value") > 0.5).collect()) == (small.energy(1)[1, 0, 0, 2] > 0.5).sum()
    assert reads == [("c.1.0.0.0.0.0", 3 * chunk, index), ("c.1.0.0.0.0.0", 2 * chunk, chunk)]


def test_labels_alone_read_no_values(acts, two, reads):
    assert acts.tokens("resid_post", "energy").filter(pl.col("y") == 1).select(pl.len()).collect().item() == 96
    assert reads == []


def test_a_limit_ends_the_reading(acts, two, reads):
    many = acts.tokens("resid_post", "energy")
    assert len(many.head(5).collect()) == 5
    assert len(many.head(0).collect()) == 0
    assert len({file for file, _, _ in reads}) <= 4  # of 8: no more than one batch, which is one run


def test_sql_joins_tokens_with_the_views(acts, two, reads):
    query = """SELECT r.seed, t.layer, max(t.value), count(*) FROM tokens t JOIN runs r USING (run_id)
        WHERE t.step = 1 AND t.layer IN (0, 1) AND t.frame = 2 GROUP BY ALL ORDER BY ALL"""
    rows = acts.sql(query, tokens=acts.tokens("resid_post", "energy")).fetchall()
    wanted = [(seed, layer, float(small.energy(seed)[1, 0, layer, 2].max()), 16) for seed in (0, 1) for layer in (0, 1)]
    assert rows == wanted
    assert {offset for _, offset, nbytes in reads if nbytes == 64} == {128}
    assert {file for file, _, _ in reads} == {"c.1.0.0.0.0.0", "c.1.0.1.0.0.0"}


def test_any_table_can_be_joined(acts, two):
    mine = pl.DataFrame({"run_id": two, "group": ["a", "b"]})
    rows = acts.sql("SELECT m.group, r.seed FROM mine m JOIN runs r USING (run_id) ORDER BY ALL", mine=mine).fetchall()
    assert rows == [("a", 0), ("b", 1)]
    with pytest.raises(store.QueryError, match="runs is a view"):
        acts.sql("SELECT 1", runs=mine)
    with pytest.raises(store.QueryError, match="mine"):
        acts.sql("SELECT * FROM mine")


@pytest.mark.parametrize("profile", ["fast", "compact"])
@pytest.mark.parametrize("files_along", [("step", "branch", "layer"), ("step",), ()])
def test_channels_are_a_list(acts, profile, files_along):
    id = write_wide(acts, profile=profile, files_along=files_along)
    frame = acts.tokens("q", "full")
    assert frame.collect_schema()["values"] == pl.Array(pl.Float32, 4)
    found = frame.filter(pl.col("layer") == 20, pl.col("frame") == 6, pl.col("y") >= 6).collect()
    np.testing.assert_array_equal(found["values"].to_numpy(), wide()[:, 0, 1, 1, 6:].reshape(-1, 4))
    assert found["step"].to_list() == [0] * 18 + [1] * 18
    some = acts.tokens("q", "full", channel=[3, 0]).filter(pl.col("x") == 8, pl.col("step") == 0).collect()
    np.testing.assert_array_equal(some["values"].to_numpy(), wide()[0, :, :, :, :, 8][..., [3, 0]].reshape(-1, 2))
    at = {"run_id": id, "step": [1, 0, 1], "layer": [20, 3, 3], "frame": [7, 5, 5], "y": [0, 7, 0], "x": [1, 8, 0]}
    gathered = acts.gather("q", "full", at, channel=slice(1, 2))
    assert gathered.dims == ("token", "channel")
    np.testing.assert_array_equal(
        gathered.values, wide()[[1, 0, 1], 0, [1, 0, 0], [2, 0, 0], [0, 7, 0], [1, 8, 0]][:, 1:3]
    )
    assert gathered.layer.values.tolist() == [20, 3, 3]


def test_a_scattered_token_reads_its_own_bytes(acts, reads):
    id = write_wide(acts)
    reads.clear()
    acts.gather("q", "full", {"run_id": id, "step": 1, "layer": [3, 20], "frame": 7, "y": 2, "x": 5})
    frame, row, index = 8 * 9 * 4 * 2, 4 * 2, 3 * 16 + 4
    at = 2 * frame + (2 * 9 + 5) * row
    files = ("c.1.0.0.0.0.0.0", "c.1.0.1.0.0.0.0")
    assert sorted(reads) == sorted((file, *read) for file in files for read in ((at, row), (3 * frame, index)))


def test_tokens_of_many_runs(acts, two):
    at = pl.DataFrame({"run_id": [two[1], two[0], two[1]], "step": [0, 1, 1], "layer": 1, "frame": 0, "y": 3, "x": 2})
    found = acts.gather("resid_post", "energy", at)
    assert found.dims == ("token",)
    wanted = [small.energy(seed)[step, 0, 1, 0, 3, 2] for seed, step in ((1, 0), (0, 1), (1, 1))]
    np.testing.assert_array_equal(found.values, wanted)
    assert found.run_id.values.tolist() == at["run_id"].to_list()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layer": 9}, store.UnknownLabel, "no layer 9"),
        ({"y": -1}, store.UnknownLabel, "no y -1"),
        ({"x": None}, store.UnknownLabel, "4 places along x: say which with x="),
        ({"run_id": "0" * 16}, store.RunNotFound, "no run '0000000000000000'"),
        ({"run_id": None}, store.UnknownLabel, "say which with run_id="),
        ({"step": [0, 1], "layer": [0, 1, 0]}, ValueError, "unequal length: .2, 3."),
        ({"step": []}, ValueError, "no token"),
        ({"expert": 1}, store.UnknownLabel, "no axis expert"),
    ],
)
def test_a_token_that_is_not_there_is_named(acts, two, change, error, message):
    at = {"run_id": two[0], "step": 0, "layer": 0, "frame": 0, "y": 0, "x": 0} | change
    with pytest.raises(error, match=message):
        acts.gather("resid_post", "energy", {name: value for name, value in at.items() if value is not None})


def test_what_tokens_cannot_show_is_an_error(acts, two):
    with pytest.raises(store.UnknownArray, match="there is resid_post/energy"):
        acts.tokens("q", "full")
    with pytest.raises(store.UnknownArray, match="q/full is not in"):
        acts.gather("q", "full", {"run_id": two[0]})
    with pytest.raises(store.RunNotFound):
        acts.tokens("resid_post", "energy", where="seed = 7")
    with acts.begin_run(small.run(5), small.PROVENANCE) as writer:
        writer.add_array("resid_post", "energy", dims=("frame", "x"), shape=(1, 2), dtype="float32", coords={})
        writer.write("resid_post", "energy", {}, np.zeros((1, 2), np.float32))
        writer.commit(1.0)
    with pytest.raises(store.RaggedRuns, match="other axes"):
        acts.tokens("resid_post", "energy")


def test_runs_of_other_lengths_stand_in_one_table(acts, two):
    longer = small.commit(acts, 2, steps=3)
    found = acts.tokens("resid_post", "energy").filter(pl.col("y") == 0, pl.col("x") == 0)
    counts = dict(found.group_by("run_id").len().collect().iter_rows())
    assert counts == {two[0]: 12, two[1]: 12, longer: 18}
