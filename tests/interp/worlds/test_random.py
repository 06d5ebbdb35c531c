"""Stateless random numbers: known values, prefixes, and evenness."""

from __future__ import annotations

import pytest
import torch

from interp.worlds._random import mix, pick, stream_key, uniform


def test_the_mixer_is_splitmix64() -> None:
    """First outputs of the reference implementation for state 0."""
    gamma = 0x9E3779B97F4A7C15
    states = [(gamma * i) % 2**64 for i in (1, 2, 3)]
    signed = torch.tensor([state - 2**64 if state >= 2**63 else state for state in states])
    assert [value % 2**64 for value in mix(signed).tolist()] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    key = stream_key("maze", 0)
    assert torch.equal(uniform(key, torch.arange(50), 7)[[3, 40]], uniform(key, torch.tensor([3, 40]), 7))
    assert torch.equal(uniform(key, torch.arange(5), 9)[:, :7], uniform(key, torch.arange(5), 7))


def test_numbers_are_even_and_independent() -> None:
    u = uniform(stream_key("evenness"), torch.arange(20_000), 4)
    assert u.min() >= 0
    assert u.max() < 1
    assert u.mean(dim=0).tolist() == pytest.approx([0.5] * 4, abs=0.01)
    assert u.var(dim=0).tolist() == pytest.approx([1 / 12] * 4, abs=0.002)
    off_diagonal = torch.corrcoef(u.T) - torch.eye(4)
    assert off_diagonal.abs().max() < 0.03


def test_streams_differ() -> None:
    index = torch.arange(1000)
    a, b = (uniform(stream_key("maze", seed), index, 1)[:, 0] for seed in (0, 1))
    assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 0.1


def test_pick_covers_every_choice_and_no_more() -> None:
    u = torch.tensor([0.0, 0.3333, 0.3334, 0.9999999, 1.0])
    assert pick(u, 3).tolist() == [0, 0, 1, 2, 2]
