"""What every intervention must satisfy: inherit `InterventionContract`, and say what changes nothing and what does.

Everything runs through `interp.capture` into a store, on a tiny pipeline with two experts and guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

import interp
import store
from interp import intervening
from interp.interventions import Intervention, interventions
from tests import tiny

DOCS = Path(__file__).parents[3] / "docs" / "interventions.md"
STEPS = 4
SETTINGS: dict[str, Any] = {**tiny.SIZE, "steps": STEPS, "guidance": 3.0}
SPEC = interp.parse(
    [
        "latent/full",
        "x0_hat/full",
        "resid_post/full@branches=cond,uncond",
        "resid_post/energy",
        "attn_out/full@layers=1@branches=cond,uncond",
    ]
)
OTHER = tiny.sample(seed=7, prompt="stop")


class Made(NamedTuple):
    """One stored run."""

    id: str
    video: NDArray[np.uint8]
    latent: NDArray[np.float32]
    """`[step, frame, y, x, channel]`"""
    x0_hat: NDArray[np.float32]
    resid_post: NDArray[np.float32]
    """`[step, branch, layer, frame, y, x, channel]`"""
    attn_out: NDArray[np.float32]
    """The same, of layer 1."""

    def same(self, other: Made) -> bool:
        """Whether every stored bit is the same."""
        return all(np.array_equal(ours, theirs) for ours, theirs in zip(self[1:], other[1:], strict=True))


class Bench:
    """A model, a store, and runs of one sample in it."""

    def __init__(self, folder: Path, *, pipeline: Any = None) -> None:
        self.model = interp.load(pipeline if pipeline is not None else tiny.pipeline(experts=2))
        self.acts = store.open(folder, mode="a")
        self.other = self.acts.put_sample(OTHER)

    def run(
        self,
        *changes: Intervention,
        seed: int = 0,
        sample: store.Sample | None = None,
        spec: store.CaptureSpec = SPEC,
        **asked: Any,
    ) -> Made:
        """Capture one run, and load it."""
        done = interp.capture(
            self.model,
            [sample or tiny.sample()],
            spec,
            into=self.acts,
            seeds=[seed],
            settings=self.model.settings(**{**SETTINGS, **asked}),
            interventions=changes,
        )
        return self.load(done.run_ids[0])

    def load(self, id: str) -> Made:
        """A stored run."""
        read = partial(self.acts.load, runs=[id], lazy=False)
        names = [("output", "pixels"), *((site, "full") for site in ("latent", "x0_hat", "resid_post", "attn_out"))]
        return Made(id, *(read(*name).to_numpy()[0] for name in names))

    def refuses(self, change: Intervention, **asked: Any) -> str:
        """What is said against an intervention; nothing may have run."""
        before = self.acts.run_ids()
        with pytest.raises((interp.InterpError, store.StoreError)) as error:
            self.run(change, **asked)
        assert self.acts.run_ids() == before
        assert self.acts.incomplete() == []
        assert "\n" not in str(error.value)
        return str(error.value)


class InterventionContract:
    """Inherited by the test class of each intervention."""

    kind: ClassVar[str]
    nothing: ClassVar[Sequence[dict[str, Any]]]
    """Fields of interventions that change nothing, for the run of seed 0."""
    something: ClassVar[Sequence[dict[str, Any]]]
    """Fields of interventions that change the video."""
    refused: ClassVar[Sequence[tuple[dict[str, Any], str]]]
    """Fields that the run has no place for, and a part of the sentence that says so."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, tmp_path_factory: pytest.TempPathFactory) -> Bench:
        return Bench(tmp_path_factory.mktemp(cls.kind) / "acts")

    @pytest.fixture(scope="class")
    @classmethod
    def clean(cls, bench: Bench) -> Made:
        return bench.run()

    def make(self, **fields: Any) -> Intervention:
        return interventions[self.kind].model_validate(fields)

    def test_is_registered_and_documented(self) -> None:
        assert interventions[self.kind].kind == self.kind
        assert f"`{self.kind}`" in DOCS.read_text()

    def test_is_the_same_after_its_record(self) -> None:
        for fields in (*self.nothing, *self.something):
            one = self.make(**fields)
            assert intervening.from_json(one.to_json()) == one

    def test_a_wrong_field_is_named_with_those_that_there_are(self) -> None:
        with pytest.raises(interp.BadIntervention, match=f"{self.kind}: .*its fields are") as error:
            intervening.from_json({"kind": self.kind, **self.something[0], "stepps": [1]})
        assert "\n" not in str(error.value)
        with pytest.raises(ValidationError):
            self.make(**self.something[0], stepps=[1])

    def test_what_changes_nothing_leaves_every_bit(self, bench: Bench, clean: Made) -> None:
        for fields in self.nothing:
            made = bench.run(self.make(**fields))
            assert made.id != clean.id
            assert made.same(clean), fields

    def test_what_changes_something_is_seen_in_the_end_and_names_its_clean_run(self, bench: Bench, clean: Made) -> None:
        for fields in self.something:
            made = bench.run(self.make(**fields))
            assert not np.array_equal(made.x0_hat[-1], clean.x0_hat[-1]), fields
            record = bench.acts.run(made.id).run
            assert record.parent_id == clean.id
            assert record.interventions == (self.make(**fields).to_json(),)

    def test_a_run_from_the_start_is_the_same_bit_for_bit(self, bench: Bench, clean: Made, tmp_path: Path) -> None:
        """What was made above has begun where it first differs; a store without the clean run cannot."""
        alone = Bench(tmp_path / "acts", pipeline=bench.model.pipeline)
        for fields in self.something:
            if self.make(**fields).model_dump().get("donor", {}).get("run") is None:
                assert alone.run(self.make(**fields)).same(bench.run(self.make(**fields))), fields

    def test_what_has_no_place_is_refused_before_anything_runs(self, bench: Bench, clean: Made) -> None:
        for fields, says in self.refused:
            assert says in bench.refuses(self.make(**fields)), fields

    def test_twice_is_made_once(self, bench: Bench, clean: Made) -> None:
        one = self.make(**self.something[0])
        ids = {bench.run(one).id, bench.run(one).id}
        assert len(ids) == 1
