"""Sections of experiments: every arm is in a grid, with its number; maps of noise say where they are largest."""

from __future__ import annotations

import re

import pytest

import reports
from analyses.experiments import Patch, Swap, Windows
from reports import _section
from reports._chart import library
from tests.analyses.experiments import test_propagation
from tests.planted_exchange import Exchanged


@pytest.fixture(scope="module")
def swapped(tmp_path_factory):
    few = Swap(layers=(0, 3), windows=((0, 0), (0, 3)))

    def ends(labels, unit):
        return "donor" if (labels["part"], labels["first_layer"], labels["last_step"]) == ("whole", 3, 0) else "own"

    acts = Exchanged(units=2).plant(tmp_path_factory.mktemp("swap") / "acts", few, ends)
    return acts, few.compare(acts)


def drawn(acts, result):
    draw = _section.drawer(result.record.analysis)
    assert draw is not None
    return draw(result, _section.Context(acts, runs=None, media_bytes=0), "s0")


def test_a_swap_is_a_grid_for_each_part_with_its_numbers(swapped):
    (figure,) = drawn(*swapped).figures
    for part in ("whole", "target", "background", "text", "stranger"):
        assert f">{part}</text>" in figure.svg
    numbers = re.findall(r">(\d\.\d\d)</text>", figure.svg)
    assert numbers.count("1.00") == 1
    assert numbers.count("0.00") == 5 * 2 * 2 - 1
    assert "whole at layers 3, steps 0: 1.00 (0.34 to 1.00)" in figure.caption  # of two pairs
    assert "n = 2" in figure.caption
    assert "highest whole at layers 3" in figure.alt


def test_windows_and_patches_are_drawn_too(tmp_path):
    windows = Windows(layer_blocks=2, step_blocks=2)
    acts = Exchanged(units=2, ambiguous=True, seeds=(0, 1)).plant(tmp_path / "windows", windows)
    figure, _ = drawn(acts, windows.compare(acts)).figures
    assert len(re.findall(r">0\.00</text>", figure.svg)) == 8
    assert ">0-5</text>" in figure.svg  # all layers
    patch = Patch(sites=("resid_post", "mlp_out"), parts=("target",), windows=((0, 3),))
    acts = Exchanged(units=2).plant(tmp_path / "patch", patch)
    figures = drawn(acts, patch.compare(acts)).figures
    assert {figure.title.rpartition(", ")[2] for figure in figures} == {"resid_post", "mlp_out"}


def test_propagation_has_maps_of_both_noises_and_the_sensitivity(tmp_path):
    acts = test_propagation.plant(tmp_path / "acts", lambda labels, step: 1.0, switch_step=3)
    section = drawn(acts, test_propagation.FEW.compare(acts))
    assert [figure.title.split(";")[0] for figure in section.figures] == [
        "Sensitivity of each step",
        *["Dissimilarity after plain noise", "Dissimilarity after matched noise"] * 2,
    ]
    assert "expert switch" in section.figures[0].svg
    assert "takes over at step 3" in section.figures[1].caption


def test_the_page_has_the_section(swapped):
    acts, result = swapped
    page = reports.render(acts, results=[result])
    assert "States of one layer put into another run" in page
    assert result.record.finding.split(";")[0] in page
    assert "a mask of 3×6×6 tokens" in page
    assert "bits" not in page.replace(library(), "")
    assert re.search(r"; and \d+ more<", page)


def test_windows_are_told_by_family_and_difficulty(tmp_path):
    """Of the harder family alone, first steps decide."""
    windows = Windows(layer_blocks=2, step_blocks=2)
    planted = Exchanged(units=4, ambiguous=True, seeds=(0, 1), families=("search", "blend"))

    def ends(labels, unit):
        return "donor" if unit % 2 and labels["part"] == "whole" and labels["first_step"] == 0 else "own"

    acts = planted.plant(tmp_path / "acts", windows, ends)
    figure = drawn(acts, windows.compare(acts)).figures[-1]
    assert figure.title == "Which steps decide, by family and difficulty"
    assert "blend hard (n = 2): most at steps 0-1, 1.00" in figure.alt
    assert "search easy (n = 2): most at steps 0-1, 0.00" in figure.alt
    assert sorted(re.findall(r">(\d\.\d\d)</text>", figure.svg)) == ["0.00", "0.00", "0.00", "1.00"]
