"""Power cords and crowds: whatever happens to writers, a store opens and shows only complete runs."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import store
from tests.store import small

ROOT = Path(__file__).resolve().parents[2]


def run_script(code: str) -> str:
    """Output of `code`, which forks before it starts threads, as pytest's own process could not."""
    # pandas: Arrow imports it at the first use, which would be after each fork.
    prelude = "import os, random, signal, sys, time\nimport pandas, store\nfrom tests.store import small\n"
    done = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_killed_writer_leaves_only_complete_runs(acts):
    script = f"""
acts = store.open({str(acts.path)!r}, mode="a")
chance = random.Random(0)
for attempt in range(15):
    committed, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        if attempt >= 5:
            os.fsync = lambda handle: None  # more moments between two waits for the disk
        for number in range(100):
            small.commit(acts, 1000 * attempt + number, steps=4)
            os.write(told, b".")
    os.read(committed, 1)
    time.sleep(chance.uniform(0, 0.06))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
    run_script(script)
    ids, crashed = acts.run_ids(), acts.incomplete()
    assert len(ids) >= 15
    assert crashed, "no writer was killed while it wrote"
    assert acts.sql("SELECT count(*) FROM runs").fetchall() == [(len(ids),)]
    loaded = acts.load("resid_post", "energy")
    wanted = [small.energy(seed, steps=4) for seed in loaded.seed.values.tolist()]
    np.testing.assert_array_equal(loaded.values, np.stack(wanted))
    seeds = [1000 * attempt + number for attempt in range(15) for number in range(100)]
    by_id = {small.run(seed, steps=4).id: seed for seed in seeds}
    for name in crashed:  # what was lost can be made again, beside its own leftovers
        assert small.commit(acts, by_id[name], steps=4) == name
    assert acts.incomplete() == crashed


def test_many_processes_commit_at_once(acts):
    """Each of four commits five runs of its own and tries five that all four want."""
    script = f"""
children = []
for worker in range(4):
    pid = os.fork()
    if pid == 0:
        acts = store.open({str(acts.path)!r}, mode="a")
        acts.put_sample(small.sample())
        for seed in [*range(5), *range(100 * worker + 100, 100 * worker + 105)]:
            try:
                small.commit(acts, seed)
                os.write(1, f"{{seed}}\\n".encode())
            except store.RunExists:
                pass
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
"""
    winners = Counter(map(int, run_script(script).split()))
    seeds = [*range(5), *(100 * worker + 100 + number for worker in range(4) for number in range(5))]
    assert winners == Counter(seeds)
    assert acts.incomplete() == []
    assert acts.sample_ids() == [small.sample().id]
    loaded = acts.load("resid_post", "energy")
    assert sorted(loaded.seed.values.tolist()) == sorted(seeds)
    np.testing.assert_array_equal(loaded.values, np.stack([small.energy(seed) for seed in loaded.seed.values.tolist()]))


def test_leftovers_of_a_crash_are_invisible(acts):
    id = small.commit(acts)
    (acts.path / "runs" / "0123456789abcdef").mkdir()
    (acts.path / "manifests" / "runs" / ".0123456789abcdef.parquet.x.tmp").write_bytes(b"half")
    again = store.open(acts.path)
    assert again.run_ids() == [id]
    assert again.sql("SELECT run_id FROM runs").fetchall() == [(id,)]
    assert again.incomplete() == ["0123456789abcdef"]
