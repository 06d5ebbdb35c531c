"""Work on chunks comes back in order, within its budget, and ends when its reader does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from store import threads


@pytest.fixture
def budget(monkeypatch):
    budget = threads.Budget(1000)
    monkeypatch.setattr(threads, "_budget", budget)
    return budget


def chunks(count: int, nbytes: int = 100):
    return (np.full(nbytes, number, np.uint8) for number in range(count))


def all_is_free(budget: threads.Budget) -> bool:
    if free := budget.take(1000, wait=False):
        budget.give(1000)
    return free


def test_results_come_in_order(budget):
    chance = np.random.default_rng(0).random(30) / 500

    def work(chunk):
        time.sleep(chance[chunk[0]])
        return int(chunk[0])

    assert list(threads.in_order(work, chunks(30))) == list(range(30))
    assert all_is_free(budget)


def test_no_more_is_under_way_than_the_budget_allows(budget, monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 50)
    begun: list[int] = []

    def work(chunk):
        begun.append(int(chunk[0]))
        return int(chunk[0])

    for number in threads.in_order(work, chunks(40)):
        assert len(begun) - number <= 10
        time.sleep(0.002)
    assert len(begun) == 40


def test_a_chunk_beyond_the_budget_goes_alone(budget):
    assert list(threads.in_order(len, chunks(3, 5000))) == [5000] * 3
    assert all_is_free(budget)


def test_writers_that_share_a_budget_do_not_wait_for_each_other(budget):
    done: list[int] = []
    writers = [
        threading.Thread(target=lambda: done.append(sum(threads.in_order(len, chunks(20, 400)))), daemon=True)
        for _ in range(6)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(20)
    assert done == [8000] * 6
    assert all_is_free(budget)


@pytest.mark.parametrize("end", ["error", "reader"])
def test_an_end_gives_everything_back(budget, end):
    def work(chunk):
        if end == "error" and chunk[0] == 5:
            raise ValueError("five")
        return int(chunk[0])

    results = threads.in_order(work, chunks(20))
    if end == "error":
        with pytest.raises(ValueError, match="five"):
            list(results)
    else:
        assert next(results) == 0
        results.close()
    assert all_is_free(budget)


def test_a_forked_process_has_threads_of_its_own():
    code = """
import os
import numpy as np
from store import threads
chunks = lambda: [np.zeros(100, np.uint8)] * 3
assert list(threads.in_order(len, chunks())) == [100] * 3
assert list(threads.readers().map(len, chunks())) == [100] * 3
pid = os.fork()
if pid == 0:
    done = [*threads.in_order(len, chunks()), *threads.readers().map(len, chunks())]
    os._exit(0 if done == [100] * 6 else 1)
print(os.waitpid(pid, 0)[1])
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=300, check=False
    )
    assert done.stdout == "0\n", done.stderr
