"""From a run's record to the edits of its interventions: checked, planned, and given what other runs donate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from interp.editing import Edits
from interp.errors import BadIntervention
from interp.interventions import Intervention, LatentEdit, Scope, interventions
from interp.interventions._base import XsIntervention
from store.records import Json, Run

if TYPE_CHECKING:
    import store
    from interp.model import Model


def from_json(value: Json) -> Intervention:
    """An intervention from its record.

    Raises:
        BadIntervention: with the field that is wrong.
        UnknownName: if there is no such kind.
    """
    fields = dict(value)
    name = fields.pop("kind", None)
    if not isinstance(name, str):
        raise BadIntervention(f"an intervention needs its kind: {', '.join(interventions.names())}")
    kind = interventions[name]
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise BadIntervention(f"{name}: {_first(error, kind)}") from error


def _first(error: ValidationError, kind: type[Intervention]) -> str:
    """What is wrong with the first wrong field, and which fields there are."""
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"])
    known = ", ".join(name for name in kind.model_fields if name != "reset")
    return f"{where + ': ' if where else ''}{found['msg']}; its fields are {known}"


def scope_of(model: Model, run: Run) -> Scope:
    """What interventions know of a run before it begins."""
    return Scope(model.adapter, model.geometry(run.settings), run.settings, run.model, run.sample_id, run.seed)


def planned(model: Model, wanted: Sequence[Intervention]) -> tuple[Json, ...]:
    """Interventions as the records of this model's runs keep them."""
    return tuple(one.planned(model.pipeline.scheduler).to_json() for one in wanted)


def check(model: Model, run: Run, acts: store.ActivationStore) -> None:
    """Refuse interventions that `run` has no place for.

    Raises:
        BadIntervention: with what there is, before anything runs.
        StoreError: if a donor is not stored.
    """
    from interp import donors

    scope = scope_of(model, run)
    for one in map(from_json, run.interventions):
        one.check(scope)
        for need in one.needs(scope):
            donors.source(need.donor, model, run, acts)


def begins(model: Model, run: Run) -> int:
    """First step that a run's interventions change or need; its last step where there are none."""
    scope = scope_of(model, run)
    return min((from_json(one).begins(scope) for one in run.interventions), default=run.settings.steps - 1)


def edits_of(model: Model, run: Run, acts: store.ActivationStore) -> Edits | None:
    """The edits of a run, its donors' values read or made; None where it has no interventions."""
    from interp import donors

    if not run.interventions:
        return None
    scope = scope_of(model, run)
    wanted = [from_json(one) for one in run.interventions]
    for one in wanted:
        one.check(scope)
    given = donors.provide([need for one in wanted for need in one.needs(scope)], model, run, acts)
    found: list[Any] = []
    resets: set[int] = set()
    for one in wanted:
        edits = one.edits(scope, given)
        found += edits
        if isinstance(one, XsIntervention) and one.reset:
            resets |= {step for edit in edits if isinstance(edit, LatentEdit) for step in edit.steps}
    return Edits(found, resets=frozenset(resets))
