"""Two processes train one model: equal weights everywhere, and the mean of their gradients."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training import loop, parallel
from training.config import Config, Fit

TARGETS = (1.0, 5.0)
FIT = Fit(steps=60, batch=1, rate=0.3, warmup=1, weight_decay=0.0, ema=0.5)


def descend(out: Path, target: float) -> torch.Tensor:
    """Minimise (w - target)², and draw one random number in each step."""
    weight = nn.Parameter(torch.zeros(3))
    drawn: list[float] = []

    def loss(step: loop.Step) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        drawn.append(float(torch.rand(1, generator=step.generator)))
        value = (weight - target).pow(2).sum()
        return value, {"loss": value.detach()}

    loop.run(Config(out=out), FIT, stage="test", file=out / "test.safetensors", weights={"weight": weight}, loss=loss)
    save_file(
        {"weight": weight.detach(), "drawn": torch.tensor(drawn), "agreed": torch.tensor(_agreed())},
        out / f"rank{parallel.rank()}.safetensors",
    )
    return weight.detach()


def _agreed() -> list[float]:
    items = parallel.gather(list(parallel.own(range(5))))
    return [parallel.agree(float(parallel.rank() + 7), "cpu"), *map(float, sorted(items))]


def one_rank(rank: int, out: Path, port: int) -> None:
    """What torchrun starts."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with parallel.ranks("cpu"):
        descend(out, TARGETS[rank])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    import socket

    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(one_rank, (out, port), nprocs=2)
    return [load_file(out / f"rank{rank}.safetensors") for rank in range(2)]


def test_ranks_end_with_the_same_weights(both: list[dict[str, torch.Tensor]]) -> None:
    assert torch.equal(both[0]["weight"], both[1]["weight"])


def test_they_follow_the_mean_of_their_gradients(both: list[dict[str, torch.Tensor]], tmp_path: Path) -> None:
    mean = sum(TARGETS) / 2
    assert both[0]["weight"].tolist() == pytest.approx([mean] * 3, abs=0.2)
    # The gradient of the mean loss is that of one rank with the mean target.
    torch.testing.assert_close(both[0]["weight"], descend(tmp_path, mean))
    assert not torch.allclose(both[0]["weight"], descend(tmp_path / "other", TARGETS[0]), atol=0.5)


def test_their_random_numbers_differ(both: list[dict[str, torch.Tensor]]) -> None:
    assert not set(both[0]["drawn"].tolist()) & set(both[1]["drawn"].tolist())


def test_they_agree_and_share(both: list[dict[str, torch.Tensor]]) -> None:
    for rank in both:
        assert rank["agreed"].tolist() == [7.0, 0.0, 1.0, 2.0, 3.0, 4.0]
