"""Exports lie as the evaluation kit looks for them, show what the runs made, and survive interruptions."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

import store
from interp import vbvr, videos
from interp.errors import BadInput
from interp.worlds import worlds
from tests import planted_vbvr as planted

SORT, MAZE = planted.TASKS.values()
FLOORS = ["floor-jump", "floor-noise", "floor-still", "truth"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return planted.benchmark(tmp_path / "bench")


@pytest.fixture
def acts(tmp_path: Path, folder: Path) -> store.ActivationStore:
    """Two seeds of each of the four samples; one seed ends right, the other wrong."""
    acts = store.open(tmp_path / "acts", mode="a")
    for sample in vbvr.samples(folder):
        planted.run(acts, sample, planted.film(), seed=0)
        planted.run(acts, sample, planted.film(end=planted.RED), seed=1)
    return acts


def files(out: Path) -> dict[str, int]:
    """Every file of a folder with its time of change."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_everything_is_where_the_kit_looks(acts: store.ActivationStore, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = vbvr.export(out, acts=acts, benchmark=folder)
    names = sorted(path.name for path in (out / "videos").iterdir())
    assert list(done.models) == names
    assert names[:3] + names[-1:] == FLOORS
    assert [name[:12] for name in names[3:5]] == ["small-seed0-", "small-seed1-"]
    for name in names:
        found = sorted(str(path.relative_to(out / "videos" / name)) for path in (out / "videos" / name).rglob("*.mp4"))
        assert found == [f"{split}/{task}/0000{n}.mp4" for split, task in planted.TASKS.items() for n in range(2)]
    for split, task in planted.TASKS.items():
        gt = out / "gt" / split / task / "00001"
        assert sorted(path.name for path in gt.iterdir()) == sorted(vbvr.FILES)
        for name in ("ground_truth.mp4", "final_frame.png"):
            assert (gt / name).read_bytes() == (folder / split / task / "00001" / name).read_bytes()
        assert (gt / "prompt.txt").read_text() == f"Solve {task} 1, please."
    assert (done.runs, done.pseudo, done.untrue, done.written) == (8, 16, 0, 40)
    assert str(out / "videos") in done.command
    assert all(path.parts[0] in ("gt", "videos", "export.json") for path in map(Path, files(out)))


