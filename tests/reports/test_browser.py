"""The page in a real Chromium, from a file: no network, no error, sliders and keys that move the picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import reports
from tests.reports.browser import PATIENCE, changed, needs_browser, opened, pixels, requested
from tests.reports.conftest import HOSTILE

pytestmark = needs_browser


@pytest.fixture
def chrome(driver, page_file) -> webdriver.Chrome:
    """The browser with the page of `plain`, freshly loaded."""
    return opened(driver, page_file)


def first_film(driver):
    film = driver.find_element(By.CSS_SELECTOR, ".film")
    step, frame = film.find_elements(By.CSS_SELECTOR, "input[type=range]")
    return film, film.find_element(By.CSS_SELECTOR, ".screen.live"), step, frame


def shown(film) -> list[str]:
    return [output.text for output in film.find_elements(By.TAG_NAME, "output")]


def test_opens_without_network_and_without_complaint(chrome):
    assert chrome.find_element(By.TAG_NAME, "h1").text == "How planted-dit denoises"
    assert chrome.get_log("browser") == []
    assert requested(chrome) == []


def test_the_watch_itself_sees_requests_and_complaints(driver, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='missing.png'><script>console.error('complaint')</script>")
    opened(driver, bad)
    assert requested(driver) == [(tmp_path / "missing.png").as_uri()]
    assert any("complaint" in entry["message"] for entry in driver.get_log("browser"))


def test_sliders_change_the_picture(chrome):
    film, screen, step, frame = first_film(chrome)
    assert shown(film) == ["5 · σ 0.38 · transformer_2", "4"]
    last = pixels(screen)
    step.send_keys(Keys.HOME)
    early = pixels(screen)
    assert shown(film)[0] == "0 · σ 1.00 · transformer"
    assert changed(last, early)
    frame.send_keys(Keys.HOME)
    assert shown(film)[1] == "0"
    assert changed(early, pixels(screen))
    step.send_keys(Keys.END)
    frame.send_keys(Keys.END)
    assert not changed(last, pixels(screen))


def test_scores_follow_the_step(driver, plain, tmp_path):
    opened(driver, reports.write(plain.acts, tmp_path / "page.html", results=plain.results[-1:]))
    film, _, step, _ = first_film(driver)
    reads = film.find_elements(By.CSS_SELECTOR, ".pane .readouts")
    assert sorted({tuple(read.text.split()) for read in reads}) == [
        ("answer", "0.00", "process", "0.00", "distance", "0.00"),
        ("answer", "1.00", "process", "0.90", "distance", "0.00"),
    ]
    step.send_keys(Keys.HOME)
    assert {tuple(read.text.split())[-1] for read in reads} == {"1.00"}
    now = film.find_elements(By.CSS_SELECTOR, ".strip i.now")
    assert len(now) == 6


def test_arrows_and_space_work_in_the_film(chrome):
    film, screen, *_ = first_film(chrome)
    screen.click()
    keys = webdriver.ActionChains(chrome)
    keys.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_DOWN).perform()
    assert shown(film) == ["3 · σ 0.75 · transformer_2", "3"]
    keys = webdriver.ActionChains(chrome)
    keys.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP).perform()
    assert shown(film) == ["4 · σ 0.60 · transformer_2", "4"]
    play = film.find_elements(By.CSS_SELECTOR, ".play")[1]
    webdriver.ActionChains(chrome).send_keys(Keys.SPACE).perform()
    WebDriverWait(chrome, PATIENCE).until(lambda _: shown(film)[1] != "4")
    assert play.get_attribute("aria-pressed") == "true"
    webdriver.ActionChains(chrome).send_keys(Keys.SPACE).perform()
    assert play.get_attribute("aria-pressed") == "false"


def test_arrows_on_a_slider_move_once_and_the_same_way(chrome):
    film, _, step, frame = first_film(chrome)
    frame.send_keys(Keys.HOME)
    step.send_keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert shown(film) == ["1 · σ 0.94 · transformer", "1"]


def test_a_bar_of_the_strip_goes_to_its_step(driver, plain, tmp_path):
    opened(driver, reports.write(plain.acts, tmp_path / "page.html", results=plain.results[-1:]))
    film, *_ = first_film(driver)
    film.find_elements(By.CSS_SELECTOR, ".strip i")[1].click()
    assert shown(film)[0].startswith("1 · ")


def test_maps_follow_step_and_layer(chrome):
    film = chrome.find_elements(By.CSS_SELECTOR, ".film")[1]
    step, layer = film.find_elements(By.CSS_SELECTOR, "input[type=range]")
    screen, scale = (
        film.find_element(By.CSS_SELECTOR, ".screen.live"),
        film.find_element(By.CSS_SELECTOR, ".readouts dd"),
    )

    def look() -> tuple[np.ndarray, str]:
        chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", screen)  # a slider scrolls the page
        return pixels(screen), scale.text

    seen = [look()]
    layer.send_keys(Keys.HOME)
    seen.append(look())
    step.send_keys(Keys.END)
    seen.append(look())
    assert shown(film) == ["5 · σ 0.38", "0"]
    for (before, scale_before), (after, scale_after) in pairwise(seen):
        assert changed(before, after)
        assert scale_before != scale_after


def test_colours_follow_the_scheme(chrome):
    ground = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colour = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        ground[scheme] = [
            sum(map(float, chrome.execute_script(colour, *of).strip("rgb()").split(",")[:3]))
            for of in (("body", "backgroundColor"), ("h1", "color"), (".still svg text", "fill"))
        ]
    assert ground["light"][0] > 600 > ground["light"][1]
    assert ground["dark"][0] < 150 < ground["dark"][1]
    assert ground["light"][2] < 150
    assert ground["dark"][2] > 600


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_sticks_out_at_any_width(chrome, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width


def test_without_javascript_there_are_posters(driver, page_file):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(driver, page_file)
        posters = driver.find_elements(By.CSS_SELECTOR, ".poster .screen")
        assert posters[0].is_displayed()
        assert changed(pixels(posters[0]), pixels(posters[5]))
        assert not driver.find_element(By.CSS_SELECTOR, ".controls").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_hostile_texts_show_and_do_not_run(driver, hostile, tmp_path):
    opened(driver, reports.write(hostile.acts, tmp_path / "page.html", results=hostile.results, title=HOSTILE))
    assert driver.execute_script("return window.hostile") is None
    assert HOSTILE in [
        prompt.get_property("textContent") for prompt in driver.find_elements(By.CSS_SELECTOR, ".prompt")
    ]
    assert len(driver.find_elements(By.TAG_NAME, "script")) == 2
    assert driver.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    assert driver.get_log("browser") == []
    assert requested(driver) == []
