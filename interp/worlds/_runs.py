"""Arrows that run one after another over the 6×6 board: a chain of hits, or each to a box of its own.

`chained` draws runs in which each arrow is set off by the one before; `apart` draws runs of the same lengths that
have nothing to do with each other. Both take the same frames, so that only the dependence differs.

Shapes: n samples, m tries, A = 2 answers (true, wrong), F frames, M arrows that run, E that do not, D = 4 directions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.worlds import _palette, _things
from interp.worlds._base import FRAMES
from interp.worlds._lattice import OFF, PITCH, RAYS, SIDE, SQUARES, STEPS, Tries, centres, choose
from interp.worlds._random import pick, stream_key, uniform
from interp.worlds._scene import Scenes, SceneWorld
from interp.worlds._sprites import Sprites, shape_number
from store.records import Json

ARROW: Final = 7.0
"""Half an arrow in pixels."""
DIRECTIONS: Final = ("right", "down", "left", "up")


class Level(NamedTuple):
    """What a difficulty has."""

    least: int
    deepest: int
    """Hits d: d + 1 arrows run."""
    others: int
    """Arrows that stay."""
    far: int
    """Squares that an arrow runs before it hits, at most."""


LEVELS: Final = {
    "in_domain": {"easy": Level(1, 2, 1, 4), "medium": Level(3, 3, 2, 3), "hard": Level(4, 5, 3, 2)},
    "out_of_domain": {"easy": Level(1, 2, 1, 4), "medium": Level(3, 3, 2, 3), "hard": Level(6, 6, 4, 2)},
}


def chained(tries: Tries, *, key: int, level: Level, depth: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Runs of which each ends before the next arrow; the last one goes on to the edge.

    Args:
        tries: See `redraw`.
        key: The stream.
        level: Of the difficulty.
        depth: Hits d of each sample, int64 `[n]`.

    Returns:
        int64 `start`, `direction`, `far` (squares; 0 for arrows that a sample does not have) `[m, M]`, for the last
        run of a sample `wrong`, another direction in which the way to the edge is free, and its squares `wrong_far`
        `[m]`, and squares of the arrows that stay, `others` `[m, E]`; and which of the tries worked, bool `[m]`.
    """
    device, many = tries.index.device, level.deepest
    u = uniform(stream_key(key, "runs", tries.attempt), tries.index, 3 + many + level.others)
    row, rays, hits = torch.arange(len(u), device=device), RAYS.to(device), depth[tries.row]
    here = pick(u[:, 0], SQUARES)
    free = _all_free(here)
    free[row, here] = False
    fits = torch.ones_like(hits, dtype=torch.bool)
    start, direction, far = [torch.zeros(len(u), many + 1, dtype=torch.int64, device=device) for _ in range(3)]
    for hop in range(many):
        runs = hop < hits
        allowed = _open(free[row[:, None, None], rays[here]])[:, :, 1 : 1 + level.far].flatten(1)
        option = choose(u[:, 3 + hop], allowed)
        fits &= allowed.any(dim=1) | ~runs
        toward, squares = option // level.far, torch.where(runs, option % level.far + 1, 0)
        start[:, hop], direction[:, hop], far[:, hop] = here, toward, squares
        ray = rays[here, toward]
        free = _take(free, ray, torch.where(runs, squares + 1, 0))
        here = torch.where(runs, ray[row, squares], here).clamp_max(SQUARES - 1)  # OFF only where nothing is allowed

    ahead = rays[here]
    room = (ahead != OFF).sum(dim=2)
    clear = (_open(free[row[:, None, None], ahead]).sum(dim=2) == room) & (room > 0)
    toward = choose(u[:, 1], clear)
    wrong = choose(u[:, 2], clear.scatter(1, toward[:, None], False))
    fits &= clear.sum(dim=1) > 1
    start[row, hits], direction[row, hits], far[row, hits] = here, toward, room[row, toward]
    free = _take(_take(free, ahead[row, toward], room[row, toward]), ahead[row, wrong], room[row, wrong])
    others, enough = _scatter(free, u[:, 3 + many :])
    runs = {"start": start, "direction": direction, "far": far}
    return {**runs, "wrong": wrong, "wrong_far": room[row, wrong], "others": others}, fits & enough


