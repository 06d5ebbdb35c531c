"""`stepscope worlds`: the table, pictures that never overwrite anything, and bounds that can fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

import stepscope
from interp import contact_sheet, families, floors
from interp.errors import InterpError, UnknownName
from interp.worlds import FRAMES, GROUPS, SIZE, worlds
from interp.worlds.grounding import Grounding

ROOT = Path(stepscope.__file__).parent


def run(*words: str | Path) -> int:
    """Exit code of `stepscope worlds …`, run in this process."""
    try:
        stepscope.main(["worlds", *(str(word) for word in words)])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@pytest.fixture
def without_vae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no model were bundled."""
    monkeypatch.setattr(floors, "VAE", tmp_path / "nowhere")


# ---- ls


def test_ls_has_a_row_for_every_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert sorted(row["family"] for row in rows) == worlds.names()
    groups = [GROUPS.index(row["group"]) for row in rows]
    assert groups == sorted(groups)
    for row in rows:
        world = worlds[row["family"]]
        assert row["difficulties"] == list(world.difficulties) == list(row["answers"])
        assert row["summary"] == world.summary
        most = max(high for _, high in row["answers"].values())
        assert (most == 1) == (row["kind"] == "single")
    assert run("ls") == 0
    assert "tic_tac_toe" in capsys.readouterr().out


def test_the_number_of_answers_is_read_off_samples() -> None:
    found = {family.family: family for family in families.families()}
    game = found["tic_tac_toe"]
    assert game.answers == {"easy": (1, 1), "medium": (2, 2), "hard": (3, 3)}
    assert (game.k, found["maze"].k) == ("1-3", "1")


# ---- render


def test_render_writes_a_sheet_and_a_film_of_each_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "pictures"
    assert run("render", "tic_tac_toe", "-o", out, "--n", "2", "--seed", "4", "--difficulty", "hard") == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert paths == [out / f"tic_tac_toe{end}" for end in (".png", "-0.mp4", "-1.mp4")]
    assert sorted(out.iterdir()) == sorted(paths)
    samples = worlds["tic_tac_toe"].generate(2, seed=4, difficulty="hard")
    with PIL.Image.open(paths[0]) as sheet:
        pixels = np.asarray(sheet)
    pitch = SIZE + contact_sheet.GAP
    assert pixels.shape[1] == FRAMES * pitch
    rows = sum(sample.record.answers for sample in samples)
    words = pixels.shape[0] - rows * pitch
    assert 2 * contact_sheet.LETTERS <= words < 8 * contact_sheet.LETTERS
    assert samples[-1].answer_videos is not None
    last = pixels[-pitch + contact_sheet.GAP // 2 :, -pitch + contact_sheet.GAP // 2 :][:SIZE, :SIZE]
    np.testing.assert_array_equal(last, samples[-1].answer_videos[-1, -1])
    for path, sample in zip(paths[1:], samples, strict=True):
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 8)
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(stream)])
        assert sample.video is not None
        scale = contact_sheet.SCALE
        assert frames.shape == (FRAMES, SIZE * scale, SIZE * scale, 3)
        centres = frames[:, scale // 2 :: scale, scale // 2 :: scale].astype(int)
        assert np.abs(centres - sample.video).mean() < 8


def test_render_goes_to_a_folder_of_the_familys_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("render", "grounding", "--n", "1", "--split", "out_of_domain") == 0
    assert (tmp_path / "worlds-grounding" / "grounding-0.mp4").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_render_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    out = tmp_path / "out"
    precious = out / "notes.txt" if kind == "folder" else out
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("precious")
    assert run("render", "grounding", "-o", out) == 2
    assert f"{out} exists already; nothing is overwritten" in " ".join(capsys.readouterr().err.split())
    assert precious.read_text() == "precious"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]


