"""Runs parted by a column of the store's views (model, seed, interventions, …), to be analysed side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from analyses.errors import NoRuns, UnknownOption
from store import ActivationStore

MOST: Final = 12
"""Groups of one comparison."""
CHANGES: Final = "interventions"
"""Column by which changed runs are told from clean ones."""
_NOT_SHOWN: Final = ("record", "labels", "path")
"""Columns that an error does not offer."""


class RunGroup(NamedTuple):
    """Runs that agree in the columns by which they were parted."""

    values: tuple[Any, ...]
    """What they agree in, in the order of the columns."""
    run_ids: tuple[str, ...]
    sample_ids: frozenset[str]


def grouped(acts: ActivationStore, *, by: Sequence[str], where: str | None = None) -> list[RunGroup]:
    """Part runs by columns of `runs` and `samples`; groups in the order of their values.

    Args:
        acts: The store.
        by: Names of columns, e.g. `model`, `seed`, `interventions`, `family`.
        where: SQL over the same columns. None takes the clean runs, unless they are parted by `interventions`.

    Raises:
        UnknownOption: if there is no such column, or more than `MOST` groups.
        NoRuns: if no run is left, or all fall into one group.
    """
    columns = _columns(acts, by)
    condition = where if where is not None else "TRUE" if CHANGES in by else f"{CHANGES} = '[]'"
    query = f"""
    SELECT {columns}, list(run_id ORDER BY run_id), list(DISTINCT sample_id)
    FROM runs LEFT JOIN samples USING (sample_id) WHERE ({condition}\n)
    GROUP BY ALL ORDER BY {columns}
    """
    found = [RunGroup(tuple(row[:-2]), tuple(row[-2]), frozenset(row[-1])) for row in acts.sql(query).fetchall()]
    if len(found) < 2:
        which = f" where {where}" if where is not None else ""
        alone = f" {found[0].values[0]}" if found and len(by) == 1 else ""
        raise NoRuns(
            f"The runs{which} have one {' and '.join(by)} only{alone}; a comparison needs two. Choose others by where=."
            if found
            else f"There is no run{which} to part by {' and '.join(by)}; see `stepscope store ls`."
        )
    if len(found) > MOST:
        raise UnknownOption(
            f"Parted by {' and '.join(by)}, the runs make {len(found)} groups, and {MOST} can stand side by side: "
            "choose fewer with where=."
        )
    return found


def shared_values(acts: ActivationStore, run_ids: Sequence[str], *, by: Sequence[str]) -> tuple[Any, ...] | None:
    """What these runs agree in, in the order of `by`; None if they do not."""
    columns = _columns(acts, by)
    query = f"""
    SELECT DISTINCT {columns} FROM runs LEFT JOIN samples USING (sample_id) WHERE list_contains(?, run_id) LIMIT 2
    """
    found = acts.sql(query, [list(run_ids)]).fetchall()
    return tuple(found[0]) if len(found) == 1 else None


def _columns(acts: ActivationStore, by: Sequence[str]) -> str:
    """The names, quoted, once they are known to be columns."""
    known = acts.sql("SELECT * FROM runs LEFT JOIN samples USING (sample_id) LIMIT 0").columns
    if unknown := [name for name in by if name not in known]:
        offered = ", ".join(name for name in known if name not in _NOT_SHOWN)
        raise UnknownOption(f"There is no column {', '.join(unknown)} to part runs by; there are {offered}.")
    return ", ".join(f'"{name}"' for name in by)
