"""How long the index of many runs takes: to be made, and from opening the file to the first view in headless Chromium.

The runs are records without activations, under ids of their own; their finished videos are copies of the true videos of
a few samples of three worlds, 96 × 96 pixels × 17 frames, as the bundled model makes them. The first view is drawn
when the browser has painted the table's first rows: its First Contentful Paint, and two frames after the page's scripts
have run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.append(sys.path.pop(0))  # another file here is called as the package `analyses` is: this folder comes last
sys.path.insert(0, str(Path(__file__).parents[1]))  # the records are those that the tests plant

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import interp
import reports
import store
from _frame import Report, main
from tests.planted import PROVENANCE, Planted, _write

RUNS: Final = 1_000
ROUNDS: Final = 9
WORLDS: Final = ("maze", "detour", "sort_sizes")
FLAGS: Final = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--no-first-run")
DRAWN: Final = """
const done = arguments[arguments.length - 1], rows = document.querySelectorAll(".runs tbody tr").length;
requestAnimationFrame(() => requestAnimationFrame(() => {
  const drawn = performance.now();
  new PerformanceObserver((list, watch) => {
    const [paint] = list.getEntriesByName("first-contentful-paint");
    if (paint) { watch.disconnect(); done({ drawn, paint: paint.startTime, rows }); }
  }).observe({ type: "paint", buffered: true });
}));
"""
SEARCH: Final = """
const done = arguments[arguments.length - 1], start = performance.now();
view.set({q: "maze 9", sort: "-answer"});
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
"""


def measure(report: Report, *, quick: bool) -> None:
    """Make the store and its index, then open that again and again in a fresh tab."""
    count = 60 if quick else RUNS
    with tempfile.TemporaryDirectory(dir=os.environ.get("STEPSCOPE_BENCH_DIR")) as name:
        acts = _store(Path(name, "acts"), count)
        start = time.perf_counter()
        page = reports.write_index(acts, Path(name, "index.html"))
        report.add("report.index.make_s", time.perf_counter() - start, "s", 1)
        report.add("report.index.megabytes", page.stat().st_size / 1e6, "MB", 1)
        seen = [_opened(page, Path(name, "chromium")) for _ in range(2 if quick else ROUNDS)]
        if any(one["rows"] != count for one in seen):
            raise RuntimeError(f"the page shows {seen[0]['rows']} runs, not {count}")
        for what in ("paint", "drawn", "search"):
            report.add_interval(f"report.index.{what}_s", [one[what] / 1e3 for one in seen])


def _opened(page: Path, profile: Path) -> dict[str, Any]:
    """Milliseconds from navigation in a browser that has just started, with nothing cached."""
    shutil.rmtree(profile, ignore_errors=True)
    options = webdriver.ChromeOptions()
    options.binary_location = next(found for name in ("chromium", "google-chrome") if (found := shutil.which(name)))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get(page.as_uri())
        seen = driver.execute_async_script(DRAWN)
        seen["search"] = driver.execute_async_script(SEARCH)
        if complaints := driver.get_log("browser"):
            raise RuntimeError(json.dumps(complaints))
        return seen
    finally:
        driver.quit()


def _store(path: Path, count: int) -> store.ActivationStore:
    """So many runs of three models; their videos are the true ones of a few samples of each world, over and over."""
    each = [
        Planted(size=96, video_frames=17, steps=1, model=f"model-{at}", weight_hash=f"{at}" * 64) for at in range(3)
    ]
    samples = [sample for world in WORLDS for sample in interp.worlds[world].generate(5, seed=0)]
    acts = store.open(path, mode="a")
    ids = [acts.put_sample(sample) for sample in samples]
    videos = [np.asarray(sample.video) for sample in samples]
    for at in range(count):
        planted, place = each[at % 3], at // 3 % len(samples)
        with acts.begin_run(planted.run(ids[place], at), PROVENANCE) as writer:
            _write(writer, "output", "pixels", videos[place], {})
            writer.set_steps(planted.infos())
            writer.add_scores([one for one in planted.scores(place) if one.step is None])
            writer.commit(1.5)
    return acts


if __name__ == "__main__":
    main(measure, description=__doc__)
