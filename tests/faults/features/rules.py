"""What must hold of the features, in a store and against the log: the one statement of it.

What is looked at in a store alone holds at every moment of it, since the end of a step and what belongs to it are one
commit. What is looked at against the log holds once the log is complete up to that moment: after the processes have
ended, or at a power cut. ``is_idle``: nothing is left to do, nobody runs, and the sweep has been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.faults.features import of_limits, of_schedules, of_signals
from tests.faults.features.runner import BARE
from tests.faults.features.view import STEPS, View, look
from tests.faults.figures import Figures
from tests.faults.journal import Event


def check_features(root: Path, events: Sequence[Event], figures: Figures, *, is_idle: bool) -> None:
    """Look at every rule."""
    view = look(root)
    check_store(view, figures, is_idle=is_idle)
    check_log(view, events, figures)


def check_store(view: View, figures: Figures, *, is_idle: bool = False) -> None:
    """Look at the rules that hold at every moment."""
    effects(view, figures, is_idle=is_idle)
    groups(view, figures, is_idle=is_idle)
    of_limits.claims(view, figures)
    of_limits.rates(view, figures)
    of_schedules.fired(view, figures)


def check_log(view: View, events: Sequence[Event], figures: Figures) -> None:
    """Look at the rules that tell of what was acknowledged or seen; of runs that are lost, the checker tells."""
    events = [event for event in events if event.get("job") is None or event["job"] in view.rows]
    memos(view, events, figures)
    client_calls(view, events, figures)
    awakenings(view, events, figures)
    of_limits.executions(view, events, figures)
    of_signals.check(view, events, figures)


# -- effects -----------------------------------------------------------------------------------------------------------


def effects(view: View, figures: Figures, *, is_idle: bool) -> None:
    """An effect is there once if its step has ended with what it returned, and not at all otherwise."""
    bare = Counter(row.payload for row in view.rows.values() if row.queue == BARE)
    added = counted = 0
    for row in view.rows.values():
        if row.queue != STEPS:
            continue
        for step, word in enumerate(row.plan):
            word = word.partition(":")[0]
            many = view.settled.get((row.id, step), 0)
            mark = f"{row.id}:{step}"
            counted += word == "cas" and many
            if word != "add":
                continue
            added += many
            found = {
                "add": view.number(f"n-{mark}"),
                "put": int(f"p-{mark}" in view.kv),
                "enqueue": bare[mark],
                "submit": len(view.by_header[mark]),
            }
            holds = all(each == many for each in found.values())
            figures.expect("an effect is its step's end", holds, f"step {mark} has ended {many} times, and {found}")
    total, cas = view.number("total"), view.number("cas")
    figures.expect("a counter counts ended steps", total == added, f"it says {total}, {added} steps have ended")
    figures.expect("a compared value counts ended steps", cas == counted, f"it says {cas}, {counted} steps have ended")
    _committed(view, bare, figures)
    _told(view, figures, is_idle=is_idle)


def _committed(view: View, bare: Counter[str], figures: Figures) -> None:
    """What a program commits together is there together, once."""
    ids = {key[2:] for key in view.kv if key.startswith(("c-", "d-"))}
    said = view.number("committed")
    figures.expect("commits are counted", said == len(ids), f"the counter says {said}, {len(ids)} are there")
    for each in ids:
        found = (f"c-{each}" in view.kv, f"d-{each}" in view.kv, bare[f"commit {each}"])
        figures.expect("a commit is whole", found == (True, True, 1), f"commit {each}: {found}")
    for key, value in view.kv.items():
        if key.startswith("s-"):
            there = len(view.by_run[key[2:]])
            holds = (value, there) == (b"1", 1)
            figures.expect("a submit and its effects are one", holds, f"{key} is {value!r}, {there} runs are there")
    for row in view.rows.values():
        if row.run is not None and row.run.startswith("run-") and row.queue == STEPS:
            figures.expect("a submit and its effects are one", f"s-{row.run}" in view.kv, f"{row.run} has none")


def _told(view: View, figures: Figures, *, is_idle: bool) -> None:
    """The effects of a hook are there once for each ending that it was told of."""
    for key, value in view.kv.items():
        if key.startswith("t-"):
            figures.expect("a hook's effects happen once", value == b"1", f"{key} is {value!r}")
    if is_idle:
        for row in view.rows.values():
            for termination in range(1, row.terminations + 1 if row.queue == STEPS else 1):
                there = f"t-{row.id}:{termination}" in view.kv
                figures.expect("a hook's effects are there", there, f"none of ending {termination} of run {row.run}")


# -- groups ------------------------------------------------------------------------------------------------------------


def groups(view: View, figures: Figures, *, is_idle: bool) -> None:
    """Of an opened group every member is there, once; a step's is open if, and only if, the step has ended."""
    for name, group in view.groups.items():
        if group.row["state"] != 1:
            continue
        total = group.row["total"]
        positions = [position for position, job in group.members if job is not None]
        holds = positions == list(range(total))
        figures.expect("a group is whole", holds, f"group {name} of {total} has members {positions[:10]}")
        names = [view.rows[job].run for _, job in group.members if job in view.rows]
        others = [each for each in names if len(view.by_run[each or ""]) != 1]
        right = names == [f"{name}-{number}" for number in range(total)]
        figures.expect("a member exists once", right and not others, f"group {name} has {names[:10]}, twice {others}")
    for row in view.rows.values():
        for step, word in enumerate(row.plan if row.queue == STEPS else ()):
            if not word.startswith("fan:"):
                continue
            name = f"g-{row.id}-{step}"
            state = view.groups[name].row["state"] if name in view.groups else None
            has_ended = view.has_completed(row.id, step)
            figures.expect(
                "a group is opened by its step's end",
                (state == 1) == has_ended,
                f"group {name} is {state}, its step {'has' if has_ended else 'has not'} ended",
            )
            there = len(view.by_header[name])
            if is_idle and not has_ended:
                why = f"{name}: {there} members"
                figures.expect("nothing is left of a group that was never opened", there == 0, why)
    if is_idle:
        half = [name for name, group in view.groups.items() if group.row["state"] != 1]
        figures.expect("no group is left half written", not half, f"{half[:5]}")
        stray = view.stray_members + view.unnamed_groups
        figures.expect("no member is left without a group", stray == 0, f"{stray} are")


