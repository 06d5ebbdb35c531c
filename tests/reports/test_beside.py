"""Pages with files beside them: they open from a disk, are replaced whole or left, and weigh what they may."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import reports
from reports import _page
from reports._beside import INSIDE_BYTES, Beside, folder_of
from reports._media import Sheet
from tests.reports.browser import PATIENCE, changed, needs_browser, opened, pixels, requested
from tests.reports.conftest import MADE
from tests.test_cli import run

ODD = 'it\'s "5" <b>#1%2F?&é\u202e'
"""A file's name that means something else to HTML, CSS and addresses alike."""


@pytest.fixture
def small_inside(monkeypatch):
    """Pictures of the small planted videos are large enough for files."""
    monkeypatch.setattr("reports._beside.INSIDE_BYTES", 500)


def listed(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("small_inside")
def test_every_file_is_named_by_the_page_and_is_there(plain, page, tmp_path):
    out = reports.write(plain.acts, tmp_path / f"{ODD}.html", results=plain.results, mode="folder", made=MADE)
    text = out.read_text(encoding="utf-8").split("<script>")[0]  # the microscope's table is made by the script
    named = {
        unquote(one) for one in re.findall(r"(?:url\(|href=\")([^#\")][^\")]*)", text) if not one.startswith("data:")
    }
    beside = {str(path.relative_to(tmp_path)) for path in folder_of(out).iterdir()}
    assert named == beside
    assert {Path(one).suffix for one in beside} >= {".webp", ".csv"}
    assert len(text) < len(page)
    assert folder_of(out).name == f"{ODD}_files"
    assert "data:text/csv" not in text


@needs_browser
@pytest.mark.usefixtures("small_inside")
def test_it_opens_from_a_disk_and_asks_for_its_own_files_alone(driver, plain, tmp_path):
    out = reports.write(plain.acts, tmp_path / f"{ODD}.html", results=plain.results, mode="folder", made=MADE)
    opened(driver, out)
    screen = driver.find_element(By.CSS_SELECTOR, ".film .screen.live")
    last = pixels(screen)
    driver.execute_script(
        "const slider = document.querySelector('.film input[type=range]');"
        "slider.value = 0; slider.dispatchEvent(new Event('input'))"
    )
    assert changed(last, pixels(screen))
    asked = requested(driver)
    assert asked
    assert all(url.startswith(folder_of(out).as_uri()) for url in asked)
    assert driver.get_log("browser") == []


@needs_browser
def test_a_table_beside_the_page_arrives(driver, plain, tmp_path):
    out = reports.write(plain.acts, tmp_path / "page.html", results=plain.results, mode="folder", made=MADE)
    opened(driver, out)
    got = tmp_path / "got"
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(got)})
    driver.find_element(By.CSS_SELECTOR, ".still .again summary").click()
    driver.find_element(By.CSS_SELECTOR, ".still .again a[download]").click()
    WebDriverWait(driver, PATIENCE).until(lambda _: got.exists() and [*got.glob("*.csv")])
    assert len(pd.read_csv(next(got.glob("*.csv")))) > 1


