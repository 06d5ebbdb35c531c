"""Token energy (E6 of SCIENCE.md): where in the network, the video and the sampling the tokens are large.

The energy of a token is the L2 norm over channels of a block's output. *Raw*, a few channels with massive activations
can carry most of it, so a high energy says where the norm is, not where the content is. Where whole tokens were
captured, it stands beside three others: without those channels, of them alone, and of standardised channels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from analyses import _channel_stats
from analyses._energy_kinds import KIND, KINDS
from analyses._energy_maps import MAP_CELLS, MAP_SAMPLE, MAP_SAMPLES, MAP_STEP, MAP_STEPS
from analyses._energy_measure import measure, measure_whole
from analyses._energy_parts import Layers, judge
from analyses._energy_raw import raw
from analyses._energy_whole import Asked, whole
from analyses._registry import Found, once, register
from analyses._result import Result
from analyses._select import Selection, arrays_of_all, select
from analyses._stats import SAMPLE, Peak, find_peak
from analyses._steps import switches, with_steps
from analyses._token_regions import Mask, masks
from analyses._words import counts, finite, percent, some, triple, with_interval
from analyses.errors import NoRuns, UnknownOption
from store import ActivationStore, Json, StepInfo, dims

__all__ = ["MAP_CELLS", "MAP_SAMPLE", "MAP_SAMPLES", "MAP_STEP", "MAP_STEPS", "energy"]

VERSION: Final = 2
SWITCH_REACH: Final = 1
"""A peak this many steps or fewer from a switch of experts coincides with it."""


@register
def energy(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    site: str = "resid_post",
    branch: str = "cond",
    kinds: Sequence[str] | None = None,
) -> Result:
    """Energy of the tokens by layer, frame, step and part of the picture, averaged over samples.

    Quantities (float64; `q_low` and `q_high` beside each hold its interval over samples). Raw: `energy` [layer, frame],
    `energy_by_step` [step, layer], `step_profile` [step], `first_frame_share` [layer] (energy of frame 0 over that of
    all frames; 1/frames if all were equal), `mean_first_frame_share` []. By kind: `class_energy`
    [kind, token_class, layer], `class_ratio` [kind, compared, layer] (over interior tokens); where samples carry a
    segmentation, `foreground_ratio`, `foreground_ratio_elsewhere` [kind, step, layer], `specialisation` [kind, layer],
    `late_specialisation`, `rise` [kind]; with several kinds `kind_energy` [kind, layer, frame],
    `kind_first_frame_share` [kind, layer]. As float32 without intervals `maps` [map_step, layer, frame, y, x] (mean
    over samples), `maps_<kind>`, and `sample_maps` [map_sample, map_step, …] (raw, of the first samples).
    `docs/analyses.md` defines them.

    Verdict on *early layers care for the background, later ones for the objects*, by raw energy and only where samples
    carry a segmentation (else `descriptive`): `replicates` if the interval of `rise` (specialisation of later layers
    minus that of the first quarter) and that of `late_specialisation` lie above 0; `does not replicate` if that of
    `rise` ends below 0.05; else `inconclusive`, also with fewer than 10 samples or 4 layers.

    Args:
        acts: The store; runs need `site/energy`, or `site/full` for all kinds.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        site: Site inside the model, with layers.
        branch: `cond` or `uncond`.
        kinds: Of `raw` (always there), `masked`, `massive` and `standardised`; None takes all four where every run
            holds `site/full`, else raw.

    Raises:
        NoRuns: if no run holds the arrays.
        MixedRuns: if the runs are of several conditions.
        NonFinite: if an energy is NaN or infinite.
        UnknownOption: if there is no such kind.
    """
    if unknown := sorted(set(kinds or ()) - set(KINDS)):
        raise UnknownOption(f"There is no energy {', '.join(unknown)}; there are {', '.join(KINDS)}.")
    chosen = select(acts, arrays=[f"{site}/energy", f"{site}/full"], where=where, runs=runs)

    def compute() -> Found:
        held = arrays_of_all(acts, chosen.run_ids)
        told = _kinds(held, site, kinds)
        # Parts of a cell are small: a thread of BLAS for each of dask's is faster than all threads on one.
        with threadpool_limits(1, user_api="blas"):
            data, by_step = _measured(acts, chosen, held, site=site, branch=branch, kinds=told)
        return _found(data, by_step, chosen, steps=acts.run(chosen.run_ids[0]).steps, name=f"{site} ({branch})")

    return once(
        acts,
        analysis="energy",
        version=VERSION,
        params={"site": site, "branch": branch, "kinds": None if kinds is None else [*sorted({*kinds, "raw"})]},
        run_ids=chosen.run_ids,
        compute=compute,
    )


def _kinds(held: set[str], site: str, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The kinds that these runs allow."""
    whole = f"{site}/full" in held
    if asked is None:
        found = KINDS if whole else KINDS[:1]
    else:
        found = tuple(kind for kind in KINDS if kind == "raw" or kind in asked)
    if not whole and (len(found) > 1 or f"{site}/energy" not in held):
        raise NoRuns(
            f"Energy that is {' or '.join(found[1:]) or 'raw'} needs whole tokens: capture {site}/full (it is large: "
            f"of chosen layers and steps){'' if len(found) > 1 else f' or {site}/energy'} in all runs, or choose "
            f"others. The chosen ones share {', '.join(sorted(held)) or 'no array'}."
        )
    return found


