"""Runs made together are the runs made one by one: values, labels, statistics, scores, changes and refusals."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
import store
from interp import batching, capturing, experimenting, intervening, making, rows, scoring
from interp.batching import TOLERANCE
from interp.conditions import Condition
from interp.interventions import (
    Ablate,
    BlockNoise,
    Donor,
    Ensemble,
    Intervention,
    NoiseAtFrame,
    NoiseAtStep,
    Patch,
    Steer,
)
from store.run_writer import RunWriter
from tests import tiny

SPEC = interp.parse(
    [
        "resid_post/energy@branches=cond,uncond",
        "resid_post/full@layers=1@steps=1",
        "q/channel_stats",
        "k/head_energy@layers=0",
        "attn_out/frame_mean",
        "mlp_out/token_mean",
        "pattern/map@layers=1@queries=0:1:1,mean(0:1-3:2-4)",
        "latent/full",
        "velocity/full@branches=guided,cond,uncond",
        "x0_hat/full",
        "x0_hat/pixels@steps=0,2",
    ]
)
STEPS = 3
SAMPLES = [tiny.sample(seed=seed, prompt=prompt) for seed, prompt in enumerate(("walk", "go far", "stay"))]


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny.pipeline(experts=2))


def settings(model: interp.Model, **more: Any) -> store.SamplerSettings:
    return model.settings(**{**tiny.SIZE, "steps": STEPS, "guidance": 3.0, **more})


def captured(
    model: interp.Model, folder: Path, *, batch: int, samples: Sequence[store.Sample] = SAMPLES, **more: Any
) -> tuple[interp.Captured, store.ActivationStore]:
    acts = store.open(folder, mode="a")
    asked = {"spec": SPEC, "seeds": (3, 8), "settings": settings(model), **more}
    return interp.capture(model, samples, into=acts, batch=batch, **asked), acts


@pytest.fixture(scope="module")
def alone(model: interp.Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[interp.Captured, Path]:
    """The runs of `captured` made one by one, and their store, which tests read or copy."""
    folder = tmp_path_factory.mktemp("one-by-one") / "acts"
    return captured(model, folder, batch=1)[0], folder


@pytest.fixture(scope="module")
def clean(model: interp.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores `together` and `alone` with the clean runs of two samples, made in batches and one by one; to copy."""
    folder = tmp_path_factory.mktemp("clean")
    for name, batch in (("together", 4), ("alone", 1)):
        captured(model, folder / name, batch=batch, samples=SAMPLES[:2], spec=interp.parse(["latent/full"]))
    return folder


def near(ours: np.ndarray, theirs: np.ndarray) -> bool:
    scale = float(np.sqrt(np.mean(np.square(theirs, dtype=np.float64))))
    return np.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE * scale)


def assert_same(one: store.ActivationStore, other: store.ActivationStore, run_ids: Sequence[str]) -> None:
    """Everything that two stores have of some runs, but for rounding."""
    for run_id in run_ids:
        ours, theirs = one.run(run_id), other.run(run_id)
        assert (ours.run, ours.steps) == (theirs.run, theirs.steps)
        assert [(score.metric, score.step) for score in ours.scores] == [(s.metric, s.step) for s in theirs.scores]
        assert [score.value for score in ours.scores] == pytest.approx([s.value for s in theirs.scores], abs=1e-3)
        assert {(a.site, a.reduction) for a in ours.arrays} == {(a.site, a.reduction) for a in theirs.arrays}
        for array in theirs.arrays:
            made, alone = (
                acts.load(array.site, array.reduction, runs=[run_id], lazy=False).isel(run=0) for acts in (one, other)
            )
            assert made.dims == alone.dims
            for name in alone.coords:
                assert np.array_equal(made[name].values, alone[name].values), (array.site, array.reduction, name)
            if made.dtype == np.uint8:
                assert np.abs(made.values.astype(int) - alone.values.astype(int)).max() <= 1, array.site
            else:
                assert near(made.values, alone.values), (array.site, array.reduction)
        query = f"SELECT * FROM token_stats WHERE run_id = '{run_id}' ORDER BY ALL"
        for mine, alone in zip(one.sql(query).fetchall(), other.sql(query).fetchall(), strict=True):
            assert mine[:6] == alone[:6]  # labels: run, site, branch, step, layer, frame
            assert mine[6:] == pytest.approx(alone[6:], rel=1e-3, abs=1e-4)


