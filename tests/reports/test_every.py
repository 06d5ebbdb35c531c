"""Every kind of result: each figure says what it shows, how sure it is and where its numbers are; each card is safe.

One report holds a section of every analysis and experiment that there is, so what is registered later is asked, too;
making it takes more than the usual ten seconds, since each of them computes once.
"""

from __future__ import annotations

import html
import json
import re

import pytest
from selenium.webdriver.common.by import By

import analyses
from analyses import experiments
from reports._section import drawer
from tests.reports import everything
from tests.reports.browser import needs_browser, opened
from tests.reports.conftest import HOSTILE, Book

INTERVAL = re.compile(r"interval|\d\s%\s[\w ]*bootstrap")
DATA = re.compile(r'<a href="data:(text/csv|application/vnd\.apache\.parquet)[^"]+" download="\w+\.(csv|parquet)">')


@pytest.fixture(scope="module")
def every(tmp_path_factory) -> Book:
    acts, results = everything.results(tmp_path_factory.mktemp("every"))
    return Book(acts, results, everything.PLANS["energy"])


@pytest.fixture(scope="module")
def whole(every) -> str:
    """The page of all of them."""
    return every.page()


def lacking(figure: str, alt: str, caption: str) -> list[str]:
    """What a figure of a page lacks."""
    asked = {
        "alternative text with numbers": re.search(r"\d", alt) and "nan" not in alt,
        "n": re.search(r"\bn\s=\s\d", caption),
        "interval, or that there is none": INTERVAL.search(caption),
        "data": DATA.search(figure),
        "code": "analyses.load(acts, " in figure,
    }
    return [name for name, there in asked.items() if not there]


def text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


def test_the_report_holds_every_section(every, whole):
    names = {*analyses.names(), *experiments.names()}
    assert {result.record.analysis for result in every.results} == names
    drawn = {name for name in names if drawer(name) is not None}
    assert {match.partition("-")[2] for match in re.findall(r'class="analysis" id="(s[^"]+)"', whole)} == drawn


def test_no_figure_lacks_anything(whole):
    found: dict[str, list[str]] = {}
    figures = re.findall(r'<figure class="still">(.*?)\n    </figure>', whole, flags=re.DOTALL)
    for figure in figures:
        title = text(re.search(r"<h3>(.*?)</h3>", figure).group(1))
        caption = text(re.search(r"<figcaption[^>]*>(.*?)</figcaption>", figure, flags=re.DOTALL).group(1))
        alt = html.unescape(re.search(r'role="img" aria-label="([^"]*)"', figure).group(1))
        found[title] = lacking(figure, alt, caption)
    assert len(figures) > 40
    assert {title: lacks for title, lacks in found.items() if lacks} == {}


def test_no_film_lacks_anything(whole):
    films = re.findall(r'<section class="film".*?\n</section>', whole, flags=re.DOTALL)
    assert len(films) == 2
    for film in films:
        alts = re.findall(r'class="screen [^"]*live"[^>]*aria-label="([^"]*)"', film)
        captions = text(" ".join(re.findall(r'<p class="caption">(.*?)</p>', film)))
        assert lacking(film, " ".join(alts), captions) == []
    (grid,) = re.findall(r'data-statistics="([^"]*)"', whole)
    for statistic in json.loads(html.unescape(grid)):
        assert re.search(r"\bn\s=\s\d", statistic["caption"]) or statistic["caption"] == "No interval."
        assert re.search(r"\d", statistic["alt"])
        assert "analyses.load" in statistic["python"]


def test_a_figure_that_lacks_something_is_found(whole):
    """The walk itself: each part taken away is missed."""
    figure = re.search(r'<figure class="still">(.*?)\n    </figure>', whole, flags=re.DOTALL).group(1)
    caption = "n = 3 samples; 95 % percentile bootstrap over samples"
    assert lacking(figure, "from 1 to 2", caption) == []
    assert lacking(figure, "a picture", caption) == ["alternative text with numbers"]
    assert lacking(figure, "from 1 to 2", "Mean over samples; interval") == ["n"]
    assert lacking(figure, "from 1 to 2", "n = 3 samples") == ["interval, or that there is none"]
    assert lacking(DATA.sub("", figure), "from 1 to 2", caption) == ["data"]
    assert lacking(figure.replace("analyses.load", ""), "from 1 to 2", caption) == ["code"]


@needs_browser
def test_cards_follow_the_scheme_and_run_nothing(driver, every, tmp_path):
    """In a notebook page of either scheme, each beside one whose every text is hostile."""
    cards = [result._repr_html_() for result in every.results]
    for result in every.results:
        data = result.to_dataset()
        hostile = result.record.replaced(finding=HOSTILE, summary={HOSTILE: HOSTILE, "n": [HOSTILE], "one": {"a": 1}})
        renamed = data.rename({name: f"{HOSTILE}{name}" for name in list(data.sizes) if name not in data.coords})
        cards.append(analyses.Result(record=hostile, data=renamed)._repr_html_())
    for colour in re.findall(r"#[0-9a-f]{3,8}\b|rgb\(", "".join(cards).replace("&#", "")):
        pytest.fail(f"a card has a colour of its own: {colour}")
    page = tmp_path / "cards.html"
    body = "".join(f"<div>{card}</div>" for card in cards)
    page.write_text(f"<!doctype html><meta charset=utf-8><style>:root{{color-scheme:light dark}}</style>{body}")
    opened(driver, page)
    grounds = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours = driver.execute_script(
            "return [...document.querySelectorAll('.stepscope-result')].map((card) => {"
            "const style = getComputedStyle(card); return [style.color, style.backgroundColor].map("
            "(one) => one.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)) })"
        )
        assert len(colours) == len(cards)
        assert all(abs(ink - ground) > 400 for ink, ground in colours), scheme
        grounds.add(colours[0][1])
    assert len(grounds) == 2
    assert driver.execute_script("return window.hostile") is None
    assert len(driver.find_elements(By.CSS_SELECTOR, ".stepscope-result")) == len(cards)
    assert driver.find_elements(By.CSS_SELECTOR, "img, script") == []
    assert driver.get_log("browser") == []
