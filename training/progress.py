"""How far a stage is: the end that steps or minutes set, and log lines with the time that is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from training import parallel
from training.config import Fit

SETTLED, EVERY = 3, 16
"""The clock counts from the step `SETTLED` on, when all is compiled; ranks compare it every `EVERY` steps."""
LINES = 40
NEW: Mapping[str, Any] = {"step": 0, "seconds": 0.0, "legs": []}
"""Where a training starts that goes on from nothing: steps and seconds before it, and the trainings that had them."""
log = logging.getLogger("training")


class Budget:
    """What share of a training is done: of its steps or of its minutes, whichever is more.

    Args:
        fit: Sets the end.
        record: Of the checkpoint that an earlier try left: `step`, `seconds`, `fraction`, and `start` where an earlier
            training had ended that this one goes on from; or empty.
        device: Where ranks agree.
    """

    def __init__(self, fit: Fit, record: Mapping[str, Any], *, device: str) -> None:
        if fit.steps is None and fit.minutes is None:
            raise ValueError("a training without steps and without minutes has no end; set one of them")
        self._fit, self._device = fit, device
        self.start: Mapping[str, Any] = record.get("start", NEW)
        self._first: int = record.get("step", 0)
        self._before: float = record.get("seconds", 0.0) - self.start["seconds"]
        # A finished training whose end is moved goes on from where it is on the way to the new end.
        self._base = min(record.get("fraction", 0.0), self._before / (60 * fit.minutes)) if fit.minutes else 0.0
        self._clock, self._settled = self._base, 0.0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds in this training, earlier tries included."""
        return self._before + time.monotonic() - self._began

    @property
    def spent(self) -> bool:
        """Whether an earlier try has come to the end."""
        by_steps = self._fit.steps is not None and self.done(self._first) >= self._fit.steps
        return by_steps or (self._fit.minutes is not None and self._before >= 60 * self._fit.minutes)

    def done(self, step: int) -> int:
        """Steps of this training before `step`."""
        return step - self.start["step"]

    def fraction(self, step: int) -> float:
        """Share done before `step`, equal on all ranks; ask for every step once, in order."""
        if self._fit.minutes is not None:
            since = step - self._first - SETTLED
            if since == 0:
                self._settled = self.seconds
            if since >= 0 and since % EVERY == 0:
                left = 60 * self._fit.minutes - self._settled
                passed = (self.seconds - self._settled) / left if left > 0 else 1.0
                self._clock = parallel.agree(self._base + (1 - self._base) * min(1.0, passed), self._device)
        return max(self._clock, self.done(step) / self._fit.steps if self._fit.steps else 0.0)


class Progress:
    """Logs about forty lines over a stage.

    Args:
        stage: Name on each line.
        fraction: Share of it that an earlier try has done.
    """

    def __init__(self, stage: str, *, fraction: float = 0.0) -> None:
        self._stage, self._first, self._last = stage, fraction, fraction
        self._start = time.monotonic()

    def due(self, fraction: float) -> bool:
        """Whether `fraction` is worth a line."""
        return int(fraction * LINES) > int(self._last * LINES) or fraction >= 1

    def log(self, fraction: float, message: str) -> None:
        """One line."""
        self._last = fraction
        spent = time.monotonic() - self._start
        left = spent / max(1e-9, fraction - self._first) * (1 - fraction)
        log.info("%s %3.0f %% %s (%.0f s, %.0f s left)", self._stage, 100 * fraction, message, spent, left)
