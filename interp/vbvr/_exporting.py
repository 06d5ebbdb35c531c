"""Videos out: runs, what solves nothing, and the truth, as VBVR-Bench's evaluation kit takes them.

OUT/export.json                                       which video is of which run
OUT/gt/{split}/{task}/{index}/first_frame.png …       the samples: the kit's --gt_base
OUT/videos/{model}/{split}/{task}/{index}.mp4         a folder a model and seed: the kit's --models_base
OUT/videos/floor-still/…, floor-noise, floor-jump, truth
OUT/scores/                                           where the kit is told to put its results
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from tqdm.auto import tqdm

import store
from interp import videos
from interp.errors import BadInput
from interp.samples import picture
from interp.vbvr import _layout, _plan, _reading
from interp.vbvr._layout import FINAL, FIRST, PROMPT, TRUTH
from interp.vbvr._plan import PSEUDO, Asked, Plan, Shown, Video
from store import Run, Sample, SampleRecord

Pixels = NDArray[np.uint8]

LOSSLESS: Final = 4
"""Rate factor of videos: with all of the colour, 0.6 of 255 off on average on a world's video; 12 with a quarter of it,
as most files have, 1.9, and up to 123 at edges."""
NOISY: Final = 30
"""Rate factor of noise, which does not compress: 0.7 MB a frame of 1024×1024, against 2.3 at 4."""
NOISE_FRAMES: Final = 17
"""Frames of noise at most: more of it costs space and says nothing more."""
FRAMES: Final = 17
"""Frames of a floor where neither a run nor a true video says how many."""


class Exported(NamedTuple):
    """What an export did."""

    out: Path
    runs: int
    """Videos that runs made."""
    pseudo: int
    """Floors and true videos."""
    written: int
    """Files written now; the others were there."""
    models: tuple[str, ...]
    """Folders below `OUT/videos`."""
    untrue: int
    """Samples whose truth cannot be had, so that they have no jump cut and no true video."""
    command: str
    """The evaluation kit's, to be run where it was cloned."""


def export(
    out: Path,
    *,
    acts: store.ActivationStore | None = None,
    where: str | None = None,
    samples: Sequence[Sample] = (),
    benchmark: Path | None = None,
    task: str | None = None,
    shown: Sequence[Shown] = tuple(PSEUDO),
    fps: int = _layout.FPS,
    progress: bool = False,
) -> Exported:
    """Write runs' videos and samples in VBVR-Bench's layout, with floors and true videos beside them.

    What is there stays: an interrupted export goes on where it was stopped, and a later one adds to it. Each file
    appears whole. Videos are H.264 in the size of their sample's first frame, from which the pipeline had stretched it.

    Args:
        out: Folder; missing, empty, or an earlier export.
        acts: The store whose runs are exported.
        where: Which of its runs: SQL condition on the columns of `runs` and `samples`.
        samples: More samples, without runs.
        benchmark: Folder that samples were read from, for their true videos and last frames.
        task: Folder to put all samples in instead of their family's name, such as one of the kit's own tasks.
        shown: Which floors (`still`, `noise`, `jump`), and whether the `truth`.
        fps: Frames a second.
        progress: Show a bar with the time left.

    Raises:
        BadInput: if there is nothing to export, the folder holds something else, or a name cannot be a folder's.
        StoreError: if a run cannot be read.
    """
    if out.exists() and not (out / _plan.FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} exists and is no export; nothing is overwritten, so name another folder")
    source = _Source(acts, {sample.id: sample for sample in samples}, benchmark)
    asked = [*source.runs(where), *source.alone()]
    if not asked:
        raise BadInput("nothing to export: no run answers the condition, and no samples were given")
    families = sorted({one.record.family for one in asked})
    if task is not None and len(families) > 1:
        raise BadInput(f"the task {task} would mix {', '.join(families)}; export one family at a time, with --where")
    old = _plan.read(out) if (out / _plan.FILE).exists() else Plan()
    plan = _plan.grown(old, asked, shown=shown, task=task)
    with _written(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=out) as hidden:
            _plan.write(plan, out, Path(hidden) / "plan")
            written = _Writer(out, Path(hidden), source, fps).all(plan, progress=progress)
    made = [video for video in plan.videos if video.shown == "run"]
    untrue = len({one.sample_id for one in asked if not one.truth})
    models = tuple(sorted({video.folder for video in plan.videos}))
    return Exported(out, len(made), len(plan.videos) - len(made), written, models, untrue, _command(out))


