"""A browser without a network, and what a page says and asks for when it is opened."""

import json
import os
import shutil
from pathlib import Path

import pytest
from selenium import webdriver

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")


def skip_without_browser() -> None:
    """Skip a module on a machine that has no browser, unless GAPSCOPE_NEEDS_BROWSER is set."""
    if not (CHROMIUM and CHROMEDRIVER) and not os.environ.get("GAPSCOPE_NEEDS_BROWSER"):
        pytest.skip("no chromium and chromedriver on this machine", allow_module_level=True)


def opened(browser: webdriver.Chrome, path: Path, width: int) -> list[str]:
    """Open a page; return what it complained of, and what it asked for beside itself."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # type: ignore[no-untyped-call]
    browser.get(path.as_uri())
    browser.execute_async_script("setTimeout(arguments[0], 200)")  # what it says comes a little later
    said = [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))  # type: ignore[no-untyped-call]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert path.as_uri() in asked  # or nothing would be known of the others
    return said + [url for url in asked if url != path.as_uri()]
