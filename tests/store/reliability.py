"""What `docs/reliability.md` reports: a store under kills, crowds, full disks and damage, counted.

    python -m tests.store.reliability --kills 200 --json reliability.json

It takes a quarter of an hour. Anything lost, changed or unnamed ends it with an error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import store
from store import files, maintenance
from tests import s3_server
from tests.store import small, test_results

# A process of its own each time: a client of S3 does not survive a fork.
_processes = multiprocessing.get_context("spawn")
STEPS = 6
Counts = dict[str, int | str]


def write_until_killed(url: str, first: int, told: Connection) -> None:
    """Commit run after run, and tell each one that was reported as committed."""
    acts = store.open(url, mode="a")
    for seed in range(first, first + 10**6):
        told.send(small.commit(acts, seed, steps=STEPS))


def kills(url: str, count: int, chance: random.Random) -> Counts:
    """Kill writers at random moments; a run that was reported must be there, and whole."""
    acts = store.open(url, mode="a")
    reported = set[str]()
    for attempt in range(count):
        receiver, sender = _processes.Pipe(duplex=False)
        child = _processes.Process(target=write_until_killed, args=(url, 1000 * attempt, sender))
        child.start()
        sender.close()
        reported.add(receiver.recv())  # it is under way
        time.sleep(chance.uniform(0, 0.15))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        with contextlib.suppress(EOFError):  # the last message may be cut
            while receiver.poll():
                reported.add(receiver.recv())
        receiver.close()
    halfway = len(acts.incomplete())
    lost = reported - set(acts.run_ids())
    assert not lost, f"{len(lost)} runs that were reported as committed are not there"
    whole = compare(acts, steps=STEPS)
    assert maintenance.verify(acts).damages == ()
    removed = maintenance.collect(acts, grace_s=-60, remove=True)
    assert len(removed.leftovers) >= halfway
    assert acts.incomplete() == []
    assert compare(acts, steps=STEPS) == whole
    return {"kills": count, "while a run was being written": halfway, "complete runs, all identical": whole, "lost": 0}


def compare(acts: store.ActivationStore, steps: int = 2) -> int:
    """Number of complete runs, each of which reads back as it was written."""
    seeds = {id: acts.run(id).run.seed for id in acts.run_ids()}
    for id, seed in seeds.items():
        values = acts.load("resid_post", "energy", runs=[id]).values[0]
        np.testing.assert_array_equal(values, small.energy(seed, steps=steps))
    return len(seeds)


def commit_many(url: str, worker: int, runs: int, told: Connection) -> None:
    """Commit runs of one's own, and some that every worker wants."""
    acts = store.open(url, mode="a")
    won: list[int] = []
    for seed in [*range(5), *(1000 * (worker + 1) + number for number in range(runs - 5))]:
        try:
            small.commit(acts, seed)
            won.append(seed)
        except store.RunExists:
            pass
    told.send(won)


def crowd(url: str, workers: int = 8, runs: int = 50) -> Counts:
    """Writers at once; each wants some runs that all want."""
    pipes = [_processes.Pipe(duplex=False) for _ in range(workers)]
    children = [
        _processes.Process(target=commit_many, args=(url, worker, runs, sender))
        for worker, (_, sender) in enumerate(pipes)
    ]
    for child in children:
        child.start()
    won = Counter(seed for receiver, _ in pipes for seed in receiver.recv())
    for child in children:
        child.join()
        assert child.exitcode == 0
    wanted = {*range(5), *(1000 * (worker + 1) + number for worker in range(workers) for number in range(runs - 5))}
    assert won == Counter(wanted), "a run has no winner, or two"
    acts = store.open(url)
    assert compare(acts) == len(wanted)
    assert acts.incomplete() == []
    assert maintenance.verify(acts).damages == ()
    return {"writers": workers, "attempts": workers * runs, "contested ids": 5, "complete runs": len(wanted), "lost": 0}


