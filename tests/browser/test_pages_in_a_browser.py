"""Every page in a real browser, wide and narrow: drawn, whole, and without a sideways scroll."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import dashboards

ROOT = Path(dashboards.__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PAGES = ("", "overview", "acquisition", "retention", "funnel", "sales", "customers", "identity", "segments", "patterns", "models", "data_health")
WIDTHS = {"desktop": 1440, "phone": 390}
TOLD = ("Traceback", "This app has encountered an error", "could not be drawn", "Page not found")

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed (apt-get install chromium): no page was looked at")]


@pytest.fixture(scope="module")
def address(demo_home, tmp_path_factory) -> Iterator[str]:
    """The demo home, served as `rapport serve` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    written = tmp_path_factory.mktemp("serve") / "log"
    with written.open("w", encoding="utf-8") as log:
        server = subprocess.Popen([sys.executable, "-m", "dashboards.server", "--server.port", str(port), "--server.address", "127.0.0.1"], cwd=ROOT / "dashboards", stdout=log, stderr=subprocess.STDOUT,
                                  env={**os.environ, "RAPPORT_HOME": str(demo_home.home), "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"})
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).read()
                    break
                except OSError:
                    assert server.poll() is None, written.read_text(encoding="utf-8")
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture(scope="module")
def browser():
    """Chromium without a screen."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no page was looked at")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=WIDTHS)
def tab(request, browser):
    """A tab of one width."""
    page = browser.new_page(viewport={"width": WIDTHS[request.param], "height": 1000})
    yield page
    page.close()


def settled(tab, url: str) -> str:
    """Open an address, wait until the page has been drawn to its end, and return its text."""
    tab.goto(url)
    tab.wait_for_selector("h1", timeout=40_000)
    tab.wait_for_selector(".r-foot, .r-error, [data-testid='stException']", timeout=40_000)
    return tab.inner_text("body")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_drawn_whole_and_fits_its_width(name, tab, address):
    text = settled(tab, f"{address}/{name}")
    assert not [word for word in TOLD if word in text]
    assert tab.locator("[data-testid='stException']").count() == 0
    assert tab.locator("h1").count() == 1
    assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    main = tab.evaluate("(() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth })()")
    assert main <= 0, f"{name} scrolls sideways by {main} px"


def test_a_definition_opens_by_touch_and_stays_on_the_screen(tab, address):
    settled(tab, f"{address}/overview")
    for number in (0, 4, 9):
        tab.locator(".r-tip").nth(number).focus()
        tip = tab.locator(".r-tip-text").nth(number)
        assert tip.is_visible()
        box = tip.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= tab.viewport_size["width"]


def test_a_filter_goes_into_the_address_and_comes_back_from_it(tab, address):
    settled(tab, f"{address}/overview?range=all")
    assert "Everything" in tab.inner_text("[data-testid='stMain']")
    assert tab.url.endswith("range=all")
