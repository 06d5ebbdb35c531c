"""Muon on batches does what torch's does matrix by matrix, and training goes on with it."""

from __future__ import annotations

import torch
from torch import nn

from training import muon


def _matrices() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 8), (8, 8), (20, 8), (8, 20), (8, 20)]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def test_it_steps_as_the_library_does() -> None:
    ours, theirs = _matrices(), _matrices()
    before = [weight.detach().clone() for weight in ours]
    optimizers = (
        muon.Muon(ours, lr=0.02, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for number in range(3):
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            generator = torch.Generator().manual_seed(number)
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
    for mine, other, first in zip(ours, theirs, before, strict=True):
        assert (mine - first).abs().max() > 0.01
        torch.testing.assert_close(mine, other, atol=2e-3, rtol=0.02)  # bfloat16, multiplied in another order


def test_a_matrix_without_gradient_stays() -> None:
    still, moved = _matrices()[:2]
    before = still.detach().clone()
    moved.grad = torch.ones_like(moved)
    muon.Muon([still, moved], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(still, before)


def test_only_matrices_of_blocks_are_its_own() -> None:
    weights = {
        "transformer.blocks.0.ffn.weight": nn.Parameter(torch.zeros(4, 4)),
        "transformer.blocks.0.ffn.bias": nn.Parameter(torch.zeros(4)),
        "transformer.proj_out.weight": nn.Parameter(torch.zeros(4, 4)),
    }
    both = muon.optimizers(weights, rate=1e-3, weight_decay=0.0, muon=True)
    assert [names for _, names in both] == [list(weights)[1:], list(weights)[:1]]
    assert [names for _, names in muon.optimizers(weights, rate=1e-3, weight_decay=0.0, muon=False)] == [list(weights)]
