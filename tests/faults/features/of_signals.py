"""No signal is lost, none goes to two steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tests.faults.features.view import STEPS, View
from tests.faults.figures import Figures
from tests.faults.journal import Event

#: A signal, by the job it was sent to, its name and its payload, which is its id or tells the step that sent it.
Known = tuple[str, str, str]


def check(view: View, events: Sequence[Event], figures: Figures) -> None:
    """Look at every rule of signals."""
    received = _received(events, figures)
    _of_clients(view, events, received, figures)
    _of_steps(view, received, figures)
    _in_order(view, events, received, figures)


def _received(events: Sequence[Event], figures: Figures) -> dict[Known, set[int]]:
    """Return which steps have received each signal; a step sees the same at every attempt, and no two see one."""
    by_step: dict[tuple[str, int], set[tuple[str | None, str | None]]] = defaultdict(set)
    received: dict[Known, set[int]] = defaultdict(set)
    for event in events:
        if event["event"] == "received":
            by_step[event["job"], event["step"]].add((event["name"], event["payload"]))
            if event["name"] is not None:
                received[event["job"], event["name"], event["payload"]].add(event["step"])
    for (job, step), versions in by_step.items():
        figures.expect("a step keeps its signal", len(versions) == 1, f"step {step} of job {job} had {versions}")
    for known, steps in received.items():
        figures.doubled += len(steps) > 1
        figures.expect("a signal goes to one step", len(steps) == 1, f"{known} went to steps {sorted(steps)}")
    return received


def _stored(view: View, known: Known) -> int:
    job, name, payload = known
    return sum((each, text) == (name, payload) for each, _, text in view.signals.get(job, ()))


def _is_held(view: View, known: Known, received: dict[Known, set[int]], figures: Figures) -> bool:
    """Whether a signal is where it must be: buffered, before a step has it; used up, with the end of the step."""
    job = known[0]
    many = _stored(view, known)
    figures.expect("a signal is stored once", many <= 1, f"{known} is there {many} times")
    used = any(view.has_completed(job, step) for step in received.get(known, ()))
    if used:
        figures.expect("a used signal is gone", many == 0, f"{known} is still there")
        return True
    return many == 1


def _of_clients(view: View, events: Sequence[Event], received: dict[Known, set[int]], figures: Figures) -> None:
    """Signals with an id: what was accepted is there or used up, once; what was never sent, is never received."""
    sending: dict[str, Event] = {}
    asked: dict[str, int] = defaultdict(int)
    known: set[str] = set()
    accepted: set[str] = set()
    for event in events:
        if event["event"] == "sending":
            sending[event["id"]] = event
            asked[event["id"]] += 1
        elif event["event"] == "sent":
            answer = event["answer"]
            if answer == "duplicate":
                figures.expect("a duplicate was sent before", asked[event["id"]] > 1, f"signal {event['id']}")
            else:
                # Two clients repeat what a dead one has no answer to, and the later answer may be noted first.
                again = event["id"] in accepted
                figures.doubled += again
                figures.expect("a signal is accepted once", not again, f"signal {event['id']} was, twice")
                accepted.add(event["id"])
            known.add(event["id"])
    lost: dict[str, list[str]] = defaultdict(list)
    for each in known:
        run = sending[each]["run"]
        jobs = [row.id for row in view.by_run.get(run, ())]
        figures.expect("the run of a signal is there", len(jobs) == 1, f"signal {each} for run {run}")
        if len(jobs) != 1:
            continue
        figures.expect("a signal's id is remembered", each in view.signal_ids[jobs[0]], f"signal {each} of {run}")
        lost[jobs[0]] += [] if _is_held(view, (jobs[0], sending[each]["name"], each), received, figures) else [each]
    for job, signals in lost.items():
        # What a step has received, or was about to, is used up by a cancellation: one signal.
        is_excused = view.rows[job].status == "cancelled" and len(signals) == 1
        figures.lost += 0 if is_excused else len(signals)
        holds = is_excused or not signals
        figures.expect("no signal is lost", holds, f"job {job}: {signals} were accepted, and are nowhere")
    for job, name, payload in received:
        if name in ("a", "b"):
            was_sent = payload in sending and view.rows[job].run == sending[payload]["run"]
            figures.expect("a received signal was sent", was_sent, f"{payload} to job {job}")


def _of_steps(view: View, received: dict[Known, set[int]], figures: Figures) -> None:
    """Signals of steps: there, used up, or dropped and noted, if the step has ended; else there is none."""
    sent: set[Known] = set()
    for row in view.rows.values():
        if row.queue != STEPS:
            continue
        missing: list[Known] = []
        for step, word in enumerate(row.plan):
            word, _, target = word.partition(":")
            if word not in ("self", "tell"):
                continue
            name = "self" if word == "self" else "told"
            jobs = [row.id] if word == "self" else [each.id for each in view.by_run.get(target, ())]
            known: Known = (jobs[0] if jobs else "", name, f"{row.id}:{step}")
            if not view.has_completed(row.id, step):
                early = _stored(view, known) or known in received
                figures.expect("a signal is its step's end", not early, f"step {step} of {row.run} has not ended")
                continue
            sent.add(known)
            # A cancellation uses up what a step has received.
            is_held = _is_held(view, known, received, figures)
            if not is_held and not (jobs and view.rows[jobs[0]].status == "cancelled"):
                missing.append(known)
        noted = view.dropped.get(row.id, 0)
        lost = len(missing) > noted
        figures.lost += lost
        figures.expect("no signal of a step is lost", not lost, f"{missing} are nowhere, {noted} were dropped")
    for known in received:
        if known[1] in ("self", "told"):
            figures.expect("a received signal was sent", known in sent, f"{known}: its step has not ended")


def _in_order(view: View, events: Sequence[Event], received: dict[Known, set[int]], figures: Figures) -> None:
    """What was sent after another one's answer, to the same run by the same name, goes to a later step."""
    answered: dict[tuple[str, str], list[str]] = defaultdict(list)
    before: dict[str, list[str]] = {}
    for event in events:
        if event["event"] == "sending" and event["id"] not in before:
            before[event["id"]] = list(answered[event["run"], event["name"]])
        elif event["event"] == "sent" and event["answer"] != "duplicate":
            answered[event["run"], event["name"]].append(event["id"])
    step_of = {(job, payload): min(steps) for (job, name, payload), steps in received.items() if name in ("a", "b")}
    for (job, payload), step in step_of.items():
        for earlier in before.get(payload, ()):
            first = step_of.get((job, earlier))
            # One that no step said it has was received by a step that was killed, or cancelled, before it could.
            holds = first < step if first is not None else not _is_buffered(view, job, earlier)
            why = f"job {job}: {payload} came to step {step}, {earlier} to {first}"
            figures.expect("signals come in order", holds, why)


def _is_buffered(view: View, job: str, signal_id: str) -> bool:
    return any(each == signal_id for _, each, _ in view.signals.get(job, ()))
