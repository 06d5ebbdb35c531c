"""Memory that reads go through: kept by each thread, and never in two hands."""

from __future__ import annotations

import threading

import numpy as np

from store import shard
from tests.store import small


def test_memory_is_given_to_one_reader_at_a_time_and_used_again():
    scratch = shard._Scratch()
    first, second = scratch.take(100), scratch.take(100)
    assert not np.shares_memory(first, second)
    scratch.give(first)
    assert scratch.take(100) is first
    scratch.give(first)
    larger = scratch.take(len(first) + 1)
    assert len(larger) > len(first)


def test_what_is_larger_than_most_need_is_not_kept():
    scratch = shard._Scratch()
    scratch.give(np.empty(100 << 20, np.uint8))
    assert len(scratch.take(1)) < 100 << 20


def test_each_thread_has_its_own():
    scratch = shard._Scratch()
    mine = scratch.take(100)
    scratch.give(mine)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(scratch.take(100)))
    thread.start()
    thread.join()
    assert not np.shares_memory(taken[0], mine)


def test_two_chunks_read_in_turns_keep_their_numbers(acts):
    values = np.arange(2 * 2 * 4 * 5 * 6, dtype=np.uint16).reshape(2, 2, 4, 5, 6)
    with acts.begin_run(small.run(), small.PROVENANCE) as writer:
        writer.add_array(
            "q",
            "full",
            dims=("step", "frame", "y", "x", "channel"),
            shape=values.shape,
            dtype="bfloat16",
            coords={"step": [0, 1]},
            files_along=("step",),
        )
        for step in (0, 1):
            writer.write("q", "full", {"step": step}, values[step])
        writer.set_steps(small.infos(2))
        id = writer.commit(1.0)
    run = acts.run(id)
    (array,) = run.arrays
    folder = run.path / "q" / "full" / "full"
    meta = shard.ArrayMeta.read(folder)
    one, other = (shard.OpenShard(folder / name, meta, nbytes) for name, (nbytes, _) in sorted(array.shards.items()))
    with one, other:
        generators = [opened.pieces(0) for opened in (one, other)]
        pieces = [next(generator)[1] for generator in generators]
        np.testing.assert_array_equal(pieces[0].ravel(), values[0, 0].ravel())
        np.testing.assert_array_equal(pieces[1].ravel(), values[1, 0].ravel())
