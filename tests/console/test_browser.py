"""The console in a browser: every page and action, wherever it is served, with a script and without, by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    ContinueAfter,
    ContinueOnSignal,
    EventKind,
    Queue,
    RunSpec,
    RunState,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
)
from tests.cli.processes import started
from tests.console.browsing import MARKS, NARROW, WIDE, Browser, Keys, chromium
from tests.console.flows import Parcel, deliveries
from tests.console.serving import Site, in_django, in_flask, standalone

pytestmark = MARKS

NAME = "checks"
HOSTILE = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"><svg onload=window.owned=1>"
PAGES = ("", "runs", "dead", "schedules", "limits", "workers")


@pytest.fixture(scope="module")
def with_scripts() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def without_scripts() -> Iterator[Browser]:
    with chromium(scripts=False) as browser:
        yield browser


@pytest.fixture
def browser(with_scripts: Browser) -> Browser:
    with_scripts.resize(WIDE)
    with_scripts.logged(), with_scripts.asked()
    return with_scripts


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    Queue.open(tmp_path / "store").close()
    with standalone(tmp_path) as found:
        yield found


def step(step: Step) -> StepOutcome:
    """Do what the payload says."""
    match step.payload.partition(b" ")[0]:
        case b"fail":
            raise StepError.permanent(f"no account {HOSTILE}")
        case b"later":
            return ContinueAfter(b"", delay=3600)
        case b"ask":
            return ContinueOnSignal(b"", "answer")
    return Succeed(step.payload)


class Shop:
    """What a test does to the store that the browser looks at, and how it is done in the browser."""

    def __init__(self, queue: Queue, site: Site, browser: Browser) -> None:
        self.queue = queue
        self.client = WorkflowClient(queue, queue_name=NAME)
        self.site = site
        self.browser = browser

    def run(self, **runs: str) -> None:
        """Submit runs, and work until nothing is left to do."""
        for run_id, payload in runs.items():
            self.client.submit(run_id=run_id, input=payload.encode(), headers={"x": HOSTILE})
        WorkflowRuntime(self.queue, step, queue_name=NAME).run_until_idle()

    def state(self, run_id: str) -> RunState:
        found = self.client.status(run_id)
        assert found is not None
        return found.state

    def look(self, page: str, **query: str) -> None:
        parts = "&".join(f"{name}={value}" for name, value in {"queue": NAME, **query}.items())
        self.browser.open(f"{self.site.base}/{page}?{parts}")

    def confirm(self, said: str, **fields: str) -> None:
        """On the page that a link or a button has led to: fill its form, send it, and see that it was done."""
        browser = self.browser
        browser.sees(lambda: browser.find("form[method=post] button"), "the form that does it")
        for name, text in fields.items():
            browser.find(f"form [name={name}]").send_keys(text)
        browser.find("form[method=post] button").click()
        browser.sees(lambda: said in browser.text(".done"), f"{said!r}")
        assert browser.all(".done .bad") == []

    def click(self, text: str) -> None:
        self.browser.link(text).click()

    def press(self, text: str) -> None:
        next(each for each in self.browser.all("main button") if each.text == text).click()


def every_action(shop: Shop) -> None:
    """Do in the browser all that the console can do, and see that it was done to the store."""
    _to_one_run(shop)
    _to_many_runs(shop)
    _to_dead_letters(shop)
    _to_the_queue(shop)
    _to_schedules_and_limits(shop)


def _to_one_run(shop: Shop) -> None:
    shop.run(asks="ask", waits="later", breaks="fail now", goes="later")
    shop.look("run", id="asks")
    shop.browser.sees_text("waits for the signal answer")
    shop.click("Send a signal")
    shop.confirm("the run goes on", payload="grüße")
    shop.run()
    assert shop.state("asks") is RunState.SUCCEEDED
    shop.look("run", id="waits")
    shop.click("Wake")
    shop.confirm("is in line")
    shop.run()
    assert shop.state("waits") is RunState.SUCCEEDED
    shop.look("run", id="breaks")
    assert "no account <script>" in shop.browser.text(".problem")
    shop.click("Retry")
    shop.confirm("goes on at the step that failed")
    assert shop.state("breaks") is RunState.PENDING
    shop.click("To the run")
    shop.browser.sees_text("pending", "h1")
    shop.click("Cancel")
    shop.confirm("cancelled", reason="by hand")
    assert shop.state("breaks") is RunState.CANCELLED
    details = [each.detail for each in shop.client.history("breaks") if each.kind is EventKind.CANCEL_REQUESTED]
    assert details in ([], ["by hand"])  # a run that waits ends at once
    shop.look("run", id="goes")
    shop.click("Cancel")
    shop.browser.sees(lambda: shop.browser.link("Leave it"), "the way back")
    shop.click("Leave it")
    shop.browser.sees_text("Runs", "h1")
    assert shop.state("goes") is RunState.PENDING


def _to_many_runs(shop: Shop) -> None:
    shop.run(a1="later", a2="later", a3="later", b1="fail", b2="fail", b3="fail")
    shop.look("runs", prefix="a")
    for run_id in ("a1", "a3"):
        shop.browser.find(f"[aria-label={run_id}]").click()
    shop.press("Cancel ticked")
    shop.confirm("a3", reason="both")
    assert [shop.state(each) for each in ("a1", "a2", "a3")] == [
        RunState.CANCELLED,
        RunState.PENDING,
        RunState.CANCELLED,
    ]
    shop.look("runs", prefix="b")
    shop.browser.find("[aria-label=b2]").click()
    shop.press("Retry ticked")
    shop.confirm("b2 goes on")
    shop.look("runs", prefix="b")
    shop.click("Retry the failed")
    shop.browser.sees_text("all runs of checks with prefix b")
    shop.confirm("2 go on")
    assert {shop.state(f"b{number}") for number in (1, 2, 3)} == {RunState.PENDING}
    shop.look("runs", prefix="b")
    shop.click("Cancel what has not ended")
    shop.confirm("3 cancelled")


def _to_dead_letters(shop: Shop) -> None:
    shop.run(c1="fail", c2="fail", c3="fail", c4="fail")
    shop.look("dead")
    shop.browser.find("[aria-label=c1]").click()
    shop.press("Retry ticked")
    shop.confirm("is in line again")
    assert shop.state("c1") is RunState.PENDING
    shop.look("dead")
    shop.browser.find("[aria-label=c2]").click()
    shop.press("Remove ticked")
    shop.confirm("is removed")
    assert shop.client.status("c2") is None
    shop.look("dead")
    shop.click("Retry all")
    shop.confirm("2 in line again")
    shop.run()
    shop.look("dead")
    shop.click("Remove all")
    shop.confirm("3 removed")
    assert shop.queue.stats(NAME).dead == 0
    shop.look("dead")
    shop.browser.sees_text("There are none")


def _to_the_queue(shop: Shop) -> None:
    shop.look("queue")
    shop.click("Pause")
    shop.confirm("is paused")
    assert shop.queue.stats(NAME).paused
    shop.look("queue")
    shop.browser.sees_text("paused", "h1")
    shop.click("Resume")
    shop.confirm("goes on")
    assert not shop.queue.stats(NAME).paused


def _to_schedules_and_limits(shop: Shop) -> None:
    shop.client.schedule("nightly", every=3600, spec=RunSpec(input=b"ok"))
    shop.client.set_limit(concurrency=5)
    shop.client.set_limit(key="customer-*", concurrency=1)
    by_label = "[aria-label='{}']".format
    for label, said in (
        ("Run nightly now", "is submitted"),
        ("Pause nightly", "is paused"),
        ("Resume nightly", "goes on"),
        ("Remove nightly", "is removed"),
    ):
        shop.look("schedules")
        shop.browser.find(by_label(label)).click()
        shop.confirm(said)
    assert shop.client.schedules() == []
    for label in (f"Remove the limit of {NAME}", "Remove the limit of customer-*"):
        shop.look("limits")
        shop.browser.find(by_label(label)).click()
        shop.confirm("is removed")
    assert shop.client.limits() == []


@pytest.mark.parametrize("served", [standalone, in_django, in_flask], ids=lambda each: each.__name__)
@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
def test_every_page_and_action(
    served: Callable[[Path], AbstractContextManager[Site]],
    has_scripts: bool,
    with_scripts: Browser,
    without_scripts: Browser,
    tmp_path: Path,
) -> None:
    browser = with_scripts if has_scripts else without_scripts
    browser.resize(WIDE)
    store = tmp_path / ("taquba" if served is in_django else "store")
    with Queue.open(store, durability="relaxed") as queue, served(tmp_path) as site:
        assert site.store == store
        site.enter(browser)
        every_action(Shop(queue, site, browser))
        for page in PAGES:
            browser.open(f"{site.base}/{page}")
            browser.sees(lambda: browser.find("nav [aria-current=page]"), "where this is in the navigation")
            if has_scripts:
                browser.sees_text("live", "#live")
            else:
                assert browser.text("#live") == ""
        browser.check()


def test_a_page_follows_the_store_and_keeps_what_was_touched(site: Site, browser: Browser) -> None:
    with Queue.open(site.store, durability="relaxed") as queue:
        shop = Shop(queue, site, browser)
        shop.run(**{f"old-{number:02}": "later" for number in range(40)}, breaks="fail")
        site.enter(browser)
        shop.look("runs")
        browser.sees_text("live", "#live")
        browser.run("window.marker = 1; window.scrollTo(0, 300)")
        scrolled = browser.run("return window.scrollY")
        assert scrolled > 0
        browser.find("[aria-label=old-20]").click()
        field = browser.find("[name=prefix]")
        field.send_keys("ab")
        field.send_keys(Keys.ARROW_LEFT)
        scrolled = browser.run("return window.scrollY")
        shop.run(fresh="later")
        browser.sees_text("fresh", "tbody")
        assert browser.run("return window.marker") == 1, "the page was loaded anew"
        assert browser.find("[aria-label=old-20]").is_selected()
        assert not browser.find("[aria-label=old-21]").is_selected()
        assert browser.run("return document.activeElement.name") == "prefix"
        assert browser.run("return [arguments[0].value, arguments[0].selectionStart]", field) == ["ab", 1]
        assert browser.run("return window.scrollY") == scrolled
        # What is opened stays open, what is selected stays selected; and it goes on when nothing is.
        shop.look("run", id="breaks")
        browser.sees_text("live", "#live")
        browser.find("summary").click()
        browser.run("getSelection().selectAllChildren(document.querySelector('h1'))")
        shop.client.retry("breaks")
        shop.client.cancel("breaks")
        browser.sees(lambda: browser.run("return performance.now()") > 4000, "a few changes")
        assert browser.run("return String(getSelection())").startswith("breaks")
        browser.run("getSelection().removeAllRanges()")
        browser.sees_text("cancelled", "h1")
        assert browser.run("return document.querySelector('details').open")
        browser.check()


def test_a_killed_worker_and_the_one_that_takes_over_are_seen(site: Site, browser: Browser, tmp_path: Path) -> None:
    worker = ("worker", "tests.console.flows:deliveries")
    arrived = tmp_path / "arrived"
    with Queue.open(site.store) as queue, deliveries.using(queue):
        with started(site.store, *worker) as first:
            deliveries.submit(Parcel(str(arrived)), run_id="parcel")
            site.enter(browser)
            browser.open(f"{site.base}/run?queue=deliveries&id=parcel")
            browser.sees_text(f"process {first.pid}", limit=60)
            browser.sees_text(f"carried by {first.pid}")
            browser.run("window.marker = 1")
            assert browser.find(".flow .current text").text == "carry"
            assert browser.find(".flow .done text").text == "pick"
            first.kill()
        with started(site.store, *worker) as second:
            browser.sees_text(f"process {second.pid}", limit=60)
            shown = browser.text(".events")
            assert "1 carry, attempt 1 ended reaped" in shown.replace("\n", " ")
            assert "1 carry, attempt 2 started" in shown.replace("\n", " ")
            browser.sees_text(f"carried by {second.pid}")
            browser.open(f"{site.base}/workers")
            browser.sees_text(f"Process {second.pid}")
            section = browser.driver.find_element("xpath", f"//section[contains(., 'Process {second.pid}')]")
            assert "alive" in section.text and "parcel" in section.text
            assert f"Process {first.pid}" not in browser.text()
            browser.open(f"{site.base}/run?queue=deliveries&id=parcel")
            browser.run("window.marker = 1")
            arrived.touch()
            browser.sees_text("succeeded", "h1", limit=60)
            assert browser.find(".flow .succeeded text").text == "carry"
            assert browser.run("return window.marker") == 1
    browser.check()


def test_a_dead_worker_is_named_before_anybody_takes_over(site: Site, browser: Browser, tmp_path: Path) -> None:
    with Queue.open(site.store) as queue, deliveries.using(queue):
        with started(site.store, "worker", "tests.console.flows:deliveries") as worker:
            deliveries.submit(Parcel(str(tmp_path / "arrived")), run_id="parcel")
            site.enter(browser)
            browser.open(f"{site.base}/workers")
            browser.sees_text("parcel", limit=60)
            worker.kill()
        section = f"//section[contains(., 'Process {worker.pid}')]"
        browser.sees(lambda: "dead" in browser.driver.find_element("xpath", section).text, "that it is dead")
    browser.check()


def test_without_a_script_filters_fold_and_open(site: Site, without_scripts: Browser) -> None:
    browser = without_scripts
    with Queue.open(site.store) as queue:
        Shop(queue, site, browser).run(one="later", two="fail")
    site.enter(browser)
    browser.resize(WIDE)
    browser.open(f"{site.base}/runs?queue={NAME}")
    assert browser.shows("[name=prefix]") and not browser.shows("summary")
    browser.resize(NARROW)
    assert browser.shows("summary") and not browser.shows("[name=prefix]")
    browser.find("summary").click()
    browser.find("[name=prefix]").send_keys("tw")
    browser.find(".filters button").click()
    browser.sees(lambda: [each.text for each in browser.all("tbody th")] == ["two"], "what was looked for")
    assert browser.shows("[name=prefix]"), "filters that are in use are open"
    assert "UTC" in browser.find("tbody time").text
    browser.resize(WIDE)
    browser.check()


def test_everything_is_reached_by_keyboard_and_seen_to_be(site: Site, browser: Browser) -> None:
    with Queue.open(site.store, durability="relaxed") as queue:
        shop = Shop(queue, site, browser)
        shop.run(one="later", two="later")
        site.enter(browser)
        shop.look("runs")
        browser.press(Keys.TAB)
        skip = browser.driver.switch_to.active_element
        assert skip.text == "Skip to the content" and skip.rect["x"] >= 0
        browser.press(Keys.ENTER)
        assert browser.run("return document.activeElement.id") == "main"
        shop.look("runs")
        seen = []
        for _ in range(80):
            browser.press(Keys.TAB)
            at = browser.driver.switch_to.active_element
            if at.tag_name == "body":
                break
            seen.append(browser.run(_WHAT_HAS_FOCUS, at))
        names = [name for name, _, _ in seen]
        pages = ["Queues", "Runs", "Dead letters", "Schedules", "Limits", "Workers"]
        assert names[:8] == ["Skip to the content", "taquba", *pages]
        assert [each for each in names if each in ("queue", "state", "prefix", "parent", "order", "Find")] == [
            *("queue", "state", "prefix", "parent", "order", "Find")
        ]
        assert names.index("tick-all") < names.index("two") < names.index("one") < names.index("Cancel ticked")
        assert [name for name, outline, _ in seen if outline in ("0px", "none")] == [], "focus is seen"
        assert [place for _, _, place in seen] == sorted(place for _, _, place in seen), "in the order of the page"
        # A run is cancelled without a mouse.
        shop.look("runs")
        browser.run("document.querySelector('[aria-label=one]').focus()")
        browser.press(" ")
        while browser.driver.switch_to.active_element.text != "Cancel ticked":
            browser.press(Keys.TAB)
        browser.press(Keys.ENTER)
        browser.sees(lambda: browser.find("[name=reason]"), "the form that does it")
        while browser.run("return document.activeElement.name") != "reason":
            browser.press(Keys.TAB)
        browser.press("w", "h", "y", Keys.ENTER)
        browser.sees_text("one cancelled", ".done")
        assert (shop.state("one"), shop.state("two")) == (RunState.CANCELLED, RunState.PENDING)
    browser.check()


_WHAT_HAS_FOCUS = """
const at = arguments[0], style = getComputedStyle(at);
const name = at.ariaLabel || at.name || at.innerText.trim() || at.tagName;
const order = [...document.querySelectorAll("*")].indexOf(at);
return [at.id === "tick-all" ? at.id : (at.name === "do" ? at.innerText : name),
        style.outlineStyle === "none" ? "none" : style.outlineWidth, order];