def awakenings(view: View, events: Sequence[Event], figures: Figures) -> None:
    """Who waits for a group is woken by its end, and by the one it waits for; members run in open groups only."""
    for event in events:
        if event["event"] == "woken":
            word, _, argument = view.rows[event["job"]].plan[event["step"] - 1].partition(":")
            many, _, on_failure = argument.partition(":")
            name = f"step {event['step']} of run {event['run']}"
            its = word == "fan" and event["group"] == f"g-{event['job']}-{event['step'] - 1}"
            figures.expect("a step is woken by its own group", its, f"{name} by {event['group']}")
            whole = event["total"] == int(many or -1)
            ended = event["open"] == 0 or (on_failure == "cancel" and event["failed"] > 0)
            figures.expect("the end of a group wakes", whole and ended, f"{name}: {event}")
        elif event["event"] == "begin":
            row = view.rows.get(event["job"])
            if row is not None and row.headers.get("of", "").startswith(("g-", "group-")):
                group = view.groups.get(row.headers["of"])
                is_open = group is not None and group.row["state"] == 1
                figures.expect("only an open group runs", is_open, f"member {row.run} began")
    woken = {(event["job"], event["step"]) for event in events if event["event"] == "woken"}
    for event in events:
        if event["event"] == "begin" and event["step"]:
            row = view.rows.get(event["job"])
            if row is not None and len(row.plan) >= event["step"] and row.plan[event["step"] - 1].startswith("fan:"):
                known = (event["job"], event["step"]) in woken or _was_cut_short(events, event)
                figures.expect("a step has the group it waited for", known, f"step {event['step']} of {event['run']}")


def _was_cut_short(events: Sequence[Event], event: Event) -> bool:
    """Whether no attempt of a step came to its end, so that it may have been killed before it said what it has."""
    wanted = {"event": "end", "job": event["job"], "step": event["step"]}
    return not any(wanted.items() <= each.items() for each in events)


# -- memos and calls ---------------------------------------------------------------------------------------------------


def memos(view: View, events: Sequence[Event], figures: Figures) -> None:
    """A memo keeps its first value: for every attempt of the step, or every step of the run, and in the store."""
    first: dict[tuple[str, str, int, str], str] = {}
    for event in events:
        if event["event"] == "memo":
            step = event["step"] if event["scope"] == "step" else -1
            value = first.setdefault((event["job"], event["scope"], step, event["key"]), event["value"])
            name = f"the {event['scope']} memo of step {event['step']} of run {event['run']}"
            figures.expect("a memo keeps its value", value == event["value"], f"{name} was {value}, {event['value']}")
    for (job, scope, step, key), value in first.items():
        row = view.rows[job]
        is_over = row.step != step or row.status == "cancelled" or view.has_completed(job, step)
        is_kept = scope == "run" or not is_over
        if is_kept:
            held = view.memos.get((job, scope), {}).get(key)
            figures.expect("a memo is stored", held == value, f"the {scope} memo of {row.run} was {value}, is {held}")


def client_calls(view: View, events: Sequence[Event], figures: Figures) -> None:
    """What a client was answered is there."""
    for event in events:
        if event["event"] == "grouped":
            group = view.groups.get(event["id"])
            whole = group is not None and (group.row["state"], group.row["total"]) == (1, event["many"])
            figures.lost += not whole
            figures.expect("an acknowledged group", whole, f"{event['id']} is not there")
        elif event["event"] == "committed":
            there = f"c-{event['id']}" in view.kv
            figures.lost += not there
            figures.expect("an acknowledged commit", there, f"{event['id']} is not there")
