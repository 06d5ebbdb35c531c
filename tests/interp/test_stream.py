"""The queue between the model and the store: order, a bound on memory, errors that reach the model."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.stream import Stream, to_numpy
from tests import tiny


def array() -> interp.ArrayPlan:
    model = interp.load(tiny.pipeline())
    settings = model.settings(**tiny.SIZE, steps=4)
    return interp.plan(model.adapter, interp.parse(["x0_hat/full"]), settings).arrays[0]


class Slow:
    """A sink that writes when it is allowed to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.seen: list[float] = []

    def write(self, site: str, reduction: str, index: dict[str, int], block: np.ndarray[Any, Any]) -> None:
        self.gate.wait()
        self.seen.append(float(block.flat[0]))


def test_blocks_arrive_whole_and_in_order() -> None:
    sink, plan = Slow(), array()
    sink.gate.set()
    with Stream(sink) as stream:
        for number in range(50):
            stream.put(plan, {"step": number}, torch.full((3,), float(number)))
    assert sink.seen == [float(number) for number in range(50)]


def test_a_full_queue_makes_the_model_wait() -> None:
    sink, plan = Slow(), array()
    block = torch.zeros(1000)
    put = 0

    def model() -> None:
        nonlocal put
        with Stream(sink, budget=3 * block.nbytes) as stream:
            for _ in range(10):
                stream.put(plan, {"step": 0}, block)
                put += 1

    thread = threading.Thread(target=model)
    thread.start()
    thread.join(timeout=0.5)
    assert thread.is_alive()
    # The budget counts the block in the writer's hands.
    assert put == 3
    sink.gate.set()
    thread.join(timeout=10)
    assert put == 10
    assert len(sink.seen) == 10


def test_a_block_larger_than_the_budget_goes_through_alone() -> None:
    sink, plan = Slow(), array()
    sink.gate.set()
    with Stream(sink, budget=10) as stream:
        for number in range(5):
            stream.put(plan, {"step": number}, torch.full((100,), float(number)))
    assert sink.seen == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert stream.peak == 400


def test_several_writers_write_everything_once() -> None:
    class Counting(Slow):
        def write(self, site: str, reduction: str, index: dict[str, int], block: np.ndarray[Any, Any]) -> None:
            threading.Event().wait(0.01)
            super().write(site, reduction, index, block)

    sink, plan = Counting(), array()
    sink.gate.set()
    with Stream(sink, writers=4) as stream:
        for number in range(40):
            stream.put(plan, {"step": number}, torch.full((3,), float(number)))
    assert sorted(sink.seen) == [float(number) for number in range(40)]


def test_an_error_of_the_sink_reaches_the_model() -> None:
    class Broken:
        def write(self, site: str, reduction: str, index: dict[str, int], block: np.ndarray[Any, Any]) -> None:
            raise OSError("planted")

    plan = array()

    def model() -> None:
        with Stream(Broken(), budget=1) as stream:
            for _ in range(1000):
                stream.put(plan, {"step": 0}, torch.zeros(8))

    with pytest.raises(OSError, match="planted"):
        model()


def test_an_error_of_the_model_drops_what_is_queued() -> None:
    sink, plan = Slow(), array()

    def model() -> None:
        with Stream(sink) as stream:
            for _ in range(5):
                stream.put(plan, {"step": 0}, torch.zeros(8))
            threading.Timer(0.2, sink.gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model()
    assert len(sink.seen) <= 1


def test_bfloat16_keeps_its_bits() -> None:
    value = torch.randn(100).to(torch.bfloat16)
    bits = to_numpy(value)
    assert bits.dtype == np.uint16
    assert torch.equal(torch.from_numpy(bits.astype(np.int32)).to(torch.uint16).view(torch.bfloat16), value)
