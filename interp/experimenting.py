"""Experiments carried out: clean runs, and under each of their arms the same runs changed.

What the arms are, and what their runs are compared for, is the business of `analyses.experiments`; here they are
conditions (`interp.conditions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tqdm.auto import tqdm

import store
from interp import batching, executors, resuming
from interp.adapters import ModelAdapter
from interp.capturing import Sweep, make_all, sweep
from interp.conditions import Condition, donated, sweep_of
from interp.errors import BadSpec
from interp.interventions import Scope
from interp.model import Model
from store import CaptureSpec, Run, Sample, SamplerSettings


class Programme(NamedTuple):
    """What an experiment will do and cost; nothing has been generated yet."""

    clean: Sweep
    arms: tuple[Sweep, ...]
    """In the order in which they were asked for."""
    copied: int
    """Steps of the missing runs that are taken from clean runs instead of being made."""
    donated: int = 0
    """Steps of other runs that are made again for what they give to the missing ones."""

    @property
    def missing(self) -> tuple[tuple[Sample, Run], ...]:
        """Runs to make, clean ones first, each once."""
        every = [pair for one in (self.clean, *self.arms) for pair in one.missing]
        return tuple({run.id: (sample, run) for sample, run in every}.values())

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Every run, clean ones first, each once."""
        return tuple(dict.fromkeys(run.id for one in (self.clean, *self.arms) for _, run in one.runs))

    @property
    def steps(self) -> int:
        """Denoising steps to make, those of donors not counted."""
        return sum(run.settings.steps for _, run in self.missing) - self.copied

    @property
    def nbytes(self) -> int:
        """Bytes to write, uncompressed."""
        return sum(one.nbytes for one in (self.clean, *self.arms))

    def __str__(self) -> str:
        runs, missing = len(self.run_ids), len(self.missing)
        return (
            f"{runs} runs ({len(self.clean.runs)} clean, {len(self.arms)} arms), {runs - missing} of them in the store "
            f"already; {missing} to make: {self.steps} steps, {self.copied} more taken from clean runs, "
            f"{self.nbytes / 1e6:.1f} MB" + (f"; donors make {self.donated} steps beside them" if self.donated else "")
        )


def shape(model: Model, settings: SamplerSettings) -> dict[str, Any]:
    """What a plan must know of a model and its settings: the fields of `analyses.experiments.Frame`."""
    geometry = model.geometry(settings)
    scope = Scope(model.adapter, geometry, settings, model.ref, sample_id="", seed=0)
    return {
        "steps": settings.steps,
        "frames": settings.frames,
        "layers": geometry.layers,
        "latent_frames": geometry.latent.frames,
        "held": model.adapter.held,
        "tokens": tuple(geometry.tokens),
        "sites": tuple(name for name in model.adapter.modules if model.adapter.layers(name)),
        "text_sites": tuple(name for name in model.adapter.modules if _all_text(model.adapter, name)),
        "branches": scope.branches,
    }


def _all_text(adapter: ModelAdapter, site: str) -> bool:
    """Whether the values of a site hold text tokens in all layers that have it."""
    layers = adapter.layers(site)
    return bool(layers) and set(layers) <= set(adapter.text_layers(site))


def programme(
    model: Model,
    samples: Sequence[Sample],
    arms: Sequence[Condition],
    *,
    clean: CaptureSpec,
    child: CaptureSpec,
    into: store.ActivationStore,
    seeds: Sequence[int] = (0,),
    settings: SamplerSettings | None = None,
    variants: Mapping[str, Model] | None = None,
) -> Programme:
    """Say what `conduct` with the same arguments would do and cost.

    Args:
        model: As `interp.load` returns it.
        samples: The questions; they are put into the store, as one may donate to another.
        arms: How the runs of each arm differ from clean ones.
        clean: What clean runs keep.
        child: What changed runs keep.
        into: The store.
        seeds: One clean run for each sample and seed, and one in each arm.
        settings: How to sample; the model's defaults if not given.
        variants: The models that arms ask for, by name.

    Raises:
        BadSpec, BadInput, BadIntervention: if the model cannot do what is asked, before anything runs.
    """
    for sample in samples:
        into.put_sample(sample)
    settings = settings or model.settings()
    first = sweep(model, samples, clean, into=into, seeds=seeds, settings=settings)
    found = tuple(
        sweep_of(
            (variants or {})[arm.variant] if arm.variant else model,
            samples,
            arm,
            child,
            into=into,
            clean=first,
            settings=settings,
            seeds=seeds,
            parent=clean,
        )
        for arm in arms
    )
    parents = {run.id: run for _, run in first.runs}
    changed = [(run, one.plan) for one in found for _, run in one.missing if run.interventions]
    copied = sum(
        resuming.begin(model, run, parents[run.parent_id], plan) for run, plan in changed if run.parent_id is not None
    )
    whole = Programme(first, found, copied, sum(donated(model, run, clean, into) for run, _ in changed))
    if into.free is not None and whole.nbytes > into.free:
        raise BadSpec(
            f"the experiment would write {whole.nbytes / 1e9:.1f} GB, but {into.free / 1e9:.1f} GB are free at "
            f"{into.path}; ask for fewer samples, seeds or arms"
        )
    return whole


def calls(model: Model, todo: Programme, *, batch: int) -> int:
    """How many calls of the pipeline the missing runs take in batches of at most `batch`, besides those for donors."""
    parts = ([(one.missing, one.plan) for one in sweeps] for sweeps in _in_turn(todo))
    return sum(len(batching.batches(model, part, size=batch)) for part in parts)


def conduct(
    model: Model,
    todo: Programme,
    *,
    into: store.ActivationStore,
    executor: str = "local",
    progress: bool | tqdm = False,
    batch: int = 1,
    variants: Mapping[str, Model] | None = None,
) -> int:
    """Make what is missing: clean runs first, as changed runs begin with them. Goes on where it was stopped.

    With a `batch`, runs of different arms that begin at the same step are made together, too.

    Returns:
        How many runs were made now.
    """
    executors.check(executor)
    batching.check(batch)
    makers = {one.ref: one for one in (model, *(variants or {}).values())}
    made = 0
    for sweeps in _in_turn(todo):
        for ref, maker in makers.items():
            own = [one for one in sweeps if one.missing and one.missing[0][1].model == ref]
            made += make_all(maker, own, into, executor=executor, progress=progress, batch=batch) if own else 0
    return made


def _in_turn(todo: Programme) -> tuple[list[Sweep], list[Sweep]]:
    """Clean runs, and then those of the arms that are no clean runs."""
    clean = {run.id for _, run in todo.clean.missing}
    arms = [
        one._replace(missing=tuple((sample, run) for sample, run in one.missing if run.id not in clean))
        for one in todo.arms
    ]
    return [todo.clean], arms
