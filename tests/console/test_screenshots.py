"""The pictures of the console in the documents: taken when asked for, and never of another console than this one."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

import taquba_workflow_sync.console
from tests.docs.pages import ROOT

CONSOLE = Path(taquba_workflow_sync.console.__file__).parent
DOCS = ROOT / "docs"
#: What they were taken of: a digest of all that makes the pages look as they do.
TAKEN_OF = DOCS / "console.sha256"
#: Of each picture: which page, in which colours, and how many pixels of it from the top.
PICTURES = {
    "console.png": ("run?queue=orders&id=order-1042", "light", 1167),
    "console-queues.png": ("", "light", 800),
    "console-dark.png": ("queue?queue=orders", "dark", 1076),
}
ASKED_FOR = "TAQUBA_SCREENSHOTS"
WIDTH = 1280


def digest() -> str:
    """Return a digest of the templates, what is beside them, and what is drawn."""
    found = hashlib.sha256()
    for directory in ("templates", "static", "drawing"):
        for path in sorted((CONSOLE / directory).iterdir()):
            if path.suffix in (".html", ".css", ".js", ".svg", ".py"):
                found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


@pytest.fixture(autouse=True)
def _no_thread_left() -> None:
    """Not looked for here: a stream goes on for seconds after the browser has left its page."""


@pytest.mark.embedded
def test_the_pictures_are_of_this_console() -> None:
    how = f"{ASKED_FOR}=1 pytest -m soak tests/console/test_screenshots.py"
    assert TAKEN_OF.is_file(), f"none were taken: {how}"
    assert TAKEN_OF.read_text().strip() == digest(), f"the console looks otherwise by now: {how}"
    for name in PICTURES:
        data = (DOCS / name).read_bytes()
        assert data.startswith(b"\x89PNG"), name
        width, height = struct.unpack(">II", data[16:24])
        assert (width, height) == (WIDTH, PICTURES[name][2]), name
        assert len(data) < 500_000, f"{name} is large for a document"


@pytest.mark.embedded
@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.skipif(ASKED_FOR not in os.environ, reason=f"pictures are taken with {ASKED_FOR}=1")
def test_take_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("selenium")
    from taquba_workflow_sync import Queue, QueueConfig
    from tests.console.browsing import chromium
    from tests.console.serving import in_this_process
    from tests.console.shop import TAKES, an_hour_of_activity, closed, fill, new_clock

    machine: Any = os.uname()
    monkeypatch.setattr(os, "uname", lambda: type(machine)((machine[0], "shop-1", *machine[2:])))
    monkeypatch.setattr(Queue, "address", property(lambda queue: "/srv/shop/jobs"))
    # The hour ends with the minute before this one, which then must not end.
    while time.time() % 60 > 20:
        time.sleep(1)
    clock = new_clock()
    with Queue.open(tmp_path / "jobs", clock=clock, default_config=QueueConfig(lease_duration=7200)) as queue:
        an_hour_of_activity(queue, clock)
        clock.advance(-TAKES)
        with closed(fill(queue, clock)), in_this_process(queue, tmp_path / "jobs") as site, chromium() as browser:
            browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "UTC"})
            browser.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": "en-GB"})
            site.enter(browser)
            for name, (page, scheme, height) in PICTURES.items():
                browser.prefer(scheme=scheme)
                browser.open(f"{site.base}/{page}")
                browser.sees_text("live", "#live")
                assert browser.run("return document.documentElement.scrollHeight") >= height - 300
                browser.picture(DOCS / name, height=height)
    TAKEN_OF.write_text(f"{digest()}\n")
