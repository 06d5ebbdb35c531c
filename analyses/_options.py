"""Options of analyses, checked before anything is read: their types, and the numbers that they can be.

What an option can be stands in the signature of its analysis; `register` holds every call to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from analyses.errors import BadOption

T = TypeVar("T", bound=Sequence[int])


def _distinct(numbers: T) -> T:
    if len(set(numbers)) < len(numbers):
        raise ValueError("a number stands there twice")
    return numbers


Numbers = Annotated[Sequence[int], AfterValidator(_distinct)]
"""Steps or layers, each once."""
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Folds = Annotated[int, Field(ge=3)]
"""Nested: one is told, one of the others chooses the penalty, and the rest train."""
Share = Annotated[float, Field(ge=0, le=1)]


def checked(analysis: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call as their types want them; arrays and numbers of numpy become plain ones.

    Options that the analysis does not have are handed on.

    Raises:
        BadOption: naming the first one that cannot be, its value, and what is wrong with it.
    """
    known = _adapters(analysis)
    return {
        name: _one(known[name], analysis.__name__, name, value) if name in known else value
        for name, value in given.items()
    }


def _one(adapter: TypeAdapter[Any], analysis: str, name: str, value: Any) -> Any:
    plain = value.tolist() if type(value).__module__ == "numpy" else value
    try:
        return adapter.validate_python(plain, strict=True)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadOption(f"{analysis} cannot take {name}={value!r}: {why[0].lower()}{why[1:]}.") from None


@cache
def _adapters(analysis: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    hints = get_type_hints(analysis, include_extras=True)
    return {name: TypeAdapter(hint, config=config) for name, hint in hints.items() if name not in ("acts", "return")}
