"""The x̂0 viewer: clean and changed runs under one clock, candidates that follow the step, and a view that is a link."""

from __future__ import annotations

import re

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from reports._evidence import evidence
from tests.reports.browser import PATIENCE, changed, needs_browser, opened, pixels, requested
from tests.reports.conftest import MADE, Book
from tests.test_cli import run


@pytest.fixture(scope="module")
def beside_file(beside, tmp_path_factory):
    path = tmp_path_factory.mktemp("beside") / "page.html"
    path.write_text(beside.page(), encoding="utf-8")
    return path


def panes(page: str) -> list[str]:
    return re.findall(r'<figure class="pane"[^>]*>(.*?)</figcaption>', page, flags=re.DOTALL)


def titles(page: str) -> list[str]:
    return re.findall(r"<bdi>(seed \d[^<]*)</bdi>", page)


def of_candidates(book: Book):
    """The exploration result of the changed runs, and one of them."""
    result = next(one for one in book.results if one.record.analysis == "exploration")
    return result.to_dataset().compute(), result.record.run_ids[0]


def test_changed_runs_stand_beside_their_clean_ones(beside):
    page = beside.page()
    noisy = "noise at step, matched, steps 2"
    assert titles(page) == [f"seed {seed}, {what}" for seed in (0, 1) for what in ("clean", noisy)] * 2
    assert page.count('<section class="film"') == 2  # one for all videos, one for the maps
    assert f"Videos of these runs ({noisy}) stand beside the first ones, above." in page
    assert f"x̂0 trajectory · {noisy}" in page
    assert page == Book(beside.acts, beside.results[::-1], beside.planted).page(), (
        "the order of results does not matter"
    )


def test_each_run_says_what_its_own_result_says(beside):
    notes = [re.search(r'class="note">([^<]*)', pane).group(1) for pane in panes(beside.page()) if "<bdi>seed" in pane]
    assert notes == ["right answer from step 3 on", "right answer from step 5 on"] * 4


def test_candidates_are_those_of_the_exploration_result(beside):
    data, run_id = of_candidates(beside)
    drawn = evidence(data, run_id, data["step"].to_numpy())
    held = data["component_weight_by_run"].sel(run=run_id).transpose("component", "step").dropna("component", how="all")
    strongest = np.sort(np.argsort(-held.max("step").to_numpy(), kind="stable")[:3])
    assert len(strongest) == 3 < held.sizes["component"]
    held = held.isel(component=strongest)
    assert [curve.name for curve in drawn.curves.curves] == [f"component {at}" for at in held["component"].to_numpy()]
    np.testing.assert_array_equal([curve.values for curve in drawn.curves.curves], held)
    last = held.isel(step=-1)
    first = held["component"].to_numpy()[last.to_numpy().argmax()]
    assert drawn.strongest.texts[-1] == f"component {first} ({float(last.max()):.2f})"


def test_known_answers_go_before_parts_that_nobody_named_and_three_are_drawn(beside):
    data, run_id = of_candidates(beside)
    shape = (data.sizes["run"], data.sizes["step"], 5)
    values = np.broadcast_to([0.1, 0.5, 0.2, 0.9, 0.0], shape)
    data = data.assign(evidence_by_run=(("run", "step", "answer"), values)).assign_coords(answer=range(5))
    drawn = evidence(data, run_id, data["step"].to_numpy())
    assert [curve.name for curve in drawn.curves.curves] == ["answer 1", "answer 2", "answer 3"]
    assert set(drawn.strongest.texts) == {"answer 3 (0.90)"}


def test_a_gap_parts_a_curve_and_no_candidate_is_no_curve(beside):
    data, run_id = of_candidates(beside)
    data["component_weight_by_run"][{"step": 2}] = np.nan
    drawn = evidence(data, run_id, data["step"].to_numpy())
    assert {len(parts) for parts in drawn.curves.lines} == {2}
    assert drawn.strongest.texts[2] == "–"
    assert evidence(data[["component_weight_by_run"]] * np.nan, run_id, data["step"].to_numpy()) is None


