"""Energy of whole tokens of which massive activations are told apart: raw, without them, of them alone, standardised.

Shapes: leading axes of cells `…`, F latent frames, h×w tokens, d channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from store import ActivationStore, dims

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
"""A channel whose deviation is below this fraction of its largest magnitude does not vary, and does not count."""
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
        return acts.load(site, "energy", runs=list(runs), branch=branch).expand_dims({KIND: ["raw"]})
    full = acts.load(site, "full", runs=list(runs), branch=branch)
    found = xr.apply_ufunc(
        energies,
        full.chunk({dim: -1 for dim in (*_TOKENS, dims.CHANNEL)}),
        outlier,
        input_core_dims=[[*_TOKENS, dims.CHANNEL], [dims.CHANNEL]],
        output_core_dims=[[KIND, *_TOKENS]],
        exclude_dims=set(),
        join="right",  # the outliers' layers are those of all runs
        kwargs={"kinds": tuple(kinds)},
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {KIND: len(kinds)}},
    )
    order = (KIND, dims.RUN, dims.STEP, dims.LAYER, *_TOKENS)
    return found.assign_coords({KIND: list(kinds)}).transpose(*order)


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
    """Of the tokens of one cell `[n, d]`, `[kind, n]`; a few at a time, so that squares stay in the cache."""
    step = max(1, (1 << 20) // tokens.shape[1])
    parts = [slice(at, at + step) for at in range(0, len(tokens), step)]
    weights = np.stack([np.ones(len(outlier)), ~outlier, outlier], axis=1).astype(np.float32)
    sums = {"raw": 0, "masked": 1, "massive": 2}
    found = np.empty((len(kinds), len(tokens)), np.float32)
    if set(kinds) & set(sums):
        for part in parts:
            squares = np.square(tokens[part], dtype=np.float32) @ weights
            for at, kind in enumerate(kinds):
                if kind in sums:
                    found[at, part] = np.sqrt(squares[:, sums[kind]])
    if "standardised" in kinds:
        mean, scale = _scales(tokens, parts)
        for part in parts:
            squares = np.square(tokens[part] - mean, dtype=np.float32) @ scale
            found[list(kinds).index("standardised"), part] = np.sqrt(squares)
    return found


def _scales(tokens: NDArray[Any], parts: Sequence[slice]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean of each channel, and its part of the mean square after standardising: 1/(variance · channels that vary)."""
    mean = np.add.reduce([tokens[part].sum(axis=0, dtype=np.float64) for part in parts]) / len(tokens)
    mean = mean.astype(np.float32)
    variance = np.add.reduce([np.square(tokens[part] - mean).sum(axis=0) for part in parts]) / len(tokens)
    size = np.max([np.abs(tokens[part]).max(axis=0) for part in parts], axis=0)
    varies = np.sqrt(variance) > CONSTANT * size
    scale = np.zeros(len(mean), np.float32)
    scale[varies] = 1 / (variance[varies] * max(1, int(varies.sum())))
    return mean, scale
