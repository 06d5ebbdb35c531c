"""The microscope: its grids are the results' numbers, and a cell chosen anywhere is chosen everywhere."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.figure import Figure
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import analyses
import reports
from reports import _statistics
from reports._links import links
from reports._section import Context
from tests.reports.browser import PATIENCE, changed, needs_browser, opened, pixels, requested
from tests.reports.conftest import Book


@pytest.fixture
def context(plain) -> Context:
    return Context(plain.acts, runs=None, media_bytes=10**7, results=plain.results)


def energy(book: Book) -> analyses.Result:
    return next(result for result in book.results if result.record.analysis == "energy")


def with_more(result: analyses.Result, **quantities) -> analyses.Result:
    return analyses.Result(record=result.record, data=result.to_dataset().assign(quantities))


def test_the_grid_holds_the_numbers_of_the_result_energy_first(plain, context):
    first = _statistics.statistics(context)[0]
    quantity = energy(plain).to_dataset()["energy_by_step"].transpose("layer", "step")
    assert first.name == f"energy: {quantity.attrs['long_name']}"
    np.testing.assert_allclose(np.array(first.values), quantity, rtol=1e-3)
    low = energy(plain).to_dataset()["energy_by_step_low"].transpose("layer", "step")
    np.testing.assert_allclose(np.array(first.low), low, rtol=1e-3)
    assert (first.steps, first.layers) == (tuple(range(6)), tuple(range(3)))
    assert "n = 3 samples" in first.caption
    assert "interval" in first.caption


def test_a_further_axis_gives_a_grid_each_and_a_long_one_none(plain):
    data = energy(plain).to_dataset()
    one = data["energy_by_step"].drop_attrs()
    two = one.expand_dims(kind=["raw"]).isel(kind=[0, 0]).assign_coords(kind=["near", "far"])
    many = one.expand_dims(head=range(7))
    result = with_more(energy(plain), two=two.drop_vars("kind").rename(kind="side"), many=many, gap=one * np.nan)
    found = _statistics.statistics(Context(plain.acts, runs=None, media_bytes=10**7, results=[result]))
    assert [statistic.id.split(":")[1:] for statistic in found] == [["energy_by_step"], ["two", "0"], ["two", "1"]]
    assert found[1].caption == "No interval."


def test_what_the_page_cannot_carry_is_not_in_the_grid(plain):
    assert _statistics.statistics(Context(plain.acts, runs=None, media_bytes=10, results=plain.results)) == ()


def test_a_value_that_is_missing_is_told_as_missing(plain):
    result = energy(plain)
    data = result.to_dataset().load().copy(deep=True)
    data["energy_by_step"][{"step": 1, "layer": 2}] = np.nan
    changed_result = analyses.Result(record=result.record, data=data)
    found = _statistics.statistics(Context(plain.acts, runs=None, media_bytes=10**7, results=[changed_result]))
    assert found[0].values[2][1] is None
    page = reports.render(plain.acts, results=[changed_result])
    told = json.loads(html.unescape(re.search(r'data-statistics="([^"]*)"', page).group(1)))
    assert told[0]["values"][2][1] is None


def test_links_find_steps_where_the_drawing_has_them():
    figure = Figure(figsize=(4, 2))
    axes = figure.subplots()
    axes.plot([3, 4, 7, np.nan], [0, 1, 0, 0])
    axes.set_xlabel("denoising step")
    figure.canvas.draw()
    (link,) = json.loads(links(figure))
    box = axes.get_position()
    assert link["values"] == [3, 4, 7]
    assert link["at"][1] - link["at"][0] == pytest.approx((link["at"][2] - link["at"][1]) / 3, abs=1e-3)
    assert link["across"] == pytest.approx([1 - box.y1, 1 - box.y0], abs=1e-3)
    axes.set_xlabel("score")
    assert json.loads(links(figure)) == []


def cell(driver) -> str:
    return driver.find_element(By.CSS_SELECTOR, ".cell").text


def position(driver) -> tuple[str, str]:
    script = "const s = document.querySelector('.cells').style; return ['--x', '--y'].map(n => s.getPropertyValue(n))"
    return tuple(driver.execute_script(script))


def click(driver, element, *, x: float, y: float) -> None:
    """A click at a share of the element's width and height."""
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    size = element.size
    offset = (int((x - 0.5) * size["width"]), int((y - 0.5) * size["height"]))
    webdriver.ActionChains(driver).move_to_element_with_offset(element, *offset).click().perform()


def tick(driver) -> None:
    """Lay the maps over x̂0, or take them off."""
    box = driver.find_element(By.CSS_SELECTOR, ".over-x0")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    box.click()


@pytest.fixture
def chrome(driver, page_file):
    return opened(driver, page_file)


