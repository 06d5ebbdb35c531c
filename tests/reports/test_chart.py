"""Charts to point at: what altair is asked to draw, and what a real browser makes of it."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from reports._chart import MOST_ROWS, charts, library
from tests.reports.browser import drawn, needs_browser, opened, requested

pytestmark = needs_browser


@pytest.fixture
def charted(driver, page_file):
    opened(driver, page_file)
    assert drawn(driver) > 5
    return driver


def chart_of(driver, name: str):
    return driver.find_element(By.CSS_SELECTOR, f".chart[data-name='{name}']")


def test_numbers_of_a_chart_are_those_of_the_result(plain):
    result = next(one for one in plain.results if one.record.analysis == "trajectory")
    (chart,) = charts(result, ["latent_distance"])
    columns = json.loads(chart.columns)
    data = result.to_dataset()
    assert columns["step"] == data["step"].to_numpy().tolist()
    for name in ("latent_distance", "latent_distance_low", "latent_distance_high"):
        np.testing.assert_allclose(np.array(columns[name], float), data[name].to_numpy(), rtol=1e-5)
    assert "latent_distance" in chart.spec
    assert "datasets" not in json.loads(chart.spec) or "table" not in json.loads(chart.spec)["datasets"]


def test_pictures_and_large_quantities_have_none(plain):
    result = next(one for one in plain.results if one.record.analysis == "energy")
    data = result.to_dataset()
    maps = [str(name) for name in data if {"y", "x"} <= set(data[name].dims) or data[name].size > MOST_ROWS]
    assert maps
    assert charts(result, maps) == ()


def test_all_are_drawn_without_eval_network_or_complaint(charted):
    assert len(charted.find_elements(By.CSS_SELECTOR, ".chart[data-ready] svg")) == drawn(charted)
    assert requested(charted) == []
    assert [entry["message"] for entry in charted.get_log("browser")] == []


def test_one_library_serves_the_page(page):
    assert page.count(library()) == 1


def test_a_chart_answers_when_pointed_at(charted):
    chart = chart_of(charted, "latent_distance")
    charted.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    point = chart.find_elements(By.CSS_SELECTOR, "svg .mark-symbol path")[1]
    ActionChains(charted).move_to_element(point).perform()
    time.sleep(0.3)
    told = charted.find_element(By.ID, "vg-tooltip-element").text.replace("\n", " ")
    assert "step 1" in told
    assert "latent_distance_low" in told


def test_the_chosen_step_is_marked_and_chosen_in_it(charted):
    chart = chart_of(charted, "latent_distance")
    charted.execute_script("view.set({ step: 2 })")
    time.sleep(0.3)
    assert len(chart.find_elements(By.CSS_SELECTOR, "svg .mark-rule.role-mark line")) == 1
    charted.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(charted).move_to_element(
        chart.find_elements(By.CSS_SELECTOR, "svg .mark-symbol path")[3]
    ).click().perform()
    time.sleep(0.3)
    assert charted.execute_script("return view.get('step')") == "3"


def test_it_follows_the_scheme_of_the_page(charted):
    line = chart_of(charted, "latent_distance").find_element(By.CSS_SELECTOR, "svg .mark-line path")
    light = line.value_of_css_property("stroke")
    charted.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert line.value_of_css_property("stroke") != light


def test_hostile_labels_stay_text(driver, hostile, tmp_path):
    path = tmp_path / "hostile.html"
    path.write_text(hostile.page(), encoding="utf-8")
    opened(driver, path)
    assert drawn(driver)
    assert requested(driver) == []
    assert driver.execute_script("return window.hostile") is None
    assert not driver.find_elements(By.CSS_SELECTOR, ".chart img, .chart script")
    assert [entry["message"] for entry in driver.get_log("browser")] == []
