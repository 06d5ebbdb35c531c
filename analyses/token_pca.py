"""Tokens as colours (E6): the three main directions of a layer, one basis for all its steps, seeds and samples.

A basis of each picture's own makes red mean something else in every picture. Here a colour means the same direction at
every step, seed and sample of a layer, so that pictures compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses._energy_maps import MAP_SAMPLES, MAP_STEP, kept_steps
from analyses._options import Numbers, Seed
from analyses._registry import Found, once, register
from analyses._result import Result
from analyses._select import Selection, arrays_of_all, select
from analyses._stats import SAMPLE, over_samples
from analyses._steps import switches, with_steps
from analyses._words import counts, finite, percent, triple
from analyses.errors import NonFinite, NoRuns
from store import ActivationStore, Json, dims

VERSION: Final = 1
AT_ONCE: Final = 256 << 20
"""Bytes of a run's layer that is read whole for the few tokens that are drawn of it."""
COMPONENTS: Final = 3
"""Red, green and blue."""
COMPONENT: Final = "component"
MAP_RUN: Final = "map_run"
"""Axis of the few runs whose pictures are kept."""
MAP_SEEDS: Final = 2
"""Runs of each kept sample whose pictures are kept."""
DRAWN: Final = 16384
"""Tokens of a layer from which its basis is computed, drawn alike from all its steps, runs and samples."""
ENDS: Final = (0.01, 0.99)
"""Quantiles of these tokens between which a colour goes from 0 to 255; beyond them it stays there."""
_KINDS: Final = ("project", "full")
_TOKENS: Final = (dims.FRAME, dims.Y, dims.X)


class Basis(NamedTuple):
    """Of one layer; channels are standardised first, or a massive one would be all that is seen."""

    mean: NDArray[np.float64]
    """`[channel]`"""
    scale: NDArray[np.float64]
    """Deviation of each channel, infinite where it does not vary `[channel]`."""
    directions: NDArray[np.float64]
    """Unit vectors in standardised channels, the largest entry of each positive `[component, channel]`."""
    low: NDArray[np.float64]
    """Where a colour is 0 `[component]`."""
    high: NDArray[np.float64]
    """Where it is 255 `[component]`."""

    def scores(self, tokens: NDArray[Any]) -> NDArray[np.float64]:
        """`[…, component]` of tokens `[…, channel]`."""
        return (tokens - self.mean) / self.scale @ self.directions.T

    def colours(self, tokens: NDArray[Any]) -> NDArray[np.uint8]:
        """The same as colours, uint8."""
        span = np.where(self.high > self.low, self.high - self.low, 1)
        return (255 * ((self.scores(tokens) - self.low) / span).clip(0, 1)).round().astype(np.uint8)

    def explained(self, tokens: NDArray[Any]) -> NDArray[np.float64]:
        """Share of the standardised variance of tokens `[n, channel]` along each direction `[component]`."""
        total = (((tokens - tokens.mean(axis=0)) / self.scale) ** 2).sum()
        along = self.scores(tokens)
        return ((along - along.mean(axis=0)) ** 2).sum(axis=0) / total if total > 0 else np.zeros(COMPONENTS)


@register
def token_pca(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    site: str = "resid_post",
    branch: str = "cond",
    layers: Numbers | None = None,
    seed: Seed = 0,
) -> Result:
    """Pictures of the tokens in the three main directions of their layer.

    Quantities with intervals: `explained` [layer, component] (share of a sample's variance, channels standardised,
    along each direction), `explained_by_three` [layer] (their sum), `step_share` [layer, component] (how much of a
    sample's variance along it lies between steps). Without: `colour` [map_run, map_step, layer, frame, y, x, component]
    (uint8, of two runs of each of the first three samples, at five steps), `direction` [layer, component, channel] (in
    standardised channels), `channel_mean`, `channel_scale` [layer, channel], `low`, `high` [layer, component] (what
    colours 0 and 255 stand for). Verdict: always `descriptive`.

    Args:
        acts: The store; runs need `site/project` or `site/full`.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        site: Site inside the model, with layers.
        branch: `cond` or `uncond`.
        layers: None for all.
        seed: Of the draw of tokens from which a basis is computed.

    Raises:
        NoRuns: if no run holds the arrays.
        MixedRuns: if the runs are of several conditions.
        NonFinite: if a token is NaN or infinite.
    """
    chosen = select(acts, arrays=[f"{site}/{kind}" for kind in _KINDS], where=where, runs=runs)

    def compute() -> Found:
        reduction = _reduction(arrays_of_all(acts, chosen.run_ids), site)
        groups = chosen.by_sample()
        tokens = {
            run: acts.load(site, reduction, runs=[run], branch=branch, layer=None if layers is None else list(layers))
            for run in chosen.run_ids
        }
        data = measure({sample: [tokens[run] for run in ids] for sample, ids in groups.items()}, seed=seed)
        shown = [run for ids in list(groups.values())[:MAP_SAMPLES] for run in ids[:MAP_SEEDS]]
        data["colour"] = _pictures({run: tokens[run] for run in shown}, _bases(data))
        sample_of = dict(zip(chosen.run_ids, chosen.sample_ids, strict=True))
        data = data.assign_coords(map_sample=(MAP_RUN, [sample_of[run] for run in shown]))
        infos = acts.run(chosen.run_ids[0]).steps
        data = with_steps(data.assign_coords({dims.STEP: tokens[shown[0]][dims.STEP].to_numpy()}), infos)
        return _found(
            data.assign_attrs(
                headline="explained",
                site=f"{site} ({branch})",
                reduction=reduction,
                n=len(groups),
                runs=len(chosen.run_ids),
                switches=switches(infos),
            ),
            chosen,
        )

    return once(
        acts,
        analysis="token_pca",
        version=VERSION,
        params={"site": site, "branch": branch, "layers": None if layers is None else [*layers], "seed": seed},
        run_ids=chosen.run_ids,
        compute=compute,
    )


