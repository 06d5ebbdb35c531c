"""`token_stats` says what NumPy says of the energies, however they are laid out in files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from store.bfloat16 import to_float32
from tests.store import small

LABELS: dict[str, list[Any]] = {"step": [4, 1], "branch": ["cond", "uncond"], "layer": [0, 5, 2]}
SHAPE = (2, 2, 3, 3, 4, 4)


def energies(dtype: str) -> NDArray[Any]:
    """Distinct maps, one of them with a massive token."""
    values = np.random.default_rng(3).gamma(2.0, size=SHAPE).astype(np.float32)
    values[1, 1, 2, 0, 0, 0] = 1e6
    return (values.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else values.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("along", [("step", "branch", "layer"), ("step",), ("layer",), ()])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_statistics_are_those_of_the_planted_maps(acts, dtype, along):
    planted = energies(dtype)
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array(
            "mlp_out",
            "energy",
            dims=(*LABELS, "frame", "y", "x"),
            shape=SHAPE,
            dtype=dtype,
            coords={**LABELS, "frame": [0, 2, 4]},
            files_along=along,
        )
        for place in np.ndindex(*(len(LABELS[axis]) for axis in along)):
            index = dict(zip(along, place, strict=True))
            block = planted[tuple(index.get(axis, slice(None)) for axis in LABELS)]
            writer.write("mlp_out", "energy", index, block)
        writer.set_steps([info.model_copy(update={"step": at}) for at in LABELS["step"] for info in small.infos(1)])
        id = writer.commit(1.0)
    rows = acts.sql("SELECT * FROM token_stats").fetchall()
    assert len(rows) == 2 * 2 * 3 * 3
    floats = (to_float32(planted) if dtype == "bfloat16" else planted).astype(np.float64)
    with np.errstate(invalid="ignore"):
        for run_id, site, branch, step, layer, frame, *found in rows:
            place = (
                LABELS["step"].index(step),
                LABELS["branch"].index(branch),
                LABELS["layer"].index(layer),
                frame // 2,
            )
            tokens = floats[place].ravel()
            want = [tokens.mean(), tokens.std(), tokens.max(), np.percentile(tokens, 99)]
            np.testing.assert_allclose(found, want, rtol=1e-12, err_msg=str(place))
            assert (run_id, site) == (id, "mlp_out")


def test_only_energies_are_summarised(acts):
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array("latent", "full", dims=("frame",), shape=(2,), dtype="float32", coords={})
        writer.write("latent", "full", {}, np.ones(2, np.float32))
        writer.commit(1.0)
    assert acts.sql("FROM token_stats").fetchall() == []
