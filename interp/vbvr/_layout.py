"""Names and places of VBVR-Bench's layout.

Samples lie in `{split}/{task}/{index}/`, videos in `{split}/{task}/{index}.mp4` below a folder for each model, as the
README of github.com/Video-Reason/VBVR-EvalKit (commit 275472f) describes and its scripts look for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from interp.errors import BadInput

SPLITS: Final = {"in_domain": "In-Domain_50", "out_of_domain": "Out-of-Domain_50"}
"""Folder of each split."""
FIRST, PROMPT, TRUTH, FINAL = "first_frame.png", "prompt.txt", "ground_truth.mp4", "final_frame.png"
FILES: Final = (FIRST, PROMPT, TRUTH, FINAL)
"""What a sample's folder holds; the first two are needed to make a video."""
LIST: Final = "VBVR-Bench.json"
"""All samples in one file, first frames in base64."""
FPS: Final = 16
"""Frames a second: Wan's own. The evaluators never ask for it; they take up to 100 frames, evenly spaced."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Place(NamedTuple):
    """Where a sample is."""

    split: str
    """Name of the folder; empty where the sample lies outside of both."""
    task: str
    index: str
    """Five digits in VBVR-Bench."""

    @property
    def folder(self) -> Path:
        """Of the sample, below the benchmark."""
        return Path(self.split, self.task, self.index)

    @property
    def video(self) -> Path:
        """Of an answer, below a model's folder."""
        return Path(self.split, self.task, f"{self.index}.mp4")

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def checked(name: str, *, what: str) -> str:
    """A name that is safe as one part of a path.

    Raises:
        BadInput: if it has other characters than letters, digits, dot, dash and underscore.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{what} {name[:80]!r} is no name of VBVR's: letters, digits, '.', '-' and '_', up to 128 of them"
        )
    return name


def place_of(parts: tuple[str, ...]) -> Place:
    """The place that the last three names of a sample's folder tell.

    Raises:
        BadInput: if a name cannot be one.
    """
    split, task, index = ("", "", "", *parts)[-3:]
    split = split if split in SPLITS.values() else ""
    return Place(split, checked(task, what="the task folder"), checked(index, what="the sample's folder"))
