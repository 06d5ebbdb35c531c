"""The swap experiment: its plan, who donates to whom, and its verdict on planted flips and on their absence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyses
import store
from analyses import experiments
from analyses.experiments import Swap, Windows
from analyses.experiments._answers import Question
from analyses.experiments._exchange import PARTS, Labels, blocks
from analyses.experiments._paired import Interval
from analyses.experiments._token_cells import mask, token_cells
from analyses.experiments.swap import Cell, decide
from tests.planted_exchange import FRAMES, End, Exchanged

PLANTED = Exchanged()
FEW = Swap(layers=(0, 3, 5), windows=((0, 0), (0, 3)))
DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def ends(*flipping: tuple[str, int, int], units: int = 4):
    """Runs of (part, layer, last step) flip in the first units; a stranger's tokens break what they flip."""

    def of(labels: dict[str, Any], unit: int) -> End:
        place = labels["first_layer"], labels["last_step"]
        if labels["part"] == "stranger":
            return "broken" if any(one[1:] == place for one in flipping) else "own"
        return "donor" if (labels["part"], *place) in flipping and unit < units else "own"

    return of


def at(result: analyses.Result, part: str, layer: int, last_step: int) -> Any:
    data = result.to_dataset().compute()
    chosen = (data["part"] == part) & (data["first_layer"] == layer) & (data["last_step"] == last_step)
    return data.isel(arm=int(np.flatnonzero(chosen.to_numpy()).item()))


def test_it_is_registered_and_documented():
    assert experiments.get("swap") is Swap
    assert "## `swap`" in DOCS.read_text()


def test_the_plan_is_layers_by_windows_by_parts():
    arms = [Labels(**arm.labels) for arm in Swap().plan(PLANTED.frame)]
    assert len(set(arms)) == len(arms) == len(PARTS) * 6 * 2  # a quarter of four steps is the first one
    assert {(arm.first_step, arm.last_step) for arm in arms} == {(0, 0), (0, 3)}
    assert {arm.site for arm in arms if arm.part == "text"} == {"cross_attn_out"}
    joined = PLANTED.frame._replace(sites=("resid_post",), text_sites=("resid_post",))
    assert {(arm.labels["part"], arm.labels["site"]) for arm in Swap().plan(joined)} == {
        (part, "resid_post") for part in PARTS
    }
    keeps = {item.site: item for item in FEW.keeps(PLANTED.frame)[0].items}
    assert keeps["resid_post"].layers == (0, 3, 5)
    assert keeps["resid_post"].steps == (0, 1, 2, 3)
    assert set(keeps) == {"latent", "resid_post", "cross_attn_out"}
    assert Swap(keep=False).keeps(PLANTED.frame)[0] == Swap.clean


def test_a_model_whose_text_has_a_stream_of_its_own_is_swapped_without_it():
    apart = PLANTED.frame._replace(sites=("resid_post", "v"), text_sites=("v",))
    assert {arm.labels["part"] for arm in Swap().plan(apart)} == set(PARTS) - {"text"}
    with pytest.raises(analyses.BadPlan, match=r"no text to take of a donor.*there are whole, target"):
        Swap(parts=("whole", "text")).plan(apart)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": (6,)}, "no window of layers 6 to 6: there are layers 0 to 5"),
        ({"windows": ((0, 4),)}, "no window of steps 0 to 4: there are steps 0 to 3"),
        ({"parts": ("all",)}, "no part 'all' to take of a donor; there are whole"),
    ],
)
def test_what_the_model_has_no_place_for_is_refused(options, says):
    with pytest.raises(analyses.BadPlan, match=says):
        Swap(**options).plan(PLANTED.frame)


def test_controls_of_the_inner_layers_alone():
    """Whole layers everywhere; other parts where the rule reads them: not at the first and the last tested layer."""
    arms = Swap(layers=(5, 0, 3), parts=("whole", "target"), windows=((0, 0),), inner_controls=True).plan(PLANTED.frame)
    assert [(arm.labels["part"], arm.labels["first_layer"]) for arm in arms] == [
        ("whole", 0),
        ("whole", 3),
        ("whole", 5),
        ("target", 3),
    ]


