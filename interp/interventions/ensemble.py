"""Average several seeds while one of them goes on (E8)."""

from __future__ import annotations

from typing import Literal

import torch

from interp.errors import BadIntervention
from interp.interventions._base import LATENT, Edit, Given, Need, Scope, Where
from interp.interventions._donor import Donor
from interp.interventions._registry import interventions
from interp.interventions._window import Window

Tensor = torch.Tensor


class Ensemble(Window):
    """Values of a window become the average over the same question's clean runs with other seeds and this run.

    The others are clean runs of their own; this run brings what it has at that place, behind the layers that were
    averaged before. Behind the window it goes on alone. On the site `latent` the seeds' x_s are averaged.

    Source: SCIENCE.md, E8: three seeds, layers 20 to 29 of 40, the first step.
    """

    kind = "ensemble"

    seeds: tuple[int, ...]
    """All members; the run's own seed must be one of them."""
    weights: Literal["uniform", "agreement", "median"] = "uniform"
    """`uniform`: the mean. `agreement`: each token's mean, weighted by how much a member agrees with the others there:
    its mean cosine similarity with them, negative ones counted as 0 (all equal, where none agrees). `median`: the
    median of each channel."""

    def check(self, scope: Scope) -> None:
        """See `Intervention.check`."""
        super().check(scope)
        if scope.seed not in self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise BadIntervention(
                f"{self.kind}: the run's own seed {scope.seed} must be one of the members, and each once: "
                f"{', '.join(map(str, self.seeds)) or 'none'}"
            )

    def needs(self, scope: Scope) -> tuple[Need, ...]:
        """See `Intervention.needs`."""
        steps = scope.steps(self.steps, kind=self.kind)
        donors = [Donor(seed=seed) for seed in self.seeds if seed != scope.seed]
        if self.site == LATENT:
            return tuple(Need(donor, LATENT, steps) for donor in donors)
        layers = scope.layers(self.layers, self.site, kind=self.kind)
        branches = scope.running(self.branches, kind=self.kind)
        text = isinstance(self.region, str)
        return tuple(Need(donor, self.site, steps, layers, branches, text) for donor in donors)

    def edits(self, scope: Scope, given: Given) -> tuple[Edit, ...]:
        """See `Intervention.edits`."""
        needs = self.needs(scope)

        def averaged(value: Tensor, where: Where) -> Tensor:
            others = [given(need, where)[-len(value) :].to(value) for need in needs]
            return average(torch.stack([value, *others]).float(), self.weights).to(value.dtype)

        def text(value: Tensor, where: Where) -> Tensor:
            others = [given.text(need, where).to(value) for need in needs]
            return average(torch.stack([value, *others]).float(), self.weights).to(value.dtype)

        return (self.within(scope, averaged, text),)


def average(members: Tensor, weights: str) -> Tensor:
    """Average `[member, …, c]` over members, see `Ensemble.weights`; float32.

    Example:
        >>> members = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]], [[-1.0, 0.0]]])
        >>> average(members, "agreement")  # the last agrees with nobody
        tensor([[1., 0.]])
        >>> average(members, "uniform")
        tensor([[0.5000, 0.0000]])
    """
    count = len(members)
    if weights == "median":
        ordered = members.sort(0).values
        return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    if weights == "uniform" or count == 1:
        return members.sum(0) / count
    unit = torch.nn.functional.normalize(members, dim=-1)
    agreement = ((unit * unit.sum(0)).sum(-1) - 1) / (count - 1)
    share = agreement.clamp(min=0)
    total = share.sum(0, keepdim=True)
    share = torch.where(total > 0, share / total.clamp(min=torch.finfo(total.dtype).tiny), 1 / count)
    return (share[..., None] * members).sum(0)


interventions.add(Ensemble.kind, Ensemble)
