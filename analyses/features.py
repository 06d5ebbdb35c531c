"""Features: a small sparse dictionary of a layer's tokens, with what it explains, what it is worth, and what fires it.

A dictionary can be trained on anything, and its pictures always tell a story. So it is held to what a mere covariance
gives (Gaussian tokens of the same covariance, and PCA of equal rank), on samples that it never saw, and to a second
dictionary that was trained on the other half of the samples from another seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from analyses import _feature_tables
from analyses._feature_scores import EXAMPLES, Watch, explained
from analyses._feature_tables import KEPT, SAME, WORDS, Half
from analyses._feature_training import Recipe, train
from analyses._options import Numbers, Positive, Seed
from analyses._registry import Found, Verdict, once, register
from analyses._result import Result
from analyses._select import Selection, select
from analyses._steps import switches, with_steps
from analyses._token_units import Loader, Tokens, Unit, budget, moments
from analyses._words import counts, finite, percent, triple, with_interval
from analyses.errors import BadPlan
from store import ActivationStore, Json, ResultRecord, dims
from store.copies import cache_folder

VERSION: Final = 1
MARGIN: Final = 0.02
"""Gain over Gaussian tokens, as a share of variance, below which there is nothing sparse to speak of."""
STABLE: Final = 0.5
"""Share of features that must come back from other samples, by the verdict's rule."""
BATCH: Final = 512
"""Tokens of an update."""


