"""What a reproduction writes down of its runs, so that its results can be computed on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

import interp
from stepscope_commands.reproducing.plan import Plan

FILE: Final = "runs.json"
"""In the folder of the page."""


class Made(BaseModel):
    """Which runs were made, by what plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Plan
    """As it was asked for, without the parts that were left out."""
    model: str
    """Its name."""
    parameters: int
    """Of its largest denoiser."""
    shape: dict[str, Any]
    """Fields of `analyses.experiments.Frame`, but the seeds."""
    runs: dict[str, tuple[str, ...]]
    """Ids of each part's runs, clean ones first."""
    samples: str = ""
    """Name of the folder whose samples stood in the place of the worlds'."""
    forwards: int = 0
    """Forwards that this call made, over all calls so far."""
    seconds: float = 0.0
    """How long that took."""

    def write(self, folder: Path) -> None:
        """Keep it."""
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{FILE}"
        part.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        part.replace(folder / FILE)

    def after(self, earlier: Made | None) -> Made:
        """With what earlier calls in the same folder have made, of the same model."""
        shape = Made.model_validate_json(self.model_dump_json()).shape  # lists, as the earlier one was read
        if earlier is None or (earlier.model, earlier.shape, earlier.samples) != (self.model, shape, self.samples):
            return self
        return self.model_copy(
            update={
                "plan": _joined(earlier.plan, self.plan),
                "runs": {**earlier.runs, **self.runs},
                "forwards": earlier.forwards + self.forwards,
                "seconds": earlier.seconds + self.seconds,
            }
        )


def read(folder: Path) -> Made | None:
    """What was written in a folder; None where nothing was.

    Raises:
        BadInput: if it cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Made.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise interp.BadInput(f"cannot read {path}, which says which runs there are: {first}") from error


def _joined(earlier: Plan, later: Plan) -> Plan:
    """Two parts of one plan; where both have a part, the later one."""

    def both(name: str, key: str) -> tuple[Any, ...]:
        found = {getattr(one, key): one for plan in (earlier, later) for one in getattr(plan, name)}
        return tuple(found.values())

    return later.model_copy(
        update={"bed": both("bed", "name"), "experiment": both("experiment", "id"), "analysis": both("analysis", "id")}
    )
