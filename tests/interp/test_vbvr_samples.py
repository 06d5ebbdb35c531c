"""Samples in VBVR-Bench's layout come in whole, and what is wrong with a folder is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from interp import vbvr
from interp.errors import BadInput
from tests import planted_vbvr as planted

SORT, MAZE = planted.TASKS.values()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return planted.benchmark(tmp_path / "bench")


def refused(folder: Path, **options) -> str:
    """What reading all samples complains of, in one line."""
    with pytest.raises(BadInput) as caught:
        list(vbvr.samples(folder, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_samples_are_read_whole_and_tasks_in_turn(folder: Path) -> None:
    samples = list(vbvr.samples(folder))
    assert [(one.record.family, one.record.labels["vbvr_index"]) for one in samples] == [
        *((SORT, "00000"), (MAZE, "00000")),
        *((SORT, "00001"), (MAZE, "00001")),
    ]
    first = samples[0]
    assert first.record.prompt == f"Solve {SORT} 0, please."
    assert (first.record.split, samples[1].record.split) == ("in_domain", "out_of_domain")
    pixels = np.asarray(PIL.Image.open(folder / "In-Domain_50" / SORT / "00000" / "first_frame.png"))
    np.testing.assert_array_equal(first.first_frame, pixels)
    assert first.video is None
    assert len({one.id for one in samples}) == 4


def test_the_truth_comes_along_where_it_is_asked_for(folder: Path) -> None:
    (sample,) = vbvr.samples(folder, n=1, truth=True)
    assert sample.video is not None
    assert sample.video.shape == planted.film().shape
    assert np.abs(sample.video.astype(int) - planted.film()).mean() < 3


@pytest.mark.parametrize("below", ["", "In-Domain_50", f"In-Domain_50/{SORT}", f"In-Domain_50/{SORT}/00001"])
def test_a_part_of_a_benchmark_gives_the_same_samples(folder: Path, below: str) -> None:
    whole = {one.id for one in vbvr.samples(folder)}
    part = {one.id for one in vbvr.samples(folder / below)}
    assert part
    assert part <= whole
    assert len(part) == {"": 4, "In-Domain_50": 2}.get(below, 1 if below.endswith("1") else 2)


def test_the_list_alone_gives_the_same_samples(folder: Path) -> None:
    whole = [one.id for one in vbvr.samples(folder)]
    for split in planted.SPLITS:
        shutil.rmtree(folder / split)
    assert [one.id for one in vbvr.samples(folder)] == whole
    assert "missing: " in refused(folder, truth=True)


def test_samples_are_chosen_by_task_and_split(folder: Path) -> None:
    assert {one.record.family for one in vbvr.samples(folder, tasks=["O-39"])} == {MAZE}
    assert {one.record.family for one in vbvr.samples(folder, split="in_domain")} == {SORT}
    assert "no sample of O-3 in" in refused(folder, tasks=["O-3"])
    assert "in_domain, out_of_domain" in refused(folder, split="In-Domain_50")
    assert "has 4 such samples" in refused(folder, n=5)


def test_missing_files_are_named_in_one_line(folder: Path) -> None:
    for split, task in planted.TASKS.items():
        for number in ("00000", "00001"):
            (folder / split / task / number / "first_frame.png").unlink()
    (folder / "In-Domain_50" / SORT / "00001" / "prompt.txt").unlink()
    said = refused(folder)
    assert said.startswith(f"missing: {folder / 'In-Domain_50' / SORT / '00000' / 'first_frame.png'}, ")
    assert "and 2 more" in said


def test_a_folder_without_samples_is_refused(tmp_path: Path) -> None:
    assert "no folder" in refused(tmp_path / "nowhere")
    assert "no sample in" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("prompt.txt", b"\xff\xfe\x00", "cannot read the prompt"),
        ("prompt.txt", b"a\x00b", "is no prompt"),
        ("prompt.txt", b"x" * 100_000, "is no prompt"),
        ("first_frame.png", b"no picture", "cannot read"),
        ("first_frame.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "cannot read"),
        ("ground_truth.mp4", b"no video", "cannot read the video"),
        ("ground_truth.mp4", b"", "cannot read the video"),
    ],
)
def test_hostile_files_are_refused(folder: Path, name: str, content: bytes, complaint: str) -> None:
    (folder / "In-Domain_50" / SORT / "00000" / name).write_bytes(content)
    assert complaint in refused(folder, truth=True)


@pytest.mark.parametrize("name", ["a b", "x\x1b[31m", "-rf", "ä", "a" * 200])
def test_hostile_names_are_refused(folder: Path, name: str) -> None:
    (folder / "VBVR-Bench.json").unlink()
    there = folder / "In-Domain_50" / SORT
    there.rename(there.with_name(name))
    said = refused(folder)
    assert "is no name of VBVR's" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot read"),
        ("{}", "cannot read"),
        ("[" * 100_000, "cannot read"),
        ('[{"prompt": 3, "first_image": "", "first_frame_path": "a/b/c/first_frame.png"}]', "0.prompt"),
        ('[{"prompt": "", "first_image": "%%%", "first_frame_path": "a/b/00009/first_frame.png"}]', "is no base64"),
        ('[{"prompt": "", "first_image": "AAAA", "first_frame_path": "a/b/00009/first_frame.png"}]', "cannot read"),
        ('[{"prompt": "", "first_image": "", "first_frame_path": "../../../etc/passwd"}]', "is no name of VBVR's"),
        ('[{"prompt": "", "first_image": "", "first_frame_path": "/etc/\\u0000/x"}]', "is no name of VBVR's"),
    ],
)
def test_a_hostile_list_is_refused(folder: Path, content: str, complaint: str) -> None:
    (folder / "VBVR-Bench.json").write_text(content)
    assert complaint in refused(folder)


def test_other_fields_of_the_list_are_ignored(folder: Path) -> None:
    path = folder / "VBVR-Bench.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps([{**entry, "later": [1]} for entry in entries]))
    assert len(list(vbvr.samples(folder))) == 4
