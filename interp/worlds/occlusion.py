"""Occlusion: things pass behind a panel and reappear beyond it, in their lanes, as what they were.

While they are hidden, only memory says what comes out: prompts name neither colours nor shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, worlds
from interp.worlds._base import FRAMES, SIZE
from interp.worlds._motion import ramp
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld, blank
from interp.worlds._sprites import Sprites, shape_number
from interp.worlds._things import Things, different, shuffled
from store.records import Json

THINGS: Final = {"easy": 1, "medium": 2, "hard": 3}
"""Things by difficulty; one more at `hard` out of domain."""
PANEL: Final = {"easy": 32, "medium": 32, "hard": 48}
"""Width of the panel in pixels by difficulty: things are hidden in five frames."""
PANELS: Final = {"in_domain": ("black", "grey"), "out_of_domain": ("black",)}
"""Colours of the panel by split: grey is a colour of things out of domain."""
LANES: Final = (11.5, 35.5, 59.5, 83.5)
"""Middles of the lanes in pixels."""
HALF, EDGE = 7.0, 11.5
"""Half a thing, and where it starts, in pixels from the side of the picture."""
LAGS: Final = (0, 3, 6, 3)
"""Frames at which things start at `hard`; each takes `PASSAGE` frames."""
PASSAGE: Final = 10


class Occlusion(SceneWorld):
    """See the module. Out of domain, things have other colours and shapes, and at `hard` there is one more."""

    name: ClassVar[str] = "occlusion"
    summary: ClassVar[str] = "pass behind a panel and reappear as the same things in the same lanes"
    group: ClassVar[str] = "memory"
    difficulties: ClassVar[tuple[str, ...]] = tuple(THINGS)

    TEMPLATES: ClassVar[tuple[str, ...]] = (
        "{who} passes behind the {panel} screen and reappears.",
        "{who} moves behind the {panel} curtain, is hidden by it, and moves on until it reappears.",
        "{who} goes behind the {panel} screen, stays the same while it is hidden, and reappears.",
    )

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        n, device, width = len(index), index.device, PANEL[difficulty]
        count = THINGS[difficulty] + ((difficulty, split) == ("hard", "out_of_domain"))
        things = different(index, max(2, count), key=key, split=split)
        lanes = shuffled(torch.arange(len(LANES)), index, key=stream_key(key, "lanes"))[:, :count]
        u = uniform(stream_key(key, "scene"), index, 3 + count)
        upright = u[:, 0] < 0.5  # whether lanes are columns
        behind = u[:, 3:] < 0.5  # [n, O]: whether a thing starts at the far side
        if difficulty == "medium":
            behind[:, 1] = behind[:, 0]
        if difficulty == "hard":
            behind[:, 1] = ~behind[:, 0]

        share = self._share(index, count, key=key, difficulty=difficulty)  # [n, O, F]
        begin = torch.where(behind, SIZE - 1 - EDGE, EDGE)[..., None]
        at = begin + (SIZE - 1 - 2 * begin) * share
        lane = torch.tensor(LANES, device=device)[lanes][..., None].expand_as(at)
        centre = torch.stack([lane, at], dim=-1)
        centre = torch.where(upright[:, None, None, None], centre.flip(-1), centre).transpose(1, 2)  # [n, F, O, 2]
        hidden = (at - (SIZE - 1) / 2).abs() < (width + 1) / 2 - HALF  # [n, O, F]

        colour, shape = self._looks(things, share, count)
        panel = self._panel(width, upright)  # [n, piece, 2]
        pieces = panel.shape[1]
        half = torch.full((count + pieces, 2), HALF, device=device)
        half[count:] = width / 2
        panels = _palette.classes(PANELS[split], device=device)[pick(u[:, 1], len(PANELS[split]))]
        panel_colour = panels[:, None, None, None].expand(n, 2, FRAMES, pieces)
        sprites = Sprites(
            centre=torch.cat([centre[:, None], panel[:, None, None].expand(n, 1, FRAMES, pieces, 2)], dim=3),
            half=half[None, None, None],
            shape=torch.cat([shape, torch.full_like(panel_colour, shape_number("square"))], dim=3),
            colour=torch.cat([colour, panel_colour], dim=3),
            visible=torch.ones(1, 1, 1, count + pieces, dtype=torch.bool, device=device),
        )
        who, templates = "The thing" if count == 1 else "Each thing", pick(u[:, 2], len(self.TEMPLATES)).tolist()
        return Scenes(
            prompts=[
                self.TEMPLATES[template].format(who=who, panel=_palette.NAMES[colour])
                for template, colour in zip(templates, panels.tolist(), strict=True)
            ],
            backdrop=blank(n, device),
            sprites=sprites,
            tracked=tuple(f"thing {number}" for number in range(count)),
            notes={
                "colour": things.colour[:, :count],
                "shape": things.shape[:, :count],
                "lanes": lanes,
                "start": centre[:, 0],
                "end": centre[:, -1],
                "hidden": hidden,
            },
        )

    @staticmethod
    def _share(index: Tensor, count: int, *, key: int, difficulty: str) -> Tensor:
        """Share of its way that each thing has done, float32 `[n, O, F]`."""
        if difficulty != "hard":
            return ramp(0, FRAMES - 1, device=index.device).expand(len(index), count, FRAMES)
        lag = shuffled(torch.tensor(LAGS[:count]), index, key=stream_key(key, "lags")).float()
        return ramp(lag, lag + PASSAGE)

    @staticmethod
    def _looks(things: Things, share: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Colours and shapes int64 `[n, A, F, O]`: right, and with things 0 and 1 exchanged while hidden.

        Where there is one thing only, it turns into one that the picture does not show.
        """
        exchanged = [1, 0, *range(2, count)][:count]
        after = (share >= 0.5).transpose(1, 2)  # [n, F, O]
        looks: list[Tensor] = []
        for numbers in things:
            right = numbers[:, None, :count].expand(after.shape)
            looks.append(torch.stack([right, torch.where(after, numbers[:, None, exchanged], right)], dim=1))
        return looks[0], looks[1]

    @staticmethod
    def _panel(width: int, upright: Tensor) -> Tensor:
        """Centres of the squares that the panel is made of, across all lanes, float32 `[n, piece, 2]`."""
        along = torch.arange(0, SIZE, width, device=upright.device) + (width - 1) / 2
        level = torch.stack([along, torch.full_like(along, (SIZE - 1) / 2)], dim=-1)
        return torch.where(upright[:, None, None], level.flip(-1), level)

    def labels(self, notes: Mapping[str, NDArray[np.int64]], i: int) -> Json:
        """Truths beside the common ones.

        `answers`: one list with what comes out, by thing: colour, shape and where it ends, centre (y, x) in
        pixels. `lanes`: 0-3, from the top or from the left. `starts`: centres at first. `hidden`: frames in
        which each thing is hidden altogether.
        """
        things = Things(torch.from_numpy(notes["colour"][i : i + 1]), torch.from_numpy(notes["shape"][i : i + 1]))
        looks, ends = things.names()[0], notes["end"][i].tolist()
        return {
            "answers": [[[*name.split(), place] for name, place in zip(looks, ends, strict=True)]],
            "lanes": notes["lanes"][i].tolist(),
            "starts": notes["start"][i].tolist(),
            "hidden": [[int(frame) for frame in np.flatnonzero(row)] for row in notes["hidden"][i]],
        }


worlds.add(Occlusion.name, Occlusion())
