"""A corpus of hostile texts, in a real browser: they show on every kind of page, and none of them runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

import analyses
import reports
import store
from tests.planted import Planted
from tests.reports.browser import needs_browser, opened, requested

pytestmark = needs_browser
PAYLOADS = (
    "<script>window.hostile=1</script>",
    "</script><script>window.hostile=1</script>",
    "</style><script>window.hostile=1</script>",
    "<img src=x onerror=window.hostile=1>",
    "\"><svg onload='window.hostile=1'>",
    "' autofocus onfocus='window.hostile=1",
    "javascript:window.hostile=1",
    "</title></textarea></table><iframe srcdoc='<script>parent.hostile=1</script>'>",
    "{{ 7 * 7 }}{% include 'report.css' %}${7*7}",
    "<!-- --!> ]]> <![CDATA[ <base href=//evil.test/>",
    "&lt;b&gt; &#x22; \u202egnp.exe \u0007 \u2028",
    "url(//evil.test/x.png);}*{display:none}",
    "<meta http-equiv=refresh content='0;url=//evil.test'>",
    "$x$ \\alpha \\n %s %(a)s",
)


@pytest.fixture(scope="module")
def acts(tmp_path_factory) -> store.ActivationStore:
    """A run on a sample for each payload; model, metric and a changed run's fields are hostile, too."""
    path = tmp_path_factory.mktemp("hostile") / "acts"
    every = " ".join(PAYLOADS)
    shape = {"samples": len(PAYLOADS), "seeds": (0,), "steps": 3, "layers": 2, "size": 16, "metric": every}
    clean = Planted(**shape, prompts=PAYLOADS, model=every)
    clean.plant(path)
    change = {"kind": PAYLOADS[0], "region": None, PAYLOADS[3]: PAYLOADS[4], "steps": [1]}
    return Planted(**shape, prompts=PAYLOADS, model=every, interventions=(change,), parent=clean).plant(path)


def held(driver, page: Path, *, selector: str) -> list[str]:
    """Texts of the elements, on a page that was opened and did nothing that it should not."""
    opened(driver, page)
    assert driver.execute_script("return window.hostile") is None
    for intruder in ("img[src=x]", "iframe", "base", "svg[onload]", "[onfocus]", "[onerror]", "meta[content*=evil]"):
        assert driver.find_elements(By.CSS_SELECTOR, intruder) == [], intruder
    own = 2 if driver.find_elements(By.CSS_SELECTOR, ".explore") else 1  # Vega, where there are charts
    assert len(driver.find_elements(By.TAG_NAME, "script")) == own
    links = driver.execute_script("return [...document.links].map(a => a.protocol)")
    assert set(links) <= {"file:", "data:"}
    assert driver.execute_script("return getComputedStyle(document.body).display") == "block"
    assert driver.get_log("browser") == []
    assert requested(driver) == []
    return [one.get_property("textContent") for one in driver.find_elements(By.CSS_SELECTOR, selector)]


def test_the_index_shows_every_prompt(driver, acts, tmp_path):
    name = "a 'b' \"c\" <img src=x onerror=alert(1)> #?&.html"
    shown = held(driver, reports.write_index(acts, tmp_path / name), selector=".runs .prompt")
    assert sorted(shown) == sorted([*PAYLOADS, *PAYLOADS])
    driver.get(driver.current_url + "#q=%3Cscript%3E&sort=%3Cimg%20src%3Dx%3E&run=%22%5D")
    assert driver.execute_script("return window.hostile") is None


def test_the_comparison_shows_names_of_groups(driver, acts, tmp_path):
    groups = analyses.grouped(acts, by=["interventions"])
    results = [analyses.run("trajectory", acts, runs=group.run_ids) for group in groups]
    names = {result.id: payload for result, payload in zip(results, PAYLOADS[1:3], strict=True)}
    page = reports.write(acts, tmp_path / "page.html", results=results, names=names, title=PAYLOADS[7])
    assert held(driver, page, selector=".groups-table th[scope=col]") == list(PAYLOADS[1:3])


def test_a_kept_finding_and_a_file_of_a_hostile_name(driver, acts, tmp_path):
    result = analyses.run("trajectory", acts, runs=acts.run_ids("interventions = '[]'"))
    record = result.record.replaced(finding=PAYLOADS[3], params={PAYLOADS[0]: PAYLOADS[4]})
    acts.save_result(record, result.to_dataset().compute(), store.take_provenance(()))
    kept = held(driver, reports.write_index(acts, tmp_path / "index.html"), selector="details bdi")
    assert PAYLOADS[3] in kept
    told = analyses.Result(record=record, data=result.to_dataset())
    page = reports.write(acts, tmp_path / "a <b> #'.html", results=[told])
    assert PAYLOADS[3] in held(driver, page, selector=".said")


def test_the_corpus_itself_bites(driver, tmp_path):
    page = tmp_path / "bare.html"
    page.write_text(f"<!doctype html><title>x</title><p>{PAYLOADS[0]}</p>")
    opened(driver, page)
    assert driver.execute_script("return window.hostile") == 1