def _command(out: Path) -> str:
    options = {"models_base": "videos", "gt_base": "gt", "output_dir": "scores"}
    words = [word for option, name in options.items() for word in (f"--{option}", str(out.absolute() / name))]
    return shlex.join(["python", "run_evaluation.py", *words, "--device", "cpu"])


@contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error.strerror or error}; the same command goes on") from error


class _Source:
    """Where samples, their truth and runs' videos come from."""

    def __init__(self, acts: store.ActivationStore | None, given: dict[str, Sample], benchmark: Path | None) -> None:
        self._acts, self._given = acts, given
        self._folders: dict[_layout.Place, Path] = {}
        if benchmark is not None:
            self._folders = {entry.place: entry.folder for entry in _reading.find(benchmark) if entry.folder}
        self.sample: Callable[[str], Sample] = lru_cache(maxsize=1)(self._sample)

    def runs(self, where: str | None) -> Iterator[Asked]:
        """The store's runs of samples that it has; of these only what the index knows."""
        if self._acts is None:
            return
        query = """SELECT record, sample_id, family, split, labels, has_video FROM runs JOIN samples USING (sample_id)
            WHERE list_contains(?, run_id) ORDER BY started, run_id"""
        for run, id, family, split, labels, kept in self._acts.sql(query, [self._acts.run_ids(where)]).fetchall():
            record = SampleRecord(family=family, prompt="", split=split, labels=json.loads(labels))
            yield Asked(id, record, Run.model_validate_json(run), kept or self._has_truth(record))

    def alone(self) -> Iterator[Asked]:
        """Samples without runs."""
        for id, sample in self._given.items():
            yield Asked(id, sample.record, None, sample.video is not None or self._has_truth(sample.record))

    def video(self, run_id: str) -> Pixels:
        """Of a run, `[F, H, W, 3]`."""
        assert self._acts is not None
        return self._acts.load("output", "pixels", runs=[run_id], lazy=False).to_numpy()[0]

    def folder(self, record: SampleRecord) -> Path | None:
        """The folder that a sample was read from, if it is known."""
        place = _reading.place_in(record)
        return self._folders.get(place) if place else None

    def last(self, sample: Sample) -> Pixels:
        """The true last frame, `[H, W, 3]`."""
        if sample.video is not None:
            return sample.video[-1]
        folder = self.folder(sample.record)
        assert folder is not None
        return picture(folder / FINAL, name=str(folder / FINAL))

    def _has_truth(self, record: SampleRecord) -> bool:
        folder = self.folder(record)
        return folder is not None and (folder / TRUTH).is_file() and (folder / FINAL).is_file()

    def _sample(self, id: str) -> Sample:
        if id in self._given:
            return self._given[id]
        if self._acts is None:
            raise BadInput(f"the export has sample {id}, which is not among what is given now; give the same again")
        return self._acts.sample(id)