def test_runs_of_a_batch_are_stored_as_those_made_one_by_one(
    model: interp.Model, alone: tuple[interp.Captured, Path], tmp_path: Path
) -> None:
    """Six runs in batches of three, two experts: ids, arrays, labels, first noise, statistics, steps, video."""
    together, batched = captured(model, tmp_path / "together", batch=4)
    single = store.open(alone[1])
    assert together == alone[0]
    assert together.made == 6
    assert_same(batched, single, together.run_ids)
    first = [acts.load("latent", "full", step=0, lazy=False).sortby("run") for acts in (batched, single)]
    assert first[0].identical(first[1])
    assert len({value.tobytes() for value in first[0].values}) == 2  # one for each seed, whatever the sample
    videos = batched.load("output", "pixels", lazy=False)
    assert len({value.tobytes() for value in videos.values}) == 6


def test_rows_that_are_swapped_do_not_go_unnoticed(
    model: interp.Model, alone: tuple[interp.Captured, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: blocks of a batch are given to its runs in the wrong order."""
    original = rows.Split.__init__
    monkeypatch.setattr(rows.Split, "__init__", lambda split, given: original(split, given[::-1]))
    together, batched = captured(model, tmp_path / "together", batch=4)
    with pytest.raises(AssertionError):
        assert_same(batched, store.open(alone[1]), together.run_ids[:1])


def test_scores_of_a_batch_are_those_of_its_own_samples(tmp_path: Path) -> None:
    model = interp.load("tinywan", device="cpu")
    samples = interp.worlds["grounding"].generate(2, seed=4)
    how = {"spec": interp.parse(["x0_hat/pixels"]), "seeds": (0,), "settings": model.settings(steps=2, guidance=1.0)}
    together, batched = captured(model, tmp_path / "together", batch=2, samples=samples, **how)
    alone, single = captured(model, tmp_path / "alone", batch=1, samples=samples, **how)
    assert together == alone
    assert_same(batched, single, alone.run_ids)
    query = "SELECT count(*), count(DISTINCT step), count(DISTINCT run_id) FROM scores"
    count, steps, runs = batched.sql(query).fetchall()[0]
    assert (steps, runs) == (2, 2)
    assert count % 6 == 0


ROW_WISE: tuple[Sequence[Intervention], ...] = (
    [NoiseAtStep(steps=(1,)), BlockNoise(alpha=0.3, layers=(1,))],
    [NoiseAtFrame(frames=(1,), steps=(1,), matched=True), Ablate(mode="zero", site="mlp_out", layers=(2,), steps=(1,))],
    [Ablate(mode="resample", layers=(0,)), Steer(direction=(0.1,) * tiny.WIDTH, layers=(1,))],
    [Patch(donor=Donor(seed=5), layers=(1,), steps=(0, 1))],
    [Patch(donor=Donor(sample=SAMPLES[1].id), site="latent", steps=(0,))],
    [Ensemble(seeds=(3, 8), layers=(1, 2), steps=(0,))],
)


@pytest.mark.parametrize("changes", ROW_WISE, ids=lambda changes: "-".join(one.kind for one in changes))
def test_changed_runs_of_a_batch_are_those_made_one_by_one(
    model: interp.Model, clean: Path, tmp_path: Path, changes: Sequence[Intervention]
) -> None:
    """Each row has its own noise and donors: the same as alone, and not those of another row."""
    stores = []
    for name, batch in (("together", 4), ("alone", 1)):
        some: dict[str, Any] = {"batch": batch, "samples": SAMPLES[:2]}
        shutil.copytree(clean / name, tmp_path / name)
        done, acts = captured(model, tmp_path / name, **some, interventions=changes)
        assert done.made == 4
        stores.append(acts)
    assert_same(*stores, done.run_ids)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many videos each call of the pipeline makes."""
    found: list[int] = []
    batch_inputs = interp.Model.batch_inputs

    def counted(self: Any, each: Any, **kwargs: Any) -> Any:
        found.append(len(each))
        return batch_inputs(self, each, **kwargs)

    monkeypatch.setattr(interp.Model, "batch_inputs", counted)
    return found


def test_donors_of_a_batch_are_made_together_and_each_once(
    model: interp.Model, tmp_path: Path, calls: list[int]
) -> None:
    """Two samples under two seeds take values of the seed 5: two donors."""
    patch = [Patch(donor=Donor(seed=5), layers=(1,), steps=(0,))]
    captured(model, tmp_path / "acts", batch=4, samples=SAMPLES[:2], interventions=patch)
    assert calls == [2, 4]


def test_donors_of_several_arms_are_made_together(model: interp.Model, tmp_path: Path, calls: list[int]) -> None:
    """Two samples, two seeds that donate: four donors in one call; and then from the store, where they are kept."""
    patches = [Patch(donor=Donor(seed=seed), layers=(1,), steps=(0,)) for seed in (5, 6)]
    arms = [Condition(interventions=intervening.planned(model, [one])) for one in patches]
    spec = interp.parse(["latent/full"])
    acts = store.open(tmp_path / "acts", mode="a")
    asked = {"clean": spec, "child": spec, "into": acts, "settings": settings(model)}
    todo = experimenting.programme(model, SAMPLES[:2], arms, seeds=(3,), **asked)
    assert experimenting.conduct(model, todo, into=acts, batch=4) == 6
    assert calls == [2, 4, 4]
    kept = store.open(tmp_path / "kept", mode="a")
    asked |= {
        "clean": interp.parse(["latent/full", "resid_post/full@layers=1@steps=0@branches=cond,uncond"]),
        "into": kept,
    }
    donors = experimenting.programme(model, SAMPLES[:2], [], seeds=(5, 6), **asked)
    experimenting.conduct(model, donors, into=kept, batch=4)
    again = experimenting.programme(model, SAMPLES[:2], arms, seeds=(3,), **asked)
    assert experimenting.conduct(model, again, into=kept, batch=4) == 6
    assert calls == [2, 4, 4, 4, 2, 4]
    for one, other in zip(todo.arms, again.arms, strict=True):
        for (_, made), (_, other_made) in zip(one.runs, other.runs, strict=True):
            values = [acts.load("latent", "full", runs=[made.id]), kept.load("latent", "full", runs=[other_made.id])]
            np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5)


def test_a_batch_begins_where_its_clean_runs_have_kept_enough(
    model: interp.Model, alone: tuple[interp.Captured, Path], tmp_path: Path
) -> None:
    """Rows begin together at the step of their change, each from its own clean run."""
    forwards = 0

    def count(module: Any, args: Any) -> None:
        nonlocal forwards
        forwards += 1

    hooks = [denoiser.register_forward_pre_hook(count) for denoiser in model.adapter.denoisers().values()]
    _, acts = captured(model, tmp_path / "acts", batch=6)
    assert forwards == 2 * STEPS
    done, _ = captured(model, tmp_path / "acts", batch=6, interventions=[NoiseAtStep(steps=(2,))])
    assert (done.made, forwards) == (6, 2 * STEPS + 2)
    for hook in hooks:
        hook.remove()
    shutil.copytree(alone[1], tmp_path / "alone")
    _, single = captured(model, tmp_path / "alone", batch=1, interventions=[NoiseAtStep(steps=(2,))])
    assert_same(acts, single, done.run_ids)


def test_arms_that_begin_at_one_step_share_batches(model: interp.Model, tmp_path: Path, calls: list[int]) -> None:
    changes = [[NoiseAtStep(steps=(step,), draw=draw)] for step in (1, 2) for draw in (0, 1)]
    arms = [Condition(interventions=intervening.planned(model, one)) for one in changes]
    spec = interp.parse(["latent/full"])
    stores: list[store.ActivationStore] = []
    for name, batch in (("together", 8), ("alone", 1)):
        acts = store.open(tmp_path / name, mode="a")
        asked = {"clean": spec, "child": spec, "into": acts, "seeds": (3,), "settings": settings(model)}
        todo = experimenting.programme(model, SAMPLES, arms, **asked)
        assert experimenting.conduct(model, todo, into=acts, batch=batch) == 15
        stores.append(acts)
    assert calls == [3, 6, 6, *[1] * 15]
    assert_same(*stores, todo.run_ids)


class Planted(Exception):
    """A fault of the test's own."""


def test_a_batch_that_fails_leaves_nothing_and_those_before_it_stay(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = batching.Model.batch_inputs, 0

    def inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Planted
        return original(self, *args, **kwargs)

    monkeypatch.setattr(interp.Model, "batch_inputs", inputs)
    with pytest.raises(Planted):
        captured(model, tmp_path / "acts", batch=2)
    acts = store.open(tmp_path / "acts")
    assert len(acts.run_ids()) == 2
    assert len(list((tmp_path / "acts" / "runs").iterdir())) == 2
    again, _ = captured(model, tmp_path / "acts", batch=2)
    assert (again.made, again.reused) == (4, 2)


def test_an_error_in_completing_a_batch_stops_the_sweep(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that cannot be committed and the batch in generation leave nothing."""
    original, calls = RunWriter.commit, []

    def commit(self: RunWriter, seconds: float) -> str:
        calls.append(self.id)
        if len(calls) == 1:
            raise Planted
        return original(self, seconds)

    monkeypatch.setattr(RunWriter, "commit", commit)
    with pytest.raises(Planted):
        captured(model, tmp_path / "acts", batch=1)
    assert len(calls) < 6
    kept = store.open(tmp_path / "acts").run_ids()
    assert calls[0] not in kept
    assert len(list((tmp_path / "acts" / "runs").iterdir())) == len(kept)


def test_running_out_of_memory_names_the_batch(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interp.Model, "batch_inputs", lambda *args, **kwargs: torch.empty(1 << 50, dtype=torch.uint8))
    with pytest.raises(
        interp.OutOfMemory, match=r"a batch of 3 videos, each of 9 frames .* smaller --batch than 3"
    ) as e:
        captured(model, tmp_path / "acts", batch=3)
    assert "of these 3 runs nothing is kept" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_pipeline_that_makes_one_video_a_call_goes_one_by_one_and_says_why(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(model.adapter), "alone", property(lambda adapter: "a reason"))
    with caplog.at_level(logging.WARNING):
        done, _ = captured(model, tmp_path / "acts", batch=4)
    assert done.made == 6
    assert [r.message for r in caplog.records if r.name == "interp.batching"] == [
        "WanImageToVideoPipeline makes its runs one by one, not in batches of 4: a reason"
    ]


def test_a_picture_that_is_repeated_for_all_videos_keeps_runs_alone() -> None:
    """Wan 2.1 shows the picture to its transformer through an image encoder."""
    pipeline = tiny.pipeline()
    assert interp.load(pipeline).adapter.alone is None
    pipeline.transformer.register_to_config(image_dim=8)
    assert "repeats one picture" in str(interp.load(pipeline).adapter.alone)


def test_runs_that_another_process_has_made_meanwhile_are_left_out(model: interp.Model, tmp_path: Path) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    asked: dict[str, Any] = {"into": acts, "settings": settings(model)}
    todo = interp.sweep(model, SAMPLES[:1], **asked, seeds=range(4))
    interp.capture(model, SAMPLES[:1], **asked, seeds=[1, 2, 3])
    before = {run_id: acts.run(run_id).provenance.started for run_id in acts.run_ids()}
    assert capturing.make_all(model, [todo], acts, batch=2) == 1
    assert len(acts.run_ids()) == 4
    assert {run_id: acts.run(run_id).provenance.started for run_id in before} == before


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_of_nothing_is_refused(model: interp.Model, tmp_path: Path, size: int) -> None:
    with pytest.raises(interp.BadInput, match=f"a batch of {size} runs makes nothing; give 1 or more"):
        captured(model, tmp_path / "acts", batch=size)


def test_batches_are_as_equal_as_can_be_and_hold_each_run_once(model: interp.Model, tmp_path: Path) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    asked = {"into": acts, "seeds": range(7), "settings": settings(model)}
    clean = interp.sweep(model, SAMPLES[:1], **asked)
    changes = [NoiseAtStep(steps=(1,)), NoiseAtStep(steps=(1,), draw=3), NoiseAtStep(steps=(2,))]
    changed = [interp.sweep(model, SAMPLES[:1], **asked, interventions=[change]) for change in changes]

    def made(size: int, *sweeps: interp.Sweep) -> list[list[int]]:
        found = batching.batches(model, [(one.missing, one.plan) for one in sweeps], size=size)
        return [[run.seed for _, run in batch.pairs] for batch in found]

    assert made(3, clean) == [[0, 1], [2, 3], [4, 5, 6]]
    assert made(7, clean, clean) == [[0, 1, 2, 3, 4, 5, 6]]
    assert list(map(len, made(99, clean, *changed))) == [7, 14, 7]
    assert list(map(len, made(1, clean))) == [1] * 7


def test_a_sweep_is_planned_once(model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original: Callable[..., Any] = capturing.plan
    for module in (capturing, making, interp.planning):
        if hasattr(module, "plan"):
            monkeypatch.setattr(module, "plan", lambda *args: calls.append(1) or original(*args))
    captured(model, tmp_path / "acts", batch=2)
    assert len(calls) == 1


def test_videos_are_scored_alike_in_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = interp.worlds["maze"].generate(3, seed=2)
    shown = [
        scoring.Shown(one, one.video[::-1], step) for one in samples for step in (0, None) if one.video is not None
    ]
    here = scoring.scored(shown)
    monkeypatch.setattr(scoring, "MANY", 2)
    monkeypatch.setattr(scoring, "PROCESSES", 2)
    assert scoring.scored(shown) == here
    assert [score.step for score in here[0]] == [0] * len(here[0])
    assert len(here) == 6