@contextlib.contextmanager
def small_disk(folder: Path, nbytes: int) -> Iterator[str | None]:
    """How `folder` became a disk of `nbytes`; None where nothing may be mounted."""
    options = ["-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield "tmpfs"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(folder: Path, trials: int, chance: random.Random) -> Counts:
    """Commit with a random amount of room left: it works, or it is one clear error and leaves nothing."""
    folder.mkdir()
    with small_disk(folder, 16 << 20) as how:
        if how is None:
            return {"trials": 0, "made by": "nothing can be mounted here"}
        acts = store.open(folder / "acts", mode="a")
        small.commit(acts, 0)
        filler, refused = folder / "filler", 0
        for trial in range(1, trials + 1):
            free = acts.free
            assert free is not None
            filler.write_bytes(bytes(max(0, free - chance.randrange(0, 400_000))))
            try:
                small.commit(acts, trial, steps=2)
            except store.StoreFull:
                refused += 1
            filler.unlink()
            assert acts.incomplete() == []
        runs = compare(acts)
        assert runs == 1 + trials - refused
        assert maintenance.verify(acts).damages == ()
        assert 0 < refused < trials
        return {"trials": trials, "made by": how, "refused": refused, "complete runs, all identical": runs}


def write_limited(url: str, seed: int, limit: int, told: Connection) -> None:
    """Commit under a limit on the size of any file (RLIMIT_FSIZE), as a quota would hit."""
    acts = store.open(url, mode="a")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        small.commit(acts, seed)
        told.send("committed")
    except store.StoreFull:
        told.send("refused")


def limited_files(url: str, trials: int, chance: random.Random) -> Counts:
    """Commits under random limits on the size of a file."""
    told = Counter[str]()
    for trial in range(trials):
        receiver, sender = _processes.Pipe(duplex=False)
        child = _processes.Process(target=write_limited, args=(url, trial, chance.randrange(100, 40_000), sender))
        child.start()
        told[receiver.recv()] += 1
        child.join()
    acts = store.open(url)
    assert acts.incomplete() == []
    assert compare(acts) == told["committed"]
    assert maintenance.verify(acts).damages == ()
    assert min(told.values()) > 0
    return {"trials": trials, "made by": "RLIMIT_FSIZE", **told}


def fill(acts: store.ActivationStore) -> None:
    """Every kind of file: runs in all profiles, a sample, a result."""
    for seed in (0, 1):
        small.commit(acts, seed)
    with acts.begin_run(small.run(2), small.PROVENANCE) as writer:
        small.write_energy(writer, 2)
        values = np.random.default_rng(0).standard_normal((2, 3, 4, 4, 8), np.float32)
        for site, options in (
            ("q", {"profile": "compact"}),
            ("k", {"encoding": "int8"}),
            ("v", {"encoding": "float8", "profile": "compact"}),
        ):
            axes = ("step", "frame", "y", "x", "channel")
            labels = {"step": [0, 1]}
            writer.add_array(site, "full", dims=axes, shape=values.shape, dtype="float32", coords=labels, **options)
            for step in range(2):
                writer.write(site, "full", {"step": step}, values[step])
        writer.set_steps(small.infos(2))
        writer.commit(1.0)
    acts.put_sample(small.sample())
    acts.save_result(test_results.RECORD, test_results.data(), small.PROVENANCE)


def kind(name: str) -> str:
    """What a file is, for the table."""
    if name.startswith("manifests"):
        return f"manifest of {name.split('/')[1]}"
    folder = name.split("/")[0]
    file = name.rpartition("/")[2]
    return f"{folder}: {'zarr.json' if file == 'zarr.json' else 'values and coordinates'}"


def harm(data: bytes, how: str, chance: random.Random) -> bytes | None:
    """A damaged copy of a file; None where it is deleted."""
    if how == "deleted":
        return None
    if how == "cut short":
        return data[: chance.randrange(len(data))]
    place = chance.randrange(8 * len(data))
    return data[: place // 8] + bytes([data[place // 8] ^ 1 << place % 8]) + data[place // 8 + 1 :]


def damages(url: str, rounds: int, chance: random.Random) -> Counts:
    """Damage file after file; `verify` names that file and no other, and whole runs stay readable."""
    acts = store.open(url, mode="a")
    fill(acts)
    seeds = {str(acts.run(id).path): (id, acts.run(id).run.seed) for id in acts.run_ids()}
    names = [
        name for name in files.tree(acts.path) if name.split("/")[0] in ("manifests", "runs", "samples", "results")
    ]
    found, kinds = Counter[str](), set[str]()
    for how in ("flipped bit", "cut short", "deleted"):
        for name in names * rounds:
            path = acts.path / name
            data = files.read(path)
            if not data:
                continue
            damaged = harm(data, how, chance)
            replace(path, damaged)
            told = {damage.path for damage in maintenance.verify(acts, fresh=True).damages}
            unlisted = how == "deleted" and name.startswith("manifests")  # then it does not exist
            assert told == (set() if unlisted else {str(path)}), f"{how} in {name}: {told}"
            replace(path, data)
            found[how] += 1
            kinds.add(kind(name))
    for id, seed in seeds.values():
        np.testing.assert_array_equal(acts.load("resid_post", "energy", runs=[id]).values[0], small.energy(seed))
    assert maintenance.verify(acts, fresh=True).damages == ()
    return {**found, "kinds of file": len(kinds), "unnamed": 0}


def newer(url: str) -> Counts:
    """Manifests of a newer format are named by whoever reads them, and by `verify`."""
    acts = store.open(url, mode="a")
    fill(acts)
    tried = 0
    for folder in ("runs", "samples", "results"):
        for name in files.listing(acts.path / "manifests" / folder, ".parquet"):
            path = acts.path / "manifests" / folder / f"{name}.parquet"
            data = files.read(path)
            table = pq.read_table(pa.BufferReader(data))
            sink = pa.BufferOutputStream()
            place = table.schema.get_field_index("format")
            number = pa.array([store.FORMAT + 1], pa.int32())
            pq.write_table(table.set_column(place, table.schema.field(place), number), sink)
            replace(path, sink.getvalue().to_pybytes())
            (damage,) = maintenance.verify(acts, fresh=True).damages
            assert damage.path == str(path)
            assert "upgrade" in damage.problem
            replace(path, data)
            tried += 1
    return {"manifests": tried, "unnamed": 0}


def replace(path: files.Location, data: bytes | None) -> None:
    """Put other bytes into a file, or remove it."""
    files.remove(path)
    if data is not None:
        files.write_new(path, [data])


def report(name: str, counts: Counts, begun: float, results: dict[str, Any]) -> None:
    """Print one part and keep it."""
    results[name] = {**counts, "seconds": round(time.monotonic() - begun)}
    sys.stdout.write(f"{name}: " + "; ".join(f"{key} {value}" for key, value in results[name].items()) + "\n")
    sys.stdout.flush()


def disk_parts(folder: Path, trials: int, chance: random.Random, results: dict[str, Any]) -> None:
    """What only a disk has: an end."""
    begun = time.monotonic()
    report("full disk", full_disk(folder / "full", trials, chance), begun, results)
    begun = time.monotonic()
    limited = limited_files(str(folder / "limited"), max(4, trials // 4), chance)
    report("full disk, by a limit", limited, begun, results)


def main() -> None:
    """Run all parts on a disk and on S3."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="kills on a disk, and as many on S3")
    parser.add_argument("--trials", type=int, default=100, help="commits to a disk that is nearly full")
    parser.add_argument("--rounds", type=int, default=3, help="damages of each file on a disk; one on S3")
    parser.add_argument("--only", choices=["disk", "S3"], help="one of the two places")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the counts go")
    options = parser.parse_args()
    chance, results = random.Random(options.seed), dict[str, Any]()
    with tempfile.TemporaryDirectory() as name, s3_server.running(Path(name, "server")) as endpoint:
        folder = Path(name)
        os.environ.update(s3_server.environment(endpoint, folder / "cache"))
        for where, root in (("disk", str(folder / "stores")), ("S3", f"s3://{s3_server.BUCKET}")):
            if options.only not in (None, where):
                continue
            begun = time.monotonic()
            report(f"kill -9, {where}", kills(f"{root}/kills", options.kills, chance), begun, results)
            begun = time.monotonic()
            report(f"crowd, {where}", crowd(f"{root}/crowd"), begun, results)
            begun = time.monotonic()
            rounds = options.rounds if where == "disk" else 1
            report(f"damage, {where}", damages(f"{root}/damage", rounds, chance), begun, results)
            begun = time.monotonic()
            report(f"newer format, {where}", newer(f"{root}/newer"), begun, results)
        if options.only != "S3":
            disk_parts(folder, options.trials, chance, results)
    if options.json:
        options.json.write_text(json.dumps({"python": sys.version.split()[0], **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
