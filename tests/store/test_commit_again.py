"""A commit that was refused can be mended and repeated; a run that is done takes nothing more."""

from __future__ import annotations

import numpy as np
import pytest

import store
from tests.store import small


def add_pixels(writer: store.RunWriter, site: str = "output") -> None:
    """Announce an array without steps, which is ready before the others."""
    writer.add_array(site, "pixels", dims=("frame",), shape=(2,), dtype="uint8", coords={})


@pytest.mark.parametrize("lacking", ["steps", "cells", "both"])
def test_a_refused_commit_can_be_mended(acts, lacking):
    values, cells = small.energy(0), list(np.ndindex(2, 2))
    late = [] if lacking == "steps" else cells[-1:]
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        add_pixels(writer)
        writer.write("output", "pixels", {}, np.array([1, 2], np.uint8))
        small.add_energy(writer)

        def write(some):
            for step, layer in some:
                cell = {"step": step, "branch": 0, "layer": layer}
                writer.write("resid_post", "energy", cell, values[step, 0, layer])

        write([cell for cell in cells if cell not in late])
        if lacking == "cells":
            writer.set_steps(small.infos(2))
        with pytest.raises(store.IncompleteRun, match="resid_post/energy"):
            writer.commit(1.0)
        assert acts.run_ids() == []
        write(late)
        writer.set_steps(small.infos(2))
        id = writer.commit(1.0)
    np.testing.assert_array_equal(acts.load("resid_post", "energy").values[0], values)
    assert acts.load("output", "pixels", runs=[id]).values.tolist() == [[1, 2]]


@pytest.mark.parametrize("end", ["commit", "discard"])
def test_a_run_that_is_done_takes_no_more_arrays(acts, end):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        small.write_energy(writer, 0)
        writer.set_steps(small.infos(2))
        writer.commit(1.0) if end == "commit" else writer.discard()
        with pytest.raises(store.InvalidArray, match=r"late/pixels comes too late"):
            add_pixels(writer, "late")
        assert not (writer.path / "late").exists()
