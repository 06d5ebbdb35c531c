"""Pictures of a task family for people: a contact sheet of its samples, and a film of each.

Shapes: k answers, F frames, H×W pixels.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from interp import videos
from interp.errors import BadInput
from interp.worlds import worlds
from store.records import Sample

FPS: Final = 8
"""Frames a second of a film."""
SCALE: Final = 4
"""Pixels of a film along a pixel of the video."""
GAP: Final = 4
"""Pixels between the frames of a sheet."""
LETTERS: Final = 16
"""Size of a sheet's letters in pixels."""
PAPER, INK = (255, 255, 255), (38, 38, 46)


class Rendered(NamedTuple):
    """The files that were written."""

    sheet: Path
    films: tuple[Path, ...]


def render(
    family: str,
    out: Path,
    *,
    n: int = 3,
    seed: int = 0,
    difficulty: str | None = None,
    split: str = "in_domain",
) -> Rendered:
    """Draw the first `n` samples of a stream.

    Args:
        family: Name of the world.
        out: Folder that is made if it is missing; must be empty. Files appear when all of them are drawn.
        n: Samples.
        seed: Names the stream.
        difficulty: One of the family's; None takes them in turn.
        split: `in_domain` or `out_of_domain`.

    Raises:
        UnknownName: if there is no such family.
        BadInput: if the folder holds something already or cannot be written, or an option is none of the family's.
    """
    if n < 1:
        raise BadInput(f"n is {n}, but must be at least 1")
    world = worlds[family]
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BadInput(f"{out} exists already; nothing is overwritten, so name another folder with -o or remove it")
    samples = world.generate(n, seed=seed, difficulty=difficulty, split=split)
    try:
        return _write(samples, family, out)
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error.strerror or error}; choose another folder") from error


def _write(samples: Sequence[Sample], family: str, out: Path) -> Rendered:
    """Everything into a hidden folder first, and from there into `out`."""
    films = [f"{family}-{number}.mp4" for number in range(len(samples))]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=out) as hidden:
        part = Path(hidden)
        sheet(samples).save(part / f"{family}.png")
        for name, sample in zip(films, samples, strict=True):
            assert sample.video is not None
            film(sample.video, part / name)
        for file in part.iterdir():
            file.rename(out / file.name)
    return Rendered(out / f"{family}.png", tuple(out / name for name in films))


def sheet(samples: Sequence[Sample]) -> PIL.Image.Image:
    """Samples below each other: the prompt, then one row of frames for each valid answer."""
    return PIL.Image.fromarray(np.concatenate([part for sample in samples for part in (_words(sample), _rows(sample))]))


def _rows(sample: Sample) -> NDArray[np.uint8]:
    """One row for each valid answer, uint8 `[k·(H + GAP), F·(W + GAP), 3]`."""
    answers = sample.answer_videos
    assert answers is not None
    framed = np.full((*answers.shape[:2], answers.shape[2] + GAP, answers.shape[3] + GAP, 3), PAPER, np.uint8)
    framed[:, :, GAP // 2 : -GAP // 2, GAP // 2 : -GAP // 2] = answers
    return np.concatenate([np.concatenate(list(row), axis=1) for row in framed])


def _words(sample: Sample) -> NDArray[np.uint8]:
    """What a sample asks, uint8 `[lines, F·(W + GAP), 3]`."""
    assert sample.video is not None
    record = sample.record
    width = len(sample.video) * (sample.video.shape[2] + GAP)
    several = "" if record.answers == 1 else f", {record.answers} answers ({record.labels['kind']})"
    lines = textwrap.wrap(f"{record.difficulty}, {record.split}{several}:  {record.prompt}", width // (LETTERS // 2))
    picture = PIL.Image.new("RGB", (width, (len(lines) + 1) * (LETTERS + GAP)), PAPER)
    draw = PIL.ImageDraw.Draw(picture)
    font = PIL.ImageFont.load_default(LETTERS)
    for number, line in enumerate(lines):
        draw.text((GAP, LETTERS // 2 + number * (LETTERS + GAP)), line, fill=INK, font=font)
    return np.asarray(picture)


def film(video: NDArray[np.uint8], path: Path) -> None:
    """Write a video as H.264, every pixel `SCALE` times as large.

    Args:
        video: uint8 `[F, H, W, 3]`.
        path: File to write; its ending names the container.
    """
    videos.write(video.repeat(SCALE, axis=1).repeat(SCALE, axis=2), path, fps=FPS)
