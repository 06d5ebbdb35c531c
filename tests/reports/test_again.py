"""The numbers behind each figure: tables that are the result's, and code that runs."""

from __future__ import annotations

import html
import io
import re
from urllib.parse import unquote

import pandas as pd
import pytest
from selenium.webdriver.common.by import By

import analyses
from reports import _again
from reports._beside import Inside
from reports._section import Context, drawer
from tests.reports.browser import needs_browser, opened


def figures_of(page: str) -> list[str]:
    return re.findall(r'<figure class="still">.*?</figure>', page, flags=re.DOTALL)


def without_ids(figure: str) -> str:
    """A figure whose ids, which follow its place on the page, are taken out."""
    return re.sub(r'(id="|href="#|url\(#)[^")]*', r"\1", figure)


def test_every_figure_offers_its_data_and_code(page):
    figures = figures_of(page)
    assert len(figures) == 11
    for figure in figures:
        assert re.search(r'<a href="data:text/csv[^"]+" download="\w+\.csv">|too large for a page', figure)
        assert "analyses.load(acts, " in figure


def test_what_a_figure_names_is_in_its_result(plain):
    for result in plain.results:
        context = Context(plain.acts, runs=None, media_bytes=10**7, results=plain.results)
        section = drawer(result.record.analysis)(result, context, "s")
        for figure in section.figures:
            assert figure.quantities
            assert set(figure.quantities) <= set(result.to_dataset().data_vars)


def test_a_table_is_the_data_frame(plain):
    result = next(one for one in plain.results if one.record.analysis == "energy")
    (table,) = _again.tables(result, ["energy_by_step"], Inside())
    read = pd.read_csv(io.StringIO(unquote(table.uri.split(",", 1)[1])))
    frame = result.to_dataframe("energy_by_step")[read.columns]
    pd.testing.assert_frame_equal(read, frame, check_dtype=False, rtol=1e-5)
    assert {"energy_by_step", "energy_by_step_low", "energy_by_step_high", "step", "layer"} <= set(read)


def test_a_table_too_large_for_a_page_is_left_to_the_code(plain, monkeypatch):
    result = plain.results[0]
    name = str(result.to_dataset().attrs["headline"])
    monkeypatch.setattr(Inside, "table_bytes", 100)
    assert _again.tables(result, [name], Inside()) == (_again.Table(name, ""),)


def test_the_code_runs_and_gives_the_same_figures(plain, page, tmp_path, monkeypatch):
    code = html.unescape(re.findall(r'<pre tabindex="0"><code>(import analyses.*?)</code>', page, flags=re.DOTALL)[-1])
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"ACTS"', repr(str(plain.acts.path))), {})
    again = (tmp_path / "again.html").read_text(encoding="utf-8")
    made = re.search(r"load\(acts, '(\w+)'\)", code).group(1)
    of = analyses.load(plain.acts, made).record.analysis
    assert figures_of(again)
    assert {without_ids(figure) for figure in figures_of(again)} <= {
        without_ids(figure) for figure in figures_of(page)
    }, of


def test_hostile_labels_stay_inside_a_table(hostile):
    result = next(one for one in hostile.results if one.record.analysis == "trajectory")
    for table in _again.tables(result, ["score"], Inside()):
        assert re.fullmatch(r"data:text/csv;charset=utf-8,[\w%. ,\-:;()=/~]*", table.uri)
        assert "onerror" in unquote(table.uri)


@needs_browser
def test_a_download_arrives(driver, page_file, tmp_path, plain):
    opened(driver, page_file)
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    details = driver.find_element(By.CSS_SELECTOR, ".still .again")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", details)
    details.find_element(By.TAG_NAME, "summary").click()
    link = details.find_element(By.CSS_SELECTOR, "a[download]")
    name = link.get_attribute("download")
    link.click()
    wanted = tmp_path / name
    for _ in range(100):
        if wanted.exists() and wanted.stat().st_size:
            break
        driver.execute_async_script("setTimeout(arguments[0], 50)")
    else:
        pytest.fail(f"{name} did not arrive")
    assert len(pd.read_csv(wanted)) > 1
    assert driver.get_log("browser") == []
