"""Which video of an export is of which run: `export.json`, which scores are joined by."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import ValidationError, field_validator

from interp.errors import BadInput
from interp.vbvr import _layout, _reading
from interp.vbvr._layout import SPLITS, Place
from store import Run, SampleRecord, digest
from store.records import Record

FILE: Final = "export.json"
FORMAT: Final = 1

Shown = Literal["run", "still", "noise", "jump", "truth"]
PSEUDO: Final[dict[Shown, str]] = {
    "still": "floor-still",
    "noise": "floor-noise",
    "jump": "floor-jump",
    "truth": "truth",
}
"""Folder of each kind of video that no model made: the first frame throughout, uniform noise, a cut to the true last
frame, and the true video."""
UNTRUE: Final[tuple[Shown, ...]] = ("still", "noise")
"""Those that need no truth."""


class Video(Record):
    """One video of an export."""

    folder: str
    """The model's folder, or one of `PSEUDO`."""
    split: str
    task: str
    index: str
    sample_id: str
    shown: Shown
    run_id: str | None = None
    """None where no run made it."""

    @field_validator("folder", "split", "task", "index")
    @classmethod
    def _safe(cls, value: str) -> str:
        return _layout.checked(value, what="the name")

    @property
    def place(self) -> Place:
        """Of the sample."""
        return Place(self.split, self.task, self.index)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What no two videos share: the end of the path that the kit's results name."""
        return (self.folder, self.split, self.task, self.index)


class Plan(Record):
    """All videos of an export."""

    format: int = FORMAT
    videos: tuple[Video, ...] = ()


class Asked(NamedTuple):
    """A video that is to be there."""

    sample_id: str
    record: SampleRecord
    run: Run | None
    """None for a sample without a run."""
    truth: bool
    """Whether its true video can be had."""


def read(out: Path) -> Plan:
    """The plan of an export.

    Raises:
        BadInput: if there is none, or it is not one that this stepscope wrote.
    """
    path = out / FILE
    try:
        plan = Plan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{out} is no export: it has no {FILE}; make one with stepscope vbvr export -o {out}") from None
    except (OSError, ValidationError) as error:
        raise BadInput(f"cannot read {path}: {_reading.one_line(error)}") from error
    if plan.format > FORMAT:
        raise BadInput(f"{path} has format {plan.format}, this stepscope reads up to {FORMAT}; upgrade stepscope")
    return plan


def write(plan: Plan, out: Path, part: Path) -> None:
    """Put the plan in its place at once; `part` is a temporary file beside it."""
    part.write_text(plan.model_dump_json(indent=1))
    os.replace(part, out / FILE)


def grown(plan: Plan, asked: Iterable[Asked], *, shown: Sequence[Shown], task: str | None = None) -> Plan:
    """The plan with what is asked added; what it has keeps its place.

    Args:
        plan: As it is.
        asked: What is to be there.
        shown: Keys of `PSEUDO` that stand beside each sample.
        task: Folder that takes the place of the family's name, so that an evaluator of the kit is found.

    Raises:
        BadInput: if two runs would be one video, or a name cannot be a folder's.
    """
    videos = {video.key: video for video in plan.videos}
    places = {video.sample_id: video.place for video in plan.videos}
    taken = set(places.values())
    for one in asked:
        place = places.get(one.sample_id) or _placed(one.record, taken, task)
        places[one.sample_id] = place
        taken.add(place)
        wanted = [_pseudo(one, place, kind) for kind in shown if one.truth or kind in UNTRUE]
        for video in [*wanted, *([_made(one, place, one.run)] if one.run else [])]:
            there = videos.setdefault(video.key, video)
            if there.run_id != video.run_id:
                raise BadInput(
                    f"runs {there.run_id} and {video.run_id} are both {video.folder} on {place}: export them one at a "
                    "time, with --where and a folder for each"
                )
    return Plan(videos=tuple(videos.values()))


def _pseudo(one: Asked, place: Place, kind: Shown) -> Video:
    return Video(**place._asdict(), folder=PSEUDO[kind], sample_id=one.sample_id, shown=kind)


def _made(one: Asked, place: Place, run: Run) -> Video:
    return Video(**place._asdict(), folder=folder_of(run), sample_id=one.sample_id, shown="run", run_id=run.id)


def folder_of(run: Run) -> str:
    """Folder of the runs that differ from this one in nothing but the sample: model, seed, and a hash of all else."""
    alike = run.model_copy(update={"sample_id": "", "parent_id": None})
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", run.model.id).strip("-._") or "model"
    return f"{model[:64]}-seed{run.seed}-{digest('vbvr', alike.canonical())[:8]}"


def _placed(record: SampleRecord, taken: set[Place], task: str | None) -> Place:
    """Where a sample goes that has no place yet."""
    own = _reading.place_in(record)
    split = own.split if own and own.split else SPLITS.get(record.split, SPLITS["in_domain"])
    name = _layout.checked(task or record.family, what="the task")
    if own is not None and task is None and re.fullmatch(r"\d{5}", own.index):
        return Place(split, name, own.index)
    used = {int(place.index) for place in taken if (place.split, place.task) == (split, name)}
    free = max(used, default=-1) + 1
    if free > 99999:
        raise BadInput(f"{split}/{name} is full: the kit's names have five digits; export to another folder")
    return Place(split, name, f"{free:05d}")
