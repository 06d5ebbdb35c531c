"""A picture of samples that the model fails: the true frames above the model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training import scoring
from training.sampling import Sampler
from training.scoring import Cell
from training.success import SOLVED, Scores, Settings

FRAMES = (0, 4, 8, 12, 16)
COLUMNS, GAP, CAPTION = 2, 6, 26
LIMIT = 400_000
"""Bytes that the picture may have."""


class Failure(NamedTuple):
    """One failed sample."""

    cell: Cell
    """Of one sample."""
    overall: float


def pick(found: Mapping[Cell, Scores], n: int) -> list[Failure]:
    """Up to `n` failed samples in domain: families in turn, each one's hardest cell first."""
    families: dict[str, list[Failure]] = {}
    for cell, scores in reversed(list(found.items())):
        if cell.split == "in_domain":
            families.setdefault(cell.family, []).extend(
                Failure(cell._replace(start=cell.start + i, n=1), score["overall"])
                for i, score in enumerate(scores)
                if score["overall"] < SOLVED
            )
    turns = [(turn, family, failure) for family, each in families.items() for turn, failure in enumerate(each[:n])]
    return [failure for *_, failure in sorted(turns)[:n]]


def draw(sampler: Sampler, failures: Sequence[Failure], settings: Settings, file: Path) -> None:
    """Sample `failures` once more, with the seeds that failed, and write the picture as WebP."""
    rows = []
    for cell, overall in failures:
        pictures, prompts = scoring.questions(cell)
        videos = sampler.videos(pictures, prompts, seeds=[cell.start], **settings._asdict())
        rows.append(
            panel(
                f"{cell.family}, {cell.difficulty}, overall {overall:.2f}: {prompts[0]}",
                scoring.truths(cell)[0],
                videos[0],
            )
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(sheet(rows)))


def panel(caption: str, true: NDArray[np.uint8], made: NDArray[np.uint8]) -> Image.Image:
    """One sample: caption, frames of the true video, frames of the model's."""
    size = true.shape[1]
    width = len(FRAMES) * (size + GAP) - GAP
    image = Image.new("RGB", (width, CAPTION + 2 * size + GAP), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
    lines = wrap(caption, lambda text: pen.textlength(text, font=font) <= width)
    for number, line in enumerate(lines[:2]):
        pen.text((0, 12 * number), line, fill="black", font=font)
    for row, video in enumerate((true, made)):
        for column, frame in enumerate(FRAMES):
            image.paste(Image.fromarray(video[frame]), (column * (size + GAP), CAPTION + row * (size + GAP)))
    return image


def wrap(text: str, fits: Callable[[str], bool]) -> list[str]:
    """`text` in lines that all fit."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if fits(longer) or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def sheet(panels: Sequence[Image.Image]) -> Image.Image:
    """All panels, in two columns; a note where there is none."""
    if not panels:
        return Image.new("RGB", (64, 16), "white")
    width, height = panels[0].size
    rows = -(-len(panels) // COLUMNS)
    image = Image.new("RGB", (COLUMNS * (width + 4 * GAP), rows * (height + 3 * GAP)), "white")
    for number, one in enumerate(panels):
        image.paste(one, (number % COLUMNS * (width + 4 * GAP) + 2 * GAP, number // COLUMNS * (height + 3 * GAP) + GAP))
    return image


def encoded(image: Image.Image) -> bytes:
    """WebP, as good as `LIMIT` allows."""
    for quality in (90, 75, 60, 40):
        buffer = BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() <= LIMIT:
            break
    return buffer.getvalue()