@register
def features(
    acts: ActivationStore,
    *,
    where: str | None = None,
    runs: Sequence[str] | None = None,
    site: str = "resid_post",
    branch: str = "cond",
    layer: int | None = None,
    steps: Numbers | None = None,
    features: Positive | None = None,
    active: Positive | None = None,
    updates: Positive | None = None,
    memory: Positive = 2 << 30,
    seed: Seed = 0,
    progress: bool = True,
) -> Result:
    """A sparse dictionary of the tokens of one layer, over all captured steps, frames and places.

    A top-k autoencoder on standardised channels. Each half of the samples trains one, from a seed of its own, and both
    are judged on the half that they never saw, beside the same on Gaussian tokens of equal covariance. With one sample,
    every second token makes a half. `docs/analyses.md` lists the quantities.

    Verdict on *tokens are made of sparse features that other samples share*: `replicates` if the 95 % interval of the
    gain over Gaussian tokens lies above 0.02 and at least half of the features have one in the other dictionary with
    a cosine of 0.7 or more; `does not replicate` if that interval ends below 0.02; else `inconclusive`.

    Training is saved in the cache folder behind each pool of tokens and goes on from there.

    Args:
        acts: The store; runs need `full` of the site.
        where: SQL over runs and samples. Left out, and `runs` too, the clean runs are taken.
        runs: Run ids.
        site: Where in the model.
        branch: `cond` or `uncond`.
        layer: None takes the middle one of those captured.
        steps: None for all.
        features: Of the dictionary; None for twice the channels, at most 4,096.
        active: At a token; None for a sixteenth of the channels, 2 to 32.
        updates: Batches of 512 tokens; None for ten rounds, 300 to 3,000.
        memory: Bytes that training may take.
        seed: Of the first dictionary; the second has the next.
        progress: Show a bar with the time left.

    Raises:
        NoRuns: no run holds the site's tokens.
        MixedRuns: runs are of several conditions.
        BadPlan: the memory is too small, or the site has no such layer.
        NonFinite: a token is NaN or infinite.

    Source: k-sparse autoencoders (Makhzani and Frey 2014; Gao et al. 2024); controls are ours.
    """
    chosen = select(acts, arrays=[f"{site}/full"], where=where, runs=runs)
    tokens = _describe(acts, chosen.run_ids[0], site=site, branch=branch, layer=layer, steps=steps)
    d = tokens.channels
    count = features or min(2 * d, KEPT)
    k = active or min(max(d // 16, 2), 32)
    if not 1 <= k <= count:
        raise BadPlan(f"active={k} of features={count}: at least one and at most all can be active.")
    total = len(chosen.run_ids) * len(tokens.steps) * int(np.prod(tokens.grid))
    recipe = Recipe(
        features=count,
        k=k,
        batch=BATCH,
        updates=updates or int(np.clip(10 * total / 2 / BATCH, 300, 3000)),
        seed=seed,
        pool_nbytes=budget(tokens, features=count, batch=BATCH, memory=memory),
        unit_nbytes=0,
    )
    params: Json = {
        "site": site,
        "branch": branch,
        "layer": tokens.layer,
        "steps": [*tokens.steps],
        "features": count,
        "active": k,
        "updates": recipe.updates,
        "memory": memory,
        "seed": seed,
    }
    folder = cache_folder(acts.layout.root_url)
    name = f"features-{ResultRecord.make_id('features', VERSION, params, chosen.run_ids)}"

    def compute() -> Found:
        found = _found(acts, chosen, tokens, recipe, folder / name, progress=progress)
        for half in (0, 1):
            for gaussian in (False, True):
                _checkpoint(folder / name, half, gaussian=gaussian).unlink(missing_ok=True)
        return found

    return once(acts, analysis="features", version=VERSION, params=params, run_ids=chosen.run_ids, compute=compute)


def _checkpoint(stem: Path, half: int, *, gaussian: bool) -> Path:
    return stem.with_name(f"{stem.name}-{half}{'-gaussian' if gaussian else ''}.safetensors")


def _describe(
    acts: ActivationStore, run: str, *, site: str, branch: str, layer: int | None, steps: Sequence[int] | None
) -> Tokens:
    array = acts.load(site, "full", runs=[run])
    if dims.LAYER not in array.dims:
        raise BadPlan(f"{site}/full belongs to the sampler, not to a layer: choose a site inside the model, site=.")
    layers = [int(one) for one in array[dims.LAYER].to_numpy()]
    if layer is not None and layer not in layers:
        raise BadPlan(f"{site}/full holds no layer {layer}, but {', '.join(map(str, layers))}.")
    own = layers[len(layers) // 2] if layer is None else layer
    one = acts.load(site, "full", runs=[run], branch=branch, layer=own, step=steps)
    return Tokens(
        site=site,
        branch=branch,
        layer=own,
        steps=tuple(int(step) for step in one[dims.STEP].to_numpy()),
        grid=(one.sizes[dims.FRAME], one.sizes[dims.Y], one.sizes[dims.X]),
        channels=one.sizes[dims.CHANNEL],
    )


def _found(
    acts: ActivationStore, chosen: Selection, tokens: Tokens, recipe: Recipe, stem: Path, *, progress: bool
) -> Found:
    samples = sorted(set(chosen.sample_ids))
    number = {sample: at for at, sample in enumerate(samples)}
    pairs = [(run, number[sample]) for run, sample in zip(chosen.run_ids, chosen.sample_ids, strict=True)]
    halves = len(samples) == 1
    units = [
        tokens.units([pair for pair in pairs if halves or pair[1] % 2 == half], recipe.pool_nbytes // 4)
        for half in (0, 1)
    ]
    largest = max(len(unit.frames) for unit in units[0]) * tokens.frame_nbytes
    with tqdm(total=4 * recipe.updates, unit="update", desc="features", disable=None if progress else True) as bar:
        each = [
            _half(acts, chosen, tokens, recipe._replace(unit_nbytes=largest), stem, half, units, halves, bar.update)
            for half in (0, 1)
        ]
    data = _dataset(acts, chosen, tokens, recipe, each, samples).assign_attrs(
        held_out="every second token of the one sample" if halves else "the samples of the other half"
    )
    return Found(data=data, finding=_sentence(data), n=len(samples), summary=_summary(data), verdict=_verdict(data))


def _half(
    acts: ActivationStore,
    chosen: Selection,
    tokens: Tokens,
    recipe: Recipe,
    stem: Path,
    half: int,
    units: Sequence[list[Unit]],
    halves: bool,
    done: Callable[[int], object],
) -> Half:
    """Train on one half, judge on the other."""
    own, other = (Loader(acts, tokens, one, halves=halves) for one in (half, 1 - half))
    by = moments(units[half], own)
    mine = recipe._replace(seed=2 * recipe.seed + half)
    learned, stand_in = (
        train(
            units[half],
            own,
            by,
            mine,
            gaussian=gaussian,
            checkpoint=_checkpoint(stem, half, gaussian=gaussian),
            progress=done,
        )
        for gaussian in (False, True)
    )
    watch = Watch(tokens, chosen.run_ids, recipe.features)
    count = len(set(chosen.sample_ids))
    held = units[1 - half]
    return Half(
        learned=learned,
        by=by,
        real=explained(held, other, by, learned, k=recipe.k, samples=count, gaussian=False, seen=watch),
        gaussian=explained(held, other, by, stand_in, k=recipe.k, samples=count, gaussian=True),
        stand_in=stand_in,
        firing=watch.firing(),
    )


def _dataset(
    acts: ActivationStore,
    chosen: Selection,
    tokens: Tokens,
    recipe: Recipe,
    each: Sequence[Half],
    samples: Sequence[str],
) -> xr.Dataset:
    found = each[0].firing
    order = np.argsort(-found.energy, kind="stable")[:KEPT]
    same = _feature_tables.alike(each, order)
    arrays = {
        **_feature_tables.scores(each),
        **same,
        **_feature_tables.firing(each[0], order, tokens.steps),
        **_feature_tables.examples(
            found, order, chosen.run_ids, video=chosen.template.settings.frames, latent=tokens.grid[0]
        ),
    }
    live = [half.firing.energy > 0 for half in each]
    infos = acts.run(chosen.run_ids[0]).steps
    return with_steps(xr.Dataset(arrays), infos).assign_attrs(
        headline="explained",
        n=len(samples),
        runs=len(chosen.run_ids),
        switches=switches(infos),
        site=tokens.site,
        layer=tokens.layer,
        features=recipe.features,
        k=recipe.k,
        updates=recipe.updates,
        examples=EXAMPLES,
        dead=float(np.mean([1 - one.mean() for one in live])),
        stable=float((same["likeness"].to_numpy()[live[0][order]] >= SAME).mean()) if live[0].any() else 0.0,
        gaussian_stable=float((same["gaussian_likeness"] >= SAME).mean()),
        grid=[*tokens.grid],
    )


def _verdict(data: xr.Dataset) -> Verdict:
    _, low, high = triple(data, "over_gaussian")
    if low > MARGIN and data.attrs["stable"] >= STABLE:
        return "replicates"
    return "does not replicate" if high < MARGIN else "inconclusive"


def _sentence(data: xr.Dataset) -> str:
    told = data.attrs
    return (
        f"{told['features']} features of {told['site']}, layer {told['layer']}, {told['k']} of them active at a token, "
        f"explain {percent(*triple(data, 'explained'))} of the variance of {told['held_out']}: "
        f"{with_interval(*triple(data, 'over_pca'), digits=2)} more than PCA of equal rank and "
        f"{with_interval(*triple(data, 'over_gaussian'), digits=2)} more than on Gaussian tokens of equal covariance; "
        f"{100 * told['dead']:.0f} % are dead, {100 * told['stable']:.0f} % come back in a dictionary of the other "
        f"half (of Gaussian tokens {100 * told['gaussian_stable']:.0f} %) "
        f"({counts(samples=int(told['n']), runs=int(told['runs']))})."
    )


def _summary(data: xr.Dataset) -> Json:
    return {
        **{name: finite(float(data[name])) for name in WORDS},
        **{name: finite(float(data.attrs[name])) for name in ("dead", "stable", "gaussian_stable")},
        **{name: int(data.attrs[name]) for name in ("features", "k", "layer", "updates")},
    }
