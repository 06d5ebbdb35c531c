"""Groups of runs side by side: their numbers, their curves, and their videos under one clock."""

from __future__ import annotations

import json
import re
from html import unescape

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import analyses
import reports
import store
from reports._clock import Clock
from reports._comparison import compared
from reports._section import Context
from tests.planted import Planted
from tests.reports.browser import changed, needs_browser, opened, pixels, requested
from tests.reports.conftest import MADE
from tests.reports.test_accessible import faults
from tests.test_cli import run

FIRST = Planted(samples=3, seeds=(0,), layers=2, size=32, model="first")
OTHER = Planted(
    samples=3, seeds=(0,), layers=2, size=32, steps=9, settle_step=7, wrong=(1,), model="other", weight_hash="e" * 64
)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> store.ActivationStore:
    """Two models of different steps on the same three samples."""
    path = tmp_path_factory.mktemp("two") / "acts"
    FIRST.plant(path)
    acts = store.open(path, mode="a")
    ids = [acts.put_sample(FIRST.sample(position)) for position in range(3)]
    for position, sample_id in enumerate(ids):
        OTHER._plant_run(acts, position, sample_id, 0)
    return acts


def results_of(acts, names=("energy", "trajectory")):
    """Results by model, and what they are called."""
    found, called = [], {}
    for group in analyses.grouped(acts, by=["model"]):
        for name in names:
            found.append(analyses.run(name, acts, runs=group.run_ids))
            called[found[-1].id] = reports.group_name(["model"], group.values)
    return found, called


@pytest.fixture(scope="module")
def page_file(two, tmp_path_factory):
    results, names = results_of(two)
    path = tmp_path_factory.mktemp("compared") / "page.html"
    return reports.write(two, path, results=results, names=names, made=MADE)


def test_runs_are_parted_by_any_column(two):
    assert [(one.values, len(one.run_ids)) for one in analyses.grouped(two, by=["model"])] == [
        (("first",), 3),
        (("other",), 3),
    ]
    assert len(analyses.grouped(two, by=["sample_id", "model"])) == 6
    assert analyses.shared_values(two, two.run_ids("model = 'other'"), by=["model", "seed"]) == ("other", 0)
    assert analyses.shared_values(two, two.run_ids(), by=["model"]) is None


def test_changed_runs_are_left_out_unless_they_are_asked_for(beside):
    assert sum(len(one.run_ids) for one in analyses.grouped(beside.acts, by=["seed"])) == 4
    groups = analyses.grouped(beside.acts, by=["interventions"])
    names = [reports.group_name(["interventions"], one.values) for one in groups]
    assert sorted(names) == ["clean", "noise at step, matched, steps 2"]


def test_what_cannot_be_parted_is_one_clear_line(two):
    for by, where, error, said in (
        (["colour"], None, analyses.UnknownOption, "no column colour to part runs by; there are .*seed"),
        (["seed"], None, analyses.NoRuns, "have one seed only 0; a comparison needs two"),
        (["model"], "seed = 9", analyses.NoRuns, "no run where seed = 9"),
        (['"; DROP'], None, analyses.UnknownOption, "no column"),
    ):
        with pytest.raises(error, match=said) as caught:
            analyses.grouped(two, by=by, where=where)
        assert "\n" not in str(caught.value)


def test_numbers_stand_side_by_side_with_their_intervals(two):
    results, names = results_of(two, ("trajectory",))
    (one,) = compared(Context(two, runs=None, media_bytes=10**6, results=results, names=names))
    assert [(column.name, column.n, column.runs) for column in one.columns] == [("first", 3, 3), ("other", 3, 3)]
    lines = {line.name: line.cells for line in one.lines}
    assert lines["answer commit"] == ("3 (3 to 3)", "7 (7 to 7)")
    assert lines["runs that end right"] == ("3", "2")
    assert lines["steps"] == ("6", "9")
    assert one.samples == ""
    titles = [figure.title for figure in one.figures]
    assert "Score of the decoded x̂0, answer" in titles
    assert not any("frame" in title for title in titles)
    drawn = one.together.to_dataset()["latent_distance"]
    for result, name in zip(results, ("first", "other"), strict=True):
        mine = result.to_dataset()["latent_distance"]
        np.testing.assert_allclose(drawn.sel(group=name, step=mine["step"]), mine)
    assert any("first: from 1 at step 0 to 0 at step 5" in figure.alt for figure in one.figures)


def compared_runs(two, groups):
    results = [analyses.run("trajectory", two, runs=runs) for runs in groups]
    names = {result.id: name for result, name in zip(results, ("a", "b"), strict=True)}
    (one,) = compared(Context(two, runs=None, media_bytes=10**6, results=results, names=names))
    return one


def test_differences_are_paired_on_the_samples_that_both_have(two):
    clean, other = two.run_ids("model = 'first'"), two.run_ids("model = 'other'")
    one = compared_runs(two, [clean, other])
    lines = {line.name: line.cells for line in one.paired}
    assert lines["answer commit"] == ("", "+4 (+4 to +4), n = 2"), "one of the three never ends right"
    assert lines["distance commit"][1].endswith("n = 3")
    assert lines["final score, answer"][1].startswith("-")
    assert one.paired_by.startswith("less that of a, on the samples that both have: mean (95 %")
    by_sample = {name: [two.run(run).run.sample_id for run in runs] for name, runs in (("a", clean), ("b", other))}
    shared = [run for run, sample in zip(other, by_sample["b"], strict=True) if sample in by_sample["a"][:2]]
    fewer = {line.name: line.cells for line in compared_runs(two, [clean[:2], shared[:1]]).paired}
    assert fewer["distance commit"][1].endswith("n = 1")
    assert "(" not in fewer["distance commit"][1], "one sample has no interval"


