"""Citations: the method, each model once and as it ran, and stepscope; text of any model stays inside its field."""

from __future__ import annotations

import re

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import reports
from reports._cite import METHOD, bibtex
from tests.planted import Planted
from tests.reports.browser import PATIENCE, needs_browser, opened
from tests.reports.conftest import HOSTILE, book


def entries(text: str) -> dict[str, tuple[str, str]]:
    """Kind and body of each entry by its key, with braces that pair."""
    found: dict[str, tuple[str, str]] = {}
    for entry in text.split("\n\n"):
        kind, key, body = re.fullmatch(r"@(\w+)\{([\w.-]+),\n(.*)\n\}", entry, flags=re.DOTALL).groups()
        depth = 0
        for character in body:
            depth += (character == "{") - (character == "}")
            assert depth >= 0
        assert depth == 0
        assert key not in found
        found[key] = kind, body
    return found


def test_method_model_architecture_and_stepscope_are_named(plain):
    found = entries(bibtex(plain.acts, plain.results, "1.2.3"))
    assert list(found) == ["wang2026demystifying", "planted-dit", "wan2025", "stepscope"]
    assert "arXiv:2603.16870" in METHOD
    assert f"weights with SHA-256 {'f' * 64}" in found["planted-dit"][1]
    assert "version = {1.2.3}" in found["stepscope"][1]


def test_models_of_one_name_are_told_apart(tmp_path):
    hub = [
        book(Planted(samples=1, model=f"{owner}/Wan2.2_A14B", weight_hash=hash * 64), tmp_path / hash)
        for owner, hash in (("one", "a"), ("other", "b"))
    ]
    acts = Planted(samples=1, model="other/Wan2.2_A14B", weight_hash="b" * 64).plant(hub[0].acts.path)
    found = entries(bibtex(acts, [*hub[0].results, *hub[1].results], "1"))
    assert {"Wan2.2_A14B", "Wan2.2_A14B-2"} <= set(found)
    assert r"\url{https://huggingface.co/other/Wan2.2_A14B}" in found["Wan2.2_A14B-2"][1]
    assert r"title = {one/Wan2.2\_A14B}" in found["Wan2.2_A14B"][1]


def test_a_hostile_name_neither_ends_its_field_nor_runs(tmp_path):
    evil = book(Planted(samples=1, model=f"m}}, note = {{x}}\n\\input{{/etc/passwd}} % {HOSTILE}"), tmp_path / "acts")
    found = entries(bibtex(evil.acts, evil.results, "1"))
    (key,) = set(found) - {"wang2026demystifying", "wan2025", "stepscope"}
    title = re.search(r"title = \{([^{}]*)\}", found[key][1]).group(1)
    assert r"\input" not in title
    assert not re.search(r"(?<!\\)[%$&#_]", title)
    assert "window.hostile" in title


@needs_browser
def test_the_button_copies_what_is_shown(driver, plain, tmp_path):
    out = reports.write(plain.acts, tmp_path / "page.html", results=plain.results[-1:])
    opened(driver, out)
    driver.find_element(By.CSS_SELECTOR, ".cite summary").click()
    driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    button, said = (driver.find_element(By.CSS_SELECTOR, one) for one in (".copy", ".copied"))
    button.click()
    WebDriverWait(driver, PATIENCE).until(lambda _: said.text)
    shown = driver.find_element(By.CSS_SELECTOR, ".cite code").get_property("textContent")
    assert said.text == "Copied."
    assert driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == shown
    assert set(entries(shown)) == {"wang2026demystifying", "planted-dit", "wan2025", "stepscope"}


@needs_browser
def test_where_a_page_may_not_copy_the_text_is_marked(driver, plain, tmp_path):
    out = reports.write(plain.acts, tmp_path / "page.html", results=plain.results[-1:])
    opened(driver, out)
    driver.execute_script("navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))")
    driver.find_element(By.CSS_SELECTOR, ".cite summary").click()
    driver.find_element(By.CSS_SELECTOR, ".copy").click()
    said = driver.find_element(By.CSS_SELECTOR, ".copied")
    WebDriverWait(driver, PATIENCE).until(lambda _: said.text)
    assert "copy it with your keyboard" in said.text
    assert driver.execute_script("return getSelection().toString()").startswith("@article{wang2026demystifying")
