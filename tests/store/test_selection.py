"""Labels select what NumPy would at their positions, and a condition can select runs and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store
from tests.store import small

LABELS: dict[str, list[Any]] = {
    "step": [0, 3, 10],
    "branch": ["cond", "uncond"],
    "layer": [7, 2, 40, 11],
    "frame": [5, 6, 9],
}
VALUES = np.arange(3 * 2 * 4 * 3 * 2, dtype=np.int32).reshape(3, 2, 4, 3, 2)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> store.ActivationStore:
    """One array, once with a file for each cell and once bundled, under labels that are no positions."""
    acts = store.open(tmp_path_factory.mktemp("labelled") / "acts", mode="a")
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        for site, along in (("q", ("step", "branch", "layer")), ("k", ("step",))):
            writer.add_array(
                site,
                "full",
                dims=(*LABELS, "x"),
                shape=VALUES.shape,
                dtype="int32",
                coords=LABELS,
                files_along=along,
                profile="compact",
            )
            for place in np.ndindex(*VALUES.shape[: len(along)]):
                writer.write(site, "full", dict(zip(along, place, strict=True)), VALUES[place])
        writer.set_steps([info.model_copy(update={"step": at}) for at in LABELS["step"] for info in small.infos(1)])
        writer.commit(1.0)
    return acts


@st.composite
def selections(draw: st.DrawFn, axis: str) -> tuple[Any, Any]:
    """What `load` is asked along an axis, and the positions that this must give."""
    labels = LABELS[axis]
    kind = draw(st.sampled_from(["all", "one", "several", "between"]))
    if kind == "one":
        place = draw(st.integers(0, len(labels) - 1))
        return labels[place], place
    if kind == "several":
        places = draw(st.lists(st.integers(0, len(labels) - 1), min_size=1, max_size=5))
        return [labels[place] for place in places], places
    if kind == "between":
        low, high = sorted(draw(st.tuples(st.sampled_from(labels), st.sampled_from(labels))))
        return slice(low, high), [place for place, label in enumerate(labels) if low <= label <= high]
    return None, list(range(len(labels)))


@given(st.sampled_from(["q", "k"]), st.fixed_dictionaries({axis: selections(axis) for axis in LABELS}))
def test_labels_select_what_numpy_selects(labelled, site, chosen):
    asked = {axis: selector for axis, (selector, _) in chosen.items() if selector is not None}
    found = labelled.load(site, "full", **asked)
    want = VALUES
    for number, axis in reversed(list(enumerate(LABELS))):
        want = want.take(chosen[axis][1], number)
    np.testing.assert_array_equal(found.values[0], want, strict=True)
    for axis, (_, places) in chosen.items():
        np.testing.assert_array_equal(found[axis].values, np.array(LABELS[axis])[places])


@given(st.sampled_from(list(LABELS)), st.integers(-50, 50) | st.text(max_size=3), st.booleans())
def test_a_label_that_is_not_there_is_refused(labelled, axis, label, listed):
    if label in LABELS[axis]:
        return
    with pytest.raises(store.UnknownLabel, match=f"q/full has no {axis} "):
        labelled.load("q", "full", **{axis: [LABELS[axis][0], label] if listed else label})


@pytest.mark.parametrize(
    "where",
    [
        "1=1; DROP TABLE runs",
        "TRUE); DROP VIEW runs; --",
        "TRUE) --",
        "TRUE) /*",
        "TRUE) UNION SELECT content FROM read_text('/etc/passwd') WHERE (TRUE",
        "(SELECT count(*) FROM read_csv('/etc/passwd')) > 0",
        "seed IN (SELECT size FROM read_text('/etc/passwd'))",
        "EXISTS (FROM glob('/etc/*'))",
        "EXISTS (FROM '/etc/passwd')",
        "getenv('HOME') <> ''",
        "",
        "seed = ?",
        "error('only when it runs')",
        "model::INT = 1",
        "no_such_column = 1",
    ],
)
def test_a_condition_that_does_more_is_refused(labelled, where):
    with pytest.raises(store.QueryError) as found:
        labelled.load("q", "full", where=where)
    assert "\n" not in str(found.value)
    assert labelled.sql("SELECT count(*) FROM runs").fetchall() == [(1,)]
