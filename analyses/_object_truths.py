"""Truths of a sample's objects for probes: what and where the one that moves is, how it goes, which is hidden."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses._token_regions import frames
from store import ActivationStore, Sample

HIDDEN: Final = 0.1
"""An object of which no more than this share of its largest visible area is seen in a video frame is hidden in it, if
it is seen again later: what is taken away, or reached at the end, is gone."""
MOSTLY: Final = 0.5
"""A latent frame hides an object if it is hidden in more than this share of the video frames that it stands for."""
LOOKS: Final = ("colour", "shape")


class Object(NamedTuple):
    """One object of a sample."""

    looks: dict[str, str]
    """`colour` and `shape`, as far as the sample's labels tell."""
    track: NDArray[np.float64]
    """Centre (y, x) in pixels, `[V, 2]`."""
    hidden: NDArray[np.bool_]
    """In each video frame `[V]`."""

    @property
    def way(self) -> NDArray[np.float64]:
        """From its first place to the farthest one on its way, `[2]`."""
        off = self.track - self.track[0]
        return off[np.linalg.norm(off, axis=1).argmax()]

    def place(self, latent: int) -> NDArray[np.float64]:
        """Centre by latent frame, `[F, 2]`."""
        return frames(len(self.track), latent) @ self.track

    def is_hidden(self, latent: int) -> NDArray[np.bool_]:
        """By latent frame, `[F]`."""
        return frames(len(self.track), latent) @ self.hidden > MOSTLY


def objects(sample: Sample) -> list[Object]:
    """The tracked objects of a sample; none where it has no tracks."""
    if sample.tracks is None:
        return []
    found: list[Object] = []
    for at, track in enumerate(sample.tracks.astype(np.float64)):
        seen = np.ones(len(track))
        if sample.segmentation is not None:
            seen = (sample.segmentation == at + 1).mean(axis=(1, 2))
        shown = seen > HIDDEN * seen.max()
        comes_back = np.logical_or.accumulate(shown[::-1])[::-1]
        found.append(Object(_looks(sample, at), track, ~shown & comes_back))
    return found


def mover(sample: Sample) -> Object | None:
    """The object that gets farthest from its first place; None where nothing moves."""
    known = objects(sample)
    best = max(known, key=lambda one: float(np.linalg.norm(one.way)), default=None)
    return best if best is not None and np.linalg.norm(best.way) > 0 else None


def hidden_one(sample: Sample) -> Object | None:
    """The object that was seen at first and is hidden longest; None where none is."""
    known = [one for one in objects(sample) if not one.hidden[0] and one.hidden.any()]
    return max(known, key=lambda one: int(one.hidden.sum()), default=None)


def read(acts: ActivationStore, ids: tuple[str, ...], which: Any) -> dict[str, Object]:
    """What `which` finds in each sample; samples without are left out."""
    found = {id: which(acts.sample(id)) for id in ids}
    return {id: one for id, one in found.items() if one is not None}


def _looks(sample: Sample, at: int) -> dict[str, str]:
    labels: dict[str, Any] = dict(sample.record.labels)
    names: list[str] = labels.get("objects") or []
    if at >= len(names):
        return {}
    told = {look: labels.get(f"{look}s") or {} for look in LOOKS}
    return {look: str(by_name[names[at]]) for look, by_name in told.items() if names[at] in by_name}