class _Writer:
    """Writes the files of a plan that are not there yet, by way of a hidden folder."""

    def __init__(self, out: Path, hidden: Path, source: _Source, fps: int) -> None:
        self._out, self._hidden, self._source, self._fps = out, hidden, source, fps
        self._count = 0

    def all(self, plan: Plan, *, progress: bool) -> int:
        """Write samples, then videos, sample by sample; how many files."""
        by_sample: dict[str, list[Video]] = {}
        for video in plan.videos:
            by_sample.setdefault(video.sample_id, []).append(video)
        with tqdm(total=len(plan.videos), unit="video", desc="export", disable=not progress, dynamic_ncols=True) as bar:
            for id, wanted in by_sample.items():
                missing = [video for video in wanted if not self._path(video).exists()]
                if missing or not self._has_gt(wanted[0]):
                    self._write_sample(id, wanted, missing)
                bar.update(len(wanted))
        return self._count

    def _path(self, video: Video) -> Path:
        return self._out / "videos" / video.folder / video.place.video

    def _gt(self, video: Video) -> Path:
        return self._out / "gt" / video.place.folder

    def _has_gt(self, video: Video) -> bool:
        return all((self._gt(video) / name).exists() for name in (FIRST, PROMPT))

    def _write_sample(self, id: str, wanted: Sequence[Video], missing: Sequence[Video]) -> None:
        sample = self._source.sample(id)
        self._write_gt(sample, self._gt(wanted[0]))
        runs = [video.run_id for video in wanted if video.run_id]
        frames = len(sample.video) if sample.video is not None else None
        for video in missing:
            if video.run_id:
                pixels = _like(self._source.video(video.run_id), sample.first_frame)
                self._film(pixels, self._path(video), crf=LOSSLESS)
                continue
            if frames is None:
                frames = len(self._source.video(runs[0])) if runs else FRAMES
            self._write_pseudo(sample, video, frames)

    def _write_gt(self, sample: Sample, folder: Path) -> None:
        """The sample in the benchmark's own layout; files that it was read from are copied as they are."""
        own = self._source.folder(sample.record)
        self._whole(folder / FIRST, lambda part: PIL.Image.fromarray(sample.first_frame).save(part, "PNG"))
        self._whole(folder / PROMPT, lambda part: part.write_text(sample.record.prompt, encoding="utf-8"))
        for name in (TRUTH, FINAL):
            there = own / name if own is not None else None
            if there is not None and there.is_file():
                self._whole(folder / name, lambda part, there=there: shutil.copyfile(there, part))
            elif sample.video is not None and name == TRUTH:
                self._film(sample.video, folder / name, crf=LOSSLESS)
            elif sample.video is not None:
                end = PIL.Image.fromarray(sample.video[-1])
                self._whole(folder / name, lambda part, end=end: end.save(part, "PNG"))

    def _write_pseudo(self, sample: Sample, video: Video, frames: int) -> None:
        first, path = sample.first_frame, self._path(video)
        if video.shown == "truth":
            self._whole(path, lambda part: shutil.copyfile(self._gt(video) / TRUTH, part))
        elif video.shown == "noise":
            shape = (min(frames, NOISE_FRAMES), *first.shape)
            noise = np.random.default_rng(int(sample.id, 16)).integers(0, 256, shape, dtype=np.uint8)
            self._film(noise, path, crf=NOISY)
        else:
            end = _like(self._source.last(sample)[None], first)[0] if video.shown == "jump" else first
            half = frames // 2
            pixels = np.concatenate([np.repeat(first[None], half, 0), np.repeat(end[None], frames - half, 0)])
            self._film(pixels, path, crf=LOSSLESS)

    def _film(self, pixels: Pixels, path: Path, *, crf: int) -> None:
        self._whole(path, lambda part: videos.write(pixels, part, fps=self._fps, crf=crf, chroma="444"))

    def _whole(self, path: Path, write: Callable[[Path], object]) -> None:
        """Write a file unless it is there; it appears at once."""
        if path.exists():
            return
        part = self._hidden / f"part{path.suffix}"
        write(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, path)
        self._count += 1


def _like(video: Pixels, first: Pixels) -> Pixels:
    """A video in the size of the first frame: pipelines stretch that to the size that they sample at."""
    height, width = first.shape[:2]
    if video.shape[1:3] == (height, width):
        return video
    return np.stack([np.asarray(PIL.Image.fromarray(frame).resize((width, height))) for frame in video])
