"""Runs, latent frames, heads and windows of steps join the linked selection."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import reports
from analyses.experiments import Swap
from reports._links import counts_windows, links
from tests.planted_exchange import Exchanged
from tests.reports.browser import PATIENCE, needs_browser, opened
from tests.reports.test_accessible import faults
from tests.reports.test_microscope import click


def drawn(x: str, y: str, *, cells: bool = False) -> list[dict]:
    figure = Figure(figsize=(4, 2))
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0, 1, 0])
    axes.set(xlabel=x, ylabel=y)
    if cells:
        counts_windows(axes, "x", "step", [(0, 0), (1, 1), (0, 3)])
    figure.canvas.draw()
    return json.loads(links(figure))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("latent frame", "latent_frame"),
        ("latent frame with noise", "latent_frame"),
        ("head", "head"),
        ("noise put in at step", "step"),
        ("layer", "layer"),
    ],
)
def test_axes_are_known_by_their_labels(label, name):
    assert [link["name"] for link in drawn(label, "score")] == [name]


def test_windows_are_told_with_their_ends():
    (link,) = drawn("steps", "layers", cells=True)
    assert (link["name"], link["values"], link["spans"]) == ("step", [0, 1, 0], [[0, 0], [1, 1], [0, 3]])
    assert drawn("score", "noise put in at step") == []


def picked(driver) -> tuple[set[str], set[str]]:
    """The values of the marked panes, and the runs of the marked lines."""
    panes = driver.find_elements(By.CSS_SELECTOR, ".pane.picked")
    lines = driver.find_elements(By.CSS_SELECTOR, "svg .picked")
    return {one.get_attribute("data-value") for one in panes}, {one.get_attribute("data-run") for one in lines}


@needs_browser
def test_a_run_is_chosen_in_its_pane_and_marked_in_the_figures(driver, page_file, plain):
    opened(driver, page_file)
    pane = driver.find_elements(By.CSS_SELECTOR, ".pane[data-choice=run]")[2]
    run_id = pane.get_attribute("data-value")
    assert run_id in plain.acts.run_ids()
    title = pane.find_element(By.CSS_SELECTOR, "[role=button]")
    line = driver.find_element(By.CSS_SELECTOR, f'svg [data-run="{run_id}"] path')
    width = lambda: line.value_of_css_property("stroke-width")  # noqa: E731
    before = width()
    click(driver, pane.find_element(By.CSS_SELECTOR, ".stack"), x=0.5, y=0.5)
    assert picked(driver) == ({run_id}, {run_id})
    assert width() != before
    assert title.get_attribute("aria-pressed") == "true"
    assert len(driver.find_elements(By.CSS_SELECTOR, "svg .picked")) == 2  # distances in latents and in pixels
    WebDriverWait(driver, PATIENCE).until(lambda _: f"run={run_id}" in driver.current_url)
    assert faults(driver) == []
    link = driver.current_url
    title.send_keys(Keys.ENTER)
    assert picked(driver) == (set(), set())
    WebDriverWait(driver, PATIENCE).until(lambda _: "run=" not in driver.current_url)
    driver.get("about:blank")
    driver.get(link)
    assert picked(driver) == ({run_id}, {run_id})
    assert driver.get_log("browser") == []


@needs_browser
def test_a_latent_frame_is_chosen_in_its_map_and_marked_in_the_figures(driver, page_file):
    opened(driver, page_file)
    pane = driver.find_element(By.CSS_SELECTOR, '.pane[data-choice=latent_frame][data-value="1"]')
    title = pane.find_element(By.CSS_SELECTOR, "[role=button]")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", title)
    title.click()
    assert picked(driver)[0] == {"1"}
    marks = driver.find_elements(By.CSS_SELECTOR, "svg .chosen[data-name=latent_frame]")
    assert {one.get_attribute("data-value") for one in marks} == {"1"}


@needs_browser
def test_the_window_of_a_step_is_marked_and_a_window_chooses_its_first_step(driver, tmp_path):
    few = Swap(layers=(0, 3), windows=((0, 0), (1, 2), (0, 3)))
    acts = Exchanged(units=2).plant(tmp_path / "acts", few)
    opened(driver, reports.write(acts, tmp_path / "page.html", results=[few.compare(acts)]))
    svg = driver.find_element(By.CSS_SELECTOR, "svg.linked")
    marked = lambda name: {  # noqa: E731
        one.get_attribute("data-value") for one in svg.find_elements(By.CSS_SELECTOR, f".chosen[data-name={name}]")
    }
    driver.execute_script("view.set({ step: 2 })")
    assert marked("step") == {"1-2"}, "the narrowest window that holds it"
    driver.execute_script("view.set({ step: 9 })")
    assert marked("step") == set()
    link = next(one for one in json.loads(svg.get_attribute("data-links")) if one["along"] == "x")
    across = sum(next(one for one in json.loads(svg.get_attribute("data-links")) if one["along"] == "y")["at"][:1])
    at = link["spans"].index([0, 3])
    click(driver, svg, x=link["at"][at], y=across)
    assert marked("step") == {"0-3"}
    assert driver.execute_script("return view.get('step')") == "0"
    assert driver.get_log("browser") == []
