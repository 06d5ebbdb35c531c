"""From words or records to the edits of a run's interventions: read, checked, planned, given what other runs donate."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from interp.editing import Edits
from interp.errors import BadIntervention
from interp.interventions import Intervention, LatentEdit, Scope, interventions
from interp.interventions._base import Given, XsIntervention
from interp.spec import numbers
from store.records import Json, Run

if TYPE_CHECKING:
    import store
    from interp.model import Model


SYNTAX = "KIND[@FIELD=VALUE][@FIELD], e.g. noise_at_step@steps=8@matched or patch@donor.seed=5@layers=4-6@steps=0"
"""How an intervention is written on a command line: numbers as 0,4-7, other values as JSON, no value is true."""


def parse(texts: Iterable[str]) -> tuple[Intervention, ...]:
    """Interventions as in `SYNTAX`, or from a TOML file where a text is the name of one, in their order.

    Raises:
        BadIntervention: quoting the item and the syntax.
        UnknownName: if there is no such kind.

    Example:
        >>> parse(["noise_at_step@steps=2,4-5@dose=0.5"])[0].to_json()
        {'kind': 'noise_at_step', 'dose': 0.5, 'steps': [2, 4, 5]}
    """
    found: list[Intervention] = []
    for text in texts:
        found += read(Path(text)) if text.endswith(".toml") else [from_json(_item(text))]
    return tuple(found)


def read(path: Path) -> tuple[Intervention, ...]:
    """The interventions of a TOML file with `[[intervention]]` tables: `kind`, and the fields of that kind.

    Raises:
        BadIntervention: if the file is missing, is no TOML, or a table is wrong.
    """
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadIntervention(f"cannot read the interventions {path}: {error}") from error
    items = table.get("intervention")
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise BadIntervention(
            f"{path} has no [[intervention]] table; each needs a kind: {', '.join(interventions.names())}"
        )
    return tuple(map(from_json, items))


def _item(text: str) -> Json:
    """The record that one item of a command line means."""
    name, *options = text.split("@")
    record: dict[str, Any] = {"kind": name}
    for option in options:
        key, given, value = option.partition("=")
        *outer, last = key.split(".")
        place = record
        for part in outer:
            place = place.setdefault(part, {})
        if not last or not isinstance(place, dict) or (given and not value):
            raise BadIntervention(f"cannot read {option!r} in {text!r}; write {SYNTAX}")
        kind = (
            str(interventions[name].model_fields[last].annotation) if last in interventions[name].model_fields else ""
        )
        place[last] = _value(value, kind) if given else True
    return record


def _value(text: str, kind: str) -> Any:
    """A field's value: `kind` is the text of its type."""
    if "tuple[int" in kind and text[:1] != "[":
        return list(numbers(text))
    if "tuple[" in kind and text[:1] != "[":
        return text.split(",")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


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
            donors.check(need, model, run, acts)


def begins(model: Model, run: Run) -> int:
    """First step that a run's interventions change or need; its last step where there are none."""
    scope = scope_of(model, run)
    return min((from_json(one).begins(scope) for one in run.interventions), default=run.settings.steps - 1)


def edits_of(model: Model, runs: Sequence[Run], acts: store.ActivationStore) -> list[Edits]:
    """The edits of each run of a batch, their donors' values read or made; none where no run has interventions."""
    from interp import donors

    if not any(run.interventions for run in runs):
        return []
    scopes = [scope_of(model, run) for run in runs]
    wanted = [[from_json(one) for one in run.interventions] for run in runs]
    for scope, changes in zip(scopes, wanted, strict=True):
        for one in changes:
            one.check(scope)
    needs = [
        [need for one in changes for need in one.needs(scope)] for scope, changes in zip(scopes, wanted, strict=True)
    ]
    given = donors.provide(list(zip(runs, needs, strict=True)), model, acts)
    return [_edits(*one) for one in zip(wanted, scopes, given, strict=True)]


def _edits(wanted: Sequence[Intervention], scope: Scope, given: Given) -> Edits:
    found: list[Any] = []
    resets: set[int] = set()
    for one in wanted:
        edits = one.edits(scope, given)
        found += edits
        if isinstance(one, XsIntervention) and one.reset:
            resets |= {step for edit in edits if isinstance(edit, LatentEdit) for step in edit.steps}
    return Edits(found, resets=frozenset(resets))