@needs_browser
def test_a_click_chooses_the_cell_under_it(chrome, plain):
    cells = chrome.find_element(By.CSS_SELECTOR, ".cells")
    click(chrome, cells, x=1.5 / 6, y=0.5 / 3)  # second step, uppermost layer
    number = float(energy(plain).to_dataset()["energy_by_step"].sel(step=1, layer=2))
    assert cell(chrome).startswith(f"step 1, layer 2: {number:.4g} (")
    assert position(chrome) == ("1", "0")
    outputs = [one.text for one in chrome.find_elements(By.CSS_SELECTOR, ".film output")]
    assert outputs[0].startswith("1 · "), "the x̂0 viewer is at the step"
    assert outputs[3] == "2"
    marked = chrome.find_elements(By.CSS_SELECTOR, "svg .chosen")
    seen = {(one.get_attribute("data-name"), one.get_attribute("data-value")) for one in marked}
    assert seen == {("step", "1"), ("layer", "2")}
    assert len(marked) > 6
    assert chrome.get_log("browser") == []


@needs_browser
def test_arrow_keys_walk_over_the_grid(chrome):
    cells = chrome.find_element(By.CSS_SELECTOR, ".cells")
    click(chrome, cells, x=0.5 / 6, y=2.5 / 3)
    assert cell(chrome).startswith("step 0, layer 0: ")
    webdriver.ActionChains(chrome).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP).perform()
    assert cell(chrome).startswith("step 2, layer 1: ")
    assert position(chrome) == ("2", "1")


@needs_browser
def test_a_click_on_a_still_figure_chooses_for_all(chrome):
    figure = chrome.find_element(By.CSS_SELECTOR, "svg.linked")
    link = json.loads(figure.get_attribute("data-links"))[0]
    click(chrome, figure, x=link["at"][2], y=sum(link["across"]) / 2)
    assert cell(chrome).startswith(f"step {link['values'][2]}, ")


@needs_browser
def test_arrow_keys_in_a_still_figure_choose_for_all(chrome):
    figure = chrome.find_element(By.CSS_SELECTOR, "div:has(> svg.linked)")
    figure.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert cell(chrome).startswith("step 1, ")
    figure.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert cell(chrome).startswith("step 0, ")
    marked = {
        one.get_attribute("data-value") for one in chrome.find_elements(By.CSS_SELECTOR, ".chosen[data-name=step]")
    }
    assert marked == {"0"}
    WebDriverWait(chrome, PATIENCE).until(lambda _: "step=0" in chrome.current_url)


@needs_browser
def test_maps_lie_over_x0_at_will(chrome):
    stacks = chrome.find_elements(By.CSS_SELECTOR, ".stack:has(.under)")
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", stacks[1])
    before = pixels(stacks[1])
    tick(chrome)
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", stacks[1])
    assert changed(before, pixels(stacks[1]))
    rows = json.loads(stacks[1].find_element(By.CSS_SELECTOR, ".under").get_attribute("data-rows"))
    assert rows == sorted(rows)
    assert len(set(rows)) > 1
    tick(chrome)
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", stacks[1])
    assert not changed(before, pixels(stacks[1]))


@needs_browser
def test_the_link_opens_the_same_view(driver, plain, tmp_path):
    more = energy(plain).to_dataset()["energy_by_step"] * 2
    results = [with_more(energy(plain), doubled=more.assign_attrs(long_name="doubled"))]
    opened(driver, reports.write(plain.acts, tmp_path / "page.html", results=results))
    choice = Select(driver.find_element(By.CSS_SELECTOR, ".choice"))
    choice.select_by_visible_text("energy: doubled")
    click(driver, driver.find_element(By.CSS_SELECTOR, ".cells"), x=4.5 / 6, y=1.5 / 3)
    tick(driver)
    WebDriverWait(driver, PATIENCE).until(lambda _: "over=1" in driver.current_url)
    link, said = driver.find_element(By.CSS_SELECTOR, ".link").get_attribute("href"), cell(driver)
    assert driver.current_url == link
    assert said.startswith(f"step 4, layer 1: {float(more.sel(step=4, layer=1)):.4g}")
    driver.get("about:blank")
    driver.get(link)
    assert cell(driver) == said
    assert Select(driver.find_element(By.CSS_SELECTOR, ".choice")).first_selected_option.text == "energy: doubled"
    assert driver.find_element(By.CSS_SELECTOR, ".over-x0").is_selected()
    table = unquote(driver.find_element(By.CSS_SELECTOR, ".csv").get_attribute("href").split(",", 1)[1])
    assert table.splitlines()[0] == "step,layer,value"
    assert f"4,1,{float(more.sel(step=4, layer=1)):.4g}" in table.splitlines()
    assert requested(driver) == []


@needs_browser
def test_without_javascript_the_first_grid_is_a_picture(driver, page_file):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(driver, page_file)
        cells = driver.find_element(By.CSS_SELECTOR, ".cells")
        assert len(np.unique(pixels(cells).reshape(-1, 3), axis=0)) >= 3
        assert not driver.find_element(By.CSS_SELECTOR, ".choices").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
