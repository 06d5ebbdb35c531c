"""The floors of scorers: what true videos score, and what videos score that solve nothing.

A success rate means something only if its scorer gives the truth everything and what merely looks like a video
nothing. So every family is held to the same bounds, on its worst sample.

Shapes: k answers, F frames, H×W pixels.
"""

from __future__ import annotations

import functools
import os
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from interp import bundled
from interp.errors import BadInput, InterpError
from interp.worlds import SPLITS, World, worlds
from store.records import Sample

Video = NDArray[np.uint8]
VAE: Final = bundled.FOLDER / "tinywan" / "vae"
"""The autoencoder that true videos are sent through, where it is there."""
CUTS: Final = (1, 8, 16)
"""Frames at which a jump cut goes from the first true frame to the last."""
SEED: Final = 5
"""Stream of samples that floors are measured on."""
AT_ONCE: Final = 6
"""Samples in one piece of work, so that the bar moves and an interruption is soon heard."""


class Bound(NamedTuple):
    """What every sample's overall score must satisfy."""

    sign: Literal[">=", "<=", "<"]
    value: float

    def holds(self, least: float, most: float) -> bool:
        """Whether scores between `least` and `most` are all within it."""
        if self.sign == ">=":
            return least >= self.value
        return most <= self.value if self.sign == "<=" else most < self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"


BOUNDS: Final[dict[str, Bound]] = {
    "true": Bound(">=", 1.0),
    "still": Bound("<", 0.1),
    "noise": Bound("<", 0.1),
    "grey": Bound("<", 0.1),
    "wrong": Bound("<", 0.1),
    "jump": Bound("<=", 0.5),
    "vae": Bound(">=", 0.9),
}
"""By what is shown: the true video of every valid answer; the first frame throughout; uniform noise; grey; the world's
own wrong answer; the best of the jump cuts `CUTS`; the true video after the bundled VAE's round trip."""


class Floor(NamedTuple):
    """Overall scores of one kind of video in one family."""

    shown: str
    """Key of `BOUNDS`."""
    n: int
    mean: float
    least: float
    most: float

    @property
    def passed(self) -> bool:
        """Whether the worst sample is within the bound."""
        return BOUNDS[self.shown].holds(self.least, self.most)

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.least if BOUNDS[self.shown].sign == '>=' else self.most:.3f})"


