"""What probes are to tell: named truths of samples, their folds, and labels drawn by lot for control.

A name is a key of a sample's `labels`; a number after a dot is a place in a list: `answers.0`, `positions.1.0`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from analyses._probe_fit import Design, Task
from analyses.errors import UnknownProbeLabel
from store import ActivationStore

CONTROLS: Final = 3
"""Draws of random labels for each label."""
MAX_CLASSES: Final = 10
"""Whole numbers with more different values than this are numbers, not classes."""
MIN_INPUTS: Final = 8
"""With fewer classes of input than this, each sample is a class of its own: else one draw would be all but constant."""
_TRIES: Final = 20  # draws of which the one is taken whose shares are nearest to the label's
_COLUMNS: Final = ("family", "difficulty", "split", "prompt")
_Value = str | float


class Label(NamedTuple):
    """One named truth of every sample."""

    name: str
    values: NDArray[Any]
    """Of each sample: float64, or index into `classes`."""
    classes: tuple[str, ...]
    """In order; empty for a number."""

    @property
    def chance(self) -> float:
        """Share of the most frequent class: what always telling it would score; 0 for a number, the R² of its mean."""
        return float(np.bincount(self.values).max() / len(self.values)) if self.classes else 0.0


class Samples(NamedTuple):
    """The samples of a selection and what is known of them."""

    ids: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    """`family`, `difficulty`, `split` and `prompt` of each."""
    truths: tuple[Mapping[str, _Value], ...]
    """Labels of each by name."""

    def kept(self, which: Sequence[bool]) -> Samples:
        """Some of them."""
        places = np.flatnonzero(np.asarray(which))
        return Samples(
            ids=tuple(self.ids[at] for at in places),
            columns={name: tuple(column[at] for at in places) for name, column in self.columns.items()},
            truths=tuple(self.truths[at] for at in places),
        )

    def groups(self, name: str) -> list[str]:
        """What each sample is of: its id for `sample`, else a column or a label.

        Raises:
            UnknownProbeLabel: there is neither.
        """
        if name == "sample":
            return list(self.ids)
        if name in self.columns:
            return list(self.columns[name])
        if all(name in truth for truth in self.truths):
            return [str(truth[name]) for truth in self.truths]
        raise UnknownProbeLabel(
            f"Samples are not told apart by {name!r}: use sample, {', '.join(_COLUMNS)}, or a label."
        )


def read_samples(acts: ActivationStore, ids: Sequence[str]) -> Samples:
    """Records of samples, in the order of `ids`."""
    query = f"SELECT sample_id, labels, {', '.join(_COLUMNS)} FROM samples WHERE list_contains(?, sample_id)"
    rows = {row[0]: row for row in acts.sql(query, [list(ids)]).fetchall()}
    return Samples(
        ids=tuple(ids),
        columns={name: tuple(str(rows[id][2 + at]) for id in ids) for at, name in enumerate(_COLUMNS)},
        truths=tuple(_flat(json.loads(rows[id][1])) for id in ids),
    )


def choose(samples: Samples, names: Sequence[str] | None, *, numbers: Sequence[str], folds: int) -> list[Label]:
    """The labels that probes can tell.

    Args:
        samples: The samples.
        names: Names; None takes all labels that are no lists, that every sample has and that can be told.
        numbers: Names of labels that are numbers though they look like classes.
        folds: Each class needs as many samples.

    Raises:
        UnknownProbeLabel: a named label cannot be told, or none is left; the message says why.
    """
    known = sorted({name for truth in samples.truths for name in truth})
    wanted = [name for name in known if "." not in name] if names is None else list(dict.fromkeys(names))
    found, refused = list[Label](), list[str]()
    for name in wanted:
        values = [truth.get(name) for truth in samples.truths]
        label = _label(name, values, number=name in numbers)
        why = unfit(label, folds) if label else f"{values.count(None)} of {len(values)} samples have no {name}"
        if label is None or why:
            refused.append(why)
        else:
            found.append(label)
    if (names is not None and refused) or not found:
        why = "; ".join(refused) or "no sample has any"
        raise UnknownProbeLabel(
            f"Not every label can be probed: {why}. There are {', '.join(known) or 'none'}; name others with labels=, "
            "or choose other runs with where=."
        )
    return found


def split(samples: Samples, labels: Sequence[Label], *, group: str, folds: int) -> NDArray[np.intp]:
    """The fold of each sample; samples of one group are in one fold, classes of the first label spread evenly.

    Raises:
        UnknownProbeLabel: there are fewer groups than folds.
    """
    groups = samples.groups(group)
    if len(set(groups)) < folds:
        raise UnknownProbeLabel(
            f"{folds} folds need as many groups by {group}, and there are {len(set(groups))}; use fewer "
            "folds or more runs."
        )
    classes = [label for label in labels if label.classes]
    kind = StratifiedGroupKFold if classes else GroupKFold
    parts = kind(folds, shuffle=True, random_state=0).split(
        np.zeros(len(groups)), classes[0].values if classes else None, groups
    )
    fold = np.empty(len(groups), np.intp)
    for number, (_, test) in enumerate(parts):
        fold[test] = number
    return fold


def controls(samples: Samples, label: Label, by: str) -> list[Label]:
    """The label with its values drawn by lot for each class of input, a few times (Hewitt and Liang 2019).

    Args:
        samples: The samples.
        label: What is probed: draws are from its values.
        by: What a class of input is, as in `Samples.groups`; see `MIN_INPUTS`.
    """
    inputs = np.unique(input_classes(samples, by), return_inverse=True)[1]
    made: list[Label] = []
    for draw in range(CONTROLS):
        rng = np.random.default_rng([draw, *label.name.encode()])
        tries = [rng.choice(label.values, inputs.max() + 1)[inputs] for _ in range(_TRIES)]
        made.append(label._replace(name=f"{label.name}#{draw}", values=min(tries, key=lambda one: _apart(one, label))))
    return made


def input_classes(samples: Samples, by: str) -> list[str]:
    """The class of input of each sample."""
    inputs = samples.groups(by)
    return inputs if len(set(inputs)) >= MIN_INPUTS else list(samples.ids)


def design(labels: Sequence[Label], rows: NDArray[np.intp], edges: Sequence[int]) -> Design:
    """Targets and tasks.

    Args:
        labels: What is told, a task each.
        rows: The sample of each row, rows sorted by fold.
        edges: First row of each fold, and the number of rows.
    """
    columns: list[NDArray[Any]] = []
    tasks: list[Task] = []
    for label in labels:
        own = np.eye(len(label.classes))[label.values] if label.classes else _standard(label.values)[:, None]
        tasks.append(Task(label.name, sum(one.shape[1] for one in columns), own.shape[1], bool(label.classes)))
        columns.append(own)
    return Design(np.concatenate(columns, axis=1)[rows].astype(np.float32), tuple(tasks), tuple(edges))


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean()) / values.std()


def _flat(value: Any, name: str = "") -> dict[str, _Value]:
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {} if value is None else {name: str(value) if isinstance(value, (bool, str)) else value}
    return {key: one for part, sub in items for key, one in _flat(sub, f"{name}.{part}" if name else str(part)).items()}


def _label(name: str, values: Sequence[_Value | None], *, number: bool) -> Label | None:
    there = [value for value in values if value is not None]
    if len(there) < len(values) or not there:
        return None
    if not any(isinstance(value, str) for value in there):
        array = np.array(there, np.float64)
        if number or (array % 1).any() or len(np.unique(array)) > MAX_CLASSES:
            return Label(name, array, ())
    classes, places = np.unique(np.array([str(value) for value in there]), return_inverse=True)
    return Label(name, places, tuple(str(one) for one in classes))


def unfit(label: Label, folds: int) -> str:
    """Why a label cannot be told, or nothing."""
    if len(np.unique(label.values)) < 2:
        return f"{label.name} is the same in all samples"
    if not label.classes:
        return "" if np.isfinite(label.values).all() else f"{label.name} is not finite"
    counts = np.bincount(label.values, minlength=len(label.classes))
    rare, count = int(counts.argmin()), int(counts.min())
    return (
        "" if count >= folds else f"{label.name} is {label.classes[rare]} in {count} samples, fewer than {folds} folds"
    )


def _apart(values: NDArray[Any], label: Label) -> float:
    """How far a draw's shares (its mean and spread, of numbers) are from the label's."""
    if label.classes:
        shares = [np.bincount(one, minlength=len(label.classes)) / len(one) for one in (values, label.values)]
        return float(np.abs(shares[0] - shares[1]).sum())
    spread = label.values.std()
    return float(abs(values.mean() - label.values.mean()) / spread + abs(values.std() / spread - 1))
