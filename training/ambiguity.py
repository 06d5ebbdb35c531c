"""What the model does where several answers are valid: which ones it ends in, and which ones x̂0 holds on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyses._evidence import SHOWN, effective_number
from training import data, parallel, scoring
from training.sampling import Sampler, watched
from training.scoring import Cell
from training.success import SCORED, Interval

SEED = 303
"""World seed of the ambiguous samples."""


def measure(sampler: Sampler, pool: Executor, *, steps: int, guidance: float) -> dict[str, Any]:
    """Endings and evidence of every family that has ambiguous samples, on every rank."""
    options, families = sampler.config.evaluation, scoring.kinds(sampler.config.families)
    most = max(options.n_ambiguous, options.n_evidence)
    asked = {family: pool.submit(scoring.ambiguous, family, SEED, most) for family in families}
    found = {family: future.result() for family, future in asked.items()}
    ends = _endings(sampler, pool, [s for each in found.values() for s in each[: options.n_ambiguous]], steps, guidance)
    seen = _evidence(sampler, pool, [s for each in found.values() for s in each[: options.n_evidence]], steps, guidance)
    return {
        "samples": options.n_ambiguous,
        "seeds": options.seeds,
        "shown": SHOWN,
        "families": {
            family: {
                "kind": kind,
                "endings": [end for end in ends if end["family"] == family],
                "evidence": by_step([each for cell, each in seen if cell.family == family]),
            }
            for family, kind in families.items()
            if found[family]
        },
    }


def _endings(
    sampler: Sampler, pool: Executor, asked: Sequence[tuple[Cell, int]], steps: int, guidance: float
) -> list[dict[str, Any]]:
    """How often each valid answer of each sample is where a video ends, over many seeds."""
    options = sampler.config.evaluation
    submitted = []
    for cell, answers in parallel.own(asked):
        (picture,), (prompt,) = scoring.questions(cell)
        parts = []
        for first in range(0, options.seeds, options.batch):
            seeds = range(first, min(options.seeds, first + options.batch))
            videos = sampler.videos(
                np.repeat(picture[None], len(seeds), axis=0),
                [prompt] * len(seeds),
                seeds=seeds,
                steps=steps,
                guidance=guidance,
            )
            parts += [
                pool.submit(scoring.endings, cell, videos[start : start + SCORED])
                for start in range(0, len(videos), SCORED)
            ]
        submitted.append((cell, answers, parts))
    return parallel.gather(
        [shares(cell, answers, [end for part in parts for end in part.result()]) for cell, answers, parts in submitted]
    )


def shares(cell: Cell, answers: int, ends: Sequence[int | None]) -> dict[str, Any]:
    """Counts of each answer among `ends`, and the smallest share of the right ones over the fair share 1/k."""
    counts = [sum(end == answer for end in ends) for answer in range(answers)]
    right = sum(counts)
    smallest = Interval.of(min(counts), right) if right else None
    return {
        "family": cell.family,
        "difficulty": cell.difficulty,
        "index": cell.start,
        "answers": answers,
        "seeds": len(ends),
        "counts": counts,
        "right": right,
        "smallest": None if smallest is None else {name: answers * value for name, value in smallest._asdict().items()},
    }


def _evidence(
    sampler: Sampler, pool: Executor, asked: Sequence[tuple[Cell, int]], steps: int, guidance: float
) -> list[tuple[Cell, list[list[float]]]]:
    """Evidence `[step][answer]` of each sample, one seed each."""
    pipe, mine = sampler.pipe("shipped"), parallel.own(asked)
    submitted = []
    size = max(1, min(sampler.config.evaluation.batch, data.ENCODE) // 4)
    for first in range(0, len(mine), size):
        cells = [cell for cell, _ in mine[first : first + size]]
        pictures, prompts = zip(*(scoring.questions(cell) for cell in cells), strict=True)
        clean: list[Tensor] = []
        with watched(pipe, clean.append):
            sampler.videos(
                np.concatenate(pictures),
                [prompt for part in prompts for prompt in part],
                seeds=[cell.start for cell in cells],
                steps=steps,
                guidance=guidance,
            )
        with torch.no_grad():
            shown = [data.to_uint8(data.decode(pipe.vae, x)).cpu().numpy() for x in clean]
        videos = np.stack(shown, axis=1)  # sample, step, frame, y, x, channel
        submitted += [(cell, pool.submit(scoring.evidence, cell, one)) for cell, one in zip(cells, videos, strict=True)]
    return parallel.gather([(cell, future.result()) for cell, future in submitted])


def by_step(samples: Sequence[Sequence[Sequence[float]]]) -> dict[str, Any]:
    """What the evidence of several samples, `[sample][step][answer]`, says step by step.

    Returns:
        For each step the means of the largest and second largest evidence and of the effective number of candidates
        (exp of the entropy of the evidence); and the share of samples with two candidates shown at the first step.
    """
    ranked = [[sorted(step, reverse=True) for step in sample] for sample in samples]
    steps = [
        {
            "step": number,
            "largest": float(np.mean([step[0] for step in each])),
            "second": float(np.mean([step[1] for step in each])),
            "effective": float(np.mean([effective_number(np.asarray(step)) for step in each])),
        }
        for number, each in enumerate(zip(*ranked, strict=True))
    ]
    several = sum(sample[0][1] >= SHOWN for sample in ranked)
    return {"n": len(samples), "steps": steps, "several_at_first": Interval.of(several, len(samples))._asdict()}


def worst(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The sample of a family whose rarest answer is furthest under its fair share; one without a right video first."""
    return min(found["endings"], key=lambda end: end["smallest"]["value"] if end["smallest"] else -1.0, default=None)
