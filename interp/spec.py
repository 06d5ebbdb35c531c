"""Capture specs: the default ones, and how one is written on a command line or in a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from interp.errors import BadSpec
from store import dims
from store.records import CaptureItem, CaptureSpec, Encoding

SYNTAX = (
    "SITE/REDUCTION[@layers=0-5,8][@steps=0,4-7][@branches=cond,uncond][@heads=0,3|@heads=mean]"
    "[@queries=0:3:4,mean(0:1-3:2-5)][@int8|@float8]"
)
"""How one item of a spec is written; numbers start at 0, ranges include both ends, `int8` and `float8` are lossy."""

QUERIES = "0:3:4 is a token, 0:*:* each token of frame 0, mean(0:1-3:2-5) the mean over a box"
"""How queries of `pattern/map@queries=…` are written; several are parted by commas."""

_SPAN = re.compile(r"\*|\d+(-\d+)?", re.ASCII)

DEFAULT = CaptureSpec(
    items=(
        CaptureItem(site="resid_post", reduction="energy"),
        CaptureItem(site="resid_post", reduction="channel_stats"),
        CaptureItem(site="resid_post", reduction="project"),
        CaptureItem(site="x0_hat", reduction="full"),
    )
)
"""What a run keeps where nothing is asked: of the residual stream of all layers at every step the energy of each token,
the statistics of each channel and every token on 64 fixed directions; and x̂0, which is small. Cond branch."""

WITH_PIXELS = CaptureSpec(items=(*DEFAULT.items, CaptureItem(site="x0_hat", reduction="pixels")))
"""The default and the decoded x̂0 of every step: one VAE decoding a step more."""


def parse(texts: Iterable[str]) -> CaptureSpec:
    """The capture spec of items as in `SYNTAX`.

    Raises:
        BadSpec: quoting the item and the syntax.

    Example:
        >>> parse(["resid_post/full@layers=4-6@steps=0"]).items[0].layers
        (4, 5, 6)
    """
    return _spec([_item(text) for text in texts])


def read(path: Path) -> CaptureSpec:
    """The capture spec of a TOML file with `[[capture]]` tables (keys as in `CaptureItem`).

    Raises:
        BadSpec: if the file is missing, is no TOML or has other keys.
    """
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSpec(f"cannot read the capture spec {path}: {error}") from error
    items = table.get("capture")
    if not isinstance(items, list) or not items:
        raise BadSpec(f"{path} has no [[capture]] table; each needs site and reduction")
    return _spec([_with_boxes(item) for item in items])


def _with_boxes(item: Any) -> Any:
    """A table of a TOML file with its queries as tables, where they are written as on a command line."""
    if not isinstance(item, dict) or not isinstance(item.get("queries"), list):
        return item
    return {**item, "queries": [box(query) if isinstance(query, str) else query for query in item["queries"]]}


def _spec(items: list[Any]) -> CaptureSpec:
    try:
        return CaptureSpec.model_validate({"items": items})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        raise BadSpec(f"bad capture spec: {where + ': ' if where else ''}{first['msg']}; write {SYNTAX}") from error


def _item(text: str) -> dict[str, Any]:
    head, *options = text.split("@")
    site, slash, reduction = head.partition("/")
    if not (site and slash and reduction):
        raise BadSpec(f"cannot read {text!r}; write {SYNTAX}")
    item: dict[str, Any] = {"site": site, "reduction": reduction}
    for option in options:
        key, _, value = option.partition("=")
        if key in ("layers", "steps", "heads"):
            item[key] = value if (key, value) == ("heads", "mean") else numbers(value)
        elif key == "queries":
            item[key] = [box(place) for place in value.split(",")]
        elif option in get_args(Encoding):
            item["encoding"] = option
        elif key == "branches":
            item[key] = tuple(value.split(","))
        else:
            raise BadSpec(f"cannot read {option!r} in {text!r}; write {SYNTAX}")
    return item


def box(text: str) -> dict[str, Any]:
    """A box of tokens (see `TokenBox`) such as `0:3:4`, `0:*:*` (each token of frame 0) or `mean(0:1-3:2-5)`.

    Raises:
        BadSpec: if it cannot be read.

    Example:
        >>> box("mean(0:*:2-5)")
        {'mean': True, 'frame': (0, 0), 'x': (2, 5)}
    """
    inner = text.removeprefix("mean(").removesuffix(")") if text.startswith("mean(") and text.endswith(")") else text
    spans = inner.split(":")
    if len(spans) != 3 or not all(_SPAN.fullmatch(span) for span in spans):
        raise BadSpec(f"cannot read the query {text!r}; write frame:y:x of the token grid: {QUERIES}")
    named: dict[str, Any] = {"mean": True} if inner != text else {}
    for axis, span in zip((dims.FRAME, dims.Y, dims.X), spans, strict=True):
        if span != "*":
            first, _, last = span.partition("-")
            named[axis] = (int(first), int(last or first))
    return named


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of a list such as `0,4-7`; ranges include both ends.

    Raises:
        BadSpec: if it cannot be read.

    Example:
        >>> numbers("0,4-7")
        (0, 4, 5, 6, 7)
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise BadSpec(f"cannot read the numbers {text!r}; write them as 0,4-7")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(found)
