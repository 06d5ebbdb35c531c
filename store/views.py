"""The public views: tables that are made of manifests, in any DuckDB connection."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.parquet as pq

from store import manifest
from store.layout import Kind
from store.records import FORMAT

VERSION: Final = 5
"""Raised when the tables below change: an index of another version is made again."""

TABLES: Final[dict[str, dict[Kind, str]]] = {
    "runs": {
        "runs": """run_id, sample_id, model, revision, weight_hash, pipeline, dtype, seed, steps, guidance, height,
        width, frames, scheduler, interventions, capture, parent_id, try_cast(started AS TIMESTAMP) AS started, seconds,
        git_commit, git_dirty, device, host, nbytes, stored, path, record FROM manifests""",
    },
    "samples": {
        "samples": """sample_id, family, difficulty, split, prompt, negative_prompt, answers, labels, has_video
        FROM manifests""",
    },
    "steps": {
        "runs": """run_id, s.step, s.timestep, s.sigma, s.sigma_next, s.expert, s.guidance
        FROM (SELECT run_id, unnest(trajectory) AS s FROM manifests)""",
    },
    "arrays": {
        "runs": """run_id, a.site, a.reduction, a.dims, a.shape, a.dtype, a.nbytes, a.stored, len(a.shards) AS files,
        coalesce(a.encoding, 'exact') AS encoding
        FROM (SELECT run_id, unnest(arrays) AS a FROM manifests)""",
    },
    "token_stats": {
        "runs": """run_id, t.site, t.branch, t.step, t.layer, t.frame, t.mean, t.std, t.max, t.p99
        FROM (SELECT run_id, unnest(token_stats) AS t FROM files)""",
    },
    "scores": {
        "runs": """run_id, s.scorer, s.metric, s.value, s.step, NULL::VARCHAR AS result_id
        FROM (SELECT run_id, unnest(scores) AS s FROM manifests)""",
        "results": """s.run_id, s.scorer, s.metric, s.value, s.step, result_id
        FROM (SELECT result_id, unnest(scores) AS s FROM manifests)""",
    },
    "results": {
        "results": """result_id, analysis, version, verdict, finding, n, run_ids, params, summary,
        try_cast(started AS TIMESTAMP) AS started, path FROM manifests""",
    },
}
"""The public views: of which kinds of manifest each is made, and how; a bulky column straight from the `files`."""
BULKY: Final = ("token_stats",)

VIEWS: Final = tuple(TABLES)


def of(kind: Kind) -> list[tuple[str, str]]:
    """Tables made of one kind's manifests, with what they select from `manifests`."""
    return [(table, sources[kind]) for table, sources in TABLES.items() if kind in sources]


def create(connection: duckdb.DuckDBPyConnection, kind: Kind) -> None:
    """Make the tables of one kind, empty, unless they are there."""
    for name in ("files", "manifests"):
        connection.register(name, manifest.SCHEMAS[kind].empty_table())
    for table, columns in of(kind):
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} AS SELECT {columns}")
    for name in ("files", "manifests"):
        connection.unregister(name)


def insert(connection: duckdb.DuckDBPyConnection, kind: Kind, paths: Sequence[Path]) -> None:
    """Add the rows of manifests to the tables of their kind.

    Raises:
        duckdb.Error: one of them cannot be read, or has a newer format.
    """
    with tempfile.TemporaryDirectory() as folder:
        # DuckDB reads all files with the schema of the first: what older manifests lack inside a column is then NULL.
        today = Path(folder, "schema.parquet")
        pq.write_table(manifest.SCHEMAS[kind].empty_table(), today)
        listed = ", ".join(quoted(str(path)) for path in (today, *paths))
        # A file without a whole column is an error, as older results are without `scores`; by name it is not. It costs
        # a look at each file first, so the many runs go without it.
        by_name = str(kind == "results").lower()
        connection.execute(f"CREATE TEMP VIEW files AS FROM read_parquet([{listed}], union_by_name = {by_name})")
        # To open a file costs more than to read it: once, not for each table. Older manifests lack columns that no
        # table asks for.
        asked = {"format", *re.findall(r"\w+", " ".join(columns for _, columns in of(kind)))}
        light = ", ".join(name for name in manifest.SCHEMAS[kind].names if name in asked and name not in BULKY)
        connection.execute(f"CREATE TEMP TABLE manifests AS SELECT {light} FROM files")
        newest = connection.execute("SELECT max(format) FROM manifests").fetchall()[0][0]
        if newest > FORMAT:
            raise duckdb.Error(f"format {newest}")
        for table, columns in of(kind):
            connection.execute(f"INSERT INTO {table} SELECT {columns}")
        connection.execute("DROP TABLE manifests")
        connection.execute("DROP VIEW files")


def remove(connection: duckdb.DuckDBPyConnection, kind: Kind, ids: Sequence[str]) -> None:
    """Remove the rows of some manifests from the tables of their kind."""
    if ids:
        for table, _ in of(kind):
            # Scores that a result gave to a run go with the result.
            own = " AND result_id IS NULL" if kind == "runs" and "results" in TABLES[table] else ""
            connection.execute(f"DELETE FROM {table} WHERE {kind[:-1]}_id IN (SELECT unnest(?)){own}", [ids])


def quoted(text: str) -> str:
    """As SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
