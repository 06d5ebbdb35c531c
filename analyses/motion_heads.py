"""Motion heads: attention heads whose tokens tell the frames of a video apart, ranked, against shuffled frames.

The name is that of IMAP (arXiv 2603.02919), which takes heads that separate frames as those that hold motion. Whether
they do is a question of its own: where the worlds know how far things move, it is asked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute as compute_all
from dask.delayed import delayed
from numpy.typing import NDArray
from pydantic import JsonValue
from threadpoolctl import threadpool_limits

import store
from analyses._across import chosen_by_others
from analyses._head_ranks import ranks, with_motion
from analyses._matching import count_heads
from analyses._options import Numbers, Positive, Seed
from analyses._registry import Found, Verdict, once, register
from analyses._result import Result
from analyses._select import Selection, arrays_of_all, select
from analyses._separability import SHUFFLES, family_wise, shares, shuffles
from analyses._stats import SAMPLE, over_samples
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, triple, with_interval
from analyses.errors import NonFinite, NoRuns
from store import ActivationStore, Json, digest, dims
from store.places import Location

VERSION: Final = 1
SITES: Final = ("z", "q", "k", "v")
"""Sites that are made of heads; the first that all runs hold is taken."""
KINDS: Final = ("full", "head_energy")
"""Reductions that keep heads apart, the richer one first."""
PLACES: Final = 256
"""Tokens of a frame that are looked at; of more, so many are drawn, the same of each run and cell."""
FALSE_RATE: Final = 0.05
"""Probability that any head at all is called, where none separates frames."""
RULED_OUT: Final = 0.05
"""An excess of the best head whose interval ends below this is too small to speak of."""


class _Source(NamedTuple):
    site: str
    kind: str
    branch: str
    steps: tuple[int, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    first: bool
    drawn: int
    """Shuffles."""


@register
def motion_heads(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    site: Literal["z", "q", "k", "v"] | None = None,
    branch: str = "cond",
    steps: Numbers | None = None,
    layers: Numbers | None = None,
    heads: Positive | None = None,
    first_frame: bool = False,
    permutations: Positive = SHUFFLES,
    seed: Seed = 0,
) -> Result:
    """How far each head tells frames apart, with heads ranked, and what shuffled frames give.

    `separability` is the share of the variance of a head's tokens that lies between frames, less what shuffled frames
    give on average: 0 if frames tell nothing, 1 if all tokens of a frame are alike and no two frames are. The first
    frame is left out, since it is the given picture. `docs/analyses.md` lists the quantities.

    Verdict on *some heads separate frames, and more than others do*: `replicates` if a head at some step does at a
    family-wise rate of 5 % over all cells (frames of each place shuffled, largest cell of each shuffle), and the
    head that the other half of the samples chose exceeds the mean of all heads with its 95 % interval above 0; `does
    not replicate` if not and the interval of that excess ends below 0.05; else `inconclusive`.

    Args:
        acts: The store; runs need `z`, `q`, `k` or `v` as `full` or `head_energy`.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        site: Which; None takes the first of `z`, `q`, `k`, `v` that all runs hold.
        branch: `cond` or `uncond`.
        steps: None for all.
        layers: None for all.
        heads: Heads of the model, for captures that do not say.
        first_frame: Whether the first latent frame counts as one of the frames.
        permutations: Shuffles of each sample.
        seed: Of the shuffles and of the bootstrap.

    Raises:
        NoRuns: no run holds heads, captures do not say how many, or there is but one frame.
        MixedRuns: runs are of several conditions.
        BadPlan: `heads` do not divide the channels.
        NonFinite: a value is NaN or infinite.

    Source: IMAP, arXiv 2603.02919 (frame separability of heads); Westfall and Young 1993 (correction).
    """
    wanted = [f"{one}/{kind}" for one in ([site] if site else SITES) for kind in KINDS]
    chosen = select(acts, arrays=wanted, where=where, runs=runs)
    held = arrays_of_all(acts, chosen.run_ids)
    name = next((one for one in wanted if one in held), None)
    if name is None:
        raise NoRuns(
            f"The {len(chosen.run_ids)} chosen runs share none of {', '.join(wanted)}, but {', '.join(sorted(held))}. "
            "Capture z/full or z/head_energy of some steps and layers, or choose other runs."
        )
    source = _describe(
        acts, chosen.run_ids[0], name, branch=branch, steps=steps, layers=layers, heads=heads, first=first_frame
    )._replace(drawn=permutations)
    params: Json = {
        "site": source.site,
        "branch": branch,
        "steps": [*source.steps],
        "layers": [*source.layers],
        "heads": heads,
        "first_frame": first_frame,
        "permutations": permutations,
        "seed": seed,
    }
    return once(
        acts,
        analysis="motion_heads",
        version=VERSION,
        params=params,
        run_ids=chosen.run_ids,
        compute=lambda: _found(acts, chosen, source, seed),
    )


def _describe(
    acts: ActivationStore,
    run: str,
    name: str,
    *,
    branch: str,
    steps: Sequence[int] | None,
    layers: Sequence[int] | None,
    heads: int | None,
    first: bool,
) -> _Source:
    site, kind = name.split("/")
    array = acts.load(site, kind, runs=[run], branch=branch, step=steps, layer=layers)
    if array.sizes[dims.FRAME] - (not first) < 2:
        raise NoRuns(f"{name} has {array.sizes[dims.FRAME]} latent frame(s): frames cannot be told apart.")
    numbers = array[dims.HEAD].to_numpy() if kind == "head_energy" else np.arange(count_heads(array, heads))
    return _Source(
        site=site,
        kind=kind,
        branch=branch,
        steps=tuple(int(one) for one in array[dims.STEP].to_numpy()),
        layers=tuple(int(one) for one in array[dims.LAYER].to_numpy()),
        heads=tuple(int(one) for one in numbers),
        first=first,
        drawn=0,
    )


def _found(acts: ActivationStore, chosen: Selection, source: _Source, seed: int) -> Found:
    groups = chosen.by_sample()
    tasks = [delayed(_of_sample)(acts.path, source, sample, own, seed) for sample, own in groups.items()]
    with threadpool_limits(1, user_api="blas"):
        each: list[tuple[NDArray[Any], NDArray[Any]]] = list(compute_all(*tasks))
    values = np.stack([one for one, _ in each])  # [s, step, layer, head]
    null = np.mean([one for _, one in each], axis=0).reshape(source.drawn, -1)
    axes = (dims.STEP, dims.LAYER, dims.HEAD)
    coords = {dims.STEP: [*source.steps], dims.LAYER: [*source.layers], dims.HEAD: [*source.heads]}
    words = {"long_name": "share of the variance of tokens that lies between frames, less that of shuffles"}
    array = xr.DataArray(values, dims=(SAMPLE, *axes), coords=coords, attrs={**words, "units": "share"})
    arrays = over_samples("separability", array, bounds=(-1, 1))
    by_head = array.mean(dims.STEP).assign_attrs(array.attrs)
    arrays |= over_samples("head_separability", by_head, bounds=(-1, 1)) | ranks(by_head, seed)
    p = family_wise(values.mean(axis=0).ravel(), null).reshape(values.shape[1:])
    arrays["p"] = xr.DataArray(
        p, dims=axes, coords=coords, attrs={"long_name": "family-wise p value over all cells", "units": "1"}
    )
    flat = values.reshape(len(values), -1)
    best = flat[np.arange(len(flat)), chosen_by_others(flat)]
    excess = xr.DataArray(best - np.nanmean(flat, axis=1), dims=SAMPLE)
    arrays |= over_samples(
        "excess",
        excess.assign_attrs(
            long_name="separability of the head that other samples chose, minus the mean of all heads", units="share"
        ),
        bounds=(-1, 1),
    )
    arrays |= with_motion(array, [acts.sample(sample) for sample in groups])
    infos = acts.run(chosen.run_ids[0]).steps
    data = with_steps(xr.Dataset(arrays), infos).assign_attrs(
        headline="separability",
        n=len(groups),
        runs=len(chosen.run_ids),
        switches=switches(infos),
        site=source.site,
        reduction=source.kind,
        first_frame=int(source.first),
        permutations=source.drawn,
    )
    return Found(data=data, finding=_sentence(data), n=len(groups), summary=_summary(data), verdict=_verdict(data))


def _of_sample(
    path: Location, source: _Source, sample: str, runs: list[str], seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Observed `[step, layer, head]` and shuffled `[b, step, layer, head]`, mean over the runs of a sample."""
    acts = store.open(path)
    found = [_of_run(acts, source, sample, run, seed) for run in runs]
    return np.mean([one for one, _ in found], axis=0), np.mean([one for _, one in found], axis=0)


