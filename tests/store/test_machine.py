"""Any history of writing, failing, crashing and forgetting leaves the store equal to a dictionary."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import store
from tests.store import small

SEEDS = st.integers(0, 5)


class StoreMachine(RuleBasedStateMachine):
    """Rules are what people do to a store; `ask` compares it with what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.acts = store.open(self.folder / "acts", mode="a")
        self.runs: dict[str, int] = {}
        self.leftovers = 0

    @rule(seed=SEEDS)
    def commit(self, seed: int) -> None:
        if small.run(seed).id in self.runs:
            with pytest.raises(store.RunExists):
                small.commit(self.acts, seed)
        else:
            self.runs[small.commit(self.acts, seed)] = seed

    @rule(seed=SEEDS)
    def fail(self, seed: int) -> None:
        if small.run(seed).id not in self.runs:
            with self.acts.begin_run(small.run(seed), small.PROVENANCE) as writer:
                small.write_energy(writer, seed)

    @rule(seed=SEEDS)
    def crash(self, seed: int) -> None:
        if small.run(seed).id not in self.runs:
            small.add_energy(self.acts.begin_run(small.run(seed), small.PROVENANCE))
            self.leftovers += 1

    @rule()
    def reopen(self) -> None:
        self.acts = store.open(self.folder / "acts", mode="a")

    @rule()
    def lose_index(self) -> None:
        (self.folder / "acts" / "index.duckdb").unlink(missing_ok=True)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.runs)))
        shutil.rmtree(self.acts.run(id).path)
        (self.folder / "acts" / "manifests" / "runs" / f"{id}.parquet").unlink()
        del self.runs[id]

    @rule()
    def ask(self) -> None:
        assert self.acts.run_ids() == sorted(self.runs)
        assert dict(self.acts.sql("SELECT run_id, seed FROM runs").fetchall()) == self.runs
        assert self.acts.sql("SELECT count(*) FROM token_stats").fetchall() == [(12 * len(self.runs),)]
        assert len(self.acts.incomplete()) == self.leftovers
        if self.runs:
            loaded = self.acts.load("resid_post", "energy")
            wanted = [small.energy(self.runs[id]) for id in loaded.run.values.tolist()]
            np.testing.assert_array_equal(loaded.values, np.stack(wanted))

    def teardown(self) -> None:
        self.ask()
        shutil.rmtree(self.folder)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=6, stateful_step_count=15)
