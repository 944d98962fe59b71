"""The admin in a browser: a failed order is found, looked at and retried by clicking."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.django.support import SHOP, environment, manage
from tests.django.test_killed import free_port
from tests.support import wait_until

pytest.importorskip("django")
webdriver: Any = pytest.importorskip("selenium.webdriver")
WebDriverException: Any = pytest.importorskip("selenium.common").WebDriverException

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver"),
]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --window-size=1300,1000"
)
ORDERS = """
from django.contrib.auth.models import User
from shop.models import Order
from shop.workflows import Placed, orders
User.objects.create_superuser("root", password="secret")
for cents in (100, 2_000_000, 300):
    order = Order.objects.create(email="<script>document.title='owned'</script>@b.c", item="x", cents=cents)
    orders.submit(Placed(order.pk), run_id=order.run_id, headers={"who": "<script>document.title='owned'</script>"})
"""


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    manage(tmp_path, "migrate", "-v0")
    manage(tmp_path, "shell", "-v0", "-c", ORDERS)
    manage(tmp_path, "taquba_worker", "--until-idle", code=3)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"],
            cwd=SHOP,
            env=environment(tmp_path, SHOP_DEBUG="1"),
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/orders/9/"), "the server", 60)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def test_an_operator_finds_a_failed_order_and_retries_it(base: str, browser: Any, tmp_path: Path) -> None:
    def find(css: str) -> Any:
        return browser.find_element("css selector", css)

    def all_of(css: str) -> list[Any]:
        return list(browser.find_elements("css selector", css))

    def sees(what: Callable[[], bool]) -> None:
        """Wait until the page shows it: a click leads on before the next page is there."""

        def is_seen() -> bool:
            try:
                return what()
            except WebDriverException:
                return False

        wait_until(is_seen, inspect.getsource(what).strip(), 30)

    browser.get(f"{base}/admin/")
    find("[name=username]").send_keys("root")
    find("[name=password]").send_keys("secret")
    find("[type=submit]").click()
    sees(lambda: browser.find_element("link text", "Runs").is_displayed())
    browser.find_element("link text", "Runs").click()
    sees(lambda: browser.current_url == f"{base}/admin/taquba/run/")
    sees(lambda: len(all_of("#result_list tbody tr")) == 5)  # three orders, and two tasks that mailed receipts
    browser.find_element("partial link text", "Failed").click()
    sees(lambda: [each.text for each in all_of(".field-run_id a")] == ["order-2"])
    find("#searchbar").send_keys("CardDeclined")
    find("#changelist-search [type=submit]").click()
    sees(lambda: "q=CardDeclined" in browser.current_url)
    sees(lambda: [each.text for each in all_of(".field-run_id a")] == ["order-2"])
    find(".field-run_id a").click()
    sees(lambda: browser.title.startswith("order-2"))
    sees(lambda: "CardDeclined: 20000.00" in find("pre.taquba-error").text)
    sees(lambda: len(all_of(".taquba-timeline tbody tr")) == 4)
    sees(lambda: "<script>" in find("body").text)  # it is shown, and was not run
    # Nothing is wider than the window.
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    find(".taquba-actions [name=retry]").click()
    sees(lambda: "goes on at the step that failed" in find(".messagelist").text)
    sees(lambda: find(".taquba-facts .taquba-state").text == "pending")
    browser.get(f"{base}/admin/taquba/run/?state=pending")
    sees(lambda: find("#result_list .field-run_id a").text == "order-2")
    find("#action-toggle").click()
    sees(lambda: find(".action-counter").text == "1 of 1 selected")  # by Django's own script
    browser.execute_script("document.querySelector('[name=action]').value = 'cancel'")
    find(".actions button").click()
    sees(lambda: "Run order-2: cancelled" in find(".messagelist").text)
    sees(lambda: "No run is as these filters say" in find("#result_list").text)
    assert browser.title.startswith("Runs")
    severe = [each for each in browser.get_log("browser") if "favicon" not in each["message"]]
    assert severe == []
