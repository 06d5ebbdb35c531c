"""Values of other runs: read from the store where it has them, or captured by running the donor once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

import store
from interp import intervening
from interp.donors_kept import Key, Reader, Stored, holds
from interp.errors import BadIntervention
from interp.interventions import Donor, Need
from interp.interventions._base import LATENT, LayerEdit, Where
from interp.recorder import Label
from interp.sites import LayerSite, StepSite, StepValues, sites
from store import Run

if TYPE_CHECKING:
    from interp.model import Model

Tensor = torch.Tensor


def source(donor: Donor, model: Model, run: Run, acts: store.ActivationStore) -> Run:
    """The record of the run that donates to `run`.

    Raises:
        BadIntervention: if it was made by another model, or with settings of another shape.
        RunNotFound, SampleNotFound: if it is not in the store.
    """
    if donor.run is None:
        sample = donor.sample or run.sample_id
        if sample != run.sample_id and not acts.has_sample(sample):
            raise store.SampleNotFound(
                f"the donor's sample {sample} is not in {acts.path}; put it there first (put_sample)"
            )
        seed = run.seed if donor.seed is None else donor.seed
        return Run(model=run.model, sample_id=sample, seed=seed, settings=run.settings, capture=run.capture)
    found = acts.run(donor.run).run
    if (found.model.weight_hash, found.model.adapters) != (run.model.weight_hash, run.model.adapters):
        raise BadIntervention(
            f"donor {donor.run} was made by {found.model.id} with weights {found.model.weight_hash[:12]}, this run "
            f"is by {run.model.id} with {run.model.weight_hash[:12]}; take a donor of the same model"
        )
    for name in ("steps", "frames", "height", "width", "scheduler"):
        theirs, ours = getattr(found.settings, name), getattr(run.settings, name)
        if theirs != ours:
            raise BadIntervention(
                f"donor {donor.run} has {name} {theirs}, this run has {ours}; take a donor of the same shape"
            )
    if found.settings.scheduler_config != run.settings.scheduler_config:
        raise BadIntervention(
            f"donor {donor.run} has other noise levels: its {run.settings.scheduler} is set otherwise"
        )
    return found


def check(need: Need, model: Model, run: Run, acts: store.ActivationStore) -> None:
    """Refuse a donor that cannot give what is needed.

    Raises:
        BadIntervention, StoreError: see `source`; or a branch is needed that the donor does not run.
    """
    record = source(need.donor, model, run, acts)
    there = intervening.scope_of(model, record).branches
    if missing := [branch for branch in need.branches if branch not in there]:
        raise BadIntervention(
            f"donor {need.donor.run} was sampled without guidance and has no {missing[0]}; name the branches to take, "
            f"of {', '.join(there)}"
        )


class Donated:
    """Hands out donated values (`interp.interventions.Given`)."""

    def __init__(self, values: dict[Key, Callable[[], Tensor]]) -> None:
        self._values = values

    def __call__(self, need: Need, where: Where) -> Tensor:
        """See `Given`."""
        return self._values[Key(need.donor, need.site, where.step, where.branch, where.layer)]()

    def text(self, need: Need, where: Where) -> Tensor:
        """See `Given`."""
        return self._values[Key(need.donor, need.site, where.step, where.branch, where.layer, text=True)]()


def provide(wanted: Sequence[tuple[Run, Iterable[Need]]], model: Model, acts: store.ActivationStore) -> list[Donated]:
    """Everything that the interventions of some runs need of other runs, for each of them.

    What a stored run holds in full and exactly is read when it is used. Each donor of which anything is missing is run
    once, up to the last step that is needed; donors of several runs go together where they can.

    Raises:
        BadIntervention, StoreError: see `source`.
    """
    values: list[dict[Key, Callable[[], Tensor]]] = [{} for _ in wanted]
    asked: list[_Missing] = []
    for number, (run, needs) in enumerate(wanted):
        by_donor: dict[Donor, list[Need]] = {}
        for need in needs:
            by_donor.setdefault(need.donor, []).append(need)
        for donor, some in by_donor.items():
            asked.append(_Missing(number, tuple(some), source(donor, model, run, acts), run))
    stored = Stored(acts, [one.record for one in asked if one.donor.run is None])
    missing: list[_Missing] = []
    reader = Reader(acts)
    for one in asked:
        holders = [(need, _holder(need, one, model, stored)) for need in one.needs]
        for need, holder in holders:
            if holder is not None:
                values[one.number] |= reader.of(need, holder)
        if lacking := tuple(need for need, holder in holders if holder is None):
            missing.append(one._replace(needs=lacking))
    for together in _batches(missing, model, size=len(wanted)):
        for one, made in zip(together, _captured(together, model, acts), strict=True):
            values[one.number] |= {key: _holding(value) for key, value in made.items()}
    return [Donated(of_run) for of_run in values]


class _Missing(NamedTuple):
    """What is needed of one donor by one run."""

    number: int
    """Of the run that it is for."""
    needs: tuple[Need, ...]
    record: Run
    """The donor's."""
    receiver: Run

    @property
    def donor(self) -> Donor:
        """Who it is, as the run that receives says it."""
        return self.needs[0].donor

    @property
    def run(self) -> tuple[str, Donor]:
        """What is the same where one run of a donor serves several receivers."""
        return self.record.id, self.donor


