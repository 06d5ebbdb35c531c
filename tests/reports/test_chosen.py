"""Pages of chosen runs, and of one experiment with its own runs side by side."""

from __future__ import annotations

import dataclasses
import re

import pytest

import analyses
import store
from tests.analyses.experiments import test_frames, test_noise
from tests.planted import Planted
from tests.reports.test_viewer import titles
from tests.test_cli import run

PICTURES = Planted(samples=1, seeds=(0,), layers=2, size=16, metric="overall", arrays=("x0_hat/pixels",))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> store.ActivationStore:
    """The noise experiment, its runs with x̂0, and an analysis of the clean ones."""
    acts = test_noise.plant(tmp_path_factory.mktemp("noisy") / "acts", clean=PICTURES, step=(0,))
    test_noise.FEW.compare(acts)
    analyses.run("trajectory", acts)
    return acts


def sections(page: str) -> list[str]:
    return re.findall(r'<section class="analysis"[^>]* id="s\d+-([\w-]+)"', page)


def test_an_experiment_alone_has_its_results_and_its_own_runs_side_by_side(noisy, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert run("report", "--store", noisy.path, "-o", out, "--experiment", "noise") == 0
    page, said = out.read_text(), capsys.readouterr().out
    assert "<h1>Experiment noise</h1>" in page
    assert sections(page).count("noise") == 1
    assert set(sections(page)) == {"exploration", "noise", "trajectory"}
    seen = titles(page)
    assert seen[0] == "seed 0, clean"
    assert len(seen) == len(set(seen)) == 5  # clean, and four of the changed conditions
    kinds = int(re.search(r"(\d+) kinds of changed runs: 4 of them", said)[1])
    assert kinds == len(analyses.parted(noisy, arrays=["x0_hat/pixels"], runs=noisy.run_ids())) - 1


def test_an_experiment_whose_runs_differ_in_settings_names_them(tmp_path, capsys):
    acts = test_frames.plant(tmp_path / "acts", {3: [0.9], 2: [0.2]})
    test_frames.Frames().compare(acts)
    assert run("report", "--store", acts.path, "-o", tmp_path / "page.html", "--experiment", "frames") == 0
    assert "kept x0_hat/pixels, so the page has no videos" in capsys.readouterr().out
    assert sections((tmp_path / "page.html").read_text()) == ["frames"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--experiment", "swap"],
            r"No result of the experiment swap is stored; there are: .*noise \(1\).*experiment swap",
        ),
        (["--experiment", "nose"], r"nose.*there are .*noise"),
        (["--run", "nothing"], r"nothing"),
        (["--run", "nothing", "--where", "seed = 0"], r"--run and --where were given together; .*give one"),
        (["--experiment", "noise", "--by", "seed"], r"--experiment and --by were given together"),
    ],
)
def test_what_is_not_there_is_one_clear_line(noisy, tmp_path, capsys, words, said):
    assert run("report", "--store", noisy.path, "-o", tmp_path / "page.html", *words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(said, line)
    assert not (tmp_path / "page.html").exists()


def test_a_clean_run_and_a_changed_one_stand_side_by_side(noisy, tmp_path):
    changed = noisy.run_ids("interventions <> '[]'")[0]
    clean = noisy.run(changed).run.parent_id
    out = tmp_path / "page.html"
    assert run("report", "--store", noisy.path, "-o", out, "--run", changed, "--run", clean) == 0
    first, second = titles(out.read_text())
    assert first == "seed 0, clean"
    assert second.startswith("seed 0, noise at ")
    assert run("report", "--store", noisy.path, "-o", out, "--run", changed) == 0
    assert titles(out.read_text()) == ["seed 0"]


def test_runs_of_different_steps_are_told_apart(tmp_path):
    for steps in (6, 9):
        acts = dataclasses.replace(PICTURES, samples=1, steps=steps).plant(tmp_path / "acts")
    words = [word for run_id in acts.run_ids() for word in ("--run", run_id)]
    assert run("report", "--store", acts.path, "-o", tmp_path / "page.html", *words) == 0
    assert sorted(titles((tmp_path / "page.html").read_text())) == ["seed 0, steps 6", "seed 0, steps 9"]
