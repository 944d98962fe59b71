"""Models of who waits: for the end of a run, retried in between, and for work to claim; every order.

No tick of a clock, which would hide that somebody sleeps for ever. Each step carries the name of the code that it
stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from .exploring import Stranded, explore

#: The rules without which a waiter for an end sleeps for ever.
END_RULES: Final = (
    "who has joined looks whether the line is in the table yet",
    "who waits reads after it has joined",
    "who was woken for nothing joins anew",
    "who commits looks into the table after the commit",
    "who wakes a line goes through a copy of it",
    "a looker that leaves has another one look",
    "a commit is noted as seen before it is looked into",
)
#: ... and a claimer while there is work.
WORK_RULES: Final = ("who leaves wakes the next", "who claims says first that it is not woken")
#: What the steps of the models are in the code: module, class (if any) and function.
NAMES: Final = {
    "find": "queue.waiters.Waiters._waiting",
    "read": "workflow.waiting.wait_for_end",
    "sleep": "queue.waiters.Waiters.sleep",
    "look": "queue.waiters.Waiters._look",
    "ask": "queue.waiters.Waiters._find",
    "take out": "queue.waiters.Waiters._hear",
    "claim": "queue.claiming.claim_by",
    "leave": "queue.waiters.Waiters.work_in",
    "pass on": "queue.waiters.Waiters._wake_one",
}


class EndWaiter(NamedTuple):
    """At which step a thread is, in which line it stands, whether it was woken, and whether its wake-up was sent."""

    at: str
    line: int | None = None
    #: The line that it has found in the table on leaving, and where it goes then.
    grip: int | None = None
    then: str = ""
    is_woken: bool = False
    is_told: bool = False


class EndState(NamedTuple):
    """One moment of a run that is waited for. ``lines``: who stands in each; ``table``: the one that is looked into."""

    waiters: tuple[EndWaiter, ...]
    lines: tuple[tuple[int, ...], ...]
    table: int | None
    has_ended: bool
    #: How often the run may end yet; in between it is retried.
    ends: int
    #: The thread of this process that commits, or has; the line that it took out, and how far it has got in it.
    here: str
    out: int | None
    copy: tuple[int, ...]
    place: int
    #: How many commits of others there were, and how many of them were seen.
    others: int
    seen: int
    looker: int | None


class Ends:
    """Threads that wait for one run, which ends by a commit of this process or of another one."""

    def __init__(self, waiters: int, ends: int, *, without: str | None = None) -> None:
        assert without is None or without in END_RULES
        self._has = {rule: rule != without for rule in END_RULES}
        self.start = EndState(
            waiters=(EndWaiter("find"),) * waiters, lines=(), table=None, has_ended=False, ends=ends, here="",
            out=None, copy=(), place=0, others=0, seen=0, looker=None,
        )  # fmt: skip

    def explore(self) -> int:
        """Go through every state that can be reached; returns how many."""
        return explore(self.start, self._steps, self._check)

    def _check(self, state: EndState, is_last: bool) -> None:
        if is_last and any(waiter.at != "gone" for waiter in state.waiters):
            raise Stranded(state)

    def _steps(self, state: EndState) -> Iterator[EndState]:
        yield from self._here(state)
        if state.ends and not state.has_ended and not state.here:
            yield state._replace(has_ended=True, ends=state.ends - 1, others=state.others + 1)
        if state.ends and state.has_ended and not state.here:
            yield state._replace(has_ended=False)  # retried, which is a commit as well, but of no end
        for number, waiter in enumerate(state.waiters):
            yield from self._step(state, number, waiter)

    def _here(self, state: EndState) -> Iterator[EndState]:
        commits_first = self._has["who commits looks into the table after the commit"]
        match state.here:
            case "" if state.ends and not state.has_ended:
                if commits_first:
                    yield state._replace(here="take out", has_ended=True, ends=state.ends - 1)
                else:
                    yield state._replace(here="take out")
            case "take out":
                yield state._replace(here="copy", out=state.table, table=None)
            case "copy":
                yield state._replace(here="wake", copy=() if state.out is None else state.lines[state.out], place=0)
            case "wake":
                line = state.copy
                if state.out is not None and not self._has["who wakes a line goes through a copy of it"]:
                    line = state.lines[state.out]
                if state.place < len(line):
                    yield _woken(state, line[state.place])._replace(place=state.place + 1)
                elif commits_first:
                    yield state._replace(here="", out=None, copy=(), place=0)
                else:
                    yield state._replace(here="", out=None, copy=(), place=0, has_ended=True, ends=state.ends - 1)

    def _step(self, state: EndState, number: int, waiter: EndWaiter) -> Iterator[EndState]:
        def at(step: str, **changes: object) -> EndState:
            now = waiter._replace(at=step, **changes)  # type: ignore[arg-type]
            return state._replace(waiters=_changed(state.waiters, number, now))

        match waiter.at:
            case "find":
                is_over = state.has_ended and not self._has["who waits reads after it has joined"]
                yield at("gone") if is_over else at("find a line", is_woken=False, is_told=False)
            case "find a line":
                if state.table is None:
                    found = at("join", line=len(state.lines))
                    yield found._replace(lines=(*state.lines, ()), table=len(state.lines))
                else:
                    yield at("join", line=state.table)
            case "join":
                assert waiter.line is not None
                line = (*state.lines[waiter.line], number)
                yield at("look at the table")._replace(lines=_changed(state.lines, waiter.line, line))
            case "leave":
                yield self._left(at(waiter.then, line=None, grip=None, then=""), number, waiter)
            case "look at the table":
                checks = self._has["who has joined looks whether the line is in the table yet"]
                if checks and state.table != waiter.line:
                    yield at("find a line")
                else:
                    yield at("read" if self._has["who waits reads after it has joined"] else "sleep")
            case "read":
                yield at("leave", grip=state.table, then="gone") if state.has_ended else at("sleep")
            case "sleep":
                if waiter.is_woken:
                    if self._has["who was woken for nothing joins anew"]:
                        yield at("leave", grip=state.table, then="find")
                    else:
                        yield at("read", is_woken=False)
                elif state.looker in (None, number):
                    yield at("look")._replace(looker=number)
                else:
                    yield at("asleep")
            case "asleep":
                if waiter.is_told:
                    yield at("sleep", is_told=False)
            case "look":
                if state.others > state.seen:
                    notes_first = self._has["a commit is noted as seen before it is looked into"]
                    yield at("ask")._replace(seen=state.others if notes_first else state.seen)
                elif waiter.is_told:
                    yield at("sleep", is_told=False)
            case "ask":
                if state.has_ended and state.table is not None:
                    yield at("strike off")
                else:
                    yield at("sleep" if self._has["a commit is noted as seen before it is looked into"] else "note")
            case "note":
                yield at("sleep")._replace(seen=state.others)
            case "strike off":
                awoken = at("sleep")
                for other in () if state.table is None else state.lines[state.table]:
                    awoken = _woken(awoken, other)
                yield awoken._replace(table=None)

    def _left(self, state: EndState, number: int, waiter: EndWaiter) -> EndState:
        if waiter.grip is not None:
            line = tuple(each for each in state.lines[waiter.grip] if each != number)
            state = state._replace(lines=_changed(state.lines, waiter.grip, line))
        if state.looker != number:
            return state
        state = state._replace(looker=None)
        if self._has["a looker that leaves has another one look"]:
            for other, each in enumerate(state.waiters):
                if other != number and each.line is not None and each.at != "gone":
                    return state._replace(waiters=_changed(state.waiters, other, each._replace(is_told=True)))
        return state


def _changed(items: tuple, number: int, item: object) -> tuple:  # type: ignore[type-arg]
    return (*items[:number], item, *items[number + 1 :])


def _woken(state: EndState, number: int) -> EndState:
    now = state.waiters[number]._replace(is_woken=True, is_told=True)
    return state._replace(waiters=_changed(state.waiters, number, now))


class Claimer(NamedTuple):
    """At which step a thread is, and whether it was woken."""

    at: str
    is_woken: bool = False


class WorkState(NamedTuple):
    """One moment of a queue that is claimed from. ``commits``: how many jobs each one brings that is yet to come."""

    claimers: tuple[Claimer, ...]
    jobs: int
    commits: tuple[int, ...]
    is_to_wake: bool
    #: How many claimers may give up, at their timeout or interrupted.
    tired: int


class Work:
    """Threads that wait for work, each for one job."""

    def __init__(self, claimers: int, commits: tuple[int, ...], tired: int, *, without: str | None = None) -> None:
        assert without is None or without in WORK_RULES
        self._has = {rule: rule != without for rule in WORK_RULES}
        self.start = WorkState((Claimer("clear"),) * claimers, 0, commits, False, tired)

    def explore(self) -> int:
        """Go through every state that can be reached; returns how many."""
        return explore(self.start, self._steps, self._check)

    def _check(self, state: WorkState, is_last: bool) -> None:
        if is_last and state.jobs and any(claimer.at == "sleep" for claimer in state.claimers):
            raise Stranded(state)

    def _steps(self, state: WorkState) -> Iterator[WorkState]:
        if state.is_to_wake:
            yield _pass_on(state)._replace(is_to_wake=False)
        elif state.commits:
            yield state._replace(jobs=state.jobs + state.commits[0], commits=state.commits[1:], is_to_wake=True)
        for number, claimer in enumerate(state.claimers):
            yield from self._step(state, number, claimer)

    def _step(self, state: WorkState, number: int, claimer: Claimer) -> Iterator[WorkState]:
        def at(step: str, **changes: object) -> WorkState:
            now = claimer._replace(at=step, **changes)  # type: ignore[arg-type]
            return state._replace(claimers=_changed(state.claimers, number, now))

        clears_first = self._has["who claims says first that it is not woken"]
        match claimer.at:
            case "clear":
                yield at("claim", is_woken=claimer.is_woken and not clears_first)
            case "claim":
                if state.jobs:
                    yield at("leave")._replace(jobs=state.jobs - 1)
                else:
                    yield at("sleep" if clears_first else "clear late")
            case "clear late":
                yield at("sleep", is_woken=False)
            case "sleep":
                if claimer.is_woken:
                    yield at("clear")
                if state.tired:
                    yield at("leave")._replace(tired=state.tired - 1)
            case "leave":
                left = at("gone")
                yield _pass_on(left) if self._has["who leaves wakes the next"] else left


def _pass_on(state: WorkState) -> WorkState:
    """Wake the first in line that is not woken yet."""
    for number, claimer in enumerate(state.claimers):
        if claimer.at not in ("gone", "leave") and not claimer.is_woken:
            return state._replace(claimers=_changed(state.claimers, number, claimer._replace(is_woken=True)))
    return state