def test_a_film_that_fails_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contact_sheet, "film", full)
    assert run("render", "grounding", "-o", tmp_path / "out", "--n", "1") == 2
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["render", "chess"], "no world 'chess'; there are:"),
        (["render", "grounding", "--difficulty", "impossible"], "choose one of easy, medium, hard"),
        (["render", "grounding", "--n", "0"], "n is 0, but must be at least 1"),
        (["check", "chess"], "no world 'chess'; there are:"),
        (["check", "grounding", "--n", "0"], "n is 0, but must be at least 1"),
        (["check", "grounding", "--jobs", "0"], "jobs is 0, but must be at least 1"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not any(tmp_path.iterdir())


# ---- check


@pytest.mark.usefixtures("without_vae")
def test_check_says_what_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "grounding", "tic_tac_toe", "--n", "6", "--jobs", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    assert [family["family"] for family in found["families"]] == ["grounding", "tic_tac_toe"]
    answers = {"grounding": 6, "tic_tac_toe": 2 * (1 + 2 + 3)}
    for family in found["families"]:
        assert (family["samples"], family["passed"]) == (6, True)
        shown = family["floors"]
        assert list(shown) == ["true", "still", "noise", "grey", "wrong", "jump"]
        assert (shown["true"]["least"], shown["true"]["bound"]) == (1.0, ">= 1")
        assert shown["true"]["n"] == answers[family["family"]]
        assert shown["jump"]["n"] == 6


@pytest.mark.usefixtures("without_vae")
def test_the_table_says_that_there_was_no_vae(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "grounding", "--n", "1", "--jobs", "1") == 0
    said = capsys.readouterr().out
    assert "pass" in said
    assert "1.000 (1.000)" in said
    assert "The VAE's round trip was left out" in said


@pytest.mark.usefixtures("without_vae")
@pytest.mark.parametrize(
    ("score", "out_of_bounds"),
    [
        (1.0, "grounding (still, noise, grey, wrong, jump)"),
        (0.5, "grounding (true, still, noise, grey, wrong)"),
        (0.1, "grounding (true, still, noise, grey, wrong)"),
        (0.0, "grounding (true)"),
    ],
)
def test_a_scorer_out_of_bounds_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, score: float, out_of_bounds: str
) -> None:
    monkeypatch.setattr(Grounding, "score", lambda *_: {"answer": score, "process": score, "overall": score})
    assert run("check", "grounding", "--n", "1", "--jobs", "1") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == f"stepscope: out of bounds: {out_of_bounds}"
    assert "FAIL" in captured.out


def test_one_bad_sample_is_enough() -> None:
    assert floors.Floor("still", 100, 0.001, 0.0, 0.1).passed is False
    assert floors.Floor("jump", 100, 0.5, 0.5, 0.5).passed is True
    assert floors.Floor("vae", 100, 0.99, 0.89, 1.0).passed is False
    assert str(floors.Floor("vae", 100, 0.99, 0.89, 1.0)) == "0.990 (0.890)"
    assert str(floors.Floor("still", 100, 0.001, 0.0, 0.1)) == "0.001 (0.100)"


def test_processes_find_what_one_process_finds_and_send_videos_through_the_vae() -> None:
    alone = floors.check(["grounding"], n=6, jobs=1)
    shared = floors.check(["grounding"], n=6, jobs=2)
    assert [family.to_dict() for family in alone] == [family.to_dict() for family in shared]
    assert alone[0].floors["vae"].n == 6


def test_ctrl_c_is_one_line_and_leaves_no_process() -> None:
    words = [sys.executable, "-m", "stepscope", "worlds", "check", "grounding", "--jobs", "2", "--n", "2000"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        # A shell's background jobs ignore interruptions, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 300
        while len(pids := children.read_text().split()) < 3:  # two workers, and Python's tracker of resources
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert said == ""
    assert errors.splitlines()[-1].startswith("stepscope: interrupted")
    assert "Traceback" not in errors
    deadline = time.monotonic() + 120
    while [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, "a process outlives the command"
        time.sleep(0.1)


def test_a_process_that_dies_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "_measure", os._exit)  # takes the piece for an exit status
    with pytest.raises(InterpError, match="try --jobs 1"):
        list(floors._each([1, 1], jobs=2))  # type: ignore[list-item]


def test_what_is_not_asked_for_is_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "_round_trip", None)  # the autoencoder takes as long as everything else
    (found,) = floors.check(["maze"], n=1, jobs=1, shown=("still", "jump"))
    assert list(found.floors) == ["still", "jump"]


def test_samples_do_not_depend_on_how_the_work_is_cut() -> None:
    world = worlds["grounding"]
    pieces = floors._pieces(world, 102, ("true",))
    assert sum(piece.n for piece in pieces) == 102
    for split, difficulty in {(piece.split, piece.difficulty) for piece in pieces}:
        taken = [
            index
            for piece in pieces
            if (piece.split, piece.difficulty) == (split, difficulty)
            for index in range(piece.start, piece.stop)
        ]
        assert taken == list(range(17))


def test_an_unknown_family_is_refused_before_anything_runs() -> None:
    with pytest.raises(UnknownName):
        floors.check(["grounding", "chess"], n=1_000_000)


def test_every_command_is_in_the_docs() -> None:
    docs = (ROOT / "docs" / "worlds.md").read_text()
    for name in stepscope.app["worlds"]:
        if not name.startswith("-"):
            assert f"stepscope worlds {name}" in docs


def test_the_docs_name_every_family_and_bound() -> None:
    docs = (ROOT / "docs" / "worlds.md").read_text()
    for row in families.families():
        assert f"| `{row.family}` | {row.group} | {row.kind} | {row.k} | {row.summary} |" in docs
    for shown, bound in floors.BOUNDS.items():
        (line,) = [line for line in docs.splitlines() if line.startswith(f"| `{shown}` |")]
        assert line.endswith(f"| {str(bound).replace('>=', '≥').replace('<=', '≤')} |")