def test_videos_show_what_the_runs_made(acts: store.ActivationStore, folder: Path, tmp_path: Path) -> None:
    vbvr.export(tmp_path / "out", acts=acts, benchmark=folder)
    plan = vbvr.read_plan(tmp_path / "out")
    for video in plan.videos:
        path = tmp_path / "out" / "videos" / video.folder / video.place.video
        shown = videos.read(path).astype(int)
        first = acts.sample(video.sample_id).first_frame.astype(int)
        if video.run_id is not None:
            made = acts.load("output", "pixels", runs=[video.run_id], lazy=False).to_numpy()[0]
            assert shown.shape == made.shape
            assert np.abs(shown - made).max() < 12
        elif video.shown == "still":
            assert np.abs(shown - first).mean() < 2
        elif video.shown == "noise":
            assert shown.std() > 40
        elif video.shown == "jump":
            assert np.abs(shown[: len(shown) // 2] - first).mean() < 2
            assert np.abs(shown[len(shown) // 2 :] - planted.film()[-1]).mean() < 5
        else:
            own = tmp_path / "bench" / video.place.folder / "ground_truth.mp4"
            assert path.read_bytes() == own.read_bytes()
    with av.open(str(tmp_path / "out" / "videos" / plan.videos[0].folder / plan.videos[0].place.video)) as container:
        assert container.streams.video[0].average_rate == vbvr.FPS == 16


def test_a_video_of_another_size_goes_back_to_that_of_the_first_frame(folder: Path, tmp_path: Path) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    wide = np.zeros((4, 16, 48, 3), np.uint8)
    wide[:, :, :24] = 255
    planted.run(acts, next(iter(vbvr.samples(folder))), wide)
    vbvr.export(tmp_path / "out", acts=acts, shown=())
    (path,) = (tmp_path / "out" / "videos").rglob("*.mp4")
    shown = videos.read(path)
    assert shown.shape == (4, planted.SIDE, planted.SIDE, 3)
    assert shown[:, :, : planted.SIDE // 2 - 2].min() > 240
    assert shown[:, :, planted.SIDE // 2 + 2 :].max() < 15


def test_without_the_benchmark_there_is_no_truth(acts: store.ActivationStore, tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    done = vbvr.export(out, acts=acts)
    assert done.untrue == 4
    assert [name for name in done.models if name in FLOORS] == ["floor-noise", "floor-still"]
    assert not list(out.rglob("ground_truth.mp4"))
    later = vbvr.export(out, acts=acts, benchmark=folder)
    assert (later.untrue, [name for name in later.models if name in FLOORS]) == (0, FLOORS)
    assert len(list(out.rglob("ground_truth.mp4"))) == 4
    assert len(list((out / "videos" / "truth").rglob("*.mp4"))) == 4


def test_an_interrupted_export_goes_on(
    acts: store.ActivationStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write, calls = tmp_path / "out", videos.write, []

    def interrupted(video, path, **options):
        calls.append(path)
        if len(calls) == 8:
            path.write_bytes(b"half a vid")
            raise KeyboardInterrupt
        write(video, path, **options)

    monkeypatch.setattr(videos, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vbvr.export(out, acts=acts, benchmark=folder)
    monkeypatch.undo()
    before = files(out)
    assert 0 < len(list(out.rglob("*.mp4"))) < 28
    assert not [name for name in before if Path(name).parts[0].startswith(".")]
    done = vbvr.export(out, acts=acts, benchmark=folder)
    after = files(out)
    before.pop("export.json"), after.pop("export.json")
    assert before.items() <= after.items()
    assert done.written == len(after) - len(before)
    assert len(list((out / "videos").rglob("*.mp4"))) == 24
    for path in out.rglob("*.mp4"):
        videos.read(path)
    assert vbvr.export(out, acts=acts, benchmark=folder).written == 0


def test_what_is_there_keeps_its_place(tmp_path: Path) -> None:
    acts = store.open(tmp_path / "acts", mode="a")
    samples = worlds["grounding"].generate(3, seed=1)
    out = tmp_path / "out"

    def placed() -> dict[str, str]:
        return {video.sample_id: str(video.place) for video in vbvr.read_plan(out).videos}

    for number in (2, 0):
        assert samples[number].video is not None
        planted.run(acts, samples[number], samples[number].video)
        vbvr.export(out, acts=acts)
    assert placed() == {
        samples[2].id: "In-Domain_50/grounding/00000",
        samples[0].id: "In-Domain_50/grounding/00001",
    }
    vbvr.export(out, acts=acts, samples=samples)
    assert placed()[samples[1].id] == "In-Domain_50/grounding/00002"
    assert len(list((out / "videos" / "truth").rglob("*.mp4"))) == 3


def test_worlds_go_out_with_their_truth_under_a_task_of_the_kit(tmp_path: Path) -> None:
    samples = worlds["grounding"].generate(2, split="out_of_domain")
    done = vbvr.export(tmp_path / "out", samples=samples, task=MAZE)
    gt = tmp_path / "out" / "gt" / "Out-of-Domain_50" / MAZE
    assert (list(done.models), done.runs) == (FLOORS, 0)
    for number, sample in enumerate(samples):
        (again,) = vbvr.samples(gt / f"0000{number}", truth=True)
        np.testing.assert_array_equal(again.first_frame, sample.first_frame)
        assert again.record.prompt == sample.record.prompt
        assert np.abs(again.video.astype(int) - sample.video).mean() < 1.5
    mixed = [*samples, *worlds["maze"].generate(1)]
    with pytest.raises(BadInput, match="would mix grounding, maze"):
        vbvr.export(tmp_path / "other", samples=mixed, task=MAZE)


def test_nothing_foreign_is_overwritten(acts: store.ActivationStore, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(BadInput, match="exists and is no export"):
        vbvr.export(tmp_path / "mine", acts=acts)
    with pytest.raises(BadInput, match="nothing to export"):
        vbvr.export(tmp_path / "out", acts=acts, where="seed = 7")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"folder": "../../elsewhere"}, "is no name of VBVR's"),
        ({"index": ".."}, "is no name of VBVR's"),
        ({"shown": "else"}, "cannot read"),
        ({"sample_id": 3}, "cannot read"),
    ],
)
def test_a_hostile_plan_is_refused(acts: store.ActivationStore, tmp_path: Path, change: dict, complaint: str) -> None:
    out = tmp_path / "out"
    vbvr.export(out, acts=acts, shown=())
    plan = json.loads((out / "export.json").read_text())
    plan["videos"][0] |= change
    (out / "export.json").write_text(json.dumps(plan))
    with pytest.raises(BadInput, match=complaint):
        vbvr.export(out, acts=acts)
    (out / "export.json").write_text('{"format": 2, "videos": []}')
    with pytest.raises(BadInput, match="upgrade stepscope"):
        vbvr.export(out, acts=acts)


def test_two_runs_that_would_be_one_video_are_refused(folder: Path, tmp_path: Path) -> None:
    """The same question twice in a store, once with its true video."""
    acts = store.open(tmp_path / "acts", mode="a")
    for truth in (False, True):
        planted.run(acts, next(iter(vbvr.samples(folder, truth=truth))), planted.film())
    with pytest.raises(BadInput, match="are both small-seed0-"):
        vbvr.export(tmp_path / "out", acts=acts)
