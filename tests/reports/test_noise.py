"""The section of `noise`: curves by step, frame and dose, and the switch of experts where there is one."""

from __future__ import annotations

import dataclasses

import pytest

import interp
import reports
import store
from analyses.experiments import Frame, Noise
from interp import experimenting
from interp.conditions import Condition
from reports import _section
from tests import tiny
from tests.analyses.experiments import test_noise as planted


def drawn(acts, result):
    draw = _section.drawer("noise")
    assert draw is not None
    return draw(result, _section.Context(acts, runs=None, media_bytes=0), "s0")


@pytest.fixture(scope="module")
def switched(tmp_path_factory):
    """Every sample fails under plain noise at a step; another expert takes over at step 3."""
    clean = dataclasses.replace(planted.CLEAN, switch_step=3)
    acts = planted.plant(tmp_path_factory.mktemp("noise") / "acts", step=(0, 1, 2, 3), clean=clean)
    return acts, planted.FEW.compare(acts)


def test_curves_have_their_numbers_and_the_switch(switched):
    section = drawn(*switched)
    score = section.figures[0]
    assert score.title == "Score under noise at a step"
    assert "expert switch" in score.svg
    assert "another expert takes over at step 3" in score.caption
    assert "Dashed: clean, 0.90" in score.caption
    assert "n = 4 samples" in score.caption
    assert "plain: from 0 at step 0 to 0 at step 5" in score.alt
    assert "matched, draw 1: from 0.9 at step 2 to 0.9 at step 5" in score.alt
    titles = [figure.title for figure in section.figures]
    assert titles[-2:] == ["Noise in one latent frame", "By dose"]
    assert "plain, to step 3: from 0.9 at frame 1" in section.figures[-2].alt
    assert "plain, all steps: from 0.9 at frame 1" in section.figures[-2].alt
    assert "plain: from 0 at dose 0.5 to 0 at dose 1.0" in section.figures[-1].alt


def test_one_expert_has_no_switch(tmp_path):
    acts = planted.plant(tmp_path / "acts", step=(0, 1))
    score = drawn(acts, planted.FEW.compare(acts)).figures[0]
    assert "switch" not in score.svg
    assert "takes over" not in score.caption


def test_the_page_offers_the_numbers_and_the_python(switched):
    acts, result = switched
    page = reports.render(acts, results=[result])
    assert "Noise at a step, and noise at a frame" in page
    assert "score.csv" in page
    assert "result.to_dataframe(&#39;score&#39;)" in page or "result.to_dataframe('score')" in page


def test_the_boundary_of_a_model_with_two_experts_is_marked_without_scores(tmp_path):
    """From the pipeline's own switch to the page; a folder's samples are scored by nobody."""
    model = interp.load(tiny.pipeline(experts=2), scheduler="euler")
    asked = Noise(at=(0, 3), frames=(1,), doses=())
    settings = model.settings(steps=4, guidance=1, height=32, width=48, frames=9)
    frame = Frame(**experimenting.shape(model, settings))
    clean, child = asked.keeps(frame)
    acts = store.open(tmp_path / "acts", mode="a")
    arms = [Condition(arm.interventions, arm.settings, arm.variant, arm.seeds) for arm in asked.plan(frame)]
    todo = experimenting.programme(model, [tiny.sample()], arms, clean=clean, child=child, into=acts, settings=settings)
    experimenting.conduct(model, todo, into=acts)
    result = asked.compare(acts, runs=todo.run_ids)
    experts = [step.expert for step in acts.run(todo.run_ids[0]).steps]
    (at,) = [step for step in range(1, 4) if experts[step] != experts[step - 1]]
    figure = drawn(acts, result).figures[0]
    assert figure.title == "How far videos change under noise at a step"
    assert "expert switch" in figure.svg
    assert f"takes over at step {at}" in figure.caption
