"""What the runs of an arm have that clean runs have not: interventions, or other settings, or another variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch

import store
from interp import donors, intervening
from interp.capturing import Sweep, sweep
from interp.donors_kept import holds
from interp.errors import BadInput
from interp.interventions import Donor, Intervention
from interp.loading import load
from interp.model import Model
from store import CaptureSpec, Json, Run, Sample, SamplerSettings

LORA: Final = "lora:"
"""Begins a variant that is the model itself under one more LoRA."""
_ASKED: Final = ("steps", "guidance", "guidance_2", "max_sequence_length")
"""Settings that a variant has of its own; sizes are those of the model."""
_SIZE: Final = ("height", "width", "frames")


Changes = Sequence[Json] | Callable[[Sample, int], Sequence[Json] | None]
"""Interventions of an arm, as records: the same for every run, or by sample and seed (None: the arm lacks that run)."""


class Condition(NamedTuple):
    """How the runs of an arm differ from clean runs. Interventions go with nothing else."""

    interventions: Changes = ()
    settings: Mapping[str, Any] = {}
    """Sampler settings by name."""
    variant: str = ""
    """What `variant_of` loads; empty for the model itself."""
    seeds: Sequence[int] | None = None
    """Those of the clean runs that it has; None for all."""


def variant_of(model: Model, name: str) -> Model:
    """A variant, loaded as `model` was: a bundled model, folder or hub id, or `lora:SOURCE` for a LoRA on `model`.

    Raises:
        BadInput: if `model` was not loaded by `interp.load`, or the variant has other weights below its LoRAs.
        UnknownModel: if there is no such model.
    """
    if model.recipe is None:
        raise BadInput(f"a pipeline that was passed to load() has no variant {name!r}; give its name or folder")
    recipe: dict[str, Any] = {**model.recipe, "dtype": getattr(torch, model.recipe["dtype"])}
    if name.startswith(LORA):
        recipe["loras"] = [*recipe["loras"], name.removeprefix(LORA)]
    else:
        recipe |= {"name_or_path": name, "loras": [], "revision": None, "variant": None, "transformer": None}
    if not recipe["device_map"]:
        recipe["device"] = model.device
    found = load(**recipe)
    if found.recipe is not None and "device" in model.recipe:
        found.recipe["device"] = model.recipe["device"]  # that of workers, not of this process
    if found.ref.weight_hash != model.ref.weight_hash:
        raise BadInput(
            f"{name} is no variant of {model.id}: without LoRAs its weights are {found.ref.weight_hash[:12]}, not "
            f"{model.ref.weight_hash[:12]}"
        )
    return found


def settings_of(model: Model, base: SamplerSettings, condition: Condition) -> SamplerSettings:
    """Sampler settings of an arm.

    Args:
        model: That makes the arm's runs; a variant brings its own steps and guidance.
        base: Of the clean runs.
        condition: The arm.

    Raises:
        BadInput: if the model cannot run with them.
    """
    names = _SIZE if condition.variant else (*_ASKED, *_SIZE)
    return model.settings(**{name: getattr(base, name) for name in names} | dict(condition.settings))


def sweep_of(
    model: Model,
    samples: Sequence[Sample],
    condition: Condition,
    spec: CaptureSpec,
    *,
    into: store.ActivationStore,
    clean: Sweep,
    settings: SamplerSettings,
    seeds: Sequence[int],
    parent: CaptureSpec,
) -> Sweep:
    """The sweep of an arm, its runs the children of the clean runs.

    Args:
        model: That makes the arm's runs.
        samples: The questions.
        condition: The arm.
        spec: What its runs keep.
        into: The store.
        clean: The clean runs.
        settings: Of the clean runs.
        seeds: Of the clean runs.
        parent: What clean runs keep.

    Raises:
        BadSpec, BadInput, BadIntervention: if the model cannot do what is asked.
    """
    plain = not condition.interventions
    if not plain and (condition.settings or condition.variant):
        raise BadInput("an arm has interventions, or other settings or another variant, not both")
    found = sweep(
        model,
        samples,
        spec,
        into=into,
        seeds=seeds if condition.seeds is None else condition.seeds,
        settings=settings_of(model, settings, condition) if plain else settings,
        interventions=_read(condition.interventions),
        parent=parent,
    )
    return _adopted(found, clean) if plain else found


def _read(
    arm: Changes,
) -> Sequence[Intervention] | Callable[[Sample, int], Sequence[Intervention] | None]:
    if not callable(arm):
        return [intervening.from_json(one) for one in arm]

    def of(sample: Sample, seed: int) -> Sequence[Intervention] | None:
        found = arm(sample, seed)
        return None if found is None else [intervening.from_json(one) for one in found]

    return of


def _adopted(found: Sweep, clean: Sweep) -> Sweep:
    """Runs of other settings, as children of the clean runs of the same sample and seed."""
    parents = {(run.sample_id, run.seed): run.id for _, run in clean.runs}

    def child(run: Run) -> Run:
        parent = parents.get((run.sample_id, run.seed))
        return run if parent == run.id else run.model_copy(update={"parent_id": parent})

    return found._replace(
        runs=tuple((sample, child(run)) for sample, run in found.runs),
        missing=tuple((sample, child(run)) for sample, run in found.missing),
    )


def donated(model: Model, run: Run, clean: CaptureSpec, acts: store.ActivationStore) -> int:
    """Steps that the donors of `run` are run for, as what they give is not stored; `clean` is what clean runs keep."""
    scope = intervening.scope_of(model, run)
    steps: dict[Donor, int] = {}
    for one in map(intervening.from_json, run.interventions):
        for need in one.needs(scope):
            record = donors.source(need.donor, model, run, acts)
            held = record if need.donor.run else record.model_copy(update={"capture": clean})
            if need.text or not holds(held, need, model):
                steps[need.donor] = max(steps.get(need.donor, 0), max(need.steps) + 1)
    return sum(steps.values())