def test_groups_that_share_no_sample_have_no_paired_differences(two):
    clean = two.run_ids("model = 'first'")
    left = two.run(clean[0]).run.sample_id
    other = [run for run in two.run_ids("model = 'other'") if two.run(run).run.sample_id != left]
    one = compared_runs(two, [clean[:1], other])
    assert one.paired == ()
    assert one.paired_by == "No paired differences: no group shares a sample with a."


def test_different_samples_are_told(two):
    groups = [two.run_ids("model = 'first'"), two.run_ids("model = 'other'")[:2]]
    results = [analyses.run("trajectory", two, runs=runs) for runs in groups]
    names = {result.id: name for result, name in zip(results, ("a", "b"), strict=True)}
    (one,) = compared(Context(two, runs=None, media_bytes=10**6, results=results, names=names))
    assert one.samples.startswith("The groups have different samples: of 3, 2 are in every group.")


def test_many_groups_are_rows_of_a_map(plain):
    results = [analyses.run("trajectory", plain.acts, runs=[run]) for run in plain.acts.run_ids()[:4]]
    names = {result.id: f"group {at}" for at, result in enumerate(results)}
    (one,) = compared(Context(plain.acts, runs=None, media_bytes=10**6, results=results, names=names))
    assert one.figures[0].alt.startswith("Colour map by denoising step")
    assert "group 3" in one.figures[0].svg


def test_a_clock_shows_the_step_of_the_nearest_sigma(two):
    first, other = two.run_ids("model = 'first'")[0], two.run_ids("model = 'other'")[0]
    load = lambda run: two.load("x0_hat", "pixels", runs=[run]).isel(run=0)  # noqa: E731
    clock = Clock(first, np.arange(6), np.arange(5))
    np.testing.assert_array_equal(clock.of(two, first, load(first)).steps, np.arange(6))
    found = clock.of(two, other, load(other))
    sigmas = [np.array([info.sigma for info in two.run(run).steps]) for run in (first, other)]
    wanted = [int(np.abs(sigmas[1] - sigma).argmin()) for sigma in sigmas[0]]
    assert found.steps.tolist() == wanted
    assert len(set(wanted)) == 6
    assert clock.of(two, first, load(first).isel(step=[0, 2])) is None


def test_the_command_compares_and_says_what_is_mixed(two, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(analyses, "names", lambda: ["probes", "trajectory"])
    out = tmp_path / "page.html"
    assert run("report", "--store", two.path, "-o", out, "--by", "model") == 0
    said = capsys.readouterr().out
    assert "first: 3 runs on 3 samples" in said
    assert "probes: left out" in said
    page = out.read_text()
    assert "<h1>By model</h1>" in page
    assert re.findall(r'id="comparison-(\w+)"', page) == ["trajectory"]
    assert run("report", "--store", two.path, "-o", out, "--by", "sample_id") == 2
    assert "Part the runs by that, too: --by sample_id --by COLUMN." in capsys.readouterr().err


def test_the_code_on_the_page_draws_it_again(two, page_file):
    page = page_file.read_text()
    code = unescape(re.search(r"(?s)<code>(import analyses, reports, store[^<]*names=names\))</code>", page)[1])
    again = page_file.with_name("again.html")
    exec(code.replace('"ACTS"', repr(str(two.path))).replace('"again.html"', repr(str(again))), {})
    drawn = re.search(r'(?s)id="comparison-trajectory".*?</svg>', page)[0]
    assert drawn in again.read_text()


def test_its_figures_have_charts_with_a_colour_for_each_group(page_file):
    (part,) = re.findall(r'(?s)<section class="analysis comparison".*?</section>\s*</section>', page_file.read_text())
    found = {
        name: json.loads(unescape(text)) for name, text in re.findall(r'data-name="(\w+)".*?data-columns="(.*?)"', part)
    }
    assert set(found["latent_distance"]["group"]) == {"first", "other"}


@needs_browser
def test_models_stand_beside_each_other_under_one_clock(driver, page_file):
    opened(driver, page_file)
    panes = driver.find_elements(By.CSS_SELECTOR, ".film .group:first-child .pane")[:2]
    assert [pane.find_element(By.TAG_NAME, "bdi").text for pane in panes] == ["seed 0, first", "seed 0, other"]
    step = driver.find_element(By.CSS_SELECTOR, ".film input[type=range]")
    screens = [pane.find_element(By.CSS_SELECTOR, ".screen.live") for pane in panes]
    before = [pixels(screen) for screen in screens]
    step.send_keys(Keys.HOME)
    for screen, was in zip(screens, before, strict=True):
        assert changed(was, pixels(screen))
    assert "its step\n0 of 9" in panes[1].text
    assert driver.get_log("browser") == []
    assert requested(driver) == []


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark")])
def test_axe_finds_no_fault_and_nothing_sticks_out(driver, page_file, width, scheme):
    opened(driver, page_file)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert faults(driver) == []
