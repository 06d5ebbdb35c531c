"""The index of a store of many runs: what it says, and how it is searched, sorted and walked in a real browser."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import reports
import store
from reports import _index_page, _thumbnails
from stepscope_commands import _listing
from tests.planted import PROVENANCE, Planted
from tests.reports.browser import PATIENCE, changed, needs_browser, opened, pixels, requested
from tests.reports.conftest import MADE
from tests.reports.test_accessible import faults
from tests.test_cli import run

CLEAN = Planted(samples=3, layers=2, steps=4, wrong=(1,), size=32)
NOISY = Planted(
    samples=2,
    layers=2,
    steps=4,
    size=32,
    interventions=({"kind": "noise_at_step", "steps": [2], "matched": True},),
    parent=CLEAN,
)


class Many(NamedTuple):
    """Ten runs, clean and changed, and six of another model whose videos are larger."""

    acts: store.ActivationStore
    page: str


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Many:
    path = tmp_path_factory.mktemp("many") / "acts"
    for planted in (CLEAN, NOISY, Planted(samples=3, size=48, steps=6, model="other-dit", weight_hash="e" * 64)):
        acts = planted.plant(path)
    return Many(acts, reports.render_index(acts, made=MADE))


@pytest.fixture(scope="module")
def file(many, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "index.html"
    path.write_text(many.page, encoding="utf-8")
    return path


@pytest.fixture
def chrome(driver, file) -> webdriver.Chrome:
    return opened(driver, file)


def visible(driver) -> list[str]:
    """Ids of the runs that are listed, from above."""
    script = "return [...document.querySelectorAll('.runs tbody tr')].filter(r => !r.hidden).map(r => r.dataset.run)"
    return driver.execute_script(script)


def asked(many, query: str) -> list[str]:
    return [row[0] for row in many.acts.sql(query).fetchall()]


def status(driver) -> str:
    return driver.find_element(By.ID, "shown").text


def test_it_tells_of_every_run_and_is_the_same_again(many):
    assert sorted(re.findall(r'data-run="(\w+)"', many.page)) == many.acts.run_ids()
    assert many.page == reports.render_index(many.acts, made=MADE)
    assert "16 runs of 2 models on 6 samples; 4 of them with an intervention" in many.page
    assert "noise at step, matched, steps 2" in many.page


def test_where_chooses_and_nothing_is_one_clear_line(many):
    page = reports.render_index(many.acts, where="model = 'other-dit' AND seed = 0")
    assert len(re.findall(r"data-run=", page)) == 3
    with pytest.raises(reports.NothingToReport, match="No run where seed = 9 is stored") as caught:
        reports.render_index(many.acts, where="seed = 9")
    assert "\n" not in str(caught.value)


def test_what_a_page_does_not_hold_is_told(many, monkeypatch):
    monkeypatch.setattr(_index_page, "MOST", 10)
    page = reports.render_index(many.acts)
    assert "Not shown: the oldest 6 of 16 runs" in page
    assert len(re.findall(r"data-run=", page)) == 10


def test_thumbnails_are_the_last_frames_in_sheets_of_equal_size(many, monkeypatch):
    monkeypatch.setattr(_thumbnails, "CHUNK", 4)
    run_ids = many.acts.run_ids()
    found = _thumbnails.thumbnails(many.acts, run_ids)
    assert set(found.places) == set(run_ids)
    assert sorted((sheet.width, sheet.rows * sheet.columns >= 2) for sheet in found.sheets) == [
        (32, True),
        (32, True),
        (32, True),
        (48, True),
        (48, True),
    ]
    sizes = {run: many.acts.run(run).run.settings.width for run in run_ids}
    assert all(found.sheets[at.sheet].width == sizes[run] for run, at in found.places.items())
    assert len(set(found.places.values())) == len(run_ids)


def test_a_large_picture_is_shrunk_and_keeps_its_form():
    small = _thumbnails._small(np.full((480, 832, 3), 7, np.uint8))
    assert small.shape == (42, 72, 3)
    assert (small == 7).all()


def test_a_run_without_a_video_is_listed(tmp_path):
    planted = Planted(samples=1, seeds=(0,), steps=2)
    acts = store.open(tmp_path / "acts", mode="a")
    with acts.begin_run(planted.run(acts.put_sample(planted.sample(0)), 0), PROVENANCE) as writer:
        writer.set_steps(planted.infos())
        writer.commit(1.0)
    page = reports.render_index(acts)
    assert "no video" in page
    assert 'class="number score"' not in page


def test_pages_beside_are_linked(many, tmp_path):
    first, second = many.acts.run_ids()[:2]
    out = tmp_path / "runs.html"
    folder = reports.pages_beside(out)
    folder.mkdir()
    (folder / f"{first}.html").write_text("")
    page = reports.write_index(many.acts, out).read_text()
    assert f'href="runs-pages/{first}.html"' in page
    assert f'href="#run={second}"' in page


def test_two_scorers_of_one_metric_are_kept_apart(tmp_path):
    planted = Planted(samples=1, seeds=(0,), steps=2)
    acts = store.open(tmp_path / "acts", mode="a")
    with acts.begin_run(planted.run(acts.put_sample(planted.sample(0)), 0), PROVENANCE) as writer:
        writer.set_steps(planted.infos())
        writer.add_scores(
            [store.Score(scorer=one, metric="answer", value=value) for one, value in (("a", 0), ("b", 1))]
        )
        writer.commit(1.0)
    page = reports.render_index(acts)
    assert re.findall(r'data-name="(answer[^"]*)"', page) == ["answer, a", "answer, b"]
    assert re.findall(r'data-label="answer, \w" data-v="([\d.]+)"', page) == ["0.0", "1.0"]


def test_a_large_choice_is_listed_and_says_so(many, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_listing, "MANY", 5)
    out = tmp_path / "runs.html"
    assert run("report", "--store", many.acts.path, "-o", out) == 0
    said = capsys.readouterr().out
    assert "--no-index makes one of all" in said
    assert "energy" not in said
    assert 'class="runs"' in out.read_text()
    assert not _listing.is_large(many.acts, where="seed = 0 AND model = 'other-dit'")
    assert _listing.is_large(many.acts, where="seed < 9")


def test_pages_are_made_once_and_linked(many, tmp_path, capsys):
    out = tmp_path / "runs.html"
    words = [
        "report",
        "--store",
        many.acts.path,
        "-o",
        out,
        "--pages",
        "--where",
        f"run_id = '{many.acts.run_ids()[0]}'",
    ]
    assert run(*words) == 0
    assert "0 of 1 runs have a page; 1 to make" in capsys.readouterr().out
    assert len(re.findall(r'href="runs-pages/\w+\.html"', out.read_text())) == 1
    assert run(*words) == 0
    assert "1 of 1 runs have a page; 0 to make" in capsys.readouterr().out


@needs_browser
def test_opens_without_network_and_without_complaint(chrome):
    assert chrome.find_element(By.TAG_NAME, "h1").text == "Runs of other-dit and planted-dit"
    assert status(chrome) == "16 runs"
    first = chrome.find_elements(By.CSS_SELECTOR, ".runs .screen")[0]
    assert len(np.unique(pixels(first).reshape(-1, 3), axis=0)) > 20
    assert chrome.get_log("browser") == []
    assert requested(chrome) == []


@needs_browser
def test_search_takes_every_word(chrome, many):
    search = chrome.find_element(By.ID, "search")
    search.send_keys('NOISE  "wall 1"')
    wanted = asked(
        many,
        "SELECT run_id FROM runs JOIN samples USING (sample_id) WHERE interventions <> '[]' AND prompt LIKE '%wall 1%'",
    )
    assert sorted(visible(chrome)) == sorted(wanted)
    assert status(chrome) == "2 of 16 runs"
    search.send_keys("no such word")
    assert status(chrome) == "0 of 16 runs"


@needs_browser
def test_a_heading_sorts_and_sorts_again(chrome, many):
    head = chrome.find_element(By.CSS_SELECTOR, "th[data-name=answer]")
    head.find_element(By.TAG_NAME, "button").click()
    assert head.get_attribute("aria-sort") == "descending"
    wrong = asked(many, "SELECT run_id FROM scores WHERE metric = 'answer' AND step IS NULL AND value < 0.5")
    assert set(visible(chrome)[-2:]) == set(wrong)
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "ascending"
    assert set(visible(chrome)[:2]) == set(wrong)
    WebDriverWait(chrome, PATIENCE).until(lambda _: chrome.current_url.endswith("#sort=answer"))


@needs_browser
def test_the_address_opens_the_same_view(driver, file, many):
    chosen = asked(many, "SELECT run_id FROM runs WHERE model = 'other-dit' ORDER BY run_id")[2]
    opened(driver, file)
    driver.get(f"{file.as_uri()}#q=other&sort=-seed&run={chosen}")
    assert status(driver) == "6 of 16 runs"
    seeds = asked(many, "SELECT run_id FROM runs WHERE seed = 1 AND model = 'other-dit'")
    assert set(visible(driver)[:3]) == set(seeds)
    row = driver.find_element(By.CSS_SELECTOR, ".chosen-run")
    assert row.get_attribute("data-run") == chosen
    assert f"run_id = '{chosen}'" in driver.find_element(By.ID, "ask").text


@needs_browser
def test_the_keyboard_searches_walks_and_chooses(chrome):
    keys = webdriver.ActionChains(chrome)
    keys.send_keys("/").perform()
    assert chrome.switch_to.active_element.get_attribute("id") == "search"
    chrome.switch_to.active_element.send_keys("other")
    rows = visible(chrome)
    chrome.find_element(By.CSS_SELECTOR, f"tr[data-run='{rows[0]}'] a").send_keys(Keys.ARROW_DOWN, "")
    webdriver.ActionChains(chrome).send_keys(Keys.ARROW_DOWN, Keys.ENTER).perform()
    assert chrome.find_element(By.CSS_SELECTOR, ".chosen-run").get_attribute("data-run") == rows[2]
    webdriver.ActionChains(chrome).send_keys(Keys.ARROW_UP, Keys.ENTER).perform()
    assert chrome.find_element(By.CSS_SELECTOR, ".chosen-run").get_attribute("data-run") == rows[1]


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1100, "dark"), (390, "light"), (360, "dark")])
def test_axe_finds_no_fault_and_nothing_sticks_out(driver, file, width, scheme):
    opened(driver, file)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert faults(driver) == []


@needs_browser
def test_on_a_phone_the_order_is_chosen_from_a_list(driver, file):
    opened(driver, file)
    metrics = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    before = visible(driver)
    choice = Select(driver.find_element(By.ID, "sort"))
    choice.select_by_visible_text("seed ↓")
    assert visible(driver) != before
    assert driver.find_element(By.CSS_SELECTOR, "td[data-label=seed]").is_displayed()
    choice.select_by_visible_text("newest")
    assert visible(driver) == before


@needs_browser
def test_without_javascript_it_is_a_plain_table(driver, file):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(driver, file)
        assert not driver.find_element(By.ID, "search").is_displayed()
        rows = driver.find_elements(By.CSS_SELECTOR, ".runs tbody tr")
        assert len(rows) == 16
        screens = driver.find_elements(By.CSS_SELECTOR, ".runs .screen")
        assert changed(pixels(screens[0]), 255 + 0 * pixels(screens[0]))
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
