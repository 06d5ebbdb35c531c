"""Share of samples that are solved: what is asked for is cut into batches, which ranks share.

A sample is *solved* when its overall score is at least 0.9.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple, Self

import numpy as np

from analyses._stats import wilson
from interp.worlds import worlds
from training import parallel, scoring
from training.config import Config
from training.sampling import Sampler
from training.scoring import Cell

VALIDATION_SEED, TEST_SEED = 101, 202
SOLVED = 0.9
SCORED = 25
"""Videos that a scoring process is given at once."""
Scores = list[dict[str, float]]
log = logging.getLogger("training")


class Interval(NamedTuple):
    """A proportion with its 95 % Wilson interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, n: int) -> Self:
        """`hits` out of `n`, which is at least 1."""
        return cls(hits / n, *wilson(hits, n))


class Settings(NamedTuple):
    """How videos are sampled."""

    steps: int
    guidance: float
    variant: str = "shipped"


class Request(NamedTuple):
    """Cells to be measured with one setting."""

    settings: Settings
    cells: tuple[Cell, ...]


def validation(config: Config) -> tuple[Cell, ...]:
    """The cells that choices are made on: every family and difficulty in domain, from a seed of their own."""
    return tuple(
        Cell(family, "in_domain", difficulty, VALIDATION_SEED, -(-config.evaluation.n_choice // len(levels)))
        for family in config.families
        for levels in [worlds[family].difficulties]
        for difficulty in levels
    )


def measure(sampler: Sampler, pool: Executor, requests: Sequence[Request]) -> dict[tuple[Settings, Cell], Scores]:
    """Scores of every sample of every request, on every rank."""
    size = sampler.config.evaluation.batch
    jobs = [(request.settings, cells) for request in requests for cells in _batches(request.cells, size)]
    jobs.sort(key=lambda job: -job[0].steps * sum(cell.n for cell in job[1]))  # ranks come to the end together
    mine = parallel.own(jobs)
    asked = {cell: pool.submit(scoring.questions, cell) for _, cells in mine for cell in cells}
    scored: list[tuple[Settings, Cell, Future[Scores]]] = []
    for number, (settings, cells) in enumerate(mine):
        pictures, prompts = zip(*(asked[cell].result() for cell in cells), strict=True)
        videos = sampler.videos(
            np.concatenate(pictures),
            [prompt for part in prompts for prompt in part],
            seeds=[index for cell in cells for index in range(cell.start, cell.start + cell.n)],
            **settings._asdict(),
        )
        done = 0
        for cell in cells:
            scored.append((settings, cell, pool.submit(scoring.scores, cell, videos[done : done + cell.n])))
            done += cell.n
        log.info("sampled %d/%d: %s, %d videos", number + 1, len(mine), settings, done)
    parts = {
        (settings, cell): scores
        for settings, cell, scores in parallel.gather([(s, c, future.result()) for s, c, future in scored])
    }
    return {
        (request.settings, cell): [
            score for part in cell.parts(min(size, SCORED)) for score in parts[request.settings, part]
        ]
        for request in requests
        for cell in request.cells
    }


def _batches(cells: Sequence[Cell], size: int) -> list[list[Cell]]:
    """Cells of at most `SCORED` samples, in batches of at most `size` samples."""
    batches: list[list[Cell]] = [[]]
    for part in (part for cell in cells for part in cell.parts(min(size, SCORED))):
        if sum(other.n for other in batches[-1]) + part.n > size:
            batches.append([])
        batches[-1].append(part)
    return batches


def summary(scores: Scores) -> dict[str, Any]:
    """Share of solved samples with its interval, and the mean scores."""
    solved = Interval.of(sum(score["overall"] >= SOLVED for score in scores), len(scores))
    means = {name: float(np.mean([score[name] for score in scores])) for name in ("answer", "process", "overall")}
    return {"n": len(scores), "solved": solved._asdict(), **means}


def by_family(
    found: Mapping[tuple[Settings, Cell], Scores], settings: Settings, cells: Sequence[Cell]
) -> dict[str, Any]:
    """`summary` of `cells` with one setting, over all and for each family."""
    families = dict.fromkeys(cell.family for cell in cells)
    return {
        **settings._asdict(),
        **summary([score for cell in cells for score in found[settings, cell]]),
        "families": {
            family: summary([s for cell in cells if cell.family == family for s in found[settings, cell]])
            for family in families
        },
    }
