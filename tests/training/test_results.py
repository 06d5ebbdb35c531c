"""What is measured, written down, packed and unpacked."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training import (
    ambiguity,
    card,
    checkpoint,
    evaluate,
    failures,
    loop,
    measure,
    model,
    scoring,
    ship,
    success,
    transformer,
    vae,
)
from training.ambiguity import by_step, shares
from training.scoring import Cell
from training.session import Session
from training.success import Interval, Request, Settings

EASY = Cell("maze", "in_domain", "easy", 5, 3)
AMBIGUOUS = Cell("tic_tac_toe", "in_domain", "hard", 5, 1)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 200, 0.0, 0.0188), (162, 200, 0.7500, 0.8583), (200, 200, 0.9812, 1.0)]
)
def test_wilson_intervals(hits: int, n: int, low: float, high: float) -> None:
    interval = Interval.of(hits, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
    assert interval.low <= interval.value <= interval.high


class Cheat:
    """Stands for the sampler, and knows the truth of every second question."""

    def __init__(self, session: Session, cells: list[Cell]) -> None:
        self.config = session.config
        self._known = {
            picture.tobytes(): video for cell in cells for video in scoring.truths(cell) for picture in [video[0]]
        }

    def videos(self, first_frames: np.ndarray, prompts: list[str], *, seeds: list[int], **_: object) -> np.ndarray:
        assert len(first_frames) == len(prompts) == len(seeds)
        still = np.repeat(first_frames[:, None], 17, axis=1)
        for i, (picture, seed) in enumerate(zip(first_frames, seeds, strict=True)):
            if seed % 2:
                still[i] = self._known[picture.tobytes()]
        return still


def test_every_score_finds_its_sample(finished: Session) -> None:
    cells = [EASY._replace(n=30), EASY._replace(family="tic_tac_toe", n=7)]
    settings = [Settings(2, 1.0), Settings(3, 1.0)]
    with scoring.executor(0) as pool:
        found = success.measure(Cheat(finished, cells), pool, [Request(one, tuple(cells)) for one in settings])  # type: ignore[arg-type]
    assert set(found) == {(one, cell) for one in settings for cell in cells}
    for (_, cell), scores in found.items():
        assert [score["overall"] >= success.SOLVED for score in scores] == [bool(i % 2) for i in range(cell.n)]
    summary = success.by_family(found, settings[0], cells)
    assert summary["solved"]["value"] == pytest.approx(18 / 37)
    assert summary["families"]["tic_tac_toe"]["solved"]["value"] == pytest.approx(3 / 7)


def test_another_process_scores_alike() -> None:
    videos = scoring.truths(EASY)
    with scoring.executor(1) as pool:
        elsewhere = pool.submit(scoring.scores, EASY, videos).result()
    assert elsewhere == scoring.scores(EASY, videos) == [{"answer": 1.0, "process": 1.0, "overall": 1.0}] * 3


def test_endings_name_the_answer_and_evidence_is_its_own() -> None:
    (sample,) = scoring.samples(AMBIGUOUS)
    answers = sample.answer_videos
    assert answers is not None
    still = np.repeat(sample.first_frame[None], 17, axis=0)
    assert scoring.endings(AMBIGUOUS, np.stack([*answers, still])) == [*range(len(answers)), None]
    seen = np.asarray(scoring.evidence(AMBIGUOUS, np.stack([*answers, still])))
    np.testing.assert_allclose(seen, np.vstack([np.eye(len(answers)), np.zeros(len(answers))]), atol=0.01)


def test_ambiguous_samples_have_several_answers() -> None:
    found = scoring.ambiguous("tic_tac_toe", 3, 4)
    assert len(found) == 4
    for cell, answers in found:
        (sample,) = scoring.samples(cell)
        assert sample.record.answers == answers > 1
    assert len({cell.difficulty for cell, _ in found}) > 1


def test_shares_are_measured_against_the_fair_one() -> None:
    told = shares(AMBIGUOUS, 2, [0] * 60 + [1] * 20 + [None] * 20)
    assert (told["counts"], told["right"], told["seeds"]) == ([60, 20], 80, 100)
    assert told["smallest"]["value"] == pytest.approx(0.5)
    assert told["smallest"]["low"] < 0.5 < told["smallest"]["high"]
    assert shares(AMBIGUOUS, 2, [None, None])["smallest"] is None
    never = shares(AMBIGUOUS, 2, [None, None])
    assert ambiguity.worst({"endings": [told, never]}) is never


def test_evidence_step_by_step() -> None:
    told = by_step([[[0.5, 0.5, 0.0], [0.1, 0.9, 0.0]], [[0.1, 0.1, 0.1], [1.0, 0.0, 0.0]]])
    assert [step["largest"] for step in told["steps"]] == pytest.approx([0.3, 0.95])
    assert [step["second"] for step in told["steps"]] == pytest.approx([0.3, 0.05])
    entropy = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    assert [step["effective"] for step in told["steps"]] == pytest.approx([2.5, (math.exp(entropy) + 1) / 2])
    assert told["several_at_first"]["value"] == 0.5


def test_the_worst_failures_are_shown_family_by_family() -> None:
    bad, good = {"overall": 0.2}, {"overall": 1.0}
    cells = {EASY: [good, bad, good], EASY._replace(difficulty="hard"): [bad, bad, bad]}
    cells[EASY._replace(family="tic_tac_toe")] = [bad, good, good]
    cells[EASY._replace(family="tic_tac_toe", split="out_of_domain")] = [bad, bad, bad]
    told = [(one.cell.family, one.cell.difficulty, one.cell.start) for one in failures.pick(cells, 4)]
    assert told == [("maze", "hard", 0), ("tic_tac_toe", "easy", 0), ("maze", "hard", 1), ("maze", "hard", 2)]


def test_the_picture_of_failures_is_small(finished: Session) -> None:
    file = finished.config.out / evaluate.FAILURES
    assert file.stat().st_size <= failures.LIMIT
    with Image.open(file) as image:
        assert image.format == "WEBP"
        assert image.width > 900
        assert np.asarray(image).std() > 10


def test_long_captions_are_broken() -> None:
    assert failures.wrap("aa bb cc dd", lambda text: len(text) <= 5) == ["aa bb", "cc dd"]


def test_the_card_tells_what_was_measured(finished: Session, tmp_path: Path) -> None:
    file = tmp_path / "docs" / "model-card.md"
    card.write(finished.config, file)
    text = file.read_text()
    assert (file.parent / evaluate.FAILURES).exists()
    for wanted in ("tic_tac_toe", "few-step", "two experts", "as trained", "Seed 0", "model-failures.webp", "rarest"):
        assert wanted in text
    rows = [line for line in text.splitlines() if line.startswith("| maze |")]
    assert rows[0].count("(") == 6
    assert max(map(len, [line for line in text.splitlines() if not line.startswith("|")])) < 200


def test_a_folder_that_is_too_big_is_refused(finished: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LIMIT", 1000)
    with pytest.raises(measure.TooBig, match="MiB"):
        measure.measure(finished.config)


def test_a_parcel_comes_back_whole_and_training_goes_on_from_it(
    finished: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "PART", 2_000_000)
    files = ship.ship(finished.config, tmp_path / "parcel")
    assert 2 < len(files) <= ship.FILES
    assert all(file.stat().st_size <= ship.PART for file in files)
    config = replace(finished.config, out=tmp_path / "again")
    ship.unship(config, tmp_path / "parcel")
    for file in sorted(finished.config.model_folder.rglob("*")):
        if file.is_file():
            assert (config.out / file.relative_to(finished.config.out)).read_bytes() == file.read_bytes()
    assert json.loads(evaluate.path(config).read_text()) == json.loads(evaluate.path(finished.config).read_text())
    ship.restore(config)
    for ours, theirs in zip(
        Session(config).parts().transformer.parameters(),
        finished.parts(shipped=True).transformer.parameters(),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    before = finished.config.transformer.steps or 0
    transformer.train(Session(replace(config, transformer=replace(config.transformer, steps=6, rate=1e-5))))
    record = checkpoint.record(config.checkpoint("transformer"))
    assert record["step"] == before + 6
    assert [(leg["steps"], leg["rate"]) for leg in loop.legs(record)] == [(before, 1e-3), (6, 1e-5)]


def test_a_decoder_is_trained_on_alone_and_latents_stay(finished: Session, tmp_path: Path) -> None:
    ship.ship(finished.config, tmp_path / "parcel")
    options = replace(finished.config.vae, steps=3, rate=1e-2, decoder_only=True)
    config = replace(finished.config, out=tmp_path / "again", vae=options)
    with pytest.raises(ValueError, match="train the whole VAE first"):
        vae.train(Session(config))
    ship.unship(config, tmp_path / "parcel")
    ship.restore(config)
    before = Session(config).parts().vae
    vae.train(Session(config))
    after = Session(config).parts().vae
    assert after.config["latents_mean"] == before.config["latents_mean"]
    changed = {
        name.split(".")[0]
        for (name, old), new in zip(before.state_dict().items(), after.state_dict().values(), strict=True)
        if not torch.equal(old, new)
    }
    assert changed == {"decoder", "post_quant_conv"}
    longer = replace(config, vae=replace(options, steps=5))
    vae.train(Session(longer))
    assert [leg["steps"] for leg in loop.legs(checkpoint.record(config.checkpoint("vae")))] == [2, 5]


def test_latents_are_held_at_a_price_while_the_whole_vae_is_trained(finished: Session, tmp_path: Path) -> None:
    """The dearer a move, the less they move; they move, and their normalisation stays."""
    ship.ship(finished.config, tmp_path / "parcel")
    moves = []
    for hold in (1e-6, 1e3):
        options = replace(finished.config.vae, steps=12, rate=1e-3, hold=hold)
        config = replace(finished.config, out=tmp_path / str(hold), vae=options)
        ship.unship(config, tmp_path / "parcel")
        ship.restore(config)
        before = Session(config).parts().vae
        vae.train(Session(config))
        after = Session(config).parts().vae
        assert after.config["latents_mean"] == before.config["latents_mean"]
        video = torch.rand(4, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        old, new = (one.encode(video).latent_dist.mean for one in (before, after))
        moves.append(float((new - old).pow(2).mean() / old.var()))
    assert 0 < moves[1] < 0.5 * moves[0]


def test_a_decoder_that_was_trained_further_goes_into_the_folder_alone(finished: Session, tmp_path: Path) -> None:
    """The variants stay, in the folder and in what is told of their training."""
    ship.ship(finished.config, tmp_path / "parcel")
    options = replace(finished.config.vae, steps=3, rate=1e-2, decoder_only=True)
    config = replace(finished.config, out=tmp_path / "again", vae=options)
    ship.unship(config, tmp_path / "parcel")
    ship.restore(config)
    vae.train(Session(config))
    model.export_vae(Session(config).parts(), config)
    files = [file.relative_to(config.out) for file in config.model_folder.rglob("*") if file.is_file()]
    before = {name: (finished.config.out / name).read_bytes() for name in files}
    changed = [str(name) for name in files if (config.out / name).read_bytes() != before[name]]
    assert changed == ["model/vae/diffusion_pytorch_model.safetensors"]
    assert evaluate.training(config)["stages"].keys() == evaluate.training(finished.config)["stages"].keys()
    assert len(evaluate.training(config)["stages"]["vae"]["legs"]) == 2


def test_a_damaged_parcel_is_refused(finished: Session, tmp_path: Path) -> None:
    *_, part, _ = ship.ship(finished.config, tmp_path)
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    with pytest.raises(ship.ShipError, match="damaged"):
        ship.unship(replace(finished.config, out=tmp_path / "again"), tmp_path)
    part.unlink()
    with pytest.raises(ship.ShipError, match="missing"):
        ship.unship(replace(finished.config, out=tmp_path / "again"), tmp_path)


def test_too_much_for_a_parcel_is_refused(finished: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "PART", 1000)
    with pytest.raises(ship.ShipError, match="parts"):
        ship.ship(finished.config, tmp_path)


def test_finished_stages_are_not_done_again(finished: Session) -> None:
    before = finished.config.checkpoint("transformer").stat().st_mtime_ns
    transformer.train(finished)
    assert finished.config.checkpoint("transformer").stat().st_mtime_ns == before


def test_what_was_measured_is_not_measured_again_unless_the_model_has_changed(
    finished: Session, tmp_path: Path
) -> None:
    config = replace(finished.config, out=tmp_path / "copy")
    shutil.copytree(finished.config.out, config.out)
    calls: list[int] = []

    def find() -> int:
        calls.append(0)
        return 7

    assert [evaluate._once(config, "found", find)["found"] for _ in range(2)] == [7, 7]
    assert len(calls) == 1
    (config.model_folder / "few_step" / "stepscope.json").write_text("{}")
    evaluate._once(config, "found", find)
    assert len(calls) == 2
    evaluate._once(replace(config, evaluation=replace(config.evaluation, n=9)), "found", find)
    assert len(calls) == 3


def test_an_evaluation_that_is_done_is_written_anew_from_its_parts(finished: Session) -> None:
    before = json.loads(evaluate.path(finished.config).read_text())
    evaluate.evaluate(finished)
    assert json.loads(evaluate.path(finished.config).read_text()) == before


def _row(guidance: float, hits: int, n: int = 570, *, overall: float = 0.9) -> dict[str, object]:
    return {"guidance": guidance, "solved": Interval.of(hits, n)._asdict(), "overall": overall}


@pytest.mark.parametrize(
    ("hits", "guidance"),
    [
        ({1.5: 548, 2.5: 550, 4.0: 537}, 1.5),  # 96.1 % is within 94.6 to 97.7 %
        ({1.5: 538, 2.5: 550, 4.0: 537}, 2.5),  # 94.4 % is not
        ({1.5: 300, 2.5: 540, 4.0: 550}, 2.5),  # nor is the lowest the best by itself
        ({1.5: 300, 2.5: 400, 4.0: 550}, 4.0),
        ({4.0: 550, 1.5: 550, 2.5: 550}, 1.5),  # in any order
    ],
)
def test_the_lowest_guidance_that_cannot_be_told_from_the_best_is_shipped(
    hits: dict[float, int], guidance: float
) -> None:
    assert evaluate.chosen([_row(one, count) for one, count in hits.items()])["guidance"] == guidance


def test_a_guidance_at_the_very_end_of_the_interval_is_within_it() -> None:
    best = _row(4.0, 90, 100)
    low = best["solved"]["low"]  # pyright: ignore[reportIndexIssue]
    at = {"guidance": 1.5, "solved": {"value": low, "low": 0.0, "high": 1.0}, "overall": 0.5}
    under = {**at, "solved": {"value": low - 1e-9, "low": 0.0, "high": 1.0}}
    assert evaluate.chosen([at, best])["guidance"] == 1.5
    assert evaluate.chosen([under, best])["guidance"] == 4.0


def test_fewer_samples_tell_less_apart() -> None:
    """At 25 of 30 the next lower guidance may be chance; at 250 of 300 it is not."""
    assert evaluate.chosen([_row(1.5, 22, 30), _row(4.0, 25, 30)])["guidance"] == 1.5
    assert evaluate.chosen([_row(1.5, 220, 300), _row(4.0, 250, 300)])["guidance"] == 4.0
