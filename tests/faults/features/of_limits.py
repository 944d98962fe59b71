"""Never more claims at a time than a limit allows, nor more in any window than a rate does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.faults.features.client import KEY_LIMITS, QUEUE_LIMIT, RATE, RATE_KEY, WINDOW
from tests.faults.features.view import STEPS, View
from tests.faults.figures import Figures
from tests.faults.journal import Event

# A claim's time in its history is of the wall clock, the rate's own of the boot clock; both are of one commit.
_CLOCKS_APART_MS = 20


def most_of(key: str) -> int | None:
    """Return how many claims a key may have at a time."""
    return next((most for prefix, most in KEY_LIMITS.items() if key.startswith(prefix)), None)


def claims(view: View, figures: Figures) -> None:
    """At one moment of the store."""
    claimed = [row for row in view.rows.values() if row.status == "claimed" and row.queue == STEPS]
    figures.expect("claims within the queue's limit", len(claimed) <= QUEUE_LIMIT, f"{len(claimed)} are")
    for key, many in Counter(row.key for row in claimed if row.key is not None).items():
        most = most_of(key)
        figures.expect("claims within a key's limit", most is None or many <= most, f"{many} of key {key}")


def rates(view: View, figures: Figures) -> None:
    """By the times of the claims, of the history and of the rate's own count."""
    times: dict[str, list[int]] = defaultdict(list)
    for row in view.rows.values():
        if row.key is not None and row.key.startswith(RATE_KEY):
            times[row.key] += view.claims.get(row.id, [])
    for slack, found in ((_CLOCKS_APART_MS, times), (0, view.rated)):
        for key, moments in found.items():
            moments.sort()
            for first, last in zip(moments, moments[RATE:], strict=False):
                holds = last - first >= WINDOW * 1000 - slack
                figures.expect("claims within a rate", holds, f"{RATE + 1} of key {key} within {last - first} ms")


def executions(view: View, events: Sequence[Event], figures: Figures) -> None:
    """By what runners said: an execution lies within its claim, so that no more of them run than claims are allowed."""
    running: dict[tuple[str, int, int], str | None] = {}
    holders: dict[str, set[str]] = defaultdict(set)
    dead: set[int] = set()
    # Of a run that was asked to end nobody says when it did: it ends with its step, whatever that returned, or before.
    asked: set[str] = set()
    for event in events:
        match event["event"]:
            case "killing":
                dead.add(event["target"])
                for each in [each for each in running if each[2] == event["target"]]:
                    del running[each]
            case "cancelling" | "hook":
                asked |= {event["run"]} if event["event"] == "cancelling" else set()
                for runs in holders.values():
                    runs.discard(event["run"])
            case "begin" if event["pid"] not in dead and event["job"] in view.rows:
                key = view.rows[event["job"]].key
                running[event["job"], event["step"], event["pid"]] = key
                figures.expect("executions within the queue's limit", len(running) <= QUEUE_LIMIT, f"{len(running)}")
                if key is None:
                    continue
                most, many = most_of(key), sum(each == key for each in running.values())
                figures.expect("executions within a key's limit", most is None or many <= most, f"{many} of key {key}")
                if key.startswith("h-"):
                    held = holders[key] | {event["run"]}
                    figures.expect("a run holds its slot", len(held) == 1, f"{sorted(held)} of key {key}")
                    if event["run"] not in asked:
                        holders[key] = held
            case "end":
                running.pop((event["job"], event["step"], event["pid"]), None)
                if event["outcome"] in ("succeed", "fail", "cancel", "dead"):
                    for runs in holders.values():
                        runs.discard(event["run"])
