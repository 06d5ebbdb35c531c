"""Statistics of channels over the tokens of a cell, and which channels carry massive activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses.errors import NonFinite, NoRuns
from store import ActivationStore, dims

OUTLIER: Final = 10.0
"""A channel is an outlier if its root mean square over tokens, or its largest magnitude, exceeds the median channel's
by this factor. Gaussian channels of equal scale never do, nor does a spectrum that falls by a factor of 10 in all."""
PART: Final = 1 << 18
"""Values that are worked on at once: a megabyte, which stays in the cache."""
_TOKENS: Final = (dims.FRAME, dims.Y, dims.X)


class Pooled(NamedTuple):
    """Channels of each layer over all samples and steps."""

    rms: xr.DataArray
    """Root mean square, `[layer, channel]`."""
    absmax: xr.DataArray
    """Largest magnitude, mean over samples and steps, `[layer, channel]`."""

    @property
    def outlier(self) -> xr.DataArray:
        """Which are outliers, bool `[layer, channel]`."""
        return outlying(self.rms, self.absmax)


def outlying(rms: xr.DataArray, absmax: xr.DataArray) -> xr.DataArray:
    """Which channels are outliers, bool, axes as given; `channel` is one of them."""
    apart = [one > OUTLIER * one.median(dims.CHANNEL) for one in (rms, absmax)]
    return apart[0] | apart[1]


def needs(site: str) -> list[str]:
    """Arrays of which one is needed."""
    return [f"{site}/channel_stats", f"{site}/full"]


def source(held: set[str], site: str) -> str:
    """The cheaper reduction of those that all runs hold.

    Raises:
        NoRuns: they hold neither in common.
    """
    for name in needs(site):
        if name in held:
            return name.partition("/")[2]
    raise NoRuns(
        f"The chosen runs have neither {' nor '.join(needs(site))} in common: capture {needs(site)[0]}, or choose "
        "runs of one capture with where= or runs=."
    )


def of_sample(
    acts: ActivationStore, sample: str, runs: Sequence[str], *, site: str, branch: str, reduction: str
) -> xr.Dataset:
    """Statistics of one sample's channels, in memory; the runs of a sample averaged.

    Returns:
        `mean`, `rms` and `absmax`, float64 `[step, layer, channel]`.

    Raises:
        NonFinite: one is NaN or infinite.
    """
    array = acts.load(site, reduction, runs=list(runs), branch=branch).reset_coords(drop=True)
    if reduction == "full":
        every = xr.apply_ufunc(
            _of_tokens,
            array.chunk({dim: -1 for dim in (*_TOKENS, dims.CHANNEL)}),
            input_core_dims=[[*_TOKENS, dims.CHANNEL]],
            output_core_dims=[["of", dims.CHANNEL]],
            dask="parallelized",
            output_dtypes=[np.float64],
            dask_gufunc_kwargs={"output_sizes": {"of": 3}},
        )
        found = every.assign_coords(of=["mean", "square", "absmax"]).to_dataset("of")
    else:
        parts = {str(name): array.sel({dims.STAT: name}, drop=True) for name in ("mean", "std", "absmax")}
        square = parts["mean"].astype(np.float64) ** 2 + parts["std"].astype(np.float64) ** 2
        found = xr.Dataset({"mean": parts["mean"], "square": square, "absmax": parts["absmax"]})
    found = found.mean(dims.RUN, dtype=np.float64, skipna=False).compute()
    if not np.isfinite(found["square"]).all():
        raise NonFinite(
            f"Channels of sample {sample} are NaN or infinite: the model overflowed there. Leave it out, e.g. with "
            f"where=\"sample_id <> '{sample}'\", or capture it again in another dtype."
        )
    order = (dims.STEP, dims.LAYER, dims.CHANNEL)
    return found.assign(square=np.sqrt(found["square"])).rename(square="rms").transpose(*order)


def parts(tokens: NDArray[Any]) -> list[slice]:
    """Rows of tokens `[n, d]` that are worked on at once."""
    size = max(1, PART // tokens.shape[1])
    return [slice(at, at + size) for at in range(0, len(tokens), size)]


def _of_tokens(values: NDArray[Any]) -> NDArray[np.float64]:
    """Mean, mean square and largest magnitude of the channels of cells `[…, F, h, w, d]`: `[…, 3, d]`."""
    cells, channels = values.shape[:-4], values.shape[-1]
    found = np.zeros((*cells, 3, channels))
    for cell in np.ndindex(cells):
        tokens = values[cell].reshape(-1, channels)
        for part in parts(tokens):
            some = np.asarray(tokens[part], np.float32)
            ones = np.full(len(some), 1 / len(tokens), np.float32)
            found[cell][0] += ones @ some
            found[cell][1] += ones @ np.square(some)
            np.maximum(found[cell][2], np.maximum(some.max(axis=0), -some.min(axis=0)), out=found[cell][2])
    return found


def pool(
    acts: ActivationStore, samples: Mapping[str, Sequence[str]], *, site: str, branch: str, reduction: str
) -> Pooled:
    """Channels of each layer over all samples and steps; one sample is read after the other."""
    square, absmax = xr.DataArray(0.0), xr.DataArray(0.0)
    for sample, runs in samples.items():
        one = of_sample(acts, sample, runs, site=site, branch=branch, reduction=reduction)
        square = square + (one["rms"] ** 2).mean(dims.STEP) / len(samples)
        absmax = absmax + one["absmax"].mean(dims.STEP) / len(samples)
    return Pooled(square**0.5, absmax)
