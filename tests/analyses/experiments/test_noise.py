"""The noise experiment: its plan, its verdict on planted truth, and on its absence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import analyses
import store
from analyses import experiments
from analyses.experiments import Frame, Noise
from analyses.experiments._paired import Interval
from analyses.experiments.noise import Labels, Verdicts, decide, labels_of
from tests.planted import Planted

FRAME = Frame(steps=6, layers=3, latent_frames=3, held=0)
CLEAN = Planted(samples=4, seeds=(0,), arrays=(), metric="overall")
"""Clean runs end with a score of 0.9; a sample that is `wrong` ends with 0."""
MANY = dataclasses.replace(CLEAN, samples=8)
"""The fewest that a verdict is reached with."""
FEW = Noise(at=(0, 2, 5), frames=(1,), doses=(0.5,))
"""What is planted."""
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def plant(
    path: Path, *, step: tuple[int, ...] = (), frame: tuple[int, ...] = (), clean: Planted = CLEAN, **more: object
):
    """Clean runs and all arms: samples `step` end wrong under plain noise at a step, `frame` under noise at a frame."""
    acts = clean.plant(path)
    for arm in FEW.plan(FRAME):
        at_step, matched = arm.labels["noise"] == "step", arm.labels["matched"]
        wrong = () if matched else step if at_step else frame
        child = dataclasses.replace(clean, interventions=arm.interventions, parent=clean, wrong=(*clean.wrong, *wrong))
        child.plant(path)
    return acts


def test_it_is_registered_and_documented():
    assert "noise" in experiments.names()
    assert experiments.get("noise") is Noise
    assert "## `noise`" in DOCS.read_text()
    with pytest.raises(analyses.UnknownAnalysis, match=r"there are .*noise"):
        experiments.get("nose")


def test_the_plan_has_plain_and_matched_noise_doses_and_both_ends_for_frames():
    arms = Noise().plan(FRAME)
    labels = [Labels(**arm.labels) for arm in arms]
    assert len(set(labels)) == len(labels)
    assert [one.step for one in labels if (one.noise, one.matched, one.dose) == ("step", False, 1)] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]
    matched = [one for one in labels if (one.noise, one.matched, one.dose) == ("step", True, 1)]
    assert [(one.step, one.draw) for one in matched] == [(s, d) for s in range(1, 6) for d in (0, 1)]
    assert {(one.matched, one.dose) for one in labels if one.dose < 1} == {
        (m, d) for m in (False, True) for d in (0.25, 0.5)
    }
    frames = [one for one in labels if one.noise == "frame"]
    assert {(one.until, one.matched) for one in frames} == {(3, False), (5, False), (3, True)}
    assert {one.frame for one in frames} == {0, 1, 2}


def test_every_arm_is_known_again_by_its_record():
    for arm in Noise().plan(FRAME):
        assert labels_of(arm.interventions) == Labels(**arm.labels)
    for other in (
        ({"kind": "noise_at_step", "steps": [1, 2]},),
        ({"kind": "noise_at_frame", "frames": [1], "steps": [2, 3]},),
        ({"kind": "patch", "donor": {}},),
        ({"kind": "noise_at_step", "steps": [1]}, {"kind": "noise_at_step", "steps": [2]}),
    ):
        assert labels_of(other) is None


def test_held_frames_are_left_out_and_wrong_options_named():
    held = FRAME._replace(held=1)
    assert {arm.labels["frame"] for arm in Noise().plan(held)} == {-1, 1, 2}
    for options, says in (({"frames": (0,)}, "latent frame 0 cannot be changed"), ({"at": (6,)}, "no step 6")):
        with pytest.raises(analyses.BadPlan, match=says):
            Noise(**options).plan(held)
    with pytest.raises(analyses.BadPlan, match="4 denoising steps or more"):
        Noise().plan(FRAME._replace(steps=3))


def test_planted_drops_come_back(tmp_path):
    result = Noise().compare(plant(tmp_path / "acts", step=(0, 1, 2), frame=(3,)))
    data = result.to_dataset()
    at = {
        Labels(*values): place
        for place, values in enumerate(zip(*(data[name].values for name in Labels._fields), strict=True))
    }
    plain = at[Labels("step", False, 1.0, 0, 2, -1, -1)]
    assert float(data["score_drop"][plain]) == pytest.approx(0.9 * 3 / 4)
    assert float(data["answer_change"][plain]) == pytest.approx(3 / 4)
    assert float(data["score"][plain]) == pytest.approx(0.9 / 4)
    assert float(data["video_change"][plain]) == 0
    assert float(data["sigma"][plain]) == CLEAN.infos()[2].sigma
    frame = at[Labels("frame", False, 1.0, 0, -1, 1, 3)]
    assert float(data["score_drop"][frame]) == pytest.approx(0.9 / 4)
    matched = at[Labels("step", True, 1.0, 1, 5, -1, -1)]
    assert float(data["score_drop"][matched]) == 0
    assert float(data["p_adjusted"][matched]) == 1
    np.testing.assert_allclose(np.sort(data["score_drop_by_sample"][plain]), [0, 0.9, 0.9, 0.9])
    summary = result.summary()
    assert summary["step_drop"] == pytest.approx(0.675)
    assert summary["frame_drop"] == pytest.approx(0.225)
    assert summary["comparisons"] == len(at) == len(FEW.plan(FRAME))
    assert "n = 4 samples" in result.finding


@pytest.mark.parametrize(
    ("step", "frame", "verdict"),
    [
        (range(8), (), "replicates"),
        ((), (), "does not replicate"),
        (range(8), range(8), "inconclusive"),  # a frame takes just as much
        (range(4), (), "inconclusive"),  # the interval holds a half
    ],
)
def test_the_verdict_follows_what_was_planted(tmp_path, step, frame, verdict):
    acts = plant(tmp_path / "acts", step=tuple(step), frame=tuple(frame), clean=MANY)
    result = Noise().compare(acts)
    assert result.verdict == verdict
    summary = result.summary()
    assert Verdicts(str(summary["step_verdict"]), str(summary["frame_verdict"])).both == verdict  # pyright: ignore[reportArgumentType]


def test_few_samples_and_low_scores_decide_nothing(tmp_path):
    few = dataclasses.replace(CLEAN, samples=7)
    assert Noise().compare(plant(tmp_path / "few", step=tuple(range(7)), clean=few)).verdict == "inconclusive"
    bad = dataclasses.replace(MANY, wrong=tuple(range(8)))
    assert Noise().compare(plant(tmp_path / "bad", clean=bad)).verdict == "inconclusive"


def test_the_rule_at_its_edges():
    clean, sure = Interval(0.8, 0.7, 0.9, 10), Interval(0.3, 0.1, 0.5, 10)
    worse, unsure = Interval(-0.2, -0.3, -0.1, 10), Interval(0.1, -0.1, 0.3, 10)
    yes, no, open_ = "replicates", "does not replicate", "inconclusive"
    assert decide(clean, Interval(0.6, 0.4, 0.7, 10), sure) == (yes, yes)
    assert decide(clean, Interval(0.6, 0.39, 0.7, 10), sure) == (open_, yes)
    assert decide(clean, Interval(0.2, 0.1, 0.39, 10), sure) == (no, yes)
    assert decide(clean, Interval(0.6, 0.5, 0.7, 10), worse) == (yes, no)
    assert decide(clean, Interval(0.6, 0.5, 0.7, 10), unsure) == (yes, open_)
    assert decide(clean, Interval(0.6, 0.5, 0.7, 7), sure) == (open_, open_)
    assert decide(clean, Interval(0.6, 0.5, 0.7, 10), sure._replace(n=7)) == (open_, open_)
    assert decide(Interval(0.19, 0.1, 0.3, 10), Interval(0.6, 0.5, 0.7, 10), sure) == (open_, open_)


def test_the_experiment_replicates_if_both_halves_do_and_does_not_if_one_does_not():
    yes, no, open_ = "replicates", "does not replicate", "inconclusive"
    assert Verdicts(yes, yes).both == yes
    assert Verdicts(yes, open_).both == Verdicts(open_, yes).both == open_
    assert Verdicts(no, yes).both == Verdicts(yes, no).both == Verdicts(no, open_).both == no


def test_videos_that_nothing_scored_are_told_apart_by_their_pixels(tmp_path):
    result = Noise().compare(plant(tmp_path / "acts", clean=dataclasses.replace(CLEAN, scored=False)))
    assert result.verdict == "inconclusive"
    assert "Nothing scored these videos" in result.finding
    assert np.isfinite(result.to_dataset()["video_change"]).all()


def test_a_switch_of_experts_is_marked(tmp_path):
    two = dataclasses.replace(CLEAN, switch_step=3)
    result = Noise().compare(plant(tmp_path / "acts", step=(0, 1, 2, 3), clean=two))
    assert "another expert takes over at step 3" in result.finding
    assert set(result.to_dataset()["expert"].values.tolist()) == {"", "transformer", "transformer_2"}


def test_it_is_computed_once_and_from_chosen_runs(tmp_path, monkeypatch):
    acts = plant(tmp_path / "acts", step=(0, 1, 2, 3), clean=dataclasses.replace(CLEAN, seeds=(0, 1)))
    first = Noise().compare(acts)
    monkeypatch.setattr("analyses.experiments.noise.outcomes", None)
    assert Noise().compare(store.open(acts.path)).record == first.record
    monkeypatch.undo()
    assert Noise().compare(acts, where="seed = 0").id != first.id


def test_without_runs_it_says_how_to_make_them(tmp_path):
    with pytest.raises(analyses.NoRuns, match=r"None of the 4 runs .* `stepscope experiment`"):
        Noise().compare(CLEAN.plant(tmp_path / "acts"))
