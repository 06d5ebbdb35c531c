"""What a page shows of an `exploration`: the curves, what they rest on, and how kinds are told."""

from __future__ import annotations

import re

import pytest

import analyses
import reports
from tests.planted import Planted
from tests.planted_kinds import PlantedKinds


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    return PlantedKinds(samples=12).plant(tmp_path_factory.mktemp("kinds") / "acts")


def test_curves_gallery_and_kinds_are_drawn(acts):
    result = analyses.exploration(acts)
    page = reports.render(acts, results=[result])
    alts = re.findall(r'role="img" aria-label="([^"]*)"', page)
    assert len(alts) == 4
    assert "effective number: from " in alts[0]
    assert all(alts[1].count(f" · {kind}: ") == 2 for kind in ("multi-path", "superposition", "single"))
    auroc = result.to_dataset()["auroc"].sel(basis="masks", kind="multi-path")
    assert f"multi-path {float(auroc):.2f} (" in alts[2]
    assert page.count("<image ") >= 6 * 2 + 2  # x̂0 and a component of each sample, and the matrices' own scales
    assert "nan" not in " ".join(alts).lower()


def test_without_known_answers_components_are_drawn(tmp_path):
    acts = Planted(arrays=("x0_hat/full",)).plant(tmp_path / "acts")
    page = reports.render(acts, results=[analyses.exploration(acts)])
    assert "No sample has known valid answers" in page
    assert len(re.findall(r'role="img" aria-label="([^"]*)"', page)) == 2
