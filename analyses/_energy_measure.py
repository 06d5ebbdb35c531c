"""The numbers of `energy` from the energies of tokens, one sample after the other; what stays of each is small.

Where outlier channels are not known before, energies are made with those of the samples so far (of the first: with
each cell's own). When all are read, layers of samples for which that was wrong are read once more. Massive channels
keep to their places, so that most often none are; at worst everything is read twice. What is found is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np
import xarray as xr

from analyses._channel_stats import Pool, refuse
from analyses._energy_kinds import KIND
from analyses._energy_maps import Maps, block_side
from analyses._energy_parts import quantities
from analyses._stats import SAMPLE, bare, over_samples
from analyses._token_regions import ALL, REGION, Mask, regions
from analyses.errors import NonFinite
from store import dims

_RAW: Final = "raw L2 norm over channels"


class Read(Protocol):
    """What reads one sample's whole tokens: `analyses._energy_whole.whole` of its runs."""

    def __call__(
        self, sample: str, weights: xr.DataArray, *, outlier: xr.DataArray | None, layers: Sequence[int] | None = None
    ) -> xr.Dataset:
        """`parts`, `maps`, `square`, `absmax` and `outlier` of a sample."""
        ...


def measure(
    samples: Sequence[str],
    read: Callable[[str, xr.DataArray], xr.Dataset],
    foregrounds: Mapping[str, Mask] | None = None,
    *,
    like: xr.DataArray,
) -> tuple[xr.Dataset, xr.DataArray]:
    """The numbers. One sample is read after the other; what stays of each are means, and the sums of the maps.

    Args:
        samples: All of them.
        read: What gives `parts` and `maps` of one (`analyses._energy_reading.of_runs`), by weights of its tokens.
        foregrounds: Of samples that have one.
        like: Tokens of one, for the size of the grid.

    Returns:
        The quantities that `energy` lists, and the raw step profile of each sample `[sample, step]`.

    Raises:
        NonFinite: if an energy is NaN or infinite.
    """
    table = _Table(like, foregrounds or {})
    for sample in samples:
        table.add(sample, read(sample, table.weights(sample)))
    return table.found()


def measure_whole(
    samples: Sequence[str],
    read: Read,
    foregrounds: Mapping[str, Mask] | None = None,
    *,
    like: xr.DataArray,
    outlier: xr.DataArray | None,
) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """The same from whole tokens, of which outliers are left out.

    Args:
        samples: All of them.
        read: What reads one.
        foregrounds: Of samples that have one.
        like: Tokens of one, for the size of the grid.
        outlier: Outlier channels of each layer, bool `[layer, channel]`, if they are known.

    Returns:
        As `measure`, and the outliers.

    Raises:
        NonFinite: if an energy or a channel is NaN or infinite.
    """
    if outlier is not None:
        return *measure(samples, partial(read, outlier=outlier), foregrounds, like=like), outlier
    table = _Table(like, foregrounds or {})
    pool, guess = Pool(), None
    right: dict[str, xr.DataArray] = {}  # layers whose energies were made with the outliers that are now known
    for sample in samples:
        one = read(sample, table.weights(sample), outlier=guess)
        refuse(sample, one["square"])
        pool.add(one["square"] ** 0.5, one["absmax"])
        now = pool.pooled.outlier
        if guess is not None:
            same = (now == guess).all(dims.CHANNEL)
            right = {name: layers & same for name, layers in right.items()}
            table.forget(~same)
        right[sample] = (one["outlier"] == now).all((dims.RUN, dims.STEP, dims.CHANNEL))
        table.add(sample, one, counted=right[sample])
        guess = now
    assert guess is not None
    for sample, layers in right.items():
        if wrong := layers[dims.LAYER].to_numpy()[~layers.to_numpy()].tolist():
            table.correct(sample, read(sample, table.weights(sample), outlier=guess, layers=wrong))
    return *table.found(), guess


