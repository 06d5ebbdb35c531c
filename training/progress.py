"""Progress lines with the time that is left."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("training")


class Progress:
    """Logs about forty lines over a stage.

    Args:
        stage: Name on each line.
        total: Steps of the stage.
        done: Steps that an earlier try has done.
        seconds: Seconds that it took for them.
    """

    def __init__(self, stage: str, total: int, *, done: int = 0, seconds: float = 0.0) -> None:
        self._stage, self._total, self._first = stage, total, done
        self._every = max(1, total // 40)
        self._start = time.monotonic()
        self._before = seconds

    @property
    def seconds(self) -> float:
        """Seconds in the stage, earlier tries included."""
        return self._before + time.monotonic() - self._start

    def due(self, done: int) -> bool:
        """Whether `done` steps are worth a line."""
        return done % self._every == 0 or done == self._total

    def log(self, done: int, message: str) -> None:
        """One line."""
        spent = time.monotonic() - self._start
        left = spent / max(1, done - self._first) * (self._total - done)
        log.info("%s %d/%d %s (%.0f s, %.0f s left)", self._stage, done, self._total, message, spent, left)
