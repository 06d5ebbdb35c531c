"""Memory of what is hidden: read where it is planted; what is forgotten, told or shown does not count."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

import analyses
from analyses import _memory
from analyses._memory import Told
from analyses._object_truths import hidden_one, mover, objects
from analyses._probe_labels import Label
from analyses.working_memory import _labels, _score, p_values, together
from tests.analyses.contract import AnalysisContract
from tests.planted_tracks import PlantedTracks

COVER = (3, 4, 5, 6)
"""Of nine video frames; latent frame 1 stands for 1 to 4, latent frame 2 for 5 to 8."""
WIDE = (1, 2, 3, 4)
"""All of latent frame 1."""
KNOWS = PlantedTracks(steps=2, layers=1, channels=16, cover=WIDE, since={"colour": 1, "place": 1}, strength=5.0)


class TestWorkingMemory(AnalysisContract):
    name = "working_memory"
    planted = dataclasses.replace(KNOWS, samples=24, seeds=(0, 1), steps=1, since={"colour": 0, "place": 0})
    verdict = "replicates"

    def test_one_sample_has_no_interval_and_says_so(self, tmp_path):
        acts = PlantedTracks(samples=1, cover=WIDE).plant(tmp_path / "one")
        with pytest.raises(analyses.NoRuns, match=r"1 of 1 samples .* 10 are needed"):
            analyses.working_memory(acts)


def test_what_is_planted_is_remembered_at_its_step_and_nothing_else(tmp_path):
    result = analyses.working_memory(KNOWS.plant(tmp_path / "acts"))
    data = result.to_dataset()
    assert data["label"].to_numpy().tolist() == ["colour", "shape", "place"]
    assert data["remembered"].squeeze("layer").to_numpy().tolist() == [[0, 1], [0, 0], [0, 1]]
    assert data["hidden_samples"].to_numpy().tolist() == [0, 60, 0]
    assert result.verdict == "replicates"
    there = data.isel(layer=0).sel(step=1)
    assert float(there["score"].sel(seen="hidden", label="colour")) > 0.9
    assert float(there["frame_score"].sel(label="colour", frame=1)) > 0.9
    assert there["frame_score"].sel(frame=[0, 2]).isnull().all()
    assert (there["over_picture_low"].sel(label=["colour", "place"]) > 0).all()
    np.testing.assert_allclose(data["chance"].sel(seen="hidden"), [1 / 3, 1 / 2, 0])


def test_what_is_written_only_while_it_is_seen_is_forgotten(tmp_path):
    planted = dataclasses.replace(KNOWS, forgets=True)
    data = analyses.working_memory(planted.plant(tmp_path / "acts")).to_dataset()
    seen = data["score"].isel(layer=0).sel(step=1, label="colour")
    assert float(seen.sel(seen="visible")) > 0.9
    assert float(seen.sel(seen="hidden")) < 0.6
    assert int(data["remembered"].sum()) == 0


@pytest.mark.parametrize("given", [{"told": True}, {"in_picture": True}], ids=["prompt", "picture"])
def test_what_needs_no_memory_is_none(tmp_path, given):
    planted = dataclasses.replace(KNOWS, **given)
    data = analyses.working_memory(planted.plant(tmp_path / "acts")).to_dataset()
    assert int(data["remembered"].sel(label="colour").sum()) == 0
    assert int(data["remembered"].sel(label="place").sum()) > 0
    other = "prompt_score" if "told" in given else "picture_score"
    assert float(data[other].sel(label="colour").max()) > 0.9


def test_hidden_frames_are_those_that_no_pixel_shows():
    planted = dataclasses.replace(KNOWS, cover=COVER)
    thing = hidden_one(planted.sample(0))
    assert thing is not None
    assert np.flatnonzero(thing.hidden).tolist() == list(COVER)
    assert thing.is_hidden(3).tolist() == [False, False, False]  # half of each latent frame, and half is not most
    assert hidden_one(PlantedTracks().sample(0)) is None
    assert hidden_one(PlantedTracks(cover=(6, 7, 8)).sample(0)) is None  # it does not come back
    assert mover(dataclasses.replace(KNOWS, moves=False).sample(0)) is None
    assert objects(planted.sample(4))[0].looks == {"colour": "green", "shape": "square"}


def test_looks_and_place_are_both_needed():
    yes, no, open_ = "replicates", "does not replicate", "inconclusive"
    assert together({"colour": yes, "shape": no, "place": yes}) == yes
    assert together({"colour": yes, "place": no}) == open_
    assert together({"colour": no, "shape": no, "place": no}) == no
    assert together({"place": no}) == open_


def test_losses_are_those_of_the_probe():
    rng = np.random.default_rng(0)
    told = Told(
        (Label("colour", np.arange(40) % 2, ("a", "b")),), rng.uniform(0, 9, (40, 2, 2)), np.ones((40, 2), bool)
    )
    loss = np.zeros((2, 2, 40), np.float32)
    loss[0, 0, :10] = 1  # ten colours told wrong in one of two frames
    loss[:, 1] = ((told.place - told.place.mean(axis=0)) ** 2).sum(axis=-1).T / 4
    colour, place = _memory.judged(loss, told, told.hidden)
    assert colour.value == pytest.approx(1 - 10 / 40 / 2)
    assert place.value == pytest.approx(0.75)
    assert np.abs(place.influence).max() < 1e-5
    assert colour.influence.sum() == pytest.approx(0, abs=1e-5)


def test_noise_is_remembered_at_no_more_than_the_nominal_rate():
    """Losses of a probe that guesses: three labels, 500 cells."""
    rng = np.random.default_rng(9)
    samples, frames, repeats = 60, 3, 500
    hidden = np.zeros((samples, frames), bool)
    hidden[:, 1] = True
    looks = (
        Label("colour", np.arange(samples) % 3, ("a", "b", "c")),
        Label("shape", np.arange(samples) % 2, ("a", "b")),
    )
    told = Told(looks, rng.uniform(0, 20, (samples, frames, 2)), hidden)
    off = ((told.place - told.place.mean(axis=0)) ** 2).sum(axis=-1).T

    def guess() -> np.ndarray:
        wrong = [rng.random((repeats, frames, samples)) < share for share in (2 / 3, 1 / 2)]
        return np.stack([*wrong, off * rng.uniform(0.5, 1.5, (repeats, *off.shape))], axis=2).astype(np.float32)

    scores = [_score(guess()[:, None], told, hidden), _score(guess(), told, hidden)]
    most = stats.binom.interval(0.999, repeats, 0.05)[1]
    for at, label in enumerate(_labels(told, hidden)):
        alone, both = (p_values(scores[0], against, label, at) for against in ([], [scores[0].minus(scores[1])]))
        assert (both <= 0.05).sum() <= (alone <= 0.05).sum() <= most
        assert at == 2 or (alone <= 0.1).sum() > 0  # it is a test, not a refusal
