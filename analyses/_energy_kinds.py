"""Energy of whole tokens of which massive activations are told apart: raw, without them, of them alone, standardised.

Shapes: leading axes of cells `…`, F latent frames, h×w tokens, d channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from dask.array import concatenate, from_delayed
from dask.delayed import delayed
from numpy.typing import NDArray

import store
from analyses import _channel_stats
from store import ActivationStore, dims
from store.places import Location

KIND: Final = "kind"
"""Axis of what counts as energy."""
KINDS: Final = ("raw", "masked", "massive", "standardised")
"""`raw`: L2 norm over all channels. `masked`: over those that are no outliers of the layer. `massive`: over the
outliers alone, so that raw² = masked² + massive². `standardised`: root mean square over channels after each has been
brought to mean 0 and deviation 1 over all tokens of its cell (run, step, layer); 1 is a cell's typical token."""
UNITS: Final = {
    "raw": "activation",
    "masked": "activation",
    "massive": "activation",
    "standardised": "deviations of the channel",
}
CONSTANT: Final = 1e-6
"""A channel whose deviation is below this fraction of its root mean square does not vary, and does not count."""
BLOCK: Final = 32 << 20
"""Bytes of the reduction `energy` that one dask task reads: some steps of a run."""
_TOKENS: Final = (dims.FRAME, dims.Y, dims.X)


def kinds_of(
    acts: ActivationStore,
    runs: Sequence[str],
    *,
    site: str,
    branch: str,
    kinds: Sequence[str],
    outlier: xr.DataArray | None,
) -> xr.DataArray:
    """Energy of every token of some runs, lazily.

    Args:
        acts: The store.
        runs: Runs of one sample.
        site: Site with layers.
        branch: `cond` or `uncond`.
        kinds: Of `KINDS`; `raw` alone is read from the reduction `energy` if `outlier` is None.
        outlier: Channels that `masked` leaves out, bool `[layer, channel]`; None for `raw` from `energy`.

    Returns:
        float32 `[kind, run, step, layer, frame, y, x]`.
    """
    if outlier is None:
        return _in_blocks(acts, runs, site=site, branch=branch).expand_dims({KIND: ["raw"]})
    full = acts.load(site, "full", runs=list(runs), branch=branch)
    found = xr.apply_ufunc(
        energies,
        full.chunk({dim: -1 for dim in (*_TOKENS, dims.CHANNEL)}),
        outlier,
        input_core_dims=[[*_TOKENS, dims.CHANNEL], [dims.CHANNEL]],
        output_core_dims=[[KIND, *_TOKENS]],
        exclude_dims=set(),
        join="inner",  # outliers may be known of more layers than are kept in full, and other runs may have fewer
        kwargs={"kinds": tuple(kinds)},
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {KIND: len(kinds)}},
    )
    order = (KIND, dims.RUN, dims.STEP, dims.LAYER, *_TOKENS)
    return found.assign_coords({KIND: list(kinds)}).transpose(*order)


def _in_blocks(acts: ActivationStore, runs: Sequence[str], *, site: str, branch: str) -> xr.DataArray:
    """The reduction `energy`, lazily, some steps at a time: its cells are so small that a task for each costs most."""
    like = acts.load(site, "energy", runs=list(runs), branch=branch)
    steps = like[dims.STEP].to_numpy()
    size = max(1, BLOCK // max(1, like.nbytes // (len(runs) * len(steps))))
    parts: list[Any] = []
    for run in runs:
        own = [steps[at : at + size] for at in range(0, len(steps), size)]
        each = [
            from_delayed(
                delayed(_block)(acts.path, run, site, branch, [int(step) for step in some], like.dims),
                (1, len(some), *like.shape[2:]),
                like.dtype,
            )
            for some in own
        ]
        parts.append(concatenate(each, axis=1))
    return like.copy(data=concatenate(parts, axis=0))


def _block(
    path: Location, run: str, site: str, branch: str, steps: list[int], axes: tuple[str, ...]
) -> NDArray[np.float32]:
    found = store.open(path).load(site, "energy", runs=[run], branch=branch, step=steps, lazy=False)
    return found.transpose(*axes).to_numpy()


def energies(values: NDArray[Any], outlier: NDArray[np.bool_], *, kinds: Sequence[str]) -> NDArray[np.float32]:
    """Energies of the tokens of cells.

    Args:
        values: `[…, F, h, w, d]`.
        outlier: bool `[…, d]`, broadcast against the cells.
        kinds: Of `KINDS`.

    Returns:
        `[…, kind, F, h, w]`.
    """
    cells, grid, channels = values.shape[:-4], values.shape[-4:-1], values.shape[-1]
    masked = np.broadcast_to(outlier, (*cells, channels))
    found = np.empty((*cells, len(kinds), *grid), np.float32)
    for cell in np.ndindex(cells):
        tokens = values[cell].reshape(-1, channels)
        found[cell] = _of_cell(tokens, masked[cell], kinds).reshape(len(kinds), *grid)
    return found


def _of_cell(tokens: NDArray[Any], outlier: NDArray[np.bool_], kinds: Sequence[str]) -> NDArray[np.float32]:
    """Of the tokens of one cell `[n, d]`, `[kind, n]`; a few at a time, which stay in the cache."""
    parts = _channel_stats.parts(tokens)
    counted = {"raw": np.ones_like(outlier), "massive": outlier, "masked": ~outlier}
    plain = [kind for kind in kinds if kind in counted]
    weights = np.stack([counted[kind] for kind in plain], axis=1).astype(np.float32)
    found = np.empty((len(kinds), len(tokens)), np.float32)
    at = [list(kinds).index(kind) for kind in plain]
    moments = _Moments(np.asarray(tokens[parts[0]], np.float32)) if "standardised" in kinds else None
    for part in parts:
        some = np.asarray(tokens[part], np.float32)
        found[at, part] = np.sqrt(np.square(some) @ weights).T
        if moments is not None:
            moments.add(some)
    if moments is not None:
        mean, weight = moments.standardising()
        row = found[list(kinds).index("standardised")]
        for part in parts:
            some = tokens[part] - mean
            row[part] = np.sqrt(np.square(some, out=some) @ weight)
    return found


class _Moments:
    """Mean and variance of each channel, from one reading of the tokens.

    Deviations are taken from the mean of the first few tokens. These are a share f of all, so that the variance is at
    least about f times the square of how far that mean is off, and what cancels below costs at most 1/f in rounding.
    Sums of a few tokens are products with ones, which BLAS does at the memory's speed, and are added up in float64.
    """

    def __init__(self, first: NDArray[np.float32]) -> None:
        self._near = first.mean(axis=0)
        self._count, self._sum, self._squares = 0, np.zeros(len(self._near)), np.zeros(len(self._near))

    def add(self, tokens: NDArray[np.float32]) -> None:
        """Some more tokens `[n, d]`."""
        off, ones = tokens - self._near, np.ones(len(tokens), np.float32)
        self._count += len(tokens)
        self._sum += ones @ off
        self._squares += ones @ np.square(off, out=off)

    def standardising(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Means `[d]`, and what squared deviations count: 1 / (variance · channels that vary), 0 where none is."""
        off = self._sum / self._count
        variance = np.maximum(self._squares / self._count - off**2, 0)
        mean = self._near + off
        varies = np.sqrt(variance) > CONSTANT * np.sqrt(variance + mean**2)
        weight = np.zeros(len(mean), np.float32)
        weight[varies] = 1 / (variance[varies] * max(1, int(varies.sum())))
        return mean.astype(np.float32), weight