def measure(samples: Mapping[str, Sequence[xr.DataArray]], *, seed: int) -> xr.Dataset:
    """Basis of each layer and what it explains, a layer at a time.

    Args:
        samples: The runs of each, one run an array `[run, step, layer, frame, y, x, channel]`, lazy or not.
        seed: Of the draw of tokens.
    """
    first = next(iter(samples.values()))[0]
    runs = sum(len(each) for each in samples.values())
    per_cell = -(-DRAWN // (runs * first.sizes[dims.STEP]))
    rng = np.random.default_rng(seed)
    layers: list[tuple[Basis, NDArray[np.float64], NDArray[np.float64]]] = []
    for layer in range(first.sizes[dims.LAYER]):
        drawn = {
            sample: np.concatenate(
                [_draw(one.isel({dims.LAYER: layer}), per_cell, rng, sample) for one in each], axis=1
            )
            for sample, each in samples.items()
        }
        basis = fit(np.concatenate([one.reshape(-1, one.shape[-1]) for one in drawn.values()]))
        explained = [basis.explained(one.reshape(-1, one.shape[-1])) for one in drawn.values()]
        layers.append((basis, np.stack(explained), np.stack([_between(basis.scores(one)) for one in drawn.values()])))
    return _dataset(layers, list(samples), first)


def fit(tokens: NDArray[Any]) -> Basis:
    """The main directions of tokens `[n, channel]`."""
    from sklearn.decomposition import PCA

    mean, spread = tokens.mean(axis=0, dtype=np.float64), tokens.std(axis=0, dtype=np.float64)
    varies = spread > 1e-6 * np.abs(tokens).max(axis=0)
    scale = np.where(varies, spread, np.inf)
    found: Any = PCA(min(COMPONENTS, tokens.shape[1]), svd_solver="randomized", random_state=0)
    found.fit((tokens - mean) / scale)
    directions = np.zeros((COMPONENTS, tokens.shape[1]))
    directions[: len(found.components_)] = found.components_
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    directions *= np.where(largest < 0, -1, 1)  # a direction and its opposite are one: the sign is fixed by rule
    along = (tokens - mean) / scale @ directions.T
    low, high = np.quantile(along, ENDS, axis=0)
    return Basis(mean, scale, directions, low, high)


def _draw(tokens: xr.DataArray, count: int, rng: np.random.Generator, sample: str) -> NDArray[np.float32]:
    """Some tokens of each step of a run, the same places at all steps: `[step, token, channel]`."""
    grid = [tokens.sizes[dim] for dim in _TOKENS]
    places = np.unravel_index(rng.choice(int(np.prod(grid)), min(count, int(np.prod(grid))), replace=False), grid)
    tokens = tokens.squeeze(dims.RUN)
    if tokens.nbytes <= AT_ONCE:  # sooner than dask's way to what is drawn
        tokens = tokens.compute()
    picked = tokens.isel({dim: xr.DataArray(place, dims="token") for dim, place in zip(_TOKENS, places, strict=True)})
    values = picked.transpose(dims.STEP, "token", dims.CHANNEL).to_numpy()
    if not np.isfinite(values).all():
        raise NonFinite(
            f"Tokens of sample {sample} are NaN or infinite: the model overflowed there. Leave it out, e.g. with "
            f"where=\"sample_id <> '{sample}'\", or capture it again in another dtype."
        )
    return values


def _between(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the variance of scores `[step, token, component]` that lies between steps `[component]`."""
    total = scores.var(axis=(0, 1))
    between = scores.mean(axis=1).var(axis=0)
    return np.divide(between, total, out=np.zeros(len(total)), where=total > 0)


def _dataset(
    layers: list[tuple[Basis, NDArray[np.float64], NDArray[np.float64]]], samples: list[str], like: xr.DataArray
) -> xr.Dataset:
    bases = [basis for basis, _, _ in layers]
    explained, between = (np.stack([one[at] for one in layers], axis=1) for at in (1, 2))
    cells = (SAMPLE, dims.LAYER, COMPONENT)
    words = "share of a sample's variance along a direction, channels standardised"
    steps = "share of a sample's variance along a direction that lies between steps"
    found = {
        **over_samples("explained", _named(explained, cells, words), bounds=(0, 1)),
        **over_samples(
            "explained_by_three", _named(explained.sum(axis=2), cells[:2], f"{words}, all three"), bounds=(0, 1)
        ),
        **over_samples("step_share", _named(between, cells, steps), bounds=(0, 1)),
        "direction": _named(
            np.stack([one.directions for one in bases]).astype(np.float32),
            (dims.LAYER, COMPONENT, dims.CHANNEL),
            "main direction, a unit vector in standardised channels",
        ),
        "channel_mean": _named(np.stack([one.mean for one in bases]), (dims.LAYER, dims.CHANNEL), "mean of a channel"),
        "channel_scale": _named(
            np.stack([one.scale for one in bases]), (dims.LAYER, dims.CHANNEL), "deviation of a channel"
        ),
        "low": _named(np.stack([one.low for one in bases]), (dims.LAYER, COMPONENT), "where a colour is 0"),
        "high": _named(np.stack([one.high for one in bases]), (dims.LAYER, COMPONENT), "where a colour is 255"),
    }
    return xr.Dataset(found).assign_coords({dims.LAYER: like[dims.LAYER].to_numpy()})


def _named(values: NDArray[Any], axes: tuple[str, ...], long_name: str) -> xr.DataArray:
    return xr.DataArray(values, dims=axes, attrs={"long_name": long_name, "units": "1"})


def _bases(data: xr.Dataset) -> list[Basis]:
    names = ("channel_mean", "channel_scale", "direction", "low", "high")
    return [
        Basis(*(data[name].isel({dims.LAYER: layer}).to_numpy().astype(np.float64) for name in names))
        for layer in range(data.sizes[dims.LAYER])
    ]


def _pictures(tokens: Mapping[str, xr.DataArray], bases: Sequence[Basis]) -> xr.DataArray:
    """Every token of some runs as a colour, `[map_run, map_step, layer, frame, y, x, component]`, a layer at a time."""
    pictures: list[xr.DataArray] = []
    for one in tokens.values():
        kept = one.squeeze(dims.RUN, drop=True).isel({dims.STEP: kept_steps(one.sizes[dims.STEP])})
        layers = [
            xr.DataArray(
                basis.colours(kept.isel({dims.LAYER: at}).transpose(dims.STEP, *_TOKENS, dims.CHANNEL).to_numpy()),
                dims=(MAP_STEP, *_TOKENS, COMPONENT),
                coords={MAP_STEP: kept[dims.STEP].to_numpy(), dims.FRAME: kept[dims.FRAME].to_numpy()},
            )
            for at, basis in enumerate(bases)
        ]
        pictures.append(xr.concat(layers, dim=dims.LAYER))
    found = xr.concat(pictures, xr.Variable(MAP_RUN, list(tokens)))
    order = (MAP_RUN, MAP_STEP, dims.LAYER, *_TOKENS, COMPONENT)
    attrs = {
        "long_name": "tokens as colours, one basis for all steps, seeds and samples of a layer",
        "units": "0 to 255",
    }
    return found.transpose(*order).assign_attrs(attrs)


def _reduction(held: set[str], site: str) -> str:
    for kind in _KINDS:
        if f"{site}/{kind}" in held:
            return kind
    raise NoRuns(
        f"The chosen runs have neither {' nor '.join(f'{site}/{kind}' for kind in _KINDS)} in common: capture "
        f"{site}/project, or choose runs of one capture with where= or runs=."
    )


def _found(data: xr.Dataset, chosen: Selection) -> Found:
    three = data["explained_by_three"]
    widest = data.isel({dims.LAYER: int(three.to_numpy().argmax())})
    equal = COMPONENTS / data.sizes[dims.CHANNEL]
    steps = triple(widest.isel({COMPONENT: 0}), "step_share")
    finding = (
        f"Three directions hold {percent(*triple(widest, 'explained_by_three'))} of the variance of a sample's tokens "
        f"of {data.attrs['site']} in layer {int(widest[dims.LAYER])}, where they hold most (equal ones would hold "
        f"{100 * equal:.1f} %); {percent(*steps)} of that along the first one lies between steps "
        f"({counts(samples=int(data.attrs['n']), runs=len(chosen.run_ids))})."
    )
    summary: Json = {
        "explained_by_three": {str(int(data[dims.LAYER][at])): finite(float(three[at])) for at in range(len(three))},
        "explained_if_equal": equal,
    }
    return Found(data=data, finding=finding, n=int(data.attrs["n"]), summary=summary)
