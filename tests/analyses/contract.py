"""What every analysis must satisfy: inherit `AnalysisContract` and name the analysis."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import analyses
import store
from tests.planted import Planted

DOCS = Path(__file__).parents[2] / "docs" / "analyses.md"


LEAST = {"folds": 3, "seed": 0} | dict.fromkeys(("heads", "permutations", "cells"), 1)
LEAST |= dict.fromkeys(("features", "active", "updates", "memory"), 1)
"""What whole numbers must be at least; a layer's number is looked for in the store."""


def impossible(option: str, annotation: str) -> Iterator[Any]:
    """Values that an option cannot have, as `--set` may give them."""
    if option in ("steps", "layers"):
        yield from (5, "0-3", [1.5], [0, 0])
    elif option in LEAST or option == "layer":
        yield from ("two", 1.5, True, *(range(-1, LEAST[option]) if option in LEAST else ()))
    elif option == "process":
        yield from ("half", -0.1, 1.1, float("nan"))
    elif annotation.startswith("bool"):
        yield from ("yes", 2)
    elif annotation.startswith("Sequence[str]"):
        yield from ("one", 5)
    elif annotation.startswith(("str", "Literal", "Direction", "Reads", "Between")):
        yield from (5, [5])


class AnalysisContract:
    """Inherited by the test class of each analysis."""

    name: str
    planted = Planted(noise=0.02)
    verdict = "descriptive"
    """Of the planted runs."""

    @pytest.fixture(scope="class")
    @classmethod
    def planted_once(cls, tmp_path_factory):
        return cls.planted.plant(tmp_path_factory.mktemp(cls.name) / "acts").path

    @pytest.fixture
    def acts(self, planted_once, tmp_path):
        """A store of the test's own, without results."""
        return store.open(shutil.copytree(planted_once, tmp_path / "acts"), mode="a")

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, planted_once, tmp_path_factory):
        """The result on all runs, for tests that only look at it."""
        copy = shutil.copytree(planted_once, tmp_path_factory.mktemp("result") / "acts")
        return analyses.run(cls.name, store.open(copy, mode="a"))

    def test_is_registered_public_and_documented(self):
        assert self.name in analyses.names()
        assert self.name in analyses.__all__
        assert f"`{self.name}`" in DOCS.read_text()

    def test_options_that_cannot_be_are_refused_in_one_line(self, planted_once):
        acts, tried = store.open(planted_once), 0
        for option, parameter in list(signature(getattr(analyses, self.name)).parameters.items())[1:]:
            values = list(impossible(option, parameter.annotation))
            assert values or option == "calibration", f"nothing is known of {option}: {parameter.annotation}"
            for value in values:
                with pytest.raises(analyses.BadOption, match=f"^{self.name} cannot take {option}=") as refused:
                    analyses.run(self.name, acts, **{option: value})
                assert "\n" not in str(refused.value)
                tried += 1
        assert tried

    def test_result_is_kept_and_found_again(self, acts, monkeypatch):
        first = analyses.run(self.name, acts)
        assert acts.result_ids(self.name) == [first.id]
        monkeypatch.setattr(type(acts), "save_result", None)  # a second computation could not be saved
        again = analyses.run(self.name, store.open(acts.path))
        assert again.record == first.record
        xr.testing.assert_identical(again.to_dataset().load(), first.to_dataset().load())
        assert analyses.load(acts, first.id).record == first.record

    def test_the_stored_numbers_are_the_computed_ones(self, acts, caplog):
        computed = analyses.run(self.name, store.open(acts.path))  # for reading only
        assert acts.result_ids() == []
        kept = analyses.run(self.name, acts)
        assert "not kept" in caplog.text
        xr.testing.assert_equal(computed.to_dataset(), kept.to_dataset())

    def test_new_runs_make_a_new_result(self, acts):
        first = analyses.run(self.name, acts)
        fewer = analyses.run(self.name, acts, where="seed = 0")
        assert fewer.id != first.id
        assert len(fewer.record.run_ids) * 2 == len(first.record.run_ids)
        assert acts.result_ids(self.name) == sorted([first.id, fewer.id])

    def test_finding_is_one_sentence_with_n(self, result):
        assert f"n = {self.planted.samples} samples" in result.finding
        assert result.finding.endswith(".")
        assert "nan" not in result.finding.lower()
        assert result.record.n == self.planted.samples
        assert result.verdict == self.verdict

    def test_quantities_carry_units_n_and_interval(self, result):
        data = result.to_dataset()
        with_interval = [name for name in data.data_vars if f"{name}_low" in data]
        assert with_interval
        for name in with_interval:
            assert data[name].attrs["n"] >= 1
            assert data[name].attrs["interval"]
            assert data[name].attrs["units"]
            ordered = (data[f"{name}_low"] <= data[name]) & (data[name] <= data[f"{name}_high"])
            assert bool((ordered | np.isnan(data[name])).all()), name

    def test_table_is_tidy(self, result):
        headline = result.to_dataset().attrs["headline"]
        table = result.to_dataframe()
        assert {headline, f"{headline}_low", f"{headline}_high"} <= set(table.columns)
        assert len(table) == result.to_dataset()[headline].size
        with pytest.raises(KeyError, match="there are"):
            result.to_dataframe("no such quantity")

    def test_card_is_escaped(self, result):
        hostile = analyses.Result(
            record=result.record.replaced(finding="<script>alert(1)</script>", summary={"<b>": "<img src=x>"}),
            data=result.data,
        )
        card = hostile._repr_html_()
        assert "<script>" not in card
        assert "<img" not in card
        assert "&lt;script&gt;alert(1)" in card

    def test_a_killed_analysis_starts_again(self, acts, monkeypatch):
        def killed(*_args, **_kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(type(acts), "save_result", killed)
            with pytest.raises(KeyboardInterrupt):
                analyses.run(self.name, acts)
        assert acts.result_ids() == []
        assert analyses.run(self.name, acts).id in acts.result_ids()

    def test_one_sample_has_no_interval_and_says_so(self, tmp_path):
        acts = dataclasses.replace(self.planted, samples=1, wrong=()).plant(tmp_path / "one")
        result = analyses.run(self.name, acts)
        assert "one sample, so no interval" in result.finding
        assert "nan" not in result.finding
