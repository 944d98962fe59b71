"""A headless Chromium that looks at the console: what it shows, logs and asks for, and what axe-core finds in it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import wait_until

webdriver: Any = pytest.importorskip("selenium.webdriver")
Keys: Any = pytest.importorskip("selenium.webdriver.common.keys").Keys
WebDriverException: Any = pytest.importorskip("selenium.common").WebDriverException

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MARKS = [
    pytest.mark.embedded,
    pytest.mark.soak,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver"),
]
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --force-device-scale-factor=1 --hide-scrollbars --lang=en-GB"
)
WIDE, NARROW = 1280, 420
_NO_SCRIPTS = {"profile.managed_default_content_settings.javascript": 2}
#: Packages that carry axe-core; the newest that is installed is taken.
_WITH_AXE = ("axe_playwright_python", "axe_core_python")


@dataclass
class Asked:
    """One request that the browser has made, and the status of its answer; None: there was none."""

    url: str
    kind: str
    status: int | None = None


class Browser:
    """One window."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._asked: dict[str, Asked] = {}

    @property
    def driver(self) -> Any:
        return self._driver

    def open(self, url: str) -> None:
        self._driver.get(url)

    def find(self, css: str) -> Any:
        return self._driver.find_element("css selector", css)

    def all(self, css: str) -> list[Any]:
        return list(self._driver.find_elements("css selector", css))

    def shows(self, css: str) -> bool:
        """Whether it is to be seen; Selenium takes what is in a closed ``<details>`` for hidden, always."""
        return bool(self.run("return arguments[0].checkVisibility()", self.find(css)))

    def link(self, text: str) -> Any:
        return self._driver.find_element("link text", text)

    def text(self, css: str = "main") -> str:
        return str(self.find(css).text)

    def run(self, script: str, *arguments: object) -> Any:
        return self._driver.execute_script(script, *arguments)

    def sees(self, what: Callable[[], object], said: str, limit: float = 30) -> None:
        """Wait until the page shows it: a click leads on before the next page is there."""

        def is_seen() -> object:
            try:
                return what()
            except WebDriverException:
                return False

        try:
            wait_until(is_seen, said, limit)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self._driver.current_url} shows:\n{self.text('body')}") from None

    def sees_text(self, text: str, css: str = "main", limit: float = 30) -> None:
        self.sees(lambda: text in self.text(css), f"{text!r} in {css}", limit)

    def resize(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, *, scheme: str = "light", motion: str = "no-preference") -> None:
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        for key in keys:
            webdriver.ActionChains(self._driver).send_keys(key).perform()

    def logged(self) -> list[str]:
        """Return what the browser has logged since it was asked last: errors of scripts, refusals, answers of 404."""
        return [each["message"] for each in self._driver.get_log("browser")]

    def asked(self) -> list[Asked]:
        """Return the requests that were made since it was asked last."""
        for entry in self._driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            given = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                self._asked[given["requestId"]] = Asked(given["request"]["url"], given.get("type", ""))
            elif message["method"] == "Network.responseReceived" and given["requestId"] in self._asked:
                self._asked[given["requestId"]].status = given["response"]["status"]
        found = list(self._asked.values())
        self._asked = {}
        return found

    def check(self, *, expected: tuple[str, ...] = ()) -> None:
        """Demand that nothing was logged, nothing asked of another host, and nothing that is not there.

        ``expected``: what messages may say all the same.
        """
        logged = [each for each in self.logged() if not any(part in each for part in expected)]
        assert logged == []
        home = urlsplit(self._driver.current_url).netloc
        asked = [each for each in self.asked() if urlsplit(each.url).scheme not in ("chrome", "data", "about")]
        assert {urlsplit(each.url).netloc.rpartition("@")[2] for each in asked} <= {home}
        if not expected:
            assert [each for each in asked if each.status is not None and each.status >= 400] == []

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page as it is shown."""
        if not self.run("return 'axe' in window"):
            self.run(axe())
        found = self._driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
            ".then((found) => done(found.violations), (error) => done([{id: String(error), nodes: []}]))"
        )
        nodes = [(each["id"], node) for each in found for node in each["nodes"] or [{"html": "", "failureSummary": ""}]]
        return [f"{name}: {node['html'][:200]} {node['failureSummary']}" for name, node in nodes]

    def picture(self, path: Path, *, height: int | None = None) -> None:
        """Save the page as it is, from its top; all of it, or so many pixels."""
        if height is None:
            height = int(self.run("return document.documentElement.scrollHeight"))
        width = int(self.run("return window.innerWidth"))
        self.resize(width, height)
        self.run("window.scrollTo(0, 0)")
        self._driver.save_screenshot(str(path))
        self.resize(width)


@cache
def axe() -> str:
    """Return the source of axe-core."""
    for name in _WITH_AXE:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    pytest.skip("needs axe-core-python")


@contextmanager
def chromium(*, scripts: bool = True) -> Iterator[Browser]:
    """Start a browser, with a profile of its own; ``scripts=False``: pages' own are not run."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        for flag in (*_FLAGS.split(), f"--user-data-dir={profile}", f"--window-size={WIDE},900"):
            options.add_argument(flag)
        options.binary_location = CHROMIUM
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        if not scripts:
            options.add_experimental_option("prefs", _NO_SCRIPTS)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            browser = Browser(driver)
            browser.resize(WIDE)
            yield browser
        finally:
            driver.quit()
