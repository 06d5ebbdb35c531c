"""Everybody can read a page: axe finds no fault in it, and the keyboard reaches what the mouse does."""

from __future__ import annotations

from importlib import resources

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.reports.browser import PATIENCE, drawn, needs_browser, opened

pytestmark = needs_browser
AXE = """
const done = arguments[arguments.length - 1];
document.querySelectorAll("details").forEach((one) => { one.open = true; });
axe.run().then((found) => done({
  passed: found.passes.length,
  faults: found.violations.map((one) => `${one.impact} ${one.id}: ${one.nodes[0].html.slice(0, 200)}`),
}));
"""


def faults(driver) -> list[str]:
    """What axe finds wrong, with every fold of the page open."""
    drawn(driver)
    driver.execute_script(resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    driver.set_script_timeout(4 * PATIENCE)
    found = driver.execute_async_script(AXE)
    assert found["passed"] > 20, "axe looked at next to nothing"
    return found["faults"]


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "dark")])
def test_axe_finds_no_fault(driver, page_file, width, scheme):
    opened(driver, page_file)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(f"{page_file.as_uri()}#step=2&layer=1&over=1")
    assert faults(driver) == []


def test_axe_finds_a_planted_fault(driver, page_file):
    opened(driver, page_file)
    driver.execute_script("document.querySelector('label[for=microscope-maps-choice]').remove()")
    assert any(fault.startswith("critical select-name") for fault in faults(driver))


def test_the_keyboard_reaches_every_control_in_the_order_of_the_page(driver, page_file):
    opened(driver, page_file)
    script = (
        "const e = document.activeElement; return [e.tagName, e.type || '', e.getBoundingClientRect().top + scrollY]"
    )
    seen = []
    for _ in range(60):
        webdriver.ActionChains(driver).send_keys(Keys.TAB).perform()
        seen.append(tuple(driver.execute_script(script)))
        if seen[-1][:2] == ("INPUT", "checkbox"):
            break
    kinds = [kind for kind in ((tag, of) for tag, of, _ in seen) if kind[0] in ("INPUT", "SELECT", "SUMMARY")]
    assert kinds.count(("INPUT", "range")) == 4
    assert ("SELECT", "select-one") in kinds
    assert kinds[-1] == ("INPUT", "checkbox")
    webdriver.ActionChains(driver).send_keys(Keys.SPACE).perform()
    assert driver.find_element(By.CSS_SELECTOR, ".film.over")
