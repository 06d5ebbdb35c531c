"""The views, what is refused, and an index that may vanish at any time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import store
from tests.store import small

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> store.ActivationStore:
    """A store without runs, for all attacks."""
    return store.open(tmp_path_factory.mktemp("empty") / "acts", mode="a")


def documented() -> dict[str, list[str]]:
    """Columns by view, from the tables of docs/sql.md."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "docs" / "sql.md").read_text().splitlines():
        if heading := re.fullmatch(r"## `(\w+)`.*", line):
            found[heading[1]] = []
        elif line.startswith("## "):
            break
        elif (row := re.match(r"\| `(\w+)` \| ([A-Z]+(?:\[\])?) \|", line)) and found:
            found[list(found)[-1]].append(f"{row[1]} {row[2]}")
    return found


def test_the_docs_name_every_column_with_its_type(acts):
    described = {
        view: [f"{name} {kind}" for name, kind, *_ in acts.sql(f"DESCRIBE {view}").fetchall()]
        for (view,) in acts.sql("SHOW TABLES").fetchall()
    }
    assert documented() == described


def test_every_view_answers(acts):
    sample_id = acts.put_sample(small.sample())
    with acts.begin_run(small.run(4, sample_id=sample_id, parent_id="ab" * 8), small.PROVENANCE) as writer:
        small.write_energy(writer, 4)
        writer.set_steps(small.infos(2))
        writer.add_scores([store.Score(scorer="maze", metric="answer", value=0.5, step=1)])
        id = writer.commit(2.0)

    def rows(query):
        return acts.sql(query).fetchall()

    assert rows("SELECT run_id, sample_id, seed, steps, parent_id, seconds, path FROM runs") == [
        (id, sample_id, 4, 2, "ab" * 8, 2.0, f"runs/{id}")
    ]
    assert rows("SELECT started::VARCHAR, capture->>'$.items[0].site' FROM runs") == [
        ("2026-01-02 03:04:05", "resid_post")
    ]
    assert rows("SELECT family, answers, labels->>'goal', has_video FROM samples") == [("maze", 2, "[1,2]", True)]
    assert rows("SELECT step, sigma, expert FROM steps") == [(0, 1.0, "transformer"), (1, 0.5, "transformer_2")]
    assert rows("SELECT site, reduction, shape, files FROM arrays") == [("resid_post", "energy", [2, 1, 2, 3, 4, 4], 4)]
    assert rows("SELECT * FROM scores") == [(id, "maze", "answer", 0.5, 1, None)]
    assert rows("SELECT count(*) FROM token_stats JOIN runs USING (run_id)") == [(12,)]
    assert rows("FROM results") == []


def test_a_relation_is_ready_for_use(acts):
    small.commit(acts)
    relation = acts.sql("SELECT seed, steps FROM runs WHERE seed = ?", [0])
    assert relation.columns == ["seed", "steps"]
    assert relation.df().to_dict("list") == {"seed": [0], "steps": [2]}
    assert relation.pl().rows() == [(0, 2)]
    assert acts.sql("SELECT * FROM runs").filter("seed = 1").fetchall() == []
    assert acts.sql("SELECT $low + $high AS sum", {"low": 1, "high": 2}).fetchall() == [(3,)]


