"""Token energy (E6 of SCIENCE.md): where in the network, the video and the sampling the tokens are large.

The energy of a token is the L2 norm over channels of a block's output. It is *raw*: a few channels with
massive activations can carry most of it, so a high energy says where the norm is, not where the
content is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import xarray as xr

from analyses._registry import Found, once, register
from analyses._result import Result
from analyses._select import Selection, select
from analyses._stats import SAMPLE, Peak, described, find_peak, half_width, over_samples
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, percent, some, triple
from analyses.errors import NonFinite
from store import ActivationStore, Json, StepInfo, dims

VERSION: Final = 1
MAP_SAMPLE: Final = "map_sample"
"""Axis of the few samples whose own maps are kept."""
MAP_SAMPLES: Final = 3
"""Samples whose own maps are kept: the first by their ids."""
MAP_STEP: Final = "map_step"
"""Axis of the few steps whose maps are kept."""
MAP_STEPS: Final = 5
"""Steps whose maps are kept, evenly over the sampling, first and last included."""
MAP_CELLS: Final = 64
"""Longest side of a kept map; a larger token grid is averaged in blocks."""
SWITCH_REACH: Final = 1
"""A peak this many steps or fewer from a switch of experts coincides with it."""
_RAW: Final = "raw L2 norm over channels"


@register
def energy(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    site: str = "resid_post",
    branch: str = "cond",
) -> Result:
    """Energy of the tokens by layer, frame and step, averaged over samples.

    Quantities (raw L2 norms, float64; `q_low` and `q_high` beside each hold its interval over samples):
    `energy` [layer, frame], `energy_by_step` [step, layer], `step_profile` [step],
    `first_frame_share` [layer] (energy of frame 0 over that of all frames; 1/frames if all were equal),
    `mean_first_frame_share` [], and as float32 without intervals `maps` [map_step, layer, frame, y, x] (mean
    over samples) and `sample_maps` [map_sample, map_step, …] (of the first samples). Verdict: always
    `descriptive`.

    Args:
        acts: The store; runs need the array `site/energy`.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        site: Site inside the model, with layers.
        branch: `cond` or `uncond`.

    Raises:
        NoRuns: if no run holds the array.
        MixedRuns: if the runs are of several conditions.
        NonFinite: if an energy is NaN or infinite.
    """
    chosen = select(acts, arrays=[f"{site}/energy"], where=where, runs=runs)

    def compute() -> Found:
        samples = {
            sample: acts.load(site, "energy", runs=run_ids, branch=branch)
            for sample, run_ids in chosen.by_sample().items()
        }
        return _found(samples, chosen, steps=acts.run(chosen.run_ids[0]).steps, name=f"{site} ({branch})")

    return once(
        acts,
        analysis="energy",
        version=VERSION,
        params={"site": site, "branch": branch},
        run_ids=chosen.run_ids,
        compute=compute,
    )


def measure(samples: Mapping[str, xr.DataArray]) -> tuple[xr.Dataset, xr.DataArray]:
    """The numbers, from the tokens.

    Args:
        samples: The runs of each sample, `[run, step, layer, frame, y, x]`, lazy or not. One sample is
            read after the other, a few chunks at a time; what stays is a profile for each sample and
            the sums of the maps.

    Returns:
        The quantities that `energy` lists, and the step profile of each sample `[sample, step]`.

    Raises:
        NonFinite: if an energy is NaN or infinite.
    """
    profiles: list[xr.DataArray] = []
    maps = _Maps()
    for sample, tokens in samples.items():
        one = _one_sample(sample, tokens)
        profiles.append(one["profile"])
        maps.add(sample, one["maps"])
    profile = xr.concat(
        profiles, dim=xr.Variable(SAMPLE, list(samples)), coords="minimal", compat="override", join="exact"
    )
    share = _first_frame_share(profile)
    by_step = profile.mean((dims.LAYER, dims.FRAME))
    arrays = {
        **over_samples("energy", _named(profile.mean(dims.STEP), f"{_RAW}, mean over steps and tokens")),
        **over_samples("energy_by_step", _named(profile.mean(dims.FRAME), f"{_RAW}, mean over frames and tokens")),
        **over_samples("step_profile", _named(by_step, f"{_RAW}, mean over layers, frames and tokens")),
        **over_samples("first_frame_share", share, bounds=(0, 1)),
        **over_samples("mean_first_frame_share", share.mean(dims.LAYER, keep_attrs=True), bounds=(0, 1)),
        **maps.arrays(blocks=_blocks(next(iter(samples.values())))),
    }
    return xr.Dataset(arrays), by_step


class _Maps:
    """Maps of the first samples, and mean and spread over all, which are too large to keep (Welford's update)."""

    def __init__(self) -> None:
        self.first: dict[str, xr.DataArray] = {}
        self.n = 0
        self.mean = xr.DataArray(np.float32(0))
        self._squares = xr.DataArray(np.float32(0))

    def add(self, sample: str, maps: xr.DataArray) -> None:
        """Take in one sample's maps `[map_step, layer, frame, y, x]`."""
        self.n += 1
        if self.n <= MAP_SAMPLES:
            self.first[sample] = maps
        off = maps - self.mean
        self.mean = self.mean + off / self.n
        self._squares = self._squares + off * (maps - self.mean)

    def arrays(self, *, blocks: int) -> dict[str, xr.DataArray]:
        """`maps` and `sample_maps`, with what a caption needs."""
        spread = (self._squares / (self.n - 1)) ** 0.5 if self.n > 1 else self.mean * np.nan
        text = f"{_RAW}{f', in blocks of {blocks} × {blocks} tokens' if blocks > 1 else ''}"
        attrs = described(self.mean, half_width(spread, self.n), n=self.n, attrs={"units": "activation"})
        along = xr.Variable(MAP_SAMPLE, list(self.first))
        each = xr.concat(list(self.first.values()), dim=along, coords="minimal", compat="override")
        return {
            "maps": self.mean.assign_attrs({**attrs, "long_name": f"{text}, mean over samples"}),
            "sample_maps": each.drop_attrs().assign_attrs(long_name=f"{text}, of single samples", units="activation"),
        }


def _one_sample(sample: str, tokens: xr.DataArray) -> xr.Dataset:
    """One sample's mean over its runs, in memory: its profile and its maps."""
    bare = tokens.reset_coords(drop=True).mean(dims.RUN, skipna=False)
    blocks = _blocks(tokens)
    small = bare.coarsen({dims.Y: blocks, dims.X: blocks}, boundary="pad").mean() if blocks > 1 else bare
    kept = np.unique(np.linspace(0, tokens.sizes[dims.STEP] - 1, MAP_STEPS).round().astype(int))
    one = xr.Dataset(
        {
            "profile": bare.mean((dims.Y, dims.X), dtype=np.float64, skipna=False),
            "maps": small.isel({dims.STEP: kept}).astype(np.float32).rename({dims.STEP: MAP_STEP}),
        }
    ).compute()
    if not np.isfinite(one["profile"]).all():
        raise NonFinite(
            f"Energies of sample {sample} are NaN or infinite: the model overflowed there. Leave it out, e.g. with "
            f"where=\"sample_id <> '{sample}'\", or capture it again in another dtype."
        )
    return one


def _blocks(tokens: xr.DataArray) -> int:
    return -(-max(tokens.sizes[dims.Y], tokens.sizes[dims.X]) // MAP_CELLS)


def _named(array: xr.DataArray, long_name: str) -> xr.DataArray:
    return array.drop_attrs().assign_attrs(long_name=long_name, units="activation")


def _first_frame_share(profile: xr.DataArray) -> xr.DataArray:
    total = profile.sum(dims.FRAME)
    share = (profile.isel(frame=0, drop=True) / total.where(total > 0)).mean(dims.STEP, skipna=True)
    return share.drop_attrs().assign_attrs(
        long_name="share of the energy in the first frame, mean over steps", units="1"
    )


def _found(tokens: Mapping[str, xr.DataArray], chosen: Selection, *, steps: Sequence[StepInfo], name: str) -> Found:
    data, by_step = measure(tokens)
    peak = find_peak(by_step)
    changes, samples = switches(steps), len(tokens)
    near = [change for change in changes if peak.step is not None and abs(change - peak.step) <= SWITCH_REACH]
    data = with_steps(data, steps).assign_attrs(
        headline="energy", energy="raw", site=name, n=samples, runs=len(chosen.run_ids), switches=changes
    )
    if peak.step is not None:
        data = data.assign_attrs(peak_step=peak.step)
    share = triple(data, "mean_first_frame_share")
    equal = 1 / data.sizes[dims.FRAME]
    finding = (
        f"Raw token energy of {name}: {_peak_words(peak, near, samples=samples)} The first frame carries "
        f"{percent(*share)} of it, where equal frames would carry {100 * equal:.0f} % "
        f"({counts(samples=samples, runs=len(chosen.run_ids))})."
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
    }
    return Found(data=data, finding=finding, n=samples, summary=summary)


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