def test_a_large_table_is_parquet(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("reports._again.SHORT", 10)
    result = next(one for one in plain.results if one.record.analysis == "trajectory")
    out = reports.write(plain.acts, tmp_path / "page.html", results=[result], mode="folder")
    (file,) = folder_of(out).glob("latent_distance_by_run.*")
    assert file.suffix == ".parquet"
    pd.testing.assert_frame_equal(
        pd.read_parquet(file),
        result.to_dataframe("latent_distance_by_run"),
        check_like=True,
        check_dtype=False,
    )


def test_an_older_report_is_replaced_whole_and_nothing_else_is_touched(plain, tmp_path):
    out = reports.write(plain.acts, tmp_path / "page.html", results=plain.results, mode="folder", made=MADE)
    mine = folder_of(out) / "notes.csv"
    mine.write_text("my own")
    before = listed(tmp_path)
    again = reports.write(plain.acts, out, results=plain.results[:1], mode="folder", made=MADE)
    assert set(listed(tmp_path)) < set(before)
    assert mine.read_text() == "my own"
    mine.unlink()
    reports.write(plain.acts, again, results=plain.results[:1], made=MADE)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("fails_at", [0, 3, -1])
def test_what_cannot_be_written_leaves_the_old_report(plain, tmp_path, monkeypatch, fails_at):
    """On a full disk, at the first file, at a later one, or at the page itself."""
    out = reports.write(plain.acts, tmp_path / "page.html", results=plain.results[:1], mode="folder", made=MADE)
    before = listed(tmp_path)
    real, calls = os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) - 1 == fails_at or (fails_at == -1 and Path(target) == out):
            raise OSError(28, "No space left on device")
        return real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", full)
        patched.setattr("pathlib.Path.replace", lambda self, target: full(self, target))
        with pytest.raises(reports.CannotWrite, match="No space left"):
            reports.write(plain.acts, out, results=plain.results, mode="folder", made=MADE)
    assert calls
    assert listed(tmp_path) == before


def test_what_is_too_large_for_one_file_becomes_a_folder_and_says_so(plain, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(_page, "WARN_ABOVE", 0)
    out = reports.write(plain.acts, tmp_path / "page.html", results=plain.results)
    assert "more than 0: mode folder, or fewer runs" in caplog.text
    assert not folder_of(out).exists()
    monkeypatch.setattr(_page, "FOLDER_ABOVE", 0)
    with caplog.at_level(logging.WARNING):
        reports.write(plain.acts, out, results=plain.results)
    assert f"are written beside it, into {folder_of(out)}" in caplog.text
    assert any(folder_of(out).iterdir())


def test_small_pictures_stay_inside(plain, tmp_path):
    beside = Beside(tmp_path / "page.html")
    sheet = plain_sheet(INSIDE_BYTES - 2)
    assert beside.picture(sheet) == sheet
    assert beside.picture(plain_sheet(INSIDE_BYTES + 2)).uri.startswith("page_files/picture.")


def plain_sheet(nbytes: int) -> Sheet:
    uri = "data:image/png;base64,"
    return Sheet(uri + "A" * (nbytes - len(uri)), 1, 1, 1, 1, pitch_y=1, pitch_x=1, lossy=False)


def test_the_command_writes_either(plain, tmp_path, capsys):
    acts = shutil.copytree(plain.acts.path, tmp_path / "acts")
    for mode in ("single", "folder"):
        assert run("report", "--store", acts, "-o", tmp_path / mode / "page.html", "--mode", mode) == 0
    capsys.readouterr()
    assert [path.name for path in (tmp_path / "single").iterdir()] == ["page.html"]
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"page.html", "page_files"}


MAKE = """
import sys
from datetime import UTC, datetime
import analyses, reports, store
acts = store.open(sys.argv[1])
results = [analyses.load(acts, id) for id in acts.result_ids()]
for mode in ("single", "folder"):
    made = datetime(2031, 1, int(sys.argv[3]), tzinfo=UTC)
    reports.write(acts, f"{sys.argv[2]}/{mode}/page.html", results=results, mode=mode, made=made)
"""


@pytest.mark.usefixtures("small_inside")
def test_two_processes_write_the_same_bytes_but_for_the_time(plain, tmp_path):
    """Whatever order their sets and dictionaries have, in both modes."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(plain.acts.path), str(tmp_path / f"{seed}"), str(seed)],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(reports.__file__).parents[1])},
        )
        for seed in (1, 2)
    ]
    assert [one.wait() for one in started] == [0, 0]
    first, second = (listed(tmp_path / str(seed)) for seed in (1, 2))
    assert set(first) == set(second) > {"single/page.html", "folder/page.html"}
    differing = [name for name in first if first[name] != second[name]]
    assert differing == ["folder/page.html", "single/page.html"]
    for name in differing:
        assert second[name].replace(b"2031-01-02T", b"2031-01-01T") == first[name]
        assert sum(a != b for a, b in zip(first[name].split(b"\n"), second[name].split(b"\n"), strict=True)) == 1