class _Table:
    """What stays of the samples.

    Args:
        like: Tokens of one `[…, frame, y, x, …]`.
        foregrounds: Of samples that have one.
    """

    def __init__(self, like: xr.DataArray, foregrounds: Mapping[str, Mask]) -> None:
        self._grid = (like.sizes[dims.FRAME], like.sizes[dims.Y], like.sizes[dims.X])
        self._side = block_side(like)
        self._known = foregrounds
        names = list(foregrounds)
        self._others = dict(zip(names, names[1:] + names[:1], strict=True)) if len(names) > 1 else {}
        self._maps = Maps()
        self._rows: dict[str, xr.DataArray] = {}

    def weights(self, sample: str) -> xr.DataArray:
        """Of the parts of the picture; another sample's foreground stands for elsewhere."""
        other = self._known[self._others[sample]] if sample in self._others else None
        return regions(self._grid, self._known.get(sample), other)

    def add(self, sample: str, one: xr.Dataset, *, counted: xr.DataArray | None = None) -> None:
        """Take in what was read of a sample; maps of the layers that are counted, bool `[layer]`."""
        if not np.isfinite(_profile(one["parts"])).all():
            raise NonFinite(
                f"Energies of sample {sample} are NaN or infinite: the model overflowed there. Leave it out, e.g. with "
                f"where=\"sample_id <> '{sample}'\", or capture it again in another dtype."
            )
        self._maps.add(sample, one["maps"], counted)
        self._rows[sample] = one["parts"]

    def forget(self, layers: xr.DataArray) -> None:
        """Maps of these layers, bool `[layer]`, are to be added again, by `correct`."""
        self._maps.keep(~layers)

    def correct(self, sample: str, one: xr.Dataset) -> None:
        """What was read again, of some layers."""
        row = self._rows[sample]
        there = row[dims.LAYER].isin(one[dims.LAYER])
        self._rows[sample] = one["parts"].reindex_like(row).where(there, row)
        maps = one["maps"].reindex({dims.LAYER: row[dims.LAYER]})
        self._maps.add(sample, maps, there)

    def found(self) -> tuple[xr.Dataset, xr.DataArray]:
        """The quantities, and the raw step profile of each sample."""
        along = xr.Variable(SAMPLE, list(self._rows))
        table = xr.concat(list(self._rows.values()), dim=along, coords="minimal", compat="override", join="exact")
        profile = _profile(table)
        raw = profile.sel({KIND: "raw"}, drop=True)
        arrays = {**_of_raw(raw), **quantities(table), **self._maps.arrays(side=self._side)}
        if table.sizes[KIND] > 1:
            arrays |= _by_kind(profile)
        return xr.Dataset(arrays), raw.mean((dims.LAYER, dims.FRAME))


def _profile(parts: xr.DataArray) -> xr.DataArray:
    """Mean energy of each frame, from that of its parts."""
    return parts.sel({REGION: ALL}, drop=True)


def _of_raw(profile: xr.DataArray) -> dict[str, xr.DataArray]:
    """From `[sample, step, layer, frame]`."""
    share = _first_frame_share(profile)
    by_step = profile.mean((dims.LAYER, dims.FRAME))
    return {
        **over_samples("energy", _named(profile.mean(dims.STEP), f"{_RAW}, mean over steps and tokens")),
        **over_samples("energy_by_step", _named(profile.mean(dims.FRAME), f"{_RAW}, mean over frames and tokens")),
        **over_samples("step_profile", _named(by_step, f"{_RAW}, mean over layers, frames and tokens")),
        **over_samples("first_frame_share", share, bounds=(0, 1)),
        **over_samples("mean_first_frame_share", share.mean(dims.LAYER, keep_attrs=True), bounds=(0, 1)),
    }


def _by_kind(profile: xr.DataArray) -> dict[str, xr.DataArray]:
    """From `[sample, kind, step, layer, frame]`."""
    named = _named(profile.mean(dims.STEP), "energy of each kind, mean over steps and tokens")
    return {
        **over_samples("kind_energy", named.assign_attrs(units="as its kind")),
        **over_samples("kind_first_frame_share", _first_frame_share(profile), bounds=(0, 1)),
    }


def _named(array: xr.DataArray, long_name: str) -> xr.DataArray:
    return bare(array).assign_attrs(long_name=long_name, units="activation")


def _first_frame_share(profile: xr.DataArray) -> xr.DataArray:
    total = profile.sum(dims.FRAME)
    share = (profile.isel(frame=0, drop=True) / total.where(total > 0)).mean(dims.STEP, skipna=True)
    return bare(share).assign_attrs(long_name="share of the energy in the first frame, mean over steps", units="1")
