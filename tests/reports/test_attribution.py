"""The section of `attribution`: every arm as foretold and as it was, with rho, and grids of both."""

from __future__ import annotations

import re

import pytest

import reports
from reports import _section
from tests.analyses.experiments import test_attribution as planted


@pytest.fixture(scope="module")
def foretold(tmp_path_factory):
    """Attributions of the residual stream are right; the other site recovers nothing, and nothing is foretold of it."""
    folder = tmp_path_factory.mktemp("attribution")
    patched = planted.PLANTED.plant(folder / "patched", planted.FEW, planted.middle).path
    acts = planted.plant(patched, folder / "acts")
    return acts, planted.FEW.compare(acts)


def drawn(acts, result):
    draw = _section.drawer("attribution")
    assert draw is not None
    return draw(result, _section.Context(acts, runs=None, media_bytes=0), "s0")


def test_arms_rho_and_grids_tell_their_numbers(foretold):
    scatter, rhos, *grids = drawn(*foretold).figures
    assert scatter.quantities == ("attributed", "recovered")
    assert "Spearman's rho 1.00 (1.00 to 1.00)" in scatter.caption
    assert "18 arms" in scatter.caption
    assert "n = 8" in scatter.caption
    assert "of resid_post in layers 2 to 3 at steps 0 to 1, which recovers 1.00" in scatter.caption
    assert "all: 1.00 (1.00 to 1.00), size -0.21" in rhos.alt
    assert "mlp_out: none, size none" in rhos.alt
    for group in ("all", "resid_post", "mlp_out", "steps 0-1", "whole", "target", "background"):
        assert f">{group}</text>" in rhos.svg
    assert [grid.quantities for grid in grids] == [("attributed",), ("recovered",)] * 2
    numbers = [re.findall(r">(-?\d\.\d\d)</text>", grid.svg) for grid in grids]
    assert [one.count("1.00") for one in numbers] == [
        0,
        0,
        2,
        2,
    ]  # mlp_out; resid_post, whole and target of the middle block


def test_the_page_has_the_verdict_before_the_figures(foretold):
    acts, result = foretold
    page = reports.render(acts, results=[result])
    heading = page.index("Which patches the gradient foretells")
    assert heading < page.index(result.finding.split(";")[0][:60]) < page.index("Foretold and real, arm by arm")
    assert "rho.csv" in page
    assert "attributed.csv" in page
