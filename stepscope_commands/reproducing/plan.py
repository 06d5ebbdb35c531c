"""What a reproduction runs, as data: beds of clean runs, and the experiments and analyses that stand on them.

A plan is a TOML file. `quick.toml` and `full.toml` ship beside this file; `--plan FILE` takes another.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import interp
from interp import vbvr
from store import CaptureSpec, Sample

SHIPPED: Final = Path(__file__).parent
"""Folder of the plans that ship."""
SPREAD: Final = re.compile(r"~(\d+)")
"""`~4` in a plan: four layers, steps or frames of whatever model it is, spread from the first to the last."""
_KINDS: Final = ("experiment", "analysis")
AXES: Final = {"at": "steps", "layers": "layers", "frames": "latent_frames"}
"""Of which of a model's numbers an option of this name is a choice."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bed(_Table):
    """Clean runs that experiments and analyses share."""

    name: str
    families: tuple[str, ...]
    """Worlds."""
    n: int = Field(gt=0)
    """Samples of each family; pairs, where there are twins."""
    seeds: str = "0"
    twins: bool = False
    """Whether each sample comes with its twin, which has another answer."""
    difficulty: str | None = None
    split: str = "in_domain"
    world_seed: int = 2603
    """Stream of samples; not one that the bundled model was trained on."""
    keep: tuple[str, ...] = ()
    """What clean runs keep beside what the experiments on this bed need."""


class Part(_Table):
    """One experiment or analysis."""

    of: str
    """Its name."""
    on: tuple[str, ...]
    """Beds; an experiment stands on one."""
    name: str = ""
    """What claims call it; that of the experiment or analysis, if empty."""
    n: int | None = None
    """Only the first samples of each family."""
    seeds: str | None = None
    """Only these seeds."""
    options: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """What claims call it."""
        return self.name or self.of


class Plan(_Table):
    """All of it."""

    about: str
    settings: dict[str, float | int] = {}
    """Sampler settings of the clean runs; the model's own where none are given."""
    batch: int = Field(1, gt=0)
    """Runs that one call of the pipeline makes, where `--batch` says nothing."""
    bed: tuple[Bed, ...]
    experiment: tuple[Part, ...] = ()
    analysis: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Experiments, then analyses."""
        return self.experiment + self.analysis

    def of(self, name: str) -> Bed:
        """The bed called `name`."""
        return next(bed for bed in self.bed if bed.name == name)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        beds = {bed.name: bed for bed in self.bed}
        ids = [part.id for part in self.parts]
        if twice := {id for id in ids if ids.count(id) > 1}:
            raise ValueError(f"{min(twice)} is there twice; give one of them another name")
        for part in self.parts:
            for name in part.on:
                if name not in beds:
                    raise ValueError(f"{part.id} stands on a bed {name!r}, but there are {', '.join(beds)}")
                if part.n is not None and not 0 < part.n <= beds[name].n:
                    raise ValueError(f"{part.id} asks for {part.n} of the {beds[name].n} samples of bed {name}")
        if wrong := [part.id for part in self.experiment if len(part.on) != 1]:
            raise ValueError(f"the experiment {wrong[0]} stands on one bed, not on {len(self.experiment[0].on)}")
        if not self.parts:
            raise ValueError("there is neither an [[experiment]] nor an [[analysis]]")
        return self


def read(source: str | Path) -> Plan:
    """A plan: `quick` or `full`, which ship, or a TOML file.

    Raises:
        BadInput: if it cannot be read, naming the place.
    """
    path = SHIPPED / f"{source}.toml" if str(source) in ("quick", "full") else Path(source)
    try:
        return Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise interp.BadInput(f"cannot read the plan {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise interp.BadInput(f"bad plan {path}: {place + ': ' if place else ''}{first['msg']}") from error


def without_twins(plan: Plan) -> Plan:
    """What can be asked of samples of a folder, which have no twins."""
    there = tuple(bed for bed in plan.bed if not bed.twins)
    names = {bed.name for bed in there}
    kept = {kind: tuple(part for part in getattr(plan, kind) if names.issuperset(part.on)) for kind in _KINDS}
    return plan.model_copy(update={"bed": there, **kept})


def drawn(bed: Bed, *, folder: Path | None = None, most: int | None = None) -> list[list[Sample]]:
    """The samples of a bed by family, each with its twin behind it where there are twins.

    Args:
        bed: Which.
        most: Only the first ones of each family.
        folder: Samples in VBVR-Bench's layout that stand in the place of the worlds: as many in all, tasks in turn.

    Raises:
        BadInput: if there is no such world, difficulty or split.
    """
    n = bed.n if most is None else min(bed.n, most)
    if folder is not None:
        count = len(bed.families)
        found = list(vbvr.samples(folder, n=n * count))
        return [found[at::count] for at in range(count)]
    how: dict[str, Any] = {"seed": bed.world_seed, "difficulty": bed.difficulty, "split": bed.split}
    if bed.twins:
        return [[one for pair in interp.worlds[name].pairs(n, **how) for one in pair] for name in bed.families]
    return [interp.worlds[name].generate(n, **how) for name in bed.families]


def keeping(bed: Bed, sizes: Mapping[str, int]) -> CaptureSpec:
    """What the clean runs of a bed keep by its own wish, for a model of these numbers of `layers` and `steps`."""

    def chosen(found: re.Match[str]) -> str:
        return f"{found[1]}={','.join(map(str, spread(sizes[found[1]], int(found[2]))))}"

    texts = [re.sub(r"(layers|steps)=~(\d+)", chosen, text) for text in bed.keep]
    return interp.parse(texts) if texts else CaptureSpec(items=())


def options(part: Part, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The options of an experiment or analysis for a model: `~n` as numbers."""

    def resolved(name: str, value: Any) -> Any:
        found = SPREAD.fullmatch(value) if isinstance(value, str) and name in AXES else None
        return spread(sizes[AXES[name]], int(found[1])) if found else value

    return {name: resolved(name, value) for name, value in part.options.items()}


def spread(count: int, number: int) -> tuple[int, ...]:
    """`number` of `count` places, spread from the first to the last; all of them where there are fewer.

    Example:
        >>> spread(12, 3)
        (0, 6, 11)
    """
    if number >= count:
        return tuple(range(count))
    return tuple(sorted({round(at * (count - 1) / max(number - 1, 1)) for at in range(number)}))
