"""The pages for everybody: what axe-core finds, in light and dark, wide and narrow; names of pictures; no motion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, QueueConfig, WorkflowClient
from tests.console.browsing import MARKS, NARROW, WIDE, Browser, chromium
from tests.console.serving import Site, in_this_process
from tests.console.shop import TAKES, an_hour_of_activity, closed, fill, new_clock

pytestmark = MARKS

LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (WIDE, NARROW)]
PAGES = (
    *(
        "",
        "queue?queue=orders",
        "queue?queue=thumbnails",
        "runs?queue=orders",
        "runs?queue=orders&state=failed",
        "dead",
    ),
    *("run?queue=orders&id=order-1042", "run?queue=orders&id=order-1043", "run?queue=orders&id=order-1044"),
    *("run?queue=parcels&id=parcel-1042-1", "run?queue=parcels&id=parcel-1042-3"),
    *("schedules", "limits", "workers", "confirm?do=cancel&queue=orders&id=order-1042&id=order-1043"),
    *("confirm?do=retry&all=1&queue=orders&state=failed", "confirm?do=signal&queue=orders&id=order-1042"),
    *("confirm?do=drop&all=1&queue=orders", "runs?state=nonsense", "nowhere"),
)


@pytest.fixture(autouse=True)
def _no_thread_left() -> None:
    """Not looked for here: a stream goes on for seconds after the browser has left its page."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A shop with something on every page."""
    store = tmp_path_factory.mktemp("shop") / "jobs"
    clock = new_clock()
    with Queue.open(store, clock=clock, default_config=QueueConfig(lease_duration=7200)) as queue:
        an_hour_of_activity(queue, clock)
        clock.advance(-TAKES)
        with closed(fill(queue, clock)), in_this_process(queue, store) as found:
            yield found


def look(site: Site, browser: Browser, page: str, *, waits: bool = False) -> list[str]:
    """Open a page, and return what is wrong with it; ``waits``: once it was changed in place."""
    browser.open(f"{site.base}/{page}")
    browser.sees(lambda: browser.find("h1"), "the page")
    if waits and browser.all("body[data-events]"):
        browser.sees_text("live", "#live")
    wrong = browser.violations()
    if browser.run("return document.documentElement.scrollWidth > window.innerWidth"):
        wrong.append("it is wider than the window")
    wrong += [f"a picture without words: {each}" for each in browser.run(_PICTURES_WITHOUT_WORDS)]
    return [f"{page}: {each}" for each in wrong]


_PICTURES_WITHOUT_WORDS = """
return [...document.querySelectorAll("main svg, main img, main canvas")]
  .filter((each) => each.getAttribute("role") !== "img" || (each.ariaLabel || "").split(" ").length < 5)
  .map((each) => each.outerHTML.slice(0, 200));
"""


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=[f"{scheme}-{width}" for scheme, width in LOOKS])
def test_axe_finds_nothing(site: Site, browser: Browser, scheme: str, width: int) -> None:
    site.enter(browser)
    browser.prefer(scheme=scheme)
    browser.resize(width)
    dark = browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 25, 27)"
    assert dark is (scheme == "dark")
    waits = (scheme, width) == LOOKS[0]  # one page a second is read for those who look: not in each look
    assert [each for page in PAGES for each in look(site, browser, page, waits=waits)] == []
    browser.check(expected=("400", "404"))


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_axe_finds_nothing_where_nothing_is_and_where_much_is(browser: Browser, tmp_path: Path, width: int) -> None:
    browser.prefer(scheme="light")
    pages = ("", "runs", "dead", "schedules", "limits", "workers")
    with (
        Queue.open(tmp_path / "store", durability="relaxed") as queue,
        in_this_process(queue, tmp_path / "store") as site,
    ):
        site.enter(browser)
        browser.resize(width)
        assert [each for page in pages for each in look(site, browser, page)] == []
        long = "long-" * 23
        for number in range(200):
            WorkflowClient(queue, queue_name=f"tenant-{number:03}-{'x' * 30}").submit(run_id=long, input=b"\x00" * 9000)
        assert [each for page in pages for each in look(site, browser, page)] == []
        page = f"run?queue=tenant-003-{'x' * 30}&id={long}"
        assert look(site, browser, page) == look(site, browser, f"{page}&payload_as=text") == []
    browser.check()


def test_what_is_done_and_refused_is_told_accessibly(site: Site, browser: Browser) -> None:
    site.enter(browser)
    for scheme, width in LOOKS:
        browser.prefer(scheme=scheme)
        browser.resize(width)
        browser.open(f"{site.base}/confirm?do=wake&queue=orders&id=order-1043&id=order-1044")
        browser.find("form[method=post] button").click()
        browser.sees(lambda: len(browser.all(".done .bad")) == 2, "what was refused")
        assert browser.violations() == []
        assert browser.find("[role=status] > .done li")
    browser.check()


def test_pictures_say_what_is_seen(site: Site, browser: Browser) -> None:
    site.enter(browser)
    browser.open(f"{site.base}/run?queue=orders&id=order-1042")
    flow, timeline = (browser.find(f"svg.{name}").get_attribute("aria-label") for name in ("flow", "timeline"))
    assert "is at hand_over, behind it are reserve, charge, approve, pack" in flow
    for said in ("1 charge, attempt 2 retried", "waits for group parcels-1042", "parcel-1042-2 succeeded"):
        assert said in timeline
    browser.open(f"{site.base}/")
    assert "attempts went well" in browser.find("svg.bars").get_attribute("aria-label")


def test_nothing_moves_for_those_who_do_not_like_it(site: Site, browser: Browser) -> None:
    site.enter(browser)
    browser.open(f"{site.base}/runs?queue=orders")
    moving = "return [...document.querySelectorAll('*')].filter((each) => { const style = getComputedStyle(each);"
    moving += " return style.transitionDuration !== '0s' || style.animationName !== 'none' }).length"
    browser.prefer(motion="no-preference")
    assert browser.run(moving) > 0
    browser.prefer(motion="reduce")
    assert browser.run(moving) == 0
    browser.prefer()