"""


def test_what_others_have_written_runs_nothing(site: Site, browser: Browser) -> None:
    with Queue.open(site.store, durability="relaxed") as queue:
        shop = Shop(queue, site, browser)
        shop.client.submit(run_id="evil", input=HOSTILE.encode(), headers={HOSTILE: HOSTILE, "y": "\u202e\x1b[0m"})
        shop.run(dies=f"fail {HOSTILE}", asks="ask")
        shop.client.submit(run_id="signalled", input=b"later")
        shop.run()
        shop.client.signal("signalled", "answer", HOSTILE.encode())
        shop.client.cancel("signalled", reason=HOSTILE)
        site.enter(browser)
        addresses = [
            *(f"{page}?queue={NAME}" for page in ("", "queue", "runs", "dead", "limits", "schedules", "workers")),
            *(f"run?queue={NAME}&id={each}" for each in ("evil", "dies", "asks", "signalled")),
            *(f"run?queue={NAME}&id=evil&payload_as={form}" for form in ("json", "text", "hex")),
        ]
        for address in addresses:
            browser.open(f"{site.base}/{address}")
            browser.sees_text("live", "#live")  # the page was shown twice: whole, and as a change of it
            assert browser.run("return typeof window.owned") == "undefined"
            assert browser.all("main script, main img") == []
        assert "<script>" in browser.text()
        browser.check()
        # What is in the address itself.
        for address in (
            "run?id=%3Cscript%3Ewindow.owned=1%3C/script%3E",
            "runs?state=%22onfocus=%22window.owned=1",
            "%3Csvg",
        ):
            browser.open(f"{site.base}/{address}")
            browser.sees_text("That did not work", "h1")
            assert browser.run("return typeof window.owned") == "undefined"
        browser.check(expected=("400", "404"))


def test_the_policy_is_in_force(site: Site, browser: Browser) -> None:
    """Were something of others to get into a page unescaped, it would not run either."""
    site.enter(browser)
    browser.run(
        "document.getElementById('main').innerHTML = '<img src=x onerror=\"window.owned = 1\">';"
        "const one = document.createElement('script'); one.textContent = 'window.owned = 1'; document.body.append(one);"
    )
    browser.sees(lambda: any("Content Security Policy" in each for each in browser.logged()), "the refusal")
    assert browser.run("return typeof window.owned") == "undefined"
    browser.asked()


def test_who_may_only_look_finds_nothing_to_do(tmp_path: Path, browser: Browser) -> None:
    with Queue.open(tmp_path / "store") as queue, standalone(tmp_path, "--read-only") as site:
        shop = Shop(queue, site, browser)
        shop.run(one="fail", two="later")
        site.enter(browser)
        for page in ("queue", "runs", "dead", "schedules", "limits", "workers"):
            shop.look(page)
            browser.sees_text("change nothing", "footer")
            assert browser.all("main .act, main button:not(.filters button), main [type=checkbox]") == []
        browser.check()