def _batches(missing: Sequence[_Missing], model: Model, *, size: int) -> list[list[_Missing]]:
    """Donors that can be run together: clean ones of which the same is needed, under the same settings.

    They are no more at once than the runs that they are for, so that the donors of a single run have the bits of runs
    that are made alone.
    """
    found: dict[object, list[_Missing]] = {}
    for number, one in enumerate(missing):
        apart = number if one.record.interventions or model.adapter.alone else None
        what = tuple(need[1:] for need in one.needs)
        found.setdefault((apart, what, one.record.settings.canonical()), []).append(one)
    parts: list[list[_Missing]] = []
    for members in found.values():
        by_run: dict[tuple[str, Donor], list[_Missing]] = {}
        for one in members:
            by_run.setdefault(one.run, []).append(one)
        runs = list(by_run.values())
        parts += [[one for run in runs[at : at + size] for one in run] for at in range(0, len(runs), size)]
    return parts


def _holder(need: Need, asked: _Missing, model: Model, stored: Stored) -> str | None:
    """A stored run that holds what is needed of the donor."""
    if need.text:
        return None
    donor = asked.donor.run
    ids = stored.of(asked.record, asked.receiver) if donor is None else [donor]
    return next((id for id in ids if holds(stored.record(id), need, model)), None)


def _holding(value: Tensor) -> Callable[[], Tensor]:
    return lambda: value


class _Enough(Exception):
    """All that is needed has been seen."""


class _Together:
    """A listener of `interp.trace` that keeps what is needed of each donor of a batch."""

    def __init__(self, each: Sequence[_Keep]) -> None:
        self.each = each

    def wants(self, site: str, label: Label) -> bool:
        return self.each[0].wants(site, label)

    def layer(self, site: str, label: Label, value_bfyxc: Tensor) -> None:
        for keep, value in zip(self.each, value_bfyxc, strict=True):
            keep.layer(site, label, value)

    def step(self, values: StepValues) -> None:
        for number, keep in enumerate(self.each):
            keep.step(values.of(number))
        if values.info.step == self.each[0].last:
            raise _Enough


class _Keep:
    """Keeps what is needed of one donor's run, on the host."""

    def __init__(self, needs: Sequence[Need]) -> None:
        self._needs = needs
        self.last = max(step for need in needs for step in need.steps)
        self.values: dict[Key, Tensor] = {}

    def wants(self, site: str, label: Label) -> bool:
        return any(_asks(need, site, label) for need in self._needs)

    def layer(self, site: str, label: Label, value_fyxc: Tensor) -> None:
        self._keep(site, label, value_fyxc, text=False)

    def text(self, site: str, label: Label, value_nc: Tensor) -> None:
        self._keep(site, label, value_nc, text=True)

    def _keep(self, site: str, label: Label, value: Tensor, *, text: bool) -> None:
        kept = value.detach().to("cpu", copy=True)
        for need in self._needs:
            if _asks(need, site, label) and (need.text or not text):
                self.values[Key(need.donor, site, label.step, label.branch, label.layer, text)] = kept

    def step(self, values: StepValues) -> None:
        site = sites[LATENT]
        assert isinstance(site, StepSite)
        for need in self._needs:
            if need.site == LATENT and values.info.step in need.steps:
                kept = site.value(values, None).to("cpu", copy=True)
                self.values[Key(need.donor, LATENT, values.info.step, None, None)] = kept


def _asks(need: Need, site: str, label: Label) -> bool:
    return (
        need.site == site and label.step in need.steps and label.layer in need.layers and label.branch in need.branches
    )


def _captured(asked: Sequence[_Missing], model: Model, acts: store.ActivationStore) -> list[dict[Key, Tensor]]:
    """Run donors as far as they are needed, in one call of the pipeline; what each receiver needs of its own."""
    from interp.editing import Edits

    different = list({one.run: one for one in asked}.values())
    records = [one.record for one in different]
    keeps = _Together([_Keep(one.needs) for one in different])
    own = intervening.edits_of(model, records, acts) or [Edits([]) for _ in records]
    editors = [
        Edits([*edits.edits, *(_watching(need, keep) for need in one.needs if need.text)], resets=edits.reset_steps)
        for one, edits, keep in zip(different, own, keeps.each, strict=True)
    ]
    needs = different[0].needs
    wanted: dict[str, set[int]] = {}
    for need in needs:
        if need.site != LATENT:
            wanted.setdefault(need.site, set()).update(need.layers)
    shown = [(site, sorted(layers)) for name, layers in wanted.items() if isinstance(site := sites[name], LayerSite)]
    settings = records[0].settings
    try:
        model.traced.run(
            sites=shown,
            settings=settings,
            geometry=model.geometry(settings),
            listener=keeps,
            editors=editors,
            runs=len(records),
            **model.batch_inputs(
                [(acts.sample(record.sample_id), record.seed) for record in records], settings=settings
            ),
        )
    except _Enough:
        made = {one.run: keep.values for one, keep in zip(different, keeps.each, strict=True)}
        return [made[one.run] for one in asked]
    raise BadIntervention(f"the donor's run ended before step {max(s for need in needs for s in need.steps)}")


def _watching(need: Need, keep: _Keep) -> LayerEdit:
    """An edit that changes nothing: text tokens are shown to editors alone."""

    def text(value: Tensor, where: Where) -> Tensor:
        assert where.branch is not None
        assert where.layer is not None
        keep.text(need.site, Label(where.step, where.branch, where.expert or "", where.layer), value)
        return value

    return LayerEdit(
        need.site, frozenset(need.steps), frozenset(need.layers), frozenset(need.branches), change=None, text=text
    )
