# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real Chromium in front of a daemon's page, and what it is asked and watched for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from bedlib import SLOWNESS, Runner, await_that

SCREENSHOTS = Path(__file__).parents[2] / "build/test-results/screenshots"

# Of the bed's own network there is nothing but the loopback interface, and root has no sandbox of Chromium's.
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-features=BackForwardCache,OptimizationHints,OptimizationGuideOnDeviceModel,MediaRouter,Translate",
    "--renderer-process-limit=1",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--window-size=1280,900",
]


FIRST_ROW = "window.firstRow"
"""When the page had its first row of a table, in milliseconds from when the browser was told to load it."""

_WATCH = f"""
new MutationObserver((changes, observer) => {{
  if (!document.querySelector('tbody tr')) return;
  {FIRST_ROW} = performance.now();
  observer.disconnect();
}}).observe(document, {{ childList: true, subtree: true }});
"""


class Browser:
    """Chromium with one tab. What it should show is awaited, never slept for."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        self._profile = tempfile.TemporaryDirectory(prefix="daggyr-browser-")
        for argument in (*ARGUMENTS, f"--user-data-dir={self._profile.name}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        self.driver.set_page_load_timeout(60 * SLOWNESS)
        self.driver.set_script_timeout(60 * SLOWNESS)

    def close(self) -> None:
        self.driver.quit()
        self._profile.cleanup()

    def begin(self) -> None:
        """Nothing of an earlier test: neither cookies nor logs."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.get_log("performance")
        self.driver.get_log("browser")

    def open(self, daemon: Runner, place: str = "#/tasks") -> None:
        """The page of the daemon, and returns when it is live."""
        self.driver.get("about:blank")  # or a change of the part behind "#" would load nothing
        self.driver.get(f"{daemon.url}/ui/{place}")
        self.await_text("#connection", "live")

    def go(self, place: str) -> None:
        """To another view of the same page, as a link leads there."""
        self.script("location.hash = arguments[0]", place)

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def find(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        """What people see of it."""
        return self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def await_text(self, selector: str, text: str, timeout: float = 20) -> None:
        try:
            await_that(lambda: text in self.text(selector), timeout)
        except AssertionError as error:
            raise AssertionError(f"{text!r} is not in {selector}: {self.text('body')!r}") from error

    def row(self, id: str) -> str:
        """The row of a task, in words."""
        return self.script(
            "return [...document.querySelectorAll('tbody tr')]"
            ".find((row) => row.querySelector('a')?.textContent === arguments[0])?.innerText ?? ''",
            id,
        )

    def click(self, selector: str) -> None:
        def clicked() -> bool:
            try:
                self.find(selector)[0].click()
                return True
            except (IndexError, StaleElementReferenceException):
                return False

        await_that(clicked, what=f"{selector} to be there")

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def requests(self) -> list[dict[str, Any]]:
        """The requests made since the last call, as the browser's own log has them."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            entry["params"]["request"]
            for entry in entries
            if entry["method"] == "Network.requestWillBeSent" and entry["params"]["request"]["url"] != "about:blank"
        ]

    def complaints(self) -> list[str]:
        """What the browser found wrong with the page since the last call; failed requests are told elsewhere."""
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if entry["source"] != "network"]

    @contextmanager
    def media(self, **features: str) -> Iterator[None]:
        """As a reader who prefers that: prefers_color_scheme="dark"."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    @contextmanager
    def phone(self) -> Iterator[None]:
        metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