def test_twins_donate_to_each_other_and_strangers_are_of_another_pair(tmp_path):
    acts = store.open(tmp_path / "acts", mode="a")
    clean = [(sample, PLANTED.clean(sample, 0, Swap.clean)) for _, sample in PLANTED.samples]
    given = FEW.given(acts, clean, PLANTED.frame)
    assert given is not None
    arms = {Labels(**arm.labels): arm for arm in FEW.plan(PLANTED.frame)}
    (left, right), others = [sample for _, sample in PLANTED.samples[:2]], PLANTED.samples[2:]

    def change(part: str, sample: store.Sample, site: str = "resid_post") -> Any:
        (found,) = given(arms[Labels(part, site, 3, 3, 0, 0)], sample, 0) or ({},)
        return found

    assert change("whole", left) == {"kind": "patch", "donor": {"sample": right.id}, "layers": [3], "steps": [0]}
    assert change("whole", right)["donor"] == {"sample": left.id}
    assert change("text", left, "cross_attn_out")["site"] == "cross_attn_out"
    assert change("stranger", left)["donor"]["sample"] in {sample.id for _, sample in others}
    target, background = change("target", left)["region"], change("background", left)["region"]
    assert target == change("target", right)["region"]
    cells = token_cells(Question(left, right).where(0, 1), (3, 6, 6))
    assert cells.any()
    assert not cells[0].any()  # the first frame is the same
    assert (target, background) == (mask(cells), mask(~cells))
    alone = FEW.given(acts, clean[:2], PLANTED.frame)
    assert alone is not None
    assert alone(arms[Labels("stranger", "resid_post", 3, 3, 0, 0)], left, 0) is None


def test_masks_read_back_as_the_interventions_read_them():
    from interp.geometry import Grid
    from interp.intervening import from_json

    cells = np.random.default_rng(0).random((3, 5, 7)) < 0.3
    patch: Any = from_json({"kind": "patch", "donor": {}, "region": mask(cells)})
    np.testing.assert_array_equal(patch.region.mask(Grid(3, 5, 7), kind="patch"), cells)
    assert patch.to_json()["region"] == mask(cells)


def test_tokens_of_a_causal_video_and_of_others():
    pixels = np.zeros((17, 12, 12), bool)
    pixels[1, 4, 11] = pixels[16, 0, 0] = True
    assert set(zip(*np.nonzero(token_cells(pixels, (5, 3, 3))), strict=True)) == {(1, 1, 2), (4, 0, 0)}
    assert set(zip(*np.nonzero(token_cells(pixels[1:], (4, 3, 3))), strict=True)) == {(0, 1, 2), (3, 0, 0)}


def test_windows_cover_everything_once():
    for count in (1, 3, 4, 10, 41):
        cut = blocks(count, 4)
        assert [n for first, last in cut for n in range(first, last + 1)] == list(range(count))


def test_the_answer_is_read_and_a_still_picture_has_none():
    left, right = (sample for _, sample in PLANTED.samples[:2])
    question = Question(left, right)
    assert (question.of_receiver, question.of_donor) == ((0,), (1,))
    assert left.video is not None
    assert right.video is not None
    own, other = question.look(left.video), question.look(right.video)
    np.testing.assert_allclose((own.evidence, other.evidence), np.eye(2), atol=0.02)
    assert (own.ending((0, 1)), other.ending((0, 1)), other.ending((0,))) == (0, 1, None)
    assert question.look(np.repeat(left.first_frame[None], FRAMES, axis=0)).ending((0, 1)) is None
    noise = np.random.default_rng(0).normal(0, 60, left.video.shape)
    written = question.look((left.video + noise).clip(0, 255).astype(np.uint8))
    assert written.evidence[0] > 0.5  # the answer, written into noise
    assert written.ending((0, 1)) is None
    with pytest.raises(analyses.BadTruth, match="a video is 3 frames of 24×24, the true ones are 5 frames"):
        question.look(left.video[:3])
    with pytest.raises(analyses.BadTruth, match="no true videos of one size"):
        Question(left, store.Sample(left.record, first_frame=left.first_frame))


