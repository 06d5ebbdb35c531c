"""What stored runs keep of donors: which run holds what is needed, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

import store
from interp.interventions import Donor, Need
from interp.planning import plan
from store import Run, dims

if TYPE_CHECKING:
    from interp.model import Model

Tensor = torch.Tensor


class Key(NamedTuple):
    """One donated value."""

    donor: Donor
    site: str
    step: int
    branch: str | None
    layer: int | None
    text: bool = False


def keys(need: Need) -> list[Key]:
    """Every value of a need: by step, and at a site with layers by branch and layer."""
    places: list[tuple[str | None, int | None]] = [(branch, layer) for branch in need.branches for layer in need.layers]
    return [Key(need.donor, need.site, step, *place) for step in need.steps for place in places or [(None, None)]]


class Stored:
    """Clean runs in the store that are the same generation as a donor, whatever they have captured.

    Args:
        acts: The store.
        donors: All that will be asked for.
    """

    def __init__(self, acts: store.ActivationStore, donors: Sequence[Run]) -> None:
        self.acts, self._donors = acts, donors
        self.record = cache(self._record)  # a manifest is a file

    def of(self, donor: Run, receiver: Run) -> Iterator[str]:
        """Ids; first of what was captured as the receiver's own clean run was, which takes no query."""
        likely = [donor.capture]
        if receiver.parent_id is not None and self.acts.has_run(receiver.parent_id):
            likely.append(self.record(receiver.parent_id).capture)
        first = [donor.model_copy(update={"capture": capture}).id for capture in likely]
        yield from filter(self.acts.has_run, first)
        yield from (id for id in self._others.get(donor.id, ()) if id not in first)

    def _record(self, id: str) -> Run:
        return self.acts.run(id).run

    @cached_property
    def _others(self) -> dict[str, list[str]]:
        """Ids by that of the donor's record: asked for once, as the index is read anew where others write."""
        query = (
            "SELECT run_id FROM runs WHERE list_contains(?, sample_id) AND weight_hash = ? AND parent_id IS NULL "
            "ORDER BY run_id"
        )
        model = self._donors[0].model.weight_hash
        rows = self.acts.sql(query, [sorted({donor.sample_id for donor in self._donors}), model]).fetchall()
        captures = {donor.capture.canonical(): donor.capture for donor in self._donors}
        found: dict[str, list[str]] = {}
        for (id,) in rows:
            run = self.record(str(id))
            for capture in captures.values():
                found.setdefault(run.model_copy(update={"capture": capture}).id, []).append(str(id))
        return found


def holds(run: Run, need: Need, model: Model) -> bool:
    """Whether a stored run has all that is needed, in full and exactly."""
    for array in plan(model.adapter, run.capture, run.settings).arrays:
        if (array.site.name, array.reduction.name, array.encoding) == (need.site, "full", "exact"):
            return (
                set(need.steps) <= set(array.steps)
                and set(need.layers) <= set(array.layers)
                and set(need.branches) <= set(array.branches)
            )
    return False


class Reader:
    """Reads what stored runs give to a batch: what is needed of a run at a step at once, and once for all receivers.

    Only the values of one step are held, as all receivers are at the same one.

    Args:
        acts: The store.
    """

    def __init__(self, acts: store.ActivationStore) -> None:
        self._acts = acts
        self._step: int | None = None
        self._held: dict[tuple[str, Need], Tensor] = {}

    def of(self, need: Need, holder: str) -> dict[Key, Callable[[], Tensor]]:
        """How each value of a need is had."""
        return {key: partial(self._read, need, holder, key) for key in keys(need)}

    def _read(self, need: Need, holder: str, key: Key) -> Tensor:
        if key.step != self._step:
            self._held, self._step = {}, key.step
        # Receivers name one donor in ways of their own, and need it at other steps.
        what = holder, Need(Donor(run=holder), need.site, (key.step,), need.layers, need.branches)
        if what not in self._held:
            places: dict[str, Any] = {"branch": list(need.branches), "layer": list(need.layers)} if need.layers else {}
            cells = self._acts.load(need.site, "full", runs=[holder], step=key.step, lazy=False, **places)
            order = [axis for axis in (dims.RUN, dims.BRANCH, dims.LAYER) if axis in cells.dims]
            self._held[what] = torch.from_numpy(cells.transpose(*order, ...).to_numpy()[0])
        found = self._held[what]
        if not need.layers:
            return found
        assert key.branch is not None
        assert key.layer is not None
        return found[need.branches.index(key.branch), need.layers.index(key.layer)]