class Floors(NamedTuple):
    """One family's."""

    family: str
    samples: int
    floors: dict[str, Floor]
    """By what is shown, in the order of `BOUNDS`; without `vae` where there is none."""

    @property
    def passed(self) -> bool:
        """Whether all bounds hold."""
        return all(floor.passed for floor in self.floors.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        floors = {
            shown: {**floor._asdict(), "bound": str(BOUNDS[shown]), "passed": floor.passed}
            for shown, floor in self.floors.items()
        }
        return {"family": self.family, "samples": self.samples, "passed": self.passed, "floors": floors}


class _Piece(NamedTuple):
    """A piece of work: samples `start` to `stop` of one split and difficulty."""

    family: str
    split: str
    difficulty: str
    start: int
    stop: int
    shown: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.stop - self.start


def check(
    families: Sequence[str] = (),
    *,
    n: int = 102,
    jobs: int | None = None,
    shown: Sequence[str] = tuple(BOUNDS),
    progress: bool = False,
) -> list[Floors]:
    """Measure the floors of families.

    Args:
        families: Names; every family if there are none.
        n: Samples of each family at least, spread evenly over both splits and all difficulties; one of each is
            the least there can be.
        jobs: Processes; as many as there are cores if not given. One means this process.
        shown: What is scored, of `BOUNDS`; `vae` takes as long as all others.
        progress: Show a bar with the time left.

    Returns:
        In the order asked for.

    Raises:
        UnknownName: for a family that there is not.
        BadInput: if `n` or `jobs` is below 1.
        InterpError: if a process was killed.
    """
    names = list(dict.fromkeys(families)) or worlds.names()
    for what, value in (("n", n), ("jobs", jobs)):
        if value is not None and value < 1:
            raise BadInput(f"{what} is {value}, but must be at least 1")
    pieces = [piece for name in names for piece in _pieces(worlds[name], n, tuple(shown))]
    scores: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    with tqdm(
        total=sum(piece.n for piece in pieces), unit="sample", desc="check", disable=not progress, dynamic_ncols=True
    ) as bar:
        for piece, measured in _each(pieces, jobs=min(jobs or os.cpu_count() or 1, len(pieces))):
            for shown, values in measured.items():
                scores[piece.family][shown] += values
            bar.update(piece.n)
    return [
        Floors(
            name,
            sum(piece.n for piece in pieces if piece.family == name),
            {shown: _floor(shown, scores[name][shown]) for shown in BOUNDS if shown in scores[name]},
        )
        for name in names
    ]


def _pieces(world: World, n: int, shown: tuple[str, ...]) -> list[_Piece]:
    pairs = [(split, difficulty) for split in SPLITS for difficulty in world.difficulties]
    each = -(-n // len(pairs))
    return [
        _Piece(world.name, split, difficulty, start, min(start + AT_ONCE, each), shown)
        for split, difficulty in pairs
        for start in range(0, each, AT_ONCE)
    ]


def _floor(shown: str, scores: list[float]) -> Floor:
    return Floor(shown, len(scores), float(np.mean(scores)), min(scores), max(scores))


def _each(pieces: list[_Piece], *, jobs: int) -> Iterator[tuple[_Piece, dict[str, list[float]]]]:
    """Every piece with its scores, as they get ready."""
    if jobs == 1:
        for piece in pieces:
            yield piece, _measure(piece)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))
    try:
        with _deaf():  # the first piece starts all processes
            waiting = {pool.submit(_measure, piece): piece for piece in pieces}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool as error:
        raise InterpError("a process ended early, most likely for want of memory; try --jobs 1") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started meanwhile never hear an interruption, which is the parent's to handle, and is kept."""
    resource_tracker.ensure_running()  # would else be started with the first process, and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _measure(piece: _Piece) -> dict[str, list[float]]:
    """Overall scores by what was shown."""
    world, index = worlds[piece.family], torch.arange(piece.start, piece.stop)
    batch = world.draw(index, seed=SEED, difficulty=piece.difficulty, split=piece.split)
    samples = world.samples(batch, difficulty=piece.difficulty, split=piece.split)
    wrong = world.wrong(index, seed=SEED, difficulty=piece.difficulty, split=piece.split).numpy()
    scores: dict[str, list[float]] = defaultdict(list)
    for number, sample in enumerate(samples):
        for shown, videos in _shown(sample, wrong[number], piece.start + number).items():
            if shown not in piece.shown:
                continue
            scored = [world.score(sample, video)["overall"] for video in videos]
            scores[shown] += [max(scored)] if shown == "jump" else scored
    if "vae" in piece.shown and (VAE / "config.json").exists():
        for sample, video in zip(samples, _round_trip([_truth(sample) for sample in samples]), strict=True):
            scores["vae"].append(world.score(sample, video)["overall"])
    return dict(scores)


def _truth(sample: Sample) -> Video:
    assert sample.video is not None
    return sample.video


def _shown(sample: Sample, wrong: Video, number: int) -> dict[str, list[Video]]:
    """The videos that are scored as answers to `sample`."""
    true = _truth(sample)
    still = np.repeat(sample.first_frame[None], len(true), axis=0)
    assert sample.answer_videos is not None
    return {
        "true": list(sample.answer_videos),
        "still": [still],
        "noise": [np.random.default_rng(number).integers(0, 256, true.shape, dtype=np.uint8)],
        "grey": [np.full_like(true, 128)],
        "wrong": [wrong],
        "jump": [np.concatenate([still[:cut], np.repeat(true[-1:], len(true) - cut, axis=0)]) for cut in CUTS],
    }


@functools.cache
def _vae() -> Any:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan.from_pretrained(VAE)


def _round_trip(videos: Sequence[Video]) -> Video:
    """Videos uint8 `[F, H, W, 3]` after the autoencoder, uint8 `[n, F, H, W, 3]`."""
    true = torch.from_numpy(np.stack(videos)).permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.no_grad():
        back = _vae().decode(_vae().encode(true).latent_dist.mode()).sample
    return (back * 127.5 + 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 4, 1).numpy()
