"""Tables of the model card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from training.ambiguity import worst

Row = Mapping[str, Any]


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    first = list(headings)
    lines = [first, ["---"] * len(first), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(solved: Mapping[str, float]) -> str:
    """A proportion with its interval, in per cent.

    Example:
        >>> percent({"value": 0.5, "low": 0.4, "high": 0.6})
        '50.0 % (40.0-60.0)'
    """
    return f"{100 * solved['value']:.1f} % ({100 * solved['low']:.1f}-{100 * solved['high']:.1f})"


def short(solved: Mapping[str, float]) -> str:
    """The same in whole per cent, for wide tables.

    Example:
        >>> short({"value": 0.5, "low": 0.4, "high": 0.6})
        '50 (40-60)'
    """
    return f"{100 * solved['value']:.0f} ({100 * solved['low']:.0f}-{100 * solved['high']:.0f})"


def found(cells: Sequence[Row], **wanted: str) -> Row:
    """The one cell that has every value of `wanted`."""
    (cell,) = (cell for cell in cells if all(cell[key] == value for key, value in wanted.items()))
    return cell


def mean(cells: Sequence[Row], *, split: str | None = None) -> float:
    """Mean over cells of the share that is solved, in per cent: families and difficulties count alike."""
    return 100 * float(np.mean([cell["solved"]["value"] for cell in cells if split in (None, cell["split"])]))


def variants(measured: Row) -> list[tuple[str, Row]]:
    """What was measured on the validation samples, by name: steps, guidances, variants."""
    shipped = next(row for row in measured["by_guidance"] if row["guidance"] == measured["guidance"])
    steps = sorted([*measured["by_steps"], shipped], key=lambda row: row["steps"])
    rows = [(f"{row['steps']} steps", row) for row in steps]
    rows += [(f"guidance {row['guidance']:g}", row) for row in measured["by_guidance"]]
    named = {"as_trained": "as trained", "few_step": "few-step", "two_experts": "two experts"}
    return [*rows, *((name, measured[key]) for key, name in named.items() if key in measured)]


def ambiguity(measured: Row) -> dict[str, Any]:
    """What the card says of ambiguous samples: two tables of families, and one of steps."""
    families = measured["families"]
    rows = []
    for family, each in families.items():
        least = worst(each)
        if least is None:
            continue
        share = "none right"
        if least["smallest"]:
            share = f"{least['smallest']['value']:.2f} ({least['smallest']['low']:.2f}-{least['smallest']['high']:.2f})"
        right = sum(end["right"] for end in each["endings"]) / sum(end["seeds"] for end in each["endings"])
        answers = ", ".join(str(end["answers"]) for end in each["endings"])
        rows.append([family, each["kind"], answers, f"{100 * right:.0f} %", share, "/".join(map(str, least["counts"]))])
    weights = [each["evidence"]["n"] for each in families.values()]
    steps = zip(*(each["evidence"]["steps"] for each in families.values()), strict=True)
    evidence = [
        [
            str(step[0]["step"]),
            *(f"{np.average([one[key] for one in step], weights=weights):.2f}" for key in ("largest", "second")),
            f"{np.average([one['effective'] for one in step], weights=weights):.1f}",
        ]
        for step in steps
    ]
    several = [
        [
            family,
            each["kind"],
            percent(each["evidence"]["several_at_first"]),
            *(f"{each['evidence']['steps'][0][key]:.2f}" for key in ("largest", "second", "effective")),
            str(each["evidence"]["n"]),
        ]
        for family, each in families.items()
    ]
    return {
        "endings": table(["family", "kind", "answers k", "right", "rarest", "its counts"], rows),
        "evidence": table(["step", "largest", "second", "effective"], evidence),
        "n_evidence": sum(weights),
        "several": table(["family", "kind", "two or more", "largest", "second", "effective", "n"], several),
    }
