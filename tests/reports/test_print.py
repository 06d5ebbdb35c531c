"""On paper and without JavaScript a page says and shows what it does on a screen, but for what needs a hand."""

from __future__ import annotations

import base64
import re

import pytest
from selenium.webdriver.common.by import By

from tests.reports.browser import changed, needs_browser, opened, pixels

pytestmark = needs_browser
HANDS = (".controls", ".choices", ".cite", ".again", ".keys", ".hint")
"""What needs a hand."""


@pytest.fixture
def scriptless(driver, page_file):
    """The page of `plain`, whose scripts do not run."""
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        yield opened(driver, page_file)
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def displayed(driver, selector: str) -> set[bool]:
    return {one.is_displayed() for one in driver.find_elements(By.CSS_SELECTOR, selector)}


def test_paper_is_light_and_shows_posters_in_place_of_sliders(driver, page_file):
    opened(driver, page_file)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    ink = driver.execute_script("return getComputedStyle(document.body).color")
    assert sum(map(int, re.findall(r"\d+", ink)[:3])) < 150
    for selector in HANDS:
        assert displayed(driver, selector) == {False}, selector
    for selector in (".poster .screen", ".stack .opening", ".finding", ".still svg", ".facts"):
        assert displayed(driver, selector) == {True}, selector


def test_a_pdf_has_the_findings_and_the_figures(driver, page_file):
    opened(driver, page_file)
    pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 3
    assert driver.get_log("browser") == []


def test_without_javascript_everything_is_read_and_seen(scriptless):
    for selector in (".finding", ".lead", ".still svg", ".still .caption", ".poster .screen", ".opening", ".facts"):
        assert displayed(scriptless, selector) == {True}, selector
    assert displayed(scriptless, ".controls") == {False}
    first, *_, last = scriptless.find_elements(By.CSS_SELECTOR, ".film .pane")[0].find_elements(
        By.CSS_SELECTOR, ".poster .screen"
    )
    assert changed(pixels(first), pixels(last))


def test_without_javascript_folds_open_and_hold_the_data_and_the_citation(scriptless):
    for fold in (".cite", ".still .again"):
        details = scriptless.find_element(By.CSS_SELECTOR, fold)
        details.find_element(By.TAG_NAME, "summary").click()
        assert details.find_element(By.TAG_NAME, "code").is_displayed()
    assert displayed(scriptless, ".copy") == {False}
    assert (
        scriptless.find_element(By.CSS_SELECTOR, ".still .again a[download]").get_attribute("href").startswith("data")
    )


def test_nothing_is_decoded_before_it_comes_near(driver, page_file):
    opened(driver, page_file)
    state = "return [...document.querySelectorAll('.screen.live')].map((one) => one.classList.contains('on'))"
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert not all(driver.execute_script(state))
    image = "return getComputedStyle([...document.querySelectorAll('.screen.live')].pop()).backgroundImage"
    assert driver.execute_script(image) == "none"
    for live in driver.find_elements(By.CSS_SELECTOR, ".screen.live"):
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", live)
        driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 30))")
    assert all(driver.execute_script(state))
    assert driver.execute_script(image).startswith('url("data:image/')
