"""Charts to point at: what altair is asked to draw, and what a real browser makes of it."""

from __future__ import annotations

import json

import altair as alt
import numpy as np
import pytest
import xarray as xr
from jsonschema import ValidationError
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from reports import _chart
from reports._chart import MOST_ROWS, charts, library
from tests.reports.browser import PATIENCE, drawn, needs_browser, opened, requested


def trajectory(plain):
    return next(one for one in plain.results if one.record.analysis == "trajectory")


def test_numbers_of_a_chart_are_those_of_the_result(plain):
    result = trajectory(plain)
    (chart,) = charts(result, ["latent_distance"])
    columns = json.loads(chart.columns)
    data = result.to_dataset()
    assert columns["step"] == data["step"].to_numpy().tolist()
    for name in ("latent_distance", "latent_distance_low", "latent_distance_high"):
        np.testing.assert_allclose(np.array(columns[name], float), data[name].to_numpy(), rtol=1e-5)
    assert chart.across == "step"
    assert "table" not in json.loads(chart.spec).get("datasets", {}), "the numbers would be there twice"


def test_an_arm_is_named_by_what_tells_it_from_others():
    labels = {"noise": ["step", "step", "frame"], "frame": [-1, -1, 2], "matched": [False, True, False]}
    labels |= {"draw": [1, 1, 1], "dose": [0.5, 0.5, 1.0]}
    values = xr.DataArray(np.zeros(3), dims=["arm"], coords={name: ("arm", of) for name, of in labels.items()})
    named = [sorted(words.split(", ")) for words in _chart._entries(values, "arm")]
    assert named == [
        ["dose 0.5", "noise step"],
        ["dose 0.5", "matched", "noise step"],
        ["dose 1", "frame 2", "noise frame"],
    ]
    again = _chart._entries(values.drop_vars("matched"), "arm")
    assert [words[:3] for words in again[:2]] == ["0: ", "1: "]


def test_the_same_result_gives_the_same_bytes(plain):
    result = trajectory(plain)
    names = list(map(str, result.to_dataset()))
    assert len(charts(result, names)) > 2
    assert charts(result, names) == charts(result, names)


def test_altair_finds_every_specification_valid(plain):
    found = [chart for result in plain.results for chart in charts(result, list(map(str, result.to_dataset())))]
    assert len(found) > 5
    for chart in found:
        alt.Chart.from_dict(json.loads(chart.spec), validate=True)
    broken = json.loads(found[0].spec) | {"height": "tall"}
    with pytest.raises(ValidationError):
        alt.Chart.from_dict(broken, validate=True)


def test_pictures_and_large_quantities_have_none(plain):
    result = next(one for one in plain.results if one.record.analysis == "energy")
    data = result.to_dataset()
    maps = [str(name) for name in data if {"y", "x"} <= set(data[name].dims) or data[name].size > MOST_ROWS]
    assert maps
    assert charts(result, maps) == ()


def test_a_page_has_one_library_or_none_where_there_is_no_chart(plain, page, monkeypatch):
    assert page.count(library()) == 1
    monkeypatch.setattr(_chart, "MOST_ROWS", 0)
    assert 'class="chart"' in page
    without = plain.page()
    assert 'class="chart"' not in without
    assert library() not in without


@pytest.fixture
def charted(driver, page_file):
    opened(driver, page_file)
    assert drawn(driver) > 5
    return driver


def chart_of(driver, name: str):
    chart = driver.find_element(By.CSS_SELECTOR, f".chart[data-name='{name}']")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    return chart


def soon(driver, happens) -> None:
    WebDriverWait(driver, PATIENCE, poll_frequency=0.05).until(lambda _: happens())


def marks(chart):
    return chart.find_elements(By.CSS_SELECTOR, "svg .at_marks line")


@needs_browser
def test_all_are_drawn_without_eval_network_or_complaint(charted):
    assert len(charted.find_elements(By.CSS_SELECTOR, ".chart[data-ready] svg")) > 5
    assert requested(charted) == []
    assert [entry["message"] for entry in charted.get_log("browser")] == []


@needs_browser
def test_the_library_sleeps_until_a_chart_comes_into_view(driver, page_file):
    opened(driver, page_file)
    assert driver.execute_script("return window.vegaEmbed") is None
    fold = driver.find_element(By.CSS_SELECTOR, ".explore")
    driver.execute_script("arguments[0].open = true; arguments[0].scrollIntoView()", fold)
    soon(driver, lambda: fold.find_elements(By.CSS_SELECTOR, ".chart[data-ready] svg"))
    assert driver.execute_script("return typeof window.vegaEmbed") == "function"
    assert driver.find_elements(By.CSS_SELECTOR, ".explore:not([open]) .chart svg") == []


@needs_browser
def test_each_is_one_named_picture_for_those_who_cannot_see_it(charted):
    pictures = charted.find_elements(By.CSS_SELECTOR, ".chart .picture")
    assert {one.get_attribute("role") for one in pictures} == {"img"}
    assert all("its numbers are under Data and code" in one.get_attribute("aria-label") for one in pictures)
    assert charted.find_elements(By.CSS_SELECTOR, ".chart svg:not([aria-hidden=true])") == []


@needs_browser
def test_a_chart_answers_when_pointed_at(charted):
    point = chart_of(charted, "latent_distance").find_elements(By.CSS_SELECTOR, "svg .mark-symbol path")[1]
    ActionChains(charted).move_to_element(point).perform()
    told = charted.find_element(By.ID, "vg-tooltip-element")
    soon(charted, lambda: "step" in told.text)
    assert "step 1" in told.text.replace("\n", " ")
    assert "latent_distance_low" in told.text


@needs_browser
def test_the_chosen_step_is_marked_in_it_and_chosen_by_a_click_or_a_key(charted):
    chart = chart_of(charted, "latent_distance")
    assert marks(chart) == []
    charted.execute_script("view.set({ step: 2 })")
    soon(charted, lambda: len(marks(chart)) == 1)
    points = chart.find_elements(By.CSS_SELECTOR, "svg .mark-symbol path")
    for step, point in enumerate(points):
        ActionChains(charted).move_to_element(point).click().perform()
        assert charted.execute_script("return view.get('step')") == str(step)
    chart.find_element(By.CLASS_NAME, "picture").send_keys(Keys.ARROW_LEFT)
    assert charted.execute_script("return view.get('step')") == str(len(points) - 2)
    soon(charted, lambda: f"step={len(points) - 2}" in charted.current_url)


@needs_browser
def test_it_follows_the_scheme_of_the_page(charted):
    line = chart_of(charted, "latent_distance").find_element(By.CSS_SELECTOR, "svg .mark-line path")
    light = line.value_of_css_property("stroke")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    charted.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert line.value_of_css_property("stroke") != light


@needs_browser
def test_it_fits_a_phone(driver, page_file):
    opened(driver, page_file)
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert drawn(driver)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    widths = "return [...document.querySelectorAll('.chart svg')].map((one) => one.getBoundingClientRect().right)"
    assert max(driver.execute_script(widths)) <= 390


@needs_browser
def test_hostile_labels_stay_text(driver, hostile, tmp_path):
    path = tmp_path / "hostile.html"
    path.write_text(hostile.page(), encoding="utf-8")
    opened(driver, path)
    assert drawn(driver)
    assert requested(driver) == []
    assert driver.execute_script("return window.hostile") is None
    assert not driver.find_elements(By.CSS_SELECTOR, ".chart img, .chart script")
    assert [entry["message"] for entry in driver.get_log("browser")] == []