def apart(tries: Tries, *, key: int, level: Level, far: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Runs of given lengths that neither meet nor cross; see `chained` for what is returned.

    Args:
        tries: See `redraw`.
        key: The stream.
        level: Of the difficulty.
        far: Squares of each run, int64 `[n, M]`.
    """
    device, many = tries.index.device, far.shape[1]
    u = uniform(stream_key(key, "apart", tries.attempt), tries.index, 1 + many + level.others)
    row, rays, far = torch.arange(len(u), device=device), RAYS.to(device), far[tries.row]
    free = _all_free(row)
    fits = torch.ones(len(u), dtype=torch.bool, device=device)
    start, direction = torch.zeros_like(far), torch.zeros_like(far)
    for run in reversed(range(many)):  # the last one is the longest
        squares = far[:, run]
        enough = _open(free[:, rays]).sum(dim=3) >= squares[:, None, None]  # [m, 36, D]
        allowed = (enough & free[:, :SQUARES, None]).flatten(1)
        option = choose(u[:, 1 + run], allowed)
        fits &= allowed.any(dim=1)
        start[:, run], direction[:, run] = option // len(STEPS), option % len(STEPS)
        ray = rays[start[:, run], direction[:, run]]
        free = _take(_take(free, start[:, run, None], squares), ray, squares)

    last = (far > 0).sum(dim=1) - 1
    ahead = rays[start[row, last]]
    room = _open(free[row[:, None, None], ahead]).sum(dim=2).minimum(far[row, last, None])
    wrong = choose(u[:, 0], room > 0)
    fits &= (room > 0).any(dim=1)
    free = _take(free, ahead[row, wrong], room[row, wrong])
    others, enough = _scatter(free, u[:, 1 + many :])
    runs = {"start": start, "direction": direction, "far": far}
    return {**runs, "wrong": wrong, "wrong_far": room[row, wrong], "others": others}, fits & enough


def _all_free(like: Tensor) -> Tensor:
    """Which squares are free: all but what is outside, bool `[m, 37]`."""
    free = torch.ones(len(like), SQUARES + 1, dtype=torch.bool, device=like.device)
    free[:, OFF] = False
    return free


def _open(free: Tensor) -> Tensor:
    """Up to where rays are free, bool `[…, R]`: from whether each of their squares is."""
    return free.cumprod(dim=-1, dtype=torch.uint8).bool()


def _take(free: Tensor, squares: Tensor, count: Tensor) -> Tensor:
    """`free` without the first `count` `[m]` of `squares` `[m, …]`."""
    taken = torch.arange(squares.shape[1], device=free.device) < count[:, None]
    return free.scatter(1, torch.where(taken, squares, OFF), False)


def _scatter(free: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Free squares for as many things as `u` `[m, E]` has numbers, `[m, E]`, and whether there were enough."""
    squares: list[Tensor] = []
    enough = free.sum(dim=1) >= u.shape[1]
    for number in u.unbind(dim=1):
        squares.append(choose(number, free))
        free = free.scatter(1, squares[-1][:, None], False)
    return torch.stack(squares, dim=1), enough


class Runs(SceneWorld):
    """Base of the two families. Out of domain, colours are new, and hard has more runs and more arrows that stay."""

    group: ClassVar[str] = "dynamics"
    difficulties: ClassVar[tuple[str, ...]] = ("easy", "medium", "hard")
    dependent: ClassVar[bool]
    """Whether each run is set off by the one before."""

    TEMPLATES: ClassVar[tuple[str, ...]]
    """With `first`, the colour of the first arrow, and `all`, those of all that run, in order."""

    @abstractmethod
    def place(self, index: Tensor, *, key: int, level: Level, depth: Tensor) -> dict[str, Tensor]:
        """The runs of each sample, see `chained`."""

    @abstractmethod
    def backdrop(self, ends: Tensor) -> Tensor:
        """uint8 `[n, H, W]`, from the squares where runs end, int64 `[n, M]`; `OFF` for none."""

    def scenes(self, index: Tensor, *, key: int, difficulty: str, split: str) -> Scenes:
        """See `SceneWorld.scenes`."""
        device, level = index.device, LEVELS[split][difficulty]
        u = uniform(stream_key(key, "look"), index, 2 + 2 * level.others)
        depth = level.least + pick(u[:, 0], level.deepest - level.least + 1)
        runs = self.place(index, key=key, level=level, depth=depth)
        start, direction, far = runs["start"], runs["direction"], runs["far"]
        last = depth[:, None]
        toward = torch.stack([direction, direction.scatter(1, last, runs["wrong"][:, None])], dim=1)  # [n, A, M]
        squares = torch.stack([far, far.scatter(1, last, runs["wrong_far"][:, None])], dim=1)
        ends = squares.cumsum(dim=2)
        frame = torch.arange(FRAMES, device=device) / (FRAMES - 1)
        done = frame[:, None] * ends[:, :, None, -1:] - (ends - squares)[:, :, None]  # [n, A, F, M]
        done = done.maximum(torch.zeros_like(done)).minimum(squares[:, :, None].float()) * PITCH
        step = torch.tensor(STEPS, device=device, dtype=torch.float32)
        running = centres(start)[:, None, None] + done[..., None] * step[toward][:, :, None]
        staying = centres(runs["others"])[:, None, None].expand(-1, 2, FRAMES, -1, -1)

        pool = _things.colours(split, index, key=key)
        if split != "in_domain":
            pool = torch.cat([pool, _things.colours("in_domain", index, key=stream_key(key, "more"))], dim=1)
        facing = pick(u[:, 2 : 2 + level.others], len(STEPS))
        left = pool.shape[1] - (depth + 1)[:, None]
        other = pool.gather(1, depth[:, None] + 1 + (u[:, 2 + level.others :] * left).long().minimum(left - 1))
        colour = torch.cat([pool[:, : level.deepest + 1], other], dim=1)
        moves = far > 0
        count = colour.shape[1]
        sprites = Sprites(
            centre=torch.cat([running, staying], dim=3),
            half=torch.full((1, 1, 1, count, 2), ARROW, device=device),
            shape=torch.full((1, 1, 1, count), shape_number("arrow"), device=device),
            colour=colour[:, None, None],
            visible=torch.cat([moves, torch.ones_like(other, dtype=torch.bool)], dim=1)[:, None, None],
            angle=torch.cat([direction, facing], dim=1)[:, None, None] * (math.pi / 2),
        )
        stop = start + far * torch.tensor([y * SIDE + x for y, x in STEPS], device=device)[direction]
        texts = self.TEMPLATES
        prompts: list[str] = []
        for t, numbers, d in zip(pick(u[:, 1], len(texts)).tolist(), colour.tolist(), depth.tolist(), strict=True):
            names = [_palette.NAMES[number] for number in numbers[: d + 1]]
            prompts.append(texts[t].format(first=names[0], all=", ".join(names)))
        return Scenes(
            prompts=prompts,
            backdrop=self.backdrop(torch.where(moves, stop, OFF)),
            sprites=sprites,
            tracked=(
                *(f"arrow {i + 1}" for i in range(level.deepest + 1)),
                *(f"other {i + 1}" for i in range(level.others)),
            ),
            notes={
                **{name: runs[name] for name in ("start", "direction", "far", "others")},
                "depth": depth,
                "stop": stop,
                "frames": (ends - squares)[:, 0] / ends[:, 0, -1:] * (FRAMES - 1),
            },
        )

    def labels(self, notes: Mapping[str, NDArray[Any]], i: int) -> Json:
        """`answers`: the square 0-35, row by row, where the last run ends; `depth` d; of each run in `order` more.

        These are its square in `starts` and `stops`, `directions`, `squares` (its length) and `frames` (its begin).
        """
        runs = int(notes["depth"][i]) + 1
        return {
            "answers": [int(notes["stop"][i, runs - 1])],
            "depth": runs - 1,
            "dependent": self.dependent,
            "order": [f"arrow {run + 1}" for run in range(runs)],
            "starts": notes["start"][i, :runs].tolist(),
            "stops": notes["stop"][i, :runs].tolist(),
            "directions": [DIRECTIONS[number] for number in notes["direction"][i, :runs]],
            "squares": notes["far"][i, :runs].tolist(),
            "frames": notes["frames"][i, :runs].tolist(),
            "others": notes["others"][i].tolist(),
        }
