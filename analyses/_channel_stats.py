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
PART: Final = 1 << 17
"""Values that are worked on at once: half a megabyte, which stays in the cache beside what is made of it."""
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


def outlying_in(rms: NDArray[Any], absmax: NDArray[Any]) -> NDArray[np.bool_]:
    """The same of one cell `[d]`, finite or not."""
    return np.logical_or(*(one > OUTLIER * np.median(one) for one in (rms, absmax)))


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
    refuse(sample, found["square"])
    order = (dims.STEP, dims.LAYER, dims.CHANNEL)
    return found.assign(square=np.sqrt(found["square"])).rename(square="rms").transpose(*order)


def refuse(sample: str, square: xr.DataArray) -> None:
    """Raise NonFinite if a mean square of the sample's channels is NaN or infinite."""
    if not np.isfinite(square).all():
        raise NonFinite(
            f"Channels of sample {sample} are NaN or infinite: the model overflowed there. Leave it out, e.g. with "
            f"where=\"sample_id <> '{sample}'\", or capture it again in another dtype."
        )


def parts(tokens: NDArray[Any]) -> list[slice]:
    """Rows of tokens `[n, d]` that are worked on at once."""
    size = max(1, PART // tokens.shape[1])
    return [slice(at, at + size) for at in range(0, len(tokens), size)]


def _of_tokens(values: NDArray[Any]) -> NDArray[np.float64]:
    """Statistics of the channels of cells `[…, F, h, w, d]`: `[…, 3, d]`, as `of_cell` says."""
    cells, channels = values.shape[:-4], values.shape[-1]
    found = np.empty((*cells, 3, channels))
    for cell in np.ndindex(cells):
        found[cell] = of_cell(values[cell].reshape(-1, channels))
    return found


def of_cell(tokens: NDArray[Any]) -> NDArray[np.float64]:
    """Mean, mean square and largest magnitude of the channels of the tokens `[n, d]` of one cell: `[3, d]`."""
    found = np.zeros((3, tokens.shape[1]))
    for part in parts(tokens):
        some = np.asarray(tokens[part], np.float32)
        ones = np.full(len(some), 1 / len(tokens), np.float32)
        found[0] += ones @ some
        found[1] += ones @ np.square(some)
        np.maximum(found[2], np.maximum(some.max(axis=0), -some.min(axis=0)), out=found[2])
    return found


class Pool:
    """Channels of each layer over samples, taken in one by one."""

    def __init__(self) -> None:
        self._n = 0
        self._square, self._absmax = xr.DataArray(0.0), xr.DataArray(0.0)

    def add(self, rms: xr.DataArray, absmax: xr.DataArray) -> None:
        """One sample's, as of `of_sample` `[step, layer, channel]`."""
        self._n += 1
        self._square = self._square + (rms**2).mean(dims.STEP)
        self._absmax = self._absmax + absmax.mean(dims.STEP)

    @property
    def pooled(self) -> Pooled:
        """Over the samples so far, of which there is one at least."""
        return Pooled((self._square / self._n) ** 0.5, self._absmax / self._n)


def pool(
    acts: ActivationStore, samples: Mapping[str, Sequence[str]], *, site: str, branch: str, reduction: str
) -> Pooled:
    """Channels of each layer over all samples and steps; one sample is read after the other."""
    found = Pool()
    for sample, runs in samples.items():
        one = of_sample(acts, sample, runs, site=site, branch=branch, reduction=reduction)
        found.add(one["rms"], one["absmax"])
    return found.pooled