@pytest.mark.parametrize(
    "query",
    [
        "COPY runs TO '{path}'",
        "COPY (SELECT 1) TO '{path}' (FORMAT parquet)",
        "ATTACH '{path}'",
        "EXPORT DATABASE '{path}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET memory_limit = '1TB'",
        "RESET enable_external_access",
        "USE index",
        "CREATE TABLE mine (i INT)",
        "CREATE VIEW mine AS SELECT 1",
        "DROP VIEW runs",
        "INSERT INTO index.runs SELECT * FROM runs",
        "DELETE FROM index.runs",
        "UPDATE index.runs SET seed = 1",
        "CALL pragma_version()",
        "CHECKPOINT",
        "BEGIN",
        "EXPLAIN ANALYZE CREATE TABLE mine (i INT)",
        "PREPARE mine AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW runs",
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT sead FROM runs",
        "SELECT * FROM nowhere",
        "SELECT * FROM secret",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('{path}')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM query('DROP VIEW runs')",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
        "SELECT ?",
    ],
)
def test_whatever_does_more_than_select_is_refused(empty, tmp_path, query):
    import pyarrow as pa

    secret = pa.table({"secret": ["of the caller"]})  # DuckDB looks variables up by name, unless forbidden
    path = tmp_path / "stolen"
    with pytest.raises(store.QueryError) as found:
        empty.sql(query.format(path=path)).fetchall()
    assert secret
    assert "\n" not in str(found.value)
    assert not path.exists()
    assert empty.sql("SELECT count(*) FROM runs").fetchall() == [(0,)]


def test_an_error_names_the_views(acts):
    with pytest.raises(store.QueryError, match=r"nowhere does not exist.*; the views are runs, samples, steps"):
        acts.sql("SELECT * FROM nowhere")


def test_what_others_commit_is_seen_and_a_relation_keeps_its_snapshot(acts):
    before = acts.sql("SELECT count(*) FROM runs")
    assert before.fetchall() == [(0,)]
    small.commit(store.open(acts.path, mode="a"))
    assert acts.sql("SELECT count(*) FROM runs").fetchall() == [(1,)]
    assert before.filter("true").fetchall() == [(0,)]


def test_what_is_removed_is_gone(acts):
    ids = [small.commit(acts, seed) for seed in (0, 1)]
    assert acts.sql("SELECT count(*) FROM steps").fetchall() == [(4,)]
    (acts.path / "manifests" / "runs" / f"{ids[0]}.parquet").unlink()
    assert acts.sql("SELECT DISTINCT run_id FROM steps").fetchall() == [(ids[1],)]
    assert acts.run_ids() == [ids[1]]
    assert acts.incomplete() == [ids[0]]


@pytest.mark.parametrize("damage", ["deleted", "emptied", "garbage", "cut", "another database"])
def test_the_index_is_only_a_cache(acts, damage):
    import duckdb

    id = small.commit(acts)
    assert acts.sql("SELECT run_id FROM runs").fetchall() == [(id,)]
    index = acts.path / "index.duckdb"
    data = index.read_bytes()
    index.unlink()
    if damage == "another database":
        duckdb.connect(str(index)).close()
    elif damage != "deleted":
        index.write_bytes({"emptied": b"", "garbage": b"x" * 20_000, "cut": data[: len(data) // 2]}[damage])
    for again in (acts, store.open(acts.path)):
        assert again.sql("SELECT run_id, steps FROM runs").fetchall() == [(id, 2)]
    other = small.commit(acts, 1)
    assert {row[0] for row in store.open(acts.path).sql("SELECT run_id FROM token_stats").fetchall()} == {id, other}
    assert [path.name for path in acts.path.glob("*index*")] == ["index.duckdb"]


def test_reindexing_makes_the_file_anew(acts):
    small.commit(acts)
    acts.sql("FROM runs")
    before = (acts.path / "index.duckdb").stat().st_mtime_ns
    acts.reindex()
    assert (acts.path / "index.duckdb").stat().st_mtime_ns > before


def test_processes_read_while_another_writes(acts):
    """Three readers ask again and again; each sees whole runs only, and never fewer than before."""
    small.commit(acts, 100)
    code = f"""
import store
seen = 0
for _ in range(8):
    acts = store.open({str(acts.path)!r})
    runs, stats = acts.sql("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM token_stats)").fetchall()[0]
    assert runs >= seen and stats == 12 * runs, (runs, seen, stats)
    seen = runs
"""
    readers = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for seed in range(10):
        small.commit(acts, seed)
    for reader in readers:
        assert reader.communicate()[1] == ""
        assert reader.returncode == 0
    assert acts.sql("SELECT count(*) FROM runs").fetchall() == [(11,)]
