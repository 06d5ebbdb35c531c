"""Which other run values are taken from."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from store.records import Record


class Donor(Record):
    """A run whose values are put into another: a stored one by its id, or the clean run of a sample and a seed.

    What is left out is that of the run that receives: `Donor(seed=5)` is the same question with other noise,
    `Donor(sample=…)` another question with the same noise, `Donor()` the run's own clean self.
    """

    run: str | None = None
    """Id of a stored run, with whatever interventions it had."""
    sample: str | None = None
    """Id of a stored sample."""
    seed: int | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.run is not None and (self.sample is not None or self.seed is not None):
            raise ValueError("a donor is either a run, or a sample and a seed")
        return self
