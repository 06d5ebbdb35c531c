"""Scores in: the result files of VBVR-Bench's evaluation kit.

`run_evaluation.py` writes `{model}_vbvr_results.json` with a list `samples`, `evaluate.py` writes
`{name}_eval_results.json` with a list `detailed`; both have an entry for each video (VBVR-EvalKit, commit 275472f).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from interp.errors import BadInput
from interp.vbvr import _reading

FILES: Final = ("*_vbvr_results.json", "*_eval_results.json")
LARGEST: Final = 1 << 30
"""Bytes of a result file."""
SCORE: Final = "score"
"""Metric of the kit's own total; the others are the dimensions that it is made of."""
DIMENSIONS: Final = (
    "first_frame_consistency",
    "final_frame_accuracy",
    "temporal_smoothness",
    "visual_quality",
    "task_specific",
)

Key = tuple[str, str, str, str]
"""Folder of the model, split, task, index."""


class Said(NamedTuple):
    """What a file says of a video."""

    file: Path
    values: dict[str, float]
    """By metric; empty where the kit failed."""
    error: str
    """Why it failed, else empty. The kit writes 0.0 then, which is no score."""


class _Entry(BaseModel):
    video_path: str
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    dimensions: dict[str, Any] = {}
    error: str | None = None


class _File(BaseModel):
    samples: list[_Entry] | None = None
    detailed: list[_Entry] | None = None


def files(places: Sequence[Path]) -> list[Path]:
    """Result files among and in some places.

    Raises:
        BadInput: if there is none.
    """
    found = [
        path
        for place in places
        for path in ([place] if place.is_file() else sorted(one for glob in FILES for one in place.glob(glob)))
    ]
    if not found:
        there = ", ".join(str(place) for place in places)
        raise BadInput(f"no result file of the evaluation kit in {there}: it writes {' or '.join(FILES)}; run it first")
    return found


def read(paths: Sequence[Path]) -> dict[Key, Said]:
    """What result files say, by the last four names of each video's path.

    Raises:
        BadInput: if a file cannot be read, or two say different things of a video.
    """
    found: dict[Key, Said] = {}
    for path in paths:
        for entry in _entries(path):
            folder, split, task, file = ("", "", "", "", *re.split(r"[\\/]+", entry.video_path))[-4:]
            key = (folder, split, task, file.removesuffix(".mp4"))
            said = Said(path, {} if entry.error else _values(entry), entry.error or "")
            other = found.setdefault(key, said)
            for metric in said.values.keys() & other.values.keys():
                if not math.isclose(said.values[metric], other.values[metric], abs_tol=1e-9):
                    raise BadInput(
                        f"{other.file} and {path} differ in the {metric} of {'/'.join(key)}: {other.values[metric]:g} "
                        f"and {said.values[metric]:g}; give one of them with --results"
                    )
            found[key] = Said(path, {**other.values, **said.values}, other.error or said.error)
    return found


def _entries(path: Path) -> list[_Entry]:
    try:
        if path.stat().st_size > LARGEST:
            raise BadInput(f"{path} has more than {LARGEST >> 30} GiB: that is no result file of the kit")
        file = _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInput(f"cannot read {path}: {_reading.one_line(error)}") from error
    entries = file.samples if file.samples is not None else file.detailed
    if entries is None:
        raise BadInput(f"{path} has neither samples nor detailed: no result file of run_evaluation.py or evaluate.py")
    return entries


def _values(entry: _Entry) -> dict[str, float]:
    """The total and those dimensions that are numbers from 0 to 1."""
    known = {name: entry.dimensions[name] for name in DIMENSIONS if name in entry.dimensions}
    numbers = {
        name: float(value)
        for name, value in known.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    }
    return {SCORE: entry.score, **numbers}
