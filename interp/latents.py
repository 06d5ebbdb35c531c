"""What a step starts from: x_s as the pipeline draws it and the scheduler hands it on, and as editors change it.

Shape legend: b runs of the batch, f latent frames, y rows, x columns, c channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from interp import noise
from interp.adapters import ModelAdapter
from interp.errors import InterpError
from interp.geometry import Geometry
from interp.listeners import Editor, Start, Upcoming
from interp.sites import StepValues
from interp.writing import with_rows, written

Tensor = torch.Tensor


class Latents:
    """x_s of all runs of a batch on its way from one step to the next.

    Args:
        adapter: Says how the pipeline holds latents.
        geometry: Of the run.
        editors: Change x_s, one for each run; or none.
        start: Where the runs begin, if not at step 0.
    """

    def __init__(
        self, adapter: ModelAdapter, geometry: Geometry, editors: Sequence[Editor], start: Start | None
    ) -> None:
        self._adapter, self._geometry, self._editors, self._start = adapter, geometry, tuple(editors), start

    def drawn(self, raw: Any) -> Any:
        """The first x_s, from what the pipeline has prepared: its latents, or a tuple that begins with them."""
        if isinstance(raw, tuple):
            return (self.drawn(raw[0]), *raw[1:])
        kind = raw.dtype if self._start is None else self._start.latent_bfyxc.dtype
        return written(raw.to(kind), self._adapter.prepared, self._first)

    def handed_on(self, result: Any, values: StepValues, frames: Sequence[Tensor], schedulers: Sequence[Any]) -> Any:
        """What the scheduler returns, with the x_s that the next step starts from as its first part.

        Args:
            result: What it returned.
            values: The step that is over.
            frames: Where frames are stepped one by one: those before the last, as the pipeline holds them.
            schedulers: Those that were called in the step.

        Raises:
            InterpError: editors do not agree whether the solver forgets its past.
        """
        sigma, step = values.info.sigma_next, values.info.step + 1
        upcoming = Upcoming(step, sigma, self._adapter.clean_share(sigma), self._adapter.initial, values)
        resets = {editor.resets(step) for editor in self._editors}
        if len(resets) > 1:
            raise InterpError(f"at step {step} the solver forgets its past in some runs of the batch, but not in all")
        if resets == {True}:
            for scheduler in schedulers:
                noise.forget(scheduler)
        if isinstance(result, tuple):
            # CogVideoX hands the solver's past round through the pipeline, as the second part.
            rest = tuple(None for _ in result[1:]) if resets == {True} else result[1:]
            return (self._whole(result[0], upcoming, frames), *rest)
        result.prev_sample = self._whole(result.prev_sample, upcoming, frames)
        return result

    def _first(self, raw: Tensor) -> Tensor:
        if self._start is not None:
            stored = self._start.latent_bfyxc
            raw = self._on_moving(raw, lambda part, first: stored[:, first:].to(part))
        step = self._start.step if self._start else 0
        return self._edited(raw, Upcoming(step, math.nan, math.nan, self._adapter.initial, None))

    def _whole(self, last: Tensor, upcoming: Upcoming, frames: Sequence[Tensor]) -> Tensor:
        """A step's last result; where that is one frame, the others are changed where the pipeline has them."""
        if self._adapter.schedulers == "one":
            return self._edited(last, upcoming)
        changed = self._edited(torch.stack([*frames, last], dim=2), upcoming).unbind(dim=2)
        for frame, new in zip(frames, changed[:-1], strict=True):
            frame.copy_(new)
        return changed[-1]

    def _edited(self, raw: Tensor, upcoming: Upcoming) -> Tensor:
        if not self._editors:
            return raw
        before = upcoming.before
        own = [upcoming._replace(before=before and before.of(run)) for run in range(len(self._editors))]

        def edited(part_bfyxc: Tensor, first: int) -> Tensor:
            rows = zip(self._editors, own, part_bfyxc, strict=True)
            return with_rows(part_bfyxc, [editor.latent(known, row, first) for editor, known, row in rows])

        return self._on_moving(raw, edited)

    def _on_moving(self, raw: Tensor, change: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Change the part of latents that the pipeline does not hold fixed; `change` is told its first frame."""
        held = self._adapter.held
        return written(raw, lambda value: self._adapter.moving(value, self._geometry), lambda part: change(part, held))