def test_without_an_exploration_result_the_score_is_drawn(beside):
    results = [result for result in beside.results if result.record.analysis == "trajectory"]
    page = Book(beside.acts, results, beside.planted).page()
    assert 'class="curves"' not in page
    assert page.count('class="strip"') == 8
    assert "Bars: answer of x̂0 by step." in page


def at(driver, css: str = ".curves") -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.style.getPropertyValue('--now'))"
    return driver.execute_script(script, css)


@needs_browser
def test_one_clock_moves_all_runs_and_their_candidates(driver, beside_file):
    opened(driver, beside_file)
    step = driver.find_element(By.CSS_SELECTOR, ".film input[type=range]")
    screens = driver.find_elements(By.CSS_SELECTOR, ".film .screen.live")[:4]
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", screens[0])
    before = [pixels(screen) for screen in screens]
    assert at(driver) == ["5"] * 8
    step.send_keys(Keys.HOME)
    assert at(driver) == ["0"] * 8
    assert all(changed(old, pixels(screen)) for old, screen in zip(before, screens, strict=True))
    strongest = driver.find_elements(By.CSS_SELECTOR, ".film .readouts dd")[0]
    early = strongest.text
    step.send_keys(Keys.END)
    assert re.fullmatch(r"component \d \(\d\.\d\d\)", early)
    assert strongest.text != early
    assert driver.get_log("browser") == []
    assert requested(driver) == []


@needs_browser
def test_a_click_on_a_curve_goes_to_its_step(driver, beside_file):
    opened(driver, beside_file)
    curve = driver.find_element(By.CSS_SELECTOR, ".curves")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", curve)
    curve.click()  # in its middle
    assert at(driver)[0] in ("2", "3")


@needs_browser
def test_a_view_is_a_link(driver, beside_file):
    opened(driver, beside_file)
    step, frame = driver.find_elements(By.CSS_SELECTOR, ".film input[type=range]")[:2]
    step.send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    frame.send_keys(Keys.HOME)
    WebDriverWait(driver, PATIENCE).until(lambda _: "frame=0" in driver.current_url)
    link = driver.current_url
    driver.get("about:blank")
    driver.get(link)
    outputs = [one.text for one in driver.find_elements(By.CSS_SELECTOR, ".film output")]
    assert outputs[0].startswith("1 · ")
    assert outputs[1] == "0"
    assert outputs[2].startswith("1 · "), "the maps are at the same step"


@needs_browser
@pytest.mark.parametrize("hostile", ["step=1e999&frame=", "step=<img src=x onerror=alert(1)>", "at=%00&step=-7", "="])
def test_an_address_that_makes_no_sense_does_no_harm(driver, beside_file, hostile):
    opened(driver, beside_file)
    driver.get("about:blank")
    driver.get(f"{beside_file.as_uri()}#{hostile}")
    said = driver.find_element(By.CSS_SELECTOR, ".film output").text
    assert said.split(" · ")[0] in ("5", "0")
    assert driver.get_log("browser") == []


def test_the_clock_is_in_the_page_once(beside):
    page = beside.page()
    assert page.count("const view =") == 1
    assert f'datetime="{MADE.isoformat(timespec="seconds")}"' in page


def test_report_of_a_store_sets_changed_runs_beside_clean_ones(beside, tmp_path, monkeypatch, capsys):
    out = tmp_path / "report.html"
    assert run("report", "--store", beside.acts.path, "-o", out) == 0
    assert titles(out.read_text(encoding="utf-8"))[:2] == ["seed 0, clean", "seed 0, noise at step, matched, steps 2"]
    monkeypatch.setattr("stepscope_commands._results.MOST_CHANGES", 0)
    capsys.readouterr()
    assert run("report", "--store", beside.acts.path, "-o", out) == 0
    assert "1 kinds of changed runs, none drawn" in capsys.readouterr().out
    assert set(titles(out.read_text(encoding="utf-8"))) == {"seed 0", "seed 1"}
