"""How long a report of 50 runs × 20 steps takes: to be made, and from opening its file to the first view in Chromium.

Six runs are real, of the bundled model on three mazes with its default capture and x̂0 of each step as pixels. The other
44 are copies of them under seeds of their own, whose videos have noise of their own (standard deviation 3 of 255), so
that no two are alike; noise makes them heavier than real ones. The page holds every section that these runs allow.

The first view is drawn when the browser has painted what stands at the top: its First Contentful Paint, and
(`ready`) when the scripts have run, so that sliders move, and two more frames are drawn.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.append(sys.path.pop(0))  # another file here is called as the package `analyses` is: this folder comes last

import numpy as np
import xarray as xr
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import analyses
import interp
import reports
import store
from _frame import Report, main
from store import dims

RUNS: Final = 50
MAZES: Final = 3
SEEDS: Final = (0, 1)
ROUNDS: Final = 9
NOISE: Final = 3.0
CELL: Final = (dims.STEP, dims.BRANCH, dims.LAYER)
FLAGS: Final = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--no-first-run")
DRAWN: Final = """
const done = arguments[arguments.length - 1];
requestAnimationFrame(() => requestAnimationFrame(() => {
  const ready = performance.now(), videos = document.querySelectorAll(".screen.live").length;
  new PerformanceObserver((list, watch) => {
    const [paint] = list.getEntriesByName("first-contentful-paint");
    if (paint) { watch.disconnect(); done({ ready, paint: paint.startTime, videos }); }
  }).observe({ type: "paint", buffered: true });
}));
"""


def measure(report: Report, *, quick: bool) -> None:
    """Make the store, its results and both reports, then open each again and again in a fresh browser."""
    mazes, count = (1, 3) if quick else (MAZES, RUNS)
    with tempfile.TemporaryDirectory(dir=os.environ.get("STEPSCOPE_BENCH_DIR")) as name:
        folder = Path(name)
        acts = copied(captured(folder / "real", mazes, steps=2 if quick else None), folder / "acts", count)
        results = analysed(acts)
        for mode in ("single", "folder"):
            page = folder / mode / "page.html"
            start = time.perf_counter()
            reports.write(acts, page, results=results, mode=mode)
            report.add(f"report.{mode}.make_s", time.perf_counter() - start, "s", 1)
            files = [file for file in page.parent.rglob("*") if file.is_file()]
            report.add(f"report.{mode}.megabytes", sum(file.stat().st_size for file in files) / 1e6, "MB", 1)
            seen = [opened(page, folder / "chromium") for _ in range(2 if quick else ROUNDS)]
            if any(one["videos"] < count for one in seen):
                raise RuntimeError(f"the page shows {seen[0]['videos']} videos, not {count}")
            for what in ("paint", "ready"):
                report.add_interval(f"report.{mode}.{what}_s", [one[what] / 1e3 for one in seen])


def captured(path: Path, count: int, *, steps: int | None) -> store.ActivationStore:
    """Real runs of the bundled model, two of each of `count` mazes."""
    acts = store.open(path, mode="a")
    samples = interp.worlds["maze"].generate(count, seed=2026)
    model = interp.load("tinywan")
    interp.capture(model, samples, interp.WITH_PIXELS, into=acts, seeds=SEEDS, settings=model.settings(steps=steps))
    return acts


def copied(real: store.ActivationStore, path: Path, count: int) -> store.ActivationStore:
    """A store of those runs and of copies of them, `count` together."""
    acts = store.open(path, mode="a")
    for sample_id in real.sample_ids():
        acts.put_sample(real.sample(sample_id))
    originals = [real.run(run_id) for run_id in real.run_ids()]
    for number in range(count):
        entry, turn = originals[number % len(originals)], number // len(originals)
        rng = np.random.default_rng(number)
        seed = entry.run.seed + 1000 * turn
        with acts.begin_run(entry.run.model_copy(update={"seed": seed}), entry.provenance) as writer:
            for array in entry.arrays:
                values = real.load(array.site, array.reduction, runs=[entry.run.id]).isel(run=0, drop=True).compute()
                _write(writer, array.site, array.reduction, _noisy(values, rng) if turn else values)
            writer.set_steps(entry.steps)
            writer.add_scores(entry.scores)
            writer.commit(entry.seconds)
    return acts


def _noisy(values: xr.DataArray, rng: np.random.Generator) -> xr.DataArray:
    """Pixels with noise of their own; all else as it is."""
    if values.dtype != np.uint8:
        return values
    noise = rng.normal(0, NOISE, values.shape)
    return values.copy(data=(values.to_numpy() + noise).clip(0, 255).round().astype(np.uint8))


def _write(writer: store.RunWriter, site: str, reduction: str, values: xr.DataArray) -> None:
    names, array = list(map(str, values.dims)), values.to_numpy()
    cell = [name for name in names if name in CELL]
    coords = {name: values[name].to_numpy() for name in names if name in values.coords}
    writer.add_array(site, reduction, dims=names, shape=array.shape, dtype=str(array.dtype), coords=coords)
    for at in np.ndindex(array.shape[: len(cell)]):
        writer.write(site, reduction, dict(zip(cell, at, strict=True)), np.ascontiguousarray(array[at]))


def analysed(acts: store.ActivationStore) -> list[analyses.Result]:
    """Every analysis that the runs allow."""
    results: list[analyses.Result] = []
    for name in analyses.names():
        try:
            results.append(analyses.run(name, acts))
        except (analyses.NoRuns, analyses.UnknownProbeLabel):  # it needs what these runs did not keep
            continue
    return results


def opened(page: Path, profile: Path) -> dict[str, Any]:
    """Milliseconds since the navigation, in a browser that has not seen the page."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))) as driver:
        driver.get("about:blank")
        driver.get(page.as_uri())
        return driver.execute_async_script(DRAWN)


if __name__ == "__main__":
    main(measure, description=__doc__)
