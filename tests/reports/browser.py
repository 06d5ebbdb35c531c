"""A real Chromium for the tests of reports, and what is asked of it."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="needs Chromium and its chromedriver on the PATH (Debian: chromium chromium-driver)",
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1100,900",
)
PATIENCE = 60
"""Seconds that a test waits for the browser: machines of CI have been three times as slow as others."""
DRAWN = """
const done = arguments[arguments.length - 1], charts = [...document.querySelectorAll(".chart")];
document.querySelectorAll("details.explore").forEach((one) => { one.open = true; });
const go = () => {
  const next = charts.find((one) => !(one.dataset.ready && one.querySelector("svg")));
  if (next) next.scrollIntoView({ block: "center" });
  else scrollTo(0, 0);
  next ? setTimeout(go, 20) : done(charts.length);
};
go();
"""


def opened(driver, path):
    driver.get_log("browser"), driver.get_log("performance")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    driver.get(path.as_uri())
    return driver


def drawn(driver) -> int:
    """Open every fold with charts and go past them, as a reader does; how many there are, once all are drawn."""
    driver.set_script_timeout(4 * PATIENCE)
    return driver.execute_async_script(DRAWN)


def requested(driver) -> list[str]:
    """Everything that the page asked of anyone but itself."""
    page = driver.current_url.split("#")[0]
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    urls = [params["request"]["url"] for params in asked if params["documentURL"].split("#")[0] == page]
    assert page in urls, "the browser's log does not even hold the page itself"
    return [url for url in urls if url != page and not url.startswith("data:")]


def pixels(element) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def changed(before: np.ndarray, after: np.ndarray) -> bool:
    return before.shape == after.shape and np.abs(before - after).mean() > 0.2
