"""`stepscope analyze`: one analysis over the runs of a store."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import Parameter

from stepscope_commands._options import Json, Store, Where
from stepscope_commands._results import kept, print_result


def analyze(
    name: Annotated[str, Parameter(help="Which analysis.")],
    *,
    store: Store,
    where: Where = None,
    set_: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            help="An option of the analysis, its value as JSON or plain text, e.g. site=attn_out; repeatable.",
        ),
    ] = (),
    json_: Json = False,
) -> None:
    """Compute one analysis over the runs of a store, once, and keep its result there."""
    import analyses

    result = analyses.run(name, kept(store), where=where, **_options(set_))
    print_result(result, json_=json_)


def _options(assigned: tuple[str, ...]) -> dict[str, Any]:
    """`name=value` as a mapping; what is no JSON is text."""
    import analyses

    found: dict[str, Any] = {}
    for one in assigned:
        name, equals, value = one.partition("=")
        if not equals:
            raise analyses.UnknownOption(f"--set {one} has no value; write --set {one}=VALUE")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found