def _of_run(
    acts: ActivationStore, source: _Source, sample: str, run: str, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    shape = (len(source.steps), len(source.layers), len(source.heads))
    observed, null = np.empty(shape), np.empty((source.drawn, *shape))
    shuffled = None
    for at in np.ndindex(shape[:2]):
        tokens = _tokens(acts, source, run, step=source.steps[at[0]], layer=source.layers[at[1]])
        if shuffled is None:  # the same in all cells, so that what cells share is shared by their nulls
            rng = np.random.default_rng([seed, int(digest("shuffle", sample, run), 16)])
            shuffled = shuffles(rng, count=source.drawn, places=tokens.shape[1], frames=tokens.shape[0])
        observed[at], null[(slice(None), *at)] = shares(tokens, shuffled)
    return observed, null


def _tokens(acts: ActivationStore, source: _Source, run: str, *, step: int, layer: int) -> NDArray[np.float32]:
    """Tokens of one cell `[f, t, a, d]`."""
    one = acts.load(source.site, source.kind, runs=[run], branch=source.branch, step=step, layer=layer, lazy=False)
    last = dims.HEAD if source.kind == "head_energy" else dims.CHANNEL
    values = one.isel({dims.RUN: 0}).transpose(dims.FRAME, dims.Y, dims.X, last).to_numpy()
    values = values[0 if source.first else 1 :]
    if not np.isfinite(values).all():
        raise NonFinite(
            f"{source.site}/{source.kind} of run {run} is NaN or infinite: leave it out with where= or runs=."
        )
    flat = values.reshape(len(values), -1, len(source.heads), values.shape[-1] // len(source.heads))
    if flat.shape[1] > PLACES:
        flat = flat[:, np.sort(np.random.default_rng(0).choice(flat.shape[1], PLACES, replace=False))]
    return flat.astype(np.float32, copy=False)


def _verdict(data: xr.Dataset) -> Verdict:
    _, low, high = triple(data, "excess")
    if bool((data["p"] <= FALSE_RATE).any()) and low > 0:
        return "replicates"
    return "does not replicate" if high < RULED_OUT else "inconclusive"


def _sentence(data: xr.Dataset) -> str:
    own = data.isel(_argmax(data["head_separability"]))
    value = with_interval(*triple(own, "head_separability"), digits=2)
    called = int((data["p"] <= FALSE_RATE).sum())
    rank = with_interval(*triple(own, "rank"), digits=0)
    motion = ""
    if "with_motion" in data:
        there = data.isel(_argmax(data["separability"]))
        rho = with_interval(*triple(there, "with_motion"), digits=2)
        motion = f"; its rank correlation with true motion at step {int(there[dims.STEP])} is {rho}"
    return (
        f"Of {data.attrs['site']}, head {int(own[dims.HEAD])} of layer {int(own[dims.LAYER])} tells frames apart "
        f"best: separability {value}, rank {rank}{motion}; {called} of {data['p'].size} cells separate frames at a "
        f"family-wise rate of 5 %, and the head that other samples chose exceeds the mean by "
        f"{with_interval(*triple(data, 'excess'), digits=2)} "
        f"({counts(samples=int(data.attrs['n']), runs=int(data.attrs['runs']))})."
    )


def _argmax(quantity: xr.DataArray) -> dict[Any, int]:
    values = quantity.to_numpy()
    at = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return {axis: int(place) for axis, place in zip(quantity.dims, at, strict=True)}


def _summary(data: xr.Dataset) -> Json:
    heads = data["head_separability"]
    order = np.argsort(-np.nan_to_num(heads.to_numpy(), nan=-np.inf), axis=None)[:5]
    ranked: list[JsonValue] = []
    for at in order:
        layer, head = np.unravel_index(int(at), heads.shape)
        value = float(heads.to_numpy()[layer, head])
        ranked.append(f"layer {int(heads[dims.LAYER][layer])} head {int(heads[dims.HEAD][head])}: {value:.3g}")
    return {
        "ranked": ranked,
        "cells_that_separate": int((data["p"] <= FALSE_RATE).sum()),
        "cells": int(data["p"].size),
        "least_p": finite(float(data["p"].min())),
        "excess": finite(float(data["excess"])),
        "site": str(data.attrs["site"]),
        "reduction": str(data.attrs["reduction"]),
    }
