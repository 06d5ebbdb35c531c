"""Tracks from queries and keys: a thing that goes is found where it goes, and what stands still or is noise is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

import analyses
import store
from analyses._across import above_zero, chosen_by_others
from analyses._correspond import of_others, popular
from analyses._matching import from_maps, from_qk, to_first
from analyses._probe_tables import FALSE_RATE
from analyses._tracks import RADIUS, Thing, by_colour, cells, groups, moving_things
from tests.analyses.contract import AnalysisContract
from tests.planted_motion import PlantedMotion

PLAN = PlantedMotion(arrays=("q/full", "k/full"), frames_in=())


class TestCorrespondence(AnalysisContract):
    name = "correspondence"
    planted = PLAN
    verdict = "replicates"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    acts = PLAN.plant(tmp_path_factory.mktemp("planted") / "acts")
    return analyses.correspondence(acts).to_dataset().load()


def test_the_thing_is_found_in_its_cell_by_its_head_and_nowhere_else(data):
    assert data["tracked"].to_numpy().tolist() == [[0, 0], [1, 0]]
    there = data.sel(step=1, layer=0)
    assert np.argwhere(data["head_tracked"].to_numpy()).tolist() == [[1, 0, 1]]
    assert there["accuracy"] > 0.95
    assert there["head_accuracy"].sel(head=1) > 0.95
    assert (there["head_accuracy"].sel(head=[0, 2]) < 0.25).all()
    assert there["error"] < 0.6
    elsewhere = data["gain"].where(data["tracked"] == 0)
    assert (abs(elsewhere) < 0.15).sum() == 3
    assert data["best_accuracy"] > 0.95
    assert data["colour"] > 0.95  # the square is the only red thing
    assert data["static"] == 0  # it leaves at once


def test_tracks_are_kept_to_be_drawn(data):
    both = data["track_by_sample"].squeeze("thing")
    assert both["by_step"].to_numpy().tolist() == [1, 1]
    assert both["by_head"].to_numpy().tolist() == [-1, 1]
    found = both.sel(by="head")
    true = data["true_track_by_sample"].squeeze("thing")
    off = np.linalg.norm(found - true, axis=-1)
    assert found.dims == ("shown", "frame", "coordinate")
    assert np.nanmax(off) <= RADIUS
    np.testing.assert_array_equal(found.isel(frame=0), true.isel(frame=0))


def test_maps_and_queries_say_the_same(tmp_path, data):
    acts = dataclasses.replace(PLAN, arrays=("pattern/map",)).plant(tmp_path / "acts")
    result = analyses.correspondence(acts)
    maps = result.to_dataset()
    assert maps.attrs["reads"] == "map"
    assert "attention as the model uses it" in result.finding
    for name in ("accuracy", "head_accuracy", "error"):
        np.testing.assert_allclose(maps[name], data[name], atol=1e-6)


def test_heads_that_look_at_the_same_place_do_not_track(tmp_path):
    plan = dataclasses.replace(PLAN, heads=("still", "still"), frames_in=())
    result = analyses.correspondence(plan.plant(tmp_path / "acts"))
    assert result.verdict != "replicates"
    there = result.to_dataset().sel(step=1, layer=0)
    assert there["accuracy"] == 0
    assert there["gain_high"] < 0.1
    assert result.to_dataset()["head_tracked"].sum() == 0


def test_noise_does_not_track(tmp_path):
    plan = dataclasses.replace(PLAN, heads=("noise", "noise"), frames_in=(), samples=20, steps=1, layers=1, at=(0, 0))
    result = analyses.correspondence(plan.plant(tmp_path / "acts"))
    assert result.verdict == "does not replicate"
    assert "; 0 of 3 cells and heads are above chance" in result.finding


def test_noise_is_called_at_no_more_than_the_nominal_rate():
    """Random places in 500 stores of 12 samples and 4 cells, judged as the analysis judges them."""
    rng = np.random.default_rng(0)
    samples, cell, side = 12, 4, 8
    false, missed, gains = 0, 0, []
    for _ in range(500):
        places = rng.integers(0, side, size=(samples, cell, 8, 2))
        things = [
            Thing(np.zeros((1, 2), int), rng.uniform(1, side - 1, (8, 2)), np.arange(8) > 0) for _ in range(samples)
        ]
        others = of_others(np.stack([popular([thing], (8, side, side)) for thing in things]))
        gain = np.empty((samples, cell))
        for at, thing in enumerate(things):
            hits = np.linalg.norm(places[at] - thing.targets(), axis=-1) <= RADIUS
            chance = others[at][places[at, ..., 0], places[at, ..., 1]]
            gain[at] = (hits - chance)[:, thing.gone].mean(axis=1)
        false += (stats.false_discovery_control(above_zero(gain)) <= FALSE_RATE).any()
        missed += not (stats.false_discovery_control(above_zero(gain + 0.1)) <= FALSE_RATE).any()
        gains.append(gain.mean())
    assert false <= stats.binom.ppf(0.999, 500, FALSE_RATE)
    assert missed < 25  # what is there is seen
    assert abs(np.mean(gains)) < 4 * stats.sem(gains)  # chance is chance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tracked": False}, "12 in which nothing is known to move"),
        ({"answers": 3}, "12 samples with several valid answers"),
        ({"process": 0.2}, "24 runs with a process score below 0.5"),
        ({"arrays": ("q/full",)}, "do not all hold q/full and k/full|do not all hold pattern/map"),
        ({"arrays": ("z/full",)}, r"No run without interventions holds q/full or pattern/map"),
    ],
)
def test_what_cannot_be_judged_is_said(tmp_path, change, message):
    acts = dataclasses.replace(PLAN, **change).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match=message):
        analyses.correspondence(acts)


def test_tracks_of_another_length_are_unknown(tmp_path):
    class Longer(PlantedMotion):
        def run(self, sample_id, seed):
            run = super().run(sample_id, seed)
            return run.model_copy(update={"settings": run.settings.model_copy(update={"frames": 9})})

    acts = Longer(**{**vars(PLAN), "samples": 2}).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match="2 in which nothing is known to move"):
        analyses.correspondence(acts)


def test_maps_need_tokens_of_the_first_frame_and_one_direction(tmp_path):
    class Later(PlantedMotion):
        def _write_cells(self, writer, site, reduction, values, coords, tail):
            coords = {**coords, "query": np.array([label.replace("0:", "1:", 1) for label in coords["query"]])}
            super()._write_cells(writer, site, reduction, values, coords, tail)

    options = {**vars(PLAN), "samples": 2, "arrays": ("pattern/map",)}
    with pytest.raises(analyses.NoRuns, match=r"capture it with @queries=0:\*:\*"):
        analyses.correspondence(Later(**options).plant(tmp_path / "later"))
    acts = PlantedMotion(**options).plant(tmp_path / "acts")
    with pytest.raises(analyses.BadPlan, match="needs q/full and k/full"):
        analyses.correspondence(acts, direction="to_first")


def test_solved_runs_stay(tmp_path):
    acts = dataclasses.replace(PLAN, process=1.0, samples=3).plant(tmp_path / "acts")
    assert analyses.correspondence(acts, layers=[0], steps=[1]).record.n == 3


def test_who_does_not_know_the_heads_is_asked(tmp_path):
    class Old(PlantedMotion):
        def _write_cells(self, writer, site, reduction, values, coords, tail):
            writer.add_array(site, reduction, dims=(*coords, *tail), shape=values.shape, dtype="float32", coords=coords)
            for place in np.ndindex(values.shape[:3]):
                index = dict(zip(("step", "branch", "layer"), map(int, place), strict=True))
                writer.write(site, reduction, index, np.ascontiguousarray(values[place]))

    acts = Old(**{**vars(PLAN), "samples": 3}).plant(tmp_path / "acts")
    with pytest.raises(analyses.NoRuns, match="say heads="):
        analyses.correspondence(acts)
    with pytest.raises(analyses.BadPlan, match="5 heads do not divide the 48 channels of q/full"):
        analyses.correspondence(acts, heads=5)
    assert analyses.correspondence(acts, heads=3).to_dataset().sel(step=1, layer=0)["accuracy"] > 0.95


def test_nothing_infinite_is_averaged_away():
    with pytest.raises(analyses.NonFinite):
        from_qk(np.full((1, 1, 2), np.nan, np.float32), np.ones((2, 3, 1, 2), np.float32))


def test_matching_is_the_largest_of_the_softmax():
    rng = np.random.default_rng(1)
    query, keys = rng.standard_normal((5, 2, 4), np.float32), rng.standard_normal((3, 7, 2, 4), np.float32)
    found = from_qk(query, keys)
    logits = np.einsum("nad,fmad->anfm", query, keys) / 2
    raised = np.exp(logits)
    within = raised / raised.sum(axis=-1, keepdims=True)
    np.testing.assert_array_equal(found.heads[..., 1:], within.argmax(axis=-1)[..., 1:])
    np.testing.assert_array_equal(found.mean[:, 1:], within.mean(axis=0).argmax(axis=-1)[:, 1:])
    over_all = raised / raised.sum(axis=(2, 3), keepdims=True)
    np.testing.assert_array_equal(from_maps(over_all, by_head=True).mean, found.mean)


def test_the_other_direction_asks_who_looks_at_the_first_frame():
    rng = np.random.default_rng(1)
    queries, key = rng.standard_normal((3, 300, 2, 4), np.float32), rng.standard_normal((300, 2, 4), np.float32)
    found = to_first(queries, key, np.array([7, 290]))
    raised = np.exp(np.einsum("fmad,nad->afmn", queries, key) / 2)
    looks = (raised / raised.sum(axis=-1, keepdims=True))[..., [7, 290]]
    np.testing.assert_array_equal(found.heads[:, :, 1:], looks.argmax(axis=2).swapaxes(1, 2)[:, :, 1:])
    np.testing.assert_array_equal(found.mean[:, 1:], looks.mean(axis=0).argmax(axis=1).T[:, 1:])


def test_the_thing_is_found_in_the_other_direction(tmp_path):
    plan = dataclasses.replace(PLAN, strength=3.0)  # more, and every later token looks at the thing alone
    result = analyses.correspondence(plan.plant(tmp_path / "acts"), direction="to_first")
    assert result.verdict == "replicates"
    assert "Queries of later frames find" in result.finding
    assert result.to_dataset().sel(step=1, layer=0)["head_accuracy"].sel(head=1) > 0.95


def test_frames_and_pixels_are_mapped_to_the_grid():
    assert groups(17, 5) == [slice(0, 1), slice(1, 5), slice(5, 9), slice(9, 13), slice(13, 17)]
    assert groups(5, 5) == [slice(at, at + 1) for at in range(5)]
    np.testing.assert_allclose(cells(np.arange(6.0).reshape(2, 3), (1, 3)), [[1.5, 2.5, 3.5]])
    np.testing.assert_allclose(cells(np.arange(5.0)[:, None], (2, 1)), [[0.5], [3.0]])
    sample = PLAN.sample(3)
    (thing,) = moving_things(sample, (3, 8, 8))
    np.testing.assert_array_equal(thing.tokens, PLAN.places(3)[:1])
    assert not thing.gone[0]
    assert np.abs(thing.tokens[0] + thing.way - PLAN.places(3)).max() <= 0.5
    bare = dataclasses.replace(PLAN, segmented=False).sample(3)
    np.testing.assert_array_equal(moving_things(bare, (3, 8, 8))[0].tokens, thing.tokens)


def test_what_is_hidden_is_not_looked_for():
    sample = PLAN.sample(3)
    assert sample.segmentation is not None
    hidden = sample.segmentation.copy()
    hidden[1:3] = 0
    covered = store.Sample(sample.record, first_frame=sample.first_frame, tracks=sample.tracks, segmentation=hidden)
    (thing,) = moving_things(covered, (3, 8, 8))
    assert thing.seen.tolist() == [False, False, True]


def test_the_nearest_colour_is_found():
    sample = PLAN.sample(3)
    things = moving_things(sample, (3, 8, 8))
    assert sample.video is not None
    (found,) = by_colour(sample.video, things, (3, 8, 8))
    assert np.linalg.norm(found[0, 1:] - things[0].targets()[0, 1:], axis=-1).max() <= RADIUS


def test_the_best_cell_is_chosen_by_others():
    values = np.array([[0.0, 1.0], [1.0, 0.0]] * 4)
    assert chosen_by_others(values).tolist() == [0, 1] * 4  # each half is judged where the other half is best
    assert chosen_by_others(np.array([[0.0, 2.0, 1.0]])).tolist() == [1]


def test_one_sample_is_above_nothing():
    assert above_zero(np.array([[5.0, 5.0]])).tolist() == [1, 1]
    p = above_zero(np.array([[1.0, 0.0, np.nan], [1.0, 0.0, 1.0], [1.0, 0.0, np.nan]]))
    assert p[0] < 1e-6
    assert p[1] == 0.5
    assert p[2] == 1
