"""One planted store with both results for all tests of reports, and one page of hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import analyses
import reports
import store
from tests.planted import Planted
from tests.reports.browser import CHROMIUM, DRIVER, FLAGS

HOSTILE = (
    "<img src=x onerror='window.hostile=1'></script><script>window.hostile=1</script>"
    '<!-- {{ 7 * 7 }} & " $x$ \u202egnp'
)
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Book(NamedTuple):
    """A store and what there is to report of it."""

    acts: store.ActivationStore
    results: list[analyses.Result]
    planted: Planted

    def page(self, **options) -> str:
        return reports.render(self.acts, results=self.results, made=MADE, **options)


def book(planted: Planted, path) -> Book:
    acts = planted.plant(path)
    return Book(acts, [analyses.run(name, acts) for name in ("energy", "exploration", "trajectory")], planted)


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Book:
    planted = Planted(peak_step=4, noise=0.02, switch_step=2, wrong=(1,), size=32)
    return book(planted, tmp_path_factory.mktemp("plain") / "acts")


@pytest.fixture(scope="session")
def page(plain) -> str:
    """The page of `plain`."""
    return plain.page()


@pytest.fixture(scope="session")
def page_file(page, tmp_path_factory):
    """The same as a file."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> Book:
    planted = Planted(
        samples=2, steps=4, layers=2, prompts=(HOSTILE, "plain"), model=f"m{HOSTILE}", metric=f"m{HOSTILE}"
    )
    return book(planted, tmp_path_factory.mktemp("hostile") / "acts")


@pytest.fixture(scope="session")
def driver(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    """One browser for all tests of a process."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def beside(tmp_path_factory) -> Book:
    """Clean runs and the same ones with noise at a step, whose answers settle later."""
    path = tmp_path_factory.mktemp("beside") / "acts"
    clean = Planted(samples=2, layers=2, size=32)
    changed = Planted(
        samples=2,
        layers=2,
        size=32,
        settle_step=5,
        interventions=({"kind": "noise_at_step", "steps": [2], "matched": True},),
        parent=clean,
    )
    acts = clean.plant(path)
    clean_ids = acts.run_ids()
    acts = changed.plant(path)
    changed_ids = [run_id for run_id in acts.run_ids() if run_id not in clean_ids]
    names = ("exploration", "trajectory")
    results = [analyses.run(name, acts, runs=runs) for runs in (changed_ids, clean_ids) for name in names]
    return Book(acts, [*results, analyses.run("energy", acts)], clean)
