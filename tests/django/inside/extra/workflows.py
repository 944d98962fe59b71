"""Flows of the tests: one that waits and signals, one that fails, one of another store."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection

from taquba_workflow_sync import StepError
from taquba_workflow_sync.flow import Flow, Goto, Step


@dataclass
class Item:
    name: str


#: What the steps have seen, in order.
SEEN: list[object] = []
ROWS: list[Any] = []

slow = Flow[Item, str]("slow")
shaky = Flow[Item, str]("shaky")
elsewhere = Flow[Item, str]("elsewhere", store="other")
several = [elsewhere]


@slow.start
def begin(item: Item) -> Goto:
    SEEN.append(("begin", item.name))
    return wait.goto(item, after=timedelta(hours=1))


@slow.step
def wait(item: Item) -> Goto:
    SEEN.append(("wait", item.name))
    return end.on_signal(item, "go")


@slow.step
def end(item: Item, step: Step) -> str:
    SEEN.append(("end", item.name))
    return f"{item.name} ended"


@slow.on_end
def ended(outcome: object) -> None:
    SEEN.append(("ended", threading.get_ident()))


@shaky.start(max_attempts=3, backoff=(600, 600))
def shake(item: Item, step: Step) -> str:
    SEEN.append(("shake", step.attempts, threading.get_ident(), connection.in_atomic_block))
    if item.name == "there":
        handle = elsewhere.submit(Item("back"), run_id="there")
        return handle.result(timeout=0)
    if item.name == "never":
        raise StepError.permanent("<b>broken</b> for good")
    if step.attempts < 3:
        raise OSError("not yet")
    return "shaken"


@elsewhere.start
def there(item: Item) -> str:
    SEEN.append(("there", item.name))
    if item.name == "back":
        shaky.submit(Item("here"), run_id="back")
        SEEN.append("submitted")
    return item.name


@shaky.missing
def rows() -> list[Any]:
    return ROWS