def _measured(
    acts: ActivationStore, chosen: Selection, held: set[str], *, site: str, branch: str, kinds: tuple[str, ...]
) -> tuple[xr.Dataset, xr.DataArray]:
    """The numbers, and the raw step profile of each sample, from the arrays that all runs hold."""
    groups = chosen.by_sample()
    if len(kinds) == 1 and f"{site}/energy" in held:
        like = acts.load(site, "energy", runs=chosen.run_ids[:1], branch=branch)

        def read_raw(sample: str, weights: xr.DataArray) -> xr.Dataset:
            return raw(acts, groups[sample], weights, site=site, branch=branch)

        return measure(list(groups), read_raw, _foregrounds(acts, groups, like), like=like)
    reduction = _channel_stats.source(held, site)
    known = (
        None  # told by the tokens that are read anyway
        if reduction == "full"
        else _channel_stats.pool(acts, groups, site=site, branch=branch, reduction=reduction).outlier
    )
    asked = Asked(site, branch, kinds)

    def read(
        sample: str, weights: xr.DataArray, *, outlier: xr.DataArray | None, layers: Sequence[int] | None = None
    ) -> xr.Dataset:
        return whole(acts, groups[sample], asked, weights, outlier=outlier, layers=layers)

    like = acts.load(site, "full", runs=chosen.run_ids[:1], branch=branch)
    foregrounds = _foregrounds(acts, groups, like)
    data, by_step, outlier = measure_whole(list(groups), read, foregrounds, like=like, outlier=known)
    words = "1 where a channel is an outlier, which masked energy leaves out"
    data["outlier"] = outlier.astype(np.int8).assign_attrs(long_name=words, units="1 = yes")
    return data, by_step


def _foregrounds(acts: ActivationStore, samples: Collection[str], like: xr.DataArray) -> dict[str, Mask]:
    """Of the samples that have one, on the grid of these tokens."""
    return masks(acts, list(samples), (like.sizes[dims.FRAME], like.sizes[dims.Y], like.sizes[dims.X]))


def _found(
    data: xr.Dataset, by_step: xr.DataArray, chosen: Selection, *, steps: Sequence[StepInfo], name: str
) -> Found:
    peak = find_peak(by_step)
    changes, samples = switches(steps), by_step.sizes[SAMPLE]
    near = [change for change in changes if peak.step is not None and abs(change - peak.step) <= SWITCH_REACH]
    data = with_steps(data, steps).assign_attrs(
        headline="energy", energy="raw", site=name, n=samples, runs=len(chosen.run_ids), switches=changes
    )
    if peak.step is not None:
        data = data.assign_attrs(peak_step=peak.step)
    layers = judge(data)
    if layers is not None:
        data = data.assign_attrs(foregrounds=layers.n)
    share = triple(data, "mean_first_frame_share")
    equal = 1 / data.sizes[dims.FRAME]
    finding = (
        f"Raw token energy of {name}: {_peak_words(peak, near, samples=samples)} The first frame carries "
        f"{percent(*share)} of it, where equal frames would carry {100 * equal:.0f} %"
        f"{_layer_words(layers)} ({counts(samples=samples, runs=len(chosen.run_ids))})."
    )
    summary: Json = {
        "peak_step": peak.step,
        "peak_at_edge": peak.edge,
        "peak_excess": finite(peak.excess),
        "peak_excess_low": finite(peak.low),
        "peak_excess_high": finite(peak.high),
        "peak_at_expert_switch": bool(near),
        "expert_switches": list(changes),
        "first_frame_share": finite(share[0]),
        "first_frame_share_low": finite(share[1]),
        "first_frame_share_high": finite(share[2]),
        "first_frame_share_if_equal": equal,
        **_summary(data, layers),
    }
    verdict = "descriptive" if layers is None else layers.verdict
    return Found(data=data, finding=finding, n=samples, summary=summary, verdict=verdict)


def _summary(data: xr.Dataset, layers: Layers | None) -> Json:
    """Of each kind, what its classes of tokens and its layers say."""
    found: Json = {}
    for kind in data[KIND].to_numpy().tolist():
        own = data.sel({KIND: kind})
        for name in own["compared"].to_numpy().tolist():
            ratio = own["class_ratio"].sel(compared=name).mean()
            found[f"{kind}_{name.replace(' ', '_')}_over_interior"] = finite(float(ratio))
        if layers is not None:
            found |= {f"{kind}_rise{end}": finite(float(own[f"rise{end}"])) for end in ("", "_low", "_high")}
    if layers is not None:
        found["samples_with_a_foreground"] = layers.n
    if "outlier" in data:
        found["outlier_channels_of_a_layer_at_most"] = int(data["outlier"].sum(dims.CHANNEL).max())
    return found


def _layer_words(layers: Layers | None) -> str:
    if layers is None or not np.isfinite(layers.rise[0]):
        return ""
    return (
        f"; it follows the objects more in later than in early layers by {with_interval(*layers.rise, digits=3)} "
        f"(specialisation; later layers {with_interval(*layers.late, digits=3)}; "
        f"{some(layers.n, 'sample')} with a foreground)"
    )


def _peak_words(peak: Peak, near: list[int], *, samples: int) -> str:
    if not np.isfinite(peak.excess):
        return f"no peak over steps can be judged from {some(samples, 'sample')}."
    above = percent(peak.excess, peak.low, peak.high)
    if peak.step is None:
        return f"no peak over steps (largest excess over the median step {above})."
    edge = ", an end of the captured steps" if peak.edge else ""
    text = f"highest at step {peak.step}{edge}, {above} above the median step"
    if near:
        text += f", which coincides with the switch of experts at step {near[0]} and cannot be told from it"
    return f"{text}."
