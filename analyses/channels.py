"""Statistics of channels (a control of E6): which few carry most of the norm, where, and how much.

Massive activations dominate whatever is a sum over channels: energy, cosine, a probe's penalty. This says where they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr

from analyses._channel_stats import OUTLIER, needs, of_sample, outlying, source
from analyses._registry import Found, once, register
from analyses._result import Result
from analyses._select import Selection, arrays_of_all, select
from analyses._stats import SAMPLE, bare, over_samples
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, percent, triple, with_interval
from store import ActivationStore, Json, StepInfo, dims

VERSION: Final = 1
_WORDS: Final[dict[str, tuple[str, str, tuple[float, float]]]] = {
    "outliers": ("outlier channels", "channels", (0, np.inf)),
    "outlier_share": ("share of the squared norm that outlier channels carry", "1", (0, 1)),
    "effective_channels": (
        "effective number of channels: exp of the entropy of their squares",
        "channels",
        (1, np.inf),
    ),
    "variance": ("variance of a channel over tokens, mean over channels", "squared activation", (0, np.inf)),
}
"""Quantity → what it is, its unit, and what is possible."""


@register
def channels(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    site: str = "resid_post",
    branch: str = "cond",
) -> Result:
    """Outlier channels by step and layer, and the size of every channel by layer.

    Quantities with intervals over samples, [step, layer]: `outliers` (channels whose root mean square over tokens, or
    whose largest magnitude, is more than 10 times the median channel's in this cell), `outlier_share` (of the squared
    norm), `effective_channels` (exp of the entropy of the channels' squares), `variance` (of a channel over tokens,
    mean over channels); `mean_outlier_share` [layer]. Without: `rms`, `absmax` [layer, channel] (over samples and
    steps), `outlier_rate` [layer, channel], the share of samples and steps in which the channel is an outlier.
    Verdict: always `descriptive`.

    Args:
        acts: The store; runs need `site/channel_stats`, or `site/full`.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        site: Site inside the model, with layers.
        branch: `cond` or `uncond`.

    Raises:
        NoRuns: if no run holds the arrays.
        MixedRuns: if the runs are of several conditions.
        NonFinite: if a statistic is NaN or infinite.

    Source: Sun et al. 2024 (massive activations); arXiv 2603.17825 for video.
    """
    chosen = select(acts, arrays=needs(site), where=where, runs=runs)

    def compute() -> Found:
        reduction = source(arrays_of_all(acts, chosen.run_ids), site)
        data = measure(
            {
                sample: of_sample(acts, sample, ids, site=site, branch=branch, reduction=reduction)
                for sample, ids in chosen.by_sample().items()
            }
        )
        return _found(data, chosen, steps=acts.run(chosen.run_ids[0]).steps, name=f"{site} ({branch})")

    return once(
        acts,
        analysis="channels",
        version=VERSION,
        params={"site": site, "branch": branch},
        run_ids=chosen.run_ids,
        compute=compute,
    )


def measure(samples: dict[str, xr.Dataset]) -> xr.Dataset:
    """The numbers, from `mean`, `rms` and `absmax` of each sample `[step, layer, channel]`."""
    by_sample: list[xr.Dataset] = []
    square, absmax, rate = xr.DataArray(0.0), xr.DataArray(0.0), xr.DataArray(0.0)
    for one in samples.values():
        outlier = outlying(one["rms"], one["absmax"])
        by_sample.append(_cells(one, outlier))
        square = square + (one["rms"] ** 2).mean(dims.STEP) / len(samples)
        absmax = absmax + one["absmax"].mean(dims.STEP) / len(samples)
        rate = rate + outlier.mean(dims.STEP) / len(samples)
    table = xr.concat(by_sample, xr.Variable(SAMPLE, list(samples)), coords="minimal", compat="override", join="exact")
    table["mean_outlier_share"] = table["outlier_share"].mean(dims.STEP)
    found: dict[str, xr.DataArray] = {}
    for name in table.data_vars:
        words, units, bounds = _WORDS[str(name).removeprefix("mean_")]
        said = f"{words}, mean over steps" if name not in _WORDS else words
        found |= over_samples(str(name), table[name].assign_attrs(long_name=said, units=units), bounds=bounds)
    over = "over samples and steps"
    plain = {
        "rms": (square**0.5, f"root mean square of a channel {over}", "activation"),
        "absmax": (absmax, f"largest magnitude of a channel, mean {over}", "activation"),
        "outlier_rate": (rate, "share of samples and steps in which a channel is an outlier", "1"),
    }
    for name, (array, said, units) in plain.items():
        found[name] = bare(array.astype(np.float32)).assign_attrs(long_name=said, units=units)
    return xr.Dataset(found)


def _cells(one: xr.Dataset, outlier: xr.DataArray) -> xr.Dataset:
    """Of one sample, by step and layer."""
    square = one["rms"] ** 2
    total = square.sum(dims.CHANNEL)
    share = square / total.where(total > 0)
    entropy = -(share * xr.apply_ufunc(np.log, share.where(share > 0))).sum(dims.CHANNEL)
    return xr.Dataset(
        {
            "outliers": outlier.sum(dims.CHANNEL),
            "outlier_share": share.where(outlier).sum(dims.CHANNEL),
            "effective_channels": xr.apply_ufunc(np.exp, entropy),
            "variance": (square - one["mean"] ** 2).clip(0).mean(dims.CHANNEL),
        }
    )


def _found(data: xr.Dataset, chosen: Selection, *, steps: Sequence[StepInfo], name: str) -> Found:
    samples = len(set(chosen.sample_ids))
    data = with_steps(data, steps).assign_attrs(
        headline="outlier_share", site=name, n=samples, runs=len(chosen.run_ids), switches=switches(steps)
    )
    behind = counts(samples=samples, runs=len(chosen.run_ids))
    widest = data.isel({dims.LAYER: int(data["mean_outlier_share"].to_numpy().argmax())})
    layer, share = int(widest[dims.LAYER]), triple(widest, "mean_outlier_share")
    lasting = np.flatnonzero((data["outlier_rate"] > 0.5).any(dims.LAYER).to_numpy())
    named = [int(data[dims.CHANNEL][at]) if dims.CHANNEL in data.coords else int(at) for at in lasting]
    if not float(data["outlier_rate"].max()) > 0:
        finding = f"No channel of {name} is an outlier (10 times the median channel) in any layer or step ({behind})."
    else:
        few = ", ".join(map(str, named[:6])) + (" …" if len(named) > 6 else "")
        number = with_interval(*triple(widest.mean(dims.STEP), "outliers"))
        finding = (
            f"Outlier channels of {name} carry most in layer {layer}: {number} of {data.sizes[dims.CHANNEL]} channels "
            f"hold {percent(*share)} of the squared norm there"
            f"{f'; channels {few} are outliers in most steps of some layer' if named else ''} ({behind})."
        )
    summary: Json = {
        "layer_of_the_largest_share": layer,
        **{f"share_there{end}": finite(value) for end, value in zip(("", "_low", "_high"), share, strict=True)},
        "lasting_outlier_channels": [*named],
        "factor": OUTLIER,
    }
    return Found(data=data, finding=finding, n=samples, summary=summary)
