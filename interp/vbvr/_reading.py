"""Samples in: a folder in VBVR-Bench's layout as samples."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError

from interp import videos
from interp.errors import BadInput
from interp.samples import picture
from interp.vbvr import _layout
from interp.vbvr._layout import FILES, FIRST, LIST, PROMPT, SPLITS, TRUTH, Place
from store.records import Json, Sample, SampleRecord

LONGEST: Final = 1 << 16
"""Bytes of a prompt."""
LARGEST_LIST: Final = 4 << 30
"""Bytes of `VBVR-Bench.json`."""
NAMED: Final = 3
"""Files that an error names before it counts."""


class Entry(NamedTuple):
    """One sample, not read yet."""

    place: Place
    folder: Path | None
    """None where only `VBVR-Bench.json` has it."""
    listed: Listed | None = None


class Listed(BaseModel):
    """What is read of an entry of `VBVR-Bench.json`; the rest of it is ignored."""

    prompt: str
    first_image: str
    """Base64, perhaps behind `data:image/png;base64,`."""
    first_frame_path: str
    """`{split}/{task}/{index}/first_frame.png`: only its names are used, nothing is opened there."""


def find(folder: Path, *, tasks: Sequence[str] = (), split: str | None = None) -> list[Entry]:
    """The samples below a folder, those of each task in turn, so that the first n are of as many tasks as there can be.

    Args:
        folder: A benchmark, or a split, task or sample of one. Samples that only `VBVR-Bench.json` has are there, too.
        tasks: Only these: whole names, or their beginnings up to a `_`, e.g. `O-39`.
        split: Only `in_domain` or `out_of_domain`.

    Raises:
        BadInput: if there is none, a file is missing or a name hostile, or the list cannot be read.
    """
    if not folder.is_dir():
        raise BadInput(f"no folder {folder}; give one in VBVR-Bench's layout, with {FIRST} and {PROMPT} of each sample")
    if split is not None and split not in SPLITS:
        raise BadInput(f"no split {split!r}; choose one of {', '.join(SPLITS)}")
    found = {entry.place: entry for entry in _listed(folder)}
    found |= {place: Entry(place, path, None) for path in _folders(folder) for place in [_place(path)]}
    if not found:
        raise BadInput(f"no sample in {folder}: no {FIRST} three folders deep, and no {LIST}")
    chosen = [entry for entry in found.values() if split is None or entry.place.split == SPLITS[split]]
    chosen = [entry for entry in chosen if not tasks or any(_is(entry.place.task, task) for task in tasks)]
    if not chosen:
        there = sorted({entry.place.task for entry in found.values()})
        asked = ", ".join([*tasks, *([split] if split else [])])
        raise BadInput(f"no sample of {asked} in {folder}; its {len(there)} tasks begin {', '.join(there[:NAMED])}")
    _complain([entry.folder / name for entry in chosen if entry.folder for name in (FIRST, PROMPT)])
    return sorted(chosen, key=lambda entry: (entry.place.index, entry.place))


def samples(
    folder: Path, *, n: int | None = None, tasks: Sequence[str] = (), split: str | None = None, truth: bool = False
) -> Iterator[Sample]:
    """Samples of a folder, read one at a time; see `find`.

    The family is the task's name; `vbvr_split` and `vbvr_index` among the labels say where the sample lies. The first
    frame keeps its own size. Without `truth` the true video stays where it is: a sample's id then follows from the
    pixels of a PNG and the prompt alone, and hundreds of samples fit in memory.

    Args:
        folder: As in `find`.
        n: How many; all if not given.
        tasks: As in `find`.
        split: As in `find`.
        truth: Keep the true video, too.

    Raises:
        BadInput: as `find`, and if a file cannot be read.
    """
    entries = find(folder, tasks=tasks, split=split)
    if n is not None and not 1 <= n <= len(entries):
        raise BadInput(f"n is {n}, but {folder} has {len(entries)} such samples")
    chosen = entries[:n]
    if truth:
        _complain([(entry.folder or folder / entry.place.folder) / TRUTH for entry in chosen])
    return (_sample(entry, truth=truth) for entry in chosen)


def place_in(record: SampleRecord) -> Place | None:
    """Where a sample lay when it was read by `samples`; None for other samples."""
    labels = record.labels
    split, index = labels.get("vbvr_split"), labels.get("vbvr_index")
    if not isinstance(split, str) or not isinstance(index, str):
        return None
    return _layout.place_of((split, record.family, index))


def _sample(entry: Entry, *, truth: bool) -> Sample:
    place, folder = entry.place, entry.folder
    split = next((name for name, there in SPLITS.items() if there == place.split), "")
    labels: Json = {"vbvr_split": place.split, "vbvr_index": place.index}
    if folder is None:
        assert entry.listed is not None
        prompt, source, name = entry.listed.prompt, _decoded(entry), f"the first frame of {place} in {LIST}"
    else:
        prompt, source, name = _prompt(folder / PROMPT), folder / FIRST, str(folder / FIRST)
    record = SampleRecord(family=place.task, prompt=_bounded(prompt, place).strip(), split=split, labels=labels)
    video = videos.read(folder / TRUTH) if truth and folder is not None else None
    return Sample(record, first_frame=picture(source, name=name), video=video)


def _prompt(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the prompt {path}: {error}") from error


def _bounded(prompt: str, place: Place) -> str:
    if len(prompt.encode(errors="replace")) > LONGEST or "\0" in prompt:
        raise BadInput(f"the prompt of {place} is no prompt: over {LONGEST} bytes, or with NUL characters")
    return prompt


def _decoded(entry: Entry) -> BytesIO:
    assert entry.listed is not None
    try:
        return BytesIO(base64.b64decode(entry.listed.first_image.rpartition(",")[2], validate=True))
    except binascii.Error as error:
        raise BadInput(f"the first frame of {entry.place} in {LIST} is no base64: {error}") from error


def _listed(folder: Path) -> Iterator[Entry]:
    """What `VBVR-Bench.json` has, if there is one."""
    path = folder / LIST
    if not path.is_file():
        return
    if path.stat().st_size > LARGEST_LIST:
        raise BadInput(f"{path} has more than {LARGEST_LIST >> 30} GiB: that is not the benchmark's list")
    try:
        found = TypeAdapter(list[Listed]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInput(f"cannot read {path}: {one_line(error)}") from error
    for listed in found:
        place = _layout.place_of(tuple(listed.first_frame_path.replace("\\", "/").split("/")[:-1]))
        yield Entry(place, None, listed)


def _folders(folder: Path, depth: int = 3) -> Iterator[Path]:
    """Folders that hold a file of a sample, this one or below."""
    if any((folder / name).is_file() for name in FILES):
        yield folder
    elif depth:
        try:
            inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError as error:
            raise BadInput(f"cannot look into {folder}: {error.strerror or error}") from error
        for path in inner:
            yield from _folders(path, depth - 1)


def _place(folder: Path) -> Place:
    return _layout.place_of(Path(os.path.abspath(folder)).parts)


def _is(task: str, asked: str) -> bool:
    return task == asked or task.startswith(f"{asked}_")


def _complain(wanted: Sequence[Path]) -> None:
    """One line for all files that are missing."""
    missing = [str(path) for path in wanted if not path.is_file()]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise BadInput(
            f"missing: {', '.join(missing[:NAMED])}{more}; fetch the folder again, or leave these samples out"
        )


def one_line(error: Exception) -> str:
    """What is wrong with a file's content: where, and why."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])