def test_planted_flips_come_back_in_their_cells(tmp_path):
    flipping = ends(("whole", 3, 0), ("target", 3, 0), ("whole", 0, 3), units=3)
    result = FEW.compare(PLANTED.plant(tmp_path / "acts", FEW, flipping))
    cell = at(result, "whole", 3, 0)
    assert float(cell["flip"]) == float(cell["gain"]) == pytest.approx(3 / 4)
    assert float(cell["kept"]) == pytest.approx(1 / 4)
    assert float(cell["recovered"]) == pytest.approx(3 / 4, abs=0.01)
    assert float(cell["margin"]) == pytest.approx(1 / 2, abs=0.02)
    assert float(cell["flip_forth"]) == float(cell["flip_back"]) == pytest.approx(3 / 4)
    np.testing.assert_allclose(np.sort(cell["flip_by_sample"]), [0, 1, 1, 1])
    broken = at(result, "stranger", 3, 0)
    assert (float(broken["flip"]), float(broken["kept"])) == (0, 0)
    assert abs(float(broken["recovered"])) < 0.05
    assert np.isnan(float(broken["p_value"]))
    null = at(result, "background", 3, 0)
    assert (float(null["flip"]), float(null["p_adjusted"])) == (0, 1)
    assert float(at(result, "whole", 3, 3)["flip"]) == 0
    summary = result.summary()
    assert summary["best_layer"] == 3
    assert summary["comparisons"] == 4 * 3 * 2
    assert summary["reading_agreement"] == 1
    assert "n = 4 pairs" in result.finding


def test_the_verdict_follows_what_was_planted(tmp_path):
    first = dataclasses.replace(FEW, windows=((0, 0),), parts=("whole", "target", "background", "stranger"))
    many = dataclasses.replace(PLANTED, units=9)  # the fewest that can be significant among nine comparisons
    acts = many.plant(tmp_path / "many", first, ends(("whole", 3, 0), ("target", 3, 0), units=9))
    assert first.compare(acts).verdict == "replicates"
    acts = dataclasses.replace(PLANTED, units=8).plant(
        tmp_path / "ends", first, ends(("whole", 0, 0), ("target", 0, 0), ("whole", 5, 0))
    )
    assert first.compare(acts).verdict == "does not replicate"
    everywhere = ends(("whole", 3, 0), ("target", 3, 0), ("background", 3, 0))
    assert first.compare(PLANTED.plant(tmp_path / "everywhere", first, everywhere)).verdict == "inconclusive"


def test_pairs_that_are_answered_wrongly_are_left_out(tmp_path):
    some = dataclasses.replace(PLANTED, wrong=(1,))
    result = FEW.compare(some.plant(tmp_path / "acts", FEW, ends(("whole", 3, 0))))
    assert result.record.n == 3
    assert result.summary()["left_out"] == 2 * len(FEW.plan(some.frame))
    none = dataclasses.replace(PLANTED, wrong=(0, 1, 2, 3))
    with pytest.raises(analyses.NoRuns, match=r"None of \d+ exchanges can be read"):
        FEW.compare(none.plant(tmp_path / "none", FEW))


def test_the_rule_at_its_edges():
    high, low = Interval(0.9, 0.5, 1, 10), Interval(0.2, 0.1, 0.49, 10)
    edge = [Cell(layer, high, 0.001, high, high) for layer in (0, 5)]
    assert decide([*edge, Cell(3, high, 0.01, high, high)]) == "replicates"
    assert decide([*edge, Cell(3, high, 0.06, high, high)]) == "inconclusive"
    assert decide([*edge, Cell(3, high, float("nan"), high, high)]) == "inconclusive"
    assert decide([*edge, Cell(3, high, 0.01, high, Interval(0.1, 0, 0.2, 10))]) == "inconclusive"
    assert decide([*edge, Cell(3, low, 1.0, low, low)]) == "does not replicate"
    assert decide([*edge, Cell(3, low._replace(n=2), 1.0, low, low)]) == "inconclusive"
    assert decide(edge) == "inconclusive"


def test_it_is_computed_once_and_other_patches_are_not_counted(tmp_path, monkeypatch):
    acts = PLANTED.plant(tmp_path / "acts", FEW)
    first = FEW.compare(acts)
    monkeypatch.setattr("analyses.experiments.swap.read", None)
    assert FEW.compare(store.open(acts.path)).record == first.record
    monkeypatch.undo()
    one = next(sample for _, sample in PLANTED.samples)
    assert FEW.compare(acts, where=f"prompt LIKE '{one.record.prompt[0]}%'").record.n == 1


def test_without_runs_it_says_how_to_make_them(tmp_path):
    with pytest.raises(analyses.NoRuns, match="make them with `stepscope experiment`"):
        FEW.compare(PLANTED.plant(tmp_path / "acts", Windows(windows=((0, 0),), layer_blocks=2)))
