"""Match shape: a frame slides onto one of k things that have the shape of the black one at the top.

Search with k answers in different places: colours differ and do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import FRAMES
from interp.worlds._motion import between, ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import KINDS, Sprites, shape_number
from store.records import Json


class Choice(NamedTuple):
    """How many things there are to choose from."""

    things: int
    matches: tuple[int, ...]
    """Numbers of matches k, equally frequent."""


CHOICES: Final = {
    "easy": Choice(things=3, matches=(1,)),
    "medium": Choice(things=4, matches=(2,)),
    "hard": Choice(things=6, matches=(2, 3)),
}
"""By difficulty; things stand at random places of the grid."""
FULL: Final = Choice(things=8, matches=(2, 3))
"""The hard level out of domain: no place is empty."""
COLUMNS, ROWS, TOP = (11.5, 35.5, 59.5, 83.5), (51.5, 83.5), 11.5
"""Centres of the grid's columns and rows, and row of the reference, in pixels."""
PLACES: Final = len(COLUMNS) * len(ROWS)
"""Places of the grid, numbered row by row."""
THING, FRAME = 7.0, 11.0
"""Half sizes in pixels; what is marked shows inside the frame."""


class MatchShape(SceneWorld):
    """See the module. Out of domain, the reference has a shape that training never shows."""

    name: ClassVar[str] = "match_shape"
    summary: ClassVar[str] = "mark one of k things that have the reference's shape"
    group: ClassVar[str] = "multi-path"
    kind: ClassVar[str] = "multi-path"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "Mark a thing of the same shape as the black one at the top.",
        "The frame moves to one item that matches the black shape.",
        "Choose a matching shape for the black {shape} and put the frame around it.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device = len(index), index.device
        choice = FULL if (split, difficulty) == ("out_of_domain", "hard") else CHOICES[difficulty]
        u = uniform(stream_key(key, "reference"), index, 5)
        k = torch.tensor(choice.matches, device=device)[pick(u[:, 0], len(choice.matches))]
        order = uniform(stream_key(key, "places"), index, PLACES).argsort(dim=1)
        rank = order.argsort(dim=1)  # matches come first, then other things, then empty places
        seen, matches = rank < choice.things, rank < k[:, None]
        answers = (~matches * PLACES + torch.arange(PLACES, device=device)).argsort(dim=1)[:, : max(choice.matches)]
        cells = torch.cat([answers, order[:, choice.things - 1 : choice.things]], dim=1)  # [n, A], the last one wrong

        place = torch.cartesian_prod(torch.tensor(ROWS, device=device), torch.tensor(COLUMNS, device=device))
        across = torch.tensor(COLUMNS, device=device)
        first = pick(u[:, 1], len(COLUMNS))
        second = (first + 1 + pick(u[:, 2], len(COLUMNS) - 1)) % len(COLUMNS)
        reference, begin = (
            torch.stack([torch.full((n,), TOP, device=device), across[c]], dim=-1) for c in (first, second)
        )
        moving = between(begin[:, None].expand(*cells.shape, 2), place[cells], ramp(0, FRAMES - 1, device=device))
        still = torch.cat([reference[:, None], place.expand(n, PLACES, 2)], dim=1)
        still = still[:, None, None].expand(*moving.shape[:3], -1, 2)

        kinds = KINDS["in_domain"] if split == "in_domain" else (*KINDS["out_of_domain"], *KINDS["in_domain"])
        shapes = torch.tensor([shape_number(kind) for kind in kinds], device=device)
        asked = pick(u[:, 3], len(KINDS[split]))
        other = 1 + pick(uniform(stream_key(key, "shapes"), index, PLACES), len(kinds) - 1)
        kind = torch.where(matches, asked[:, None], (asked[:, None] + other) % len(kinds))
        marker = torch.full((n, 1), shape_number("frame"), device=device)
        black = torch.full((n, 1), _palette.NAMES.index("black"), device=device)
        sprites = Sprites(
            centre=torch.cat([still, moving[:, :, :, None]], dim=3),
            half=torch.tensor([THING] * (PLACES + 1) + [FRAME], device=device)[:, None].expand(1, 1, 1, -1, 2),
            shape=torch.cat([shapes[asked][:, None], shapes[kind], marker], dim=1)[:, None, None],
            colour=torch.cat([black, _colours(index, key, seen, split), black], dim=1)[:, None, None],
            visible=torch.cat([black > 0, seen, black > 0], dim=1)[:, None, None],
        )
        templates = pick(u[:, 4], len(self.TEMPLATES)).tolist()
        return Scenes(
            prompts=[self.TEMPLATES[t].format(shape=kinds[s]) for t, s in zip(templates, asked.tolist(), strict=True)],
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=("reference", *(f"place {number}" for number in range(PLACES)), "marker"),
            answers=k,
            wrong=torch.full_like(k, max(choice.matches)),
            notes={"answers": answers, "k": k, "seen": seen},
        )

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """`answers`: places 0-7 of the matches, row by row; `occupied`: whether a thing stands at each place."""
        return {
            "answers": notes["answers"][i, : int(notes["k"][i])].tolist(),
            "occupied": notes["seen"][i].tolist(),
        }


def _colours(index: Tensor, key: int, seen: Tensor, split: str) -> Tensor:
    """Another colour for every thing that is seen: first those of the split, then, out of domain, known ones.

    Args:
        index: int64 `[n]`.
        key: Of the stream.
        seen: bool `[n, place]`; the colour of other places means nothing.
        split: One of `SPLITS`.

    Returns:
        int64 `[n, place]`, classes.
    """
    own = _palette.THINGS[split]
    names = own if split == "in_domain" else (*own, *_palette.THINGS["in_domain"])
    late = torch.arange(len(names), device=index.device) >= len(own)
    order = (uniform(stream_key(key, "colours"), index, len(names)) + late).argsort(dim=1)
    turn = (uniform(stream_key(key, "turns"), index, PLACES) + ~seen).argsort(dim=1).argsort(dim=1)
    return _palette.classes(names, device=index.device)[order.gather(1, turn.clamp_max(len(names) - 1))]


worlds.add(MatchShape.name, MatchShape())
