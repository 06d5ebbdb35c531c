"""The code blocks of the store's docs run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import store
from tests.store import small

DOCS = Path(__file__).resolve().parents[2] / "docs"
STEPS, LAYERS = 30, 12


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def queries() -> list[str]:
    """Every statement of the SQL blocks of docs/sql.md."""
    return [query.strip() for block in blocks("sql.md", "sql") for query in block.split(";") if query.strip()]


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> store.ActivationStore:
    """`demo/acts`, as the pages call it: one maze, as many steps and layers as the examples name."""
    acts = store.open(tmp_path_factory.mktemp("docs") / "demo" / "acts", mode="a")
    with acts.begin_run(small.run(sample_id=acts.put_sample(small.sample())), small.PROVENANCE) as writer:
        values = small.energy(0, steps=STEPS, layers=LAYERS)
        small.add_energy(writer, steps=STEPS, layers=LAYERS, files_along=("step",))
        for step in range(STEPS):
            writer.write("resid_post", "energy", {"step": step}, values[step])
        writer.set_steps(small.infos(STEPS))
        writer.add_scores(
            [store.Score(scorer="maze", metric="answer", value=step / 29, step=step) for step in range(30)]
        )
        writer.commit(1.0)
    return acts


def test_there_is_something_to_try():
    assert len(queries()) == 3
    assert [len(blocks(page, "python")) for page in ("sql.md", "store-format.md", "loading.md")] == [1, 1, 1]


@pytest.mark.parametrize("query", queries())
def test_the_queries_of_the_docs_answer(acts, query):
    assert acts.sql(query).fetchall()


def test_the_queries_of_the_docs_say_what_is_in_the_store(acts):
    depth, settles, disk = (acts.sql(query).fetchall() for query in queries())
    values = small.energy(0, steps=STEPS, layers=LAYERS).astype(np.float64)
    assert [row[:2] for row in depth] == [(layer, step) for layer in range(LAYERS) for step in (0, 29)]
    np.testing.assert_allclose(
        [row[2] for row in depth], [values[step, 0, layer, 1:].mean() for layer in range(LAYERS) for step in (0, 29)]
    )
    assert settles == [(step, pytest.approx(step / 29), 1) for step in range(STEPS)]
    assert [row[:2] for row in disk] == [("resid_post", "energy")]


@pytest.mark.parametrize("code", blocks("sql.md", "python"))
def test_the_python_of_the_sql_page_runs(acts, code, monkeypatch):
    monkeypatch.chdir(acts.path.parents[1])
    names: dict[str, Any] = {}
    exec(code, names)
    lines = [line.partition("  #")[0] for line in code.splitlines() if line.startswith("acts.")]
    asked, counted, loaded = (eval(line, names) for line in lines)
    assert asked.columns.tolist() == ["sample_id", "seed", "seconds"]
    assert len(asked) == 1
    assert counted == [(1,)]
    assert loaded.layer.values.tolist() == [0, 11]


@pytest.mark.parametrize("code", blocks("loading.md", "python"))
def test_the_python_of_the_loading_page_runs(acts, code, monkeypatch):
    monkeypatch.chdir(acts.path.parents[1])
    names: dict[str, Any] = {}
    exec(code, names)
    values = small.energy(0, steps=STEPS, layers=LAYERS)
    np.testing.assert_array_equal(names["energy"].values[0], values)
    np.testing.assert_array_equal(names["late"].values[0], values[29][:, [0, 11]])
    assert len(names["hot"]) == (values[:, :, 11] > 0.9).sum()
    assert dict((step, top) for _, step, top in names["top"].fetchall()) == {
        step: float(values[step, :, 11].max()) for step in range(STEPS)
    }
    np.testing.assert_array_equal(names["some"].values, values[[0, 29], 0, 11, 0, [1, 3], 2])


@pytest.mark.parametrize("code", blocks("store-format.md", "python"))
def test_the_python_of_the_format_page_runs(acts, code):
    code = code.replace("ACTS/runs/<id>", str(acts.run(acts.run_ids()[0]).path))
    names: dict[str, Any] = {}
    exec(code, names)
    trajectory, energy = (eval(line, names) for line in code.splitlines() if line.startswith("xr."))
    assert isinstance(trajectory, xr.Dataset)
    assert set(trajectory.coords) == {"step", "timestep", "sigma", "sigma_next", "expert", "guidance"}
    np.testing.assert_array_equal(energy.energy.values, small.energy(0, steps=STEPS, layers=LAYERS))
