"""Arrays larger than what we let a process take are written, read, looked after and taken out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MB = 1 << 20
CELL, FRAMES, CELLS = 64 * MB, 32, 6
"""Bytes of one file, its inner chunks, and how many files an array has: 384 MB."""

BEFORE = f"""
import json, sys, threading, time
from pathlib import Path
import dask, numpy as np, polars as pl
import store
from store import maintenance, threads
from tests.store import small

path = Path(sys.argv[1])
axes = ("step", "frame", "y", "x", "channel")
block = np.random.default_rng(0).standard_normal(({FRAMES}, 32, 32, {CELL // 4 // FRAMES // 1024}), np.float32)

def anonymous():
    # What was mapped from files can be taken away from us at any time.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])

def peak(work):
    done, most, before = threading.Event(), [0], anonymous()
    def watch():
        while not done.wait(0.002):
            most[0] = max(most[0], anonymous() - before)
    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return most[0]

def write(acts, seed, cells={CELLS}, **options):
    with acts.begin_run(small.run(seed, steps=cells), small.PROVENANCE) as writer:
        writer.add_array("q", "full", dims=axes, shape=(cells, *block.shape), dtype="float32",
                         coords={{"step": range(cells)}}, **options)
        for step in range(cells):
            writer.write("q", "full", {{"step": step}}, block)
        writer.set_steps(small.infos(cells))
        return writer.commit(1.0)

acts = store.open(path / "acts", mode="a")
"""


def measured(tmp_path: Path, code: str) -> dict[str, int]:
    """Peaks that `code` prints, in bytes beyond what the process had."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", BEFORE + code, str(tmp_path)]
    gives_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    environment = {**os.environ, **gives_back}
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_writer_keeps_to_its_budget_however_many_cores_there_are(tmp_path):
    budget = 16 * MB
    peaks = measured(
        tmp_path,
        f"""
threads.cores = lambda: 48
threads._budget = threads.Budget({budget})
block[0, 0, 0, 0] = np.nan  # the costliest case of the lossy encodings
kinds = {{"fast": {{}}, "compact": {{"profile": "compact"}}, "int8": {{"encoding": "int8"}},
         "float8": {{"encoding": "float8", "profile": "compact"}}}}
print(json.dumps({{name: peak(lambda: write(acts, seed, cells=2, **kinds[name])) for seed, name in enumerate(kinds)}}))
""",
    )
    assert peaks["fast"] < 16 * MB, peaks  # three buffers of 4 MB
    for name in ("compact", "int8", "float8"):
        assert peaks[name] < budget + 16 * MB, peaks


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_what_is_larger_than_memory_is_read_and_looked_after(tmp_path):
    peaks = measured(
        tmp_path,
        """
dask.config.set(scheduler="threads", num_workers=2)
write(acts, 0)
target = store.open(path / "copy", mode="a")
array = acts.load("q", "full")

def tokens():
    table = acts.tokens("q", "full").filter(pl.col("values").arr.get(0) > 3).select(pl.len())
    assert table.collect(engine="streaming").item() > 0

work = {
    "mean": lambda: array.mean(("frame", "y", "x"), skipna=False).compute(),
    "tokens": tokens,
    "npy": lambda: maintenance.export(array, path / "q.npy"),
    "safetensors": lambda: maintenance.export(array, path / "q.safetensors"),
    "netcdf": lambda: maintenance.export(array, path / "q.nc"),
    "copy": lambda: maintenance.copy(acts, target),
    "verify": lambda: maintenance.verify(target, state=path / "notes"),
}
acts.load("q", "full", step=0).mean().compute()
print(json.dumps({name: peak(one) for name, one in work.items()}))
""",
    )
    for name, most in peaks.items():
        assert most < CELL * CELLS / 2, (name, peaks)
