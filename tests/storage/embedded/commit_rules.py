"""A model of who commits: callers that may be interrupted, clerks, a leader, a fork; every order of their steps.

An explicit state, breadth first, without any timeout but the clerk's idle one: a second wake-up after a while would
hide one that is lost. Each step carries the name of the code that it stands for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

#: The rules that keep a caller from being stranded; a model without one of them must find somebody who is.
RULES: Final = (
    "a caller appends, then looks who is there",
    "a clerk lets go, then looks at the line",
    "a leader leaves, then looks at the line",
    "who kept the clerk away lets it back, then looks at the line",
    "a start is told of after it happened",
)
#: What each step of the model is in the code: module, class and method.
NAMES: Final = {
    "append": "group_commit.GroupCommit.run",
    "look for a leader": "group_commit.GroupCommit._wake_committer",
    "wake the leader": "group_commit.GroupCommit._wake_committer",
    "look for a clerk": "clerk.Clerk.wake",
    "wake the clerk": "clerk.Clerk.wake",
    "look at the ticket": "clerk.Clerk.wake",
    "start": "clerk.Clerk.wake",
    "tell of the start": "clerk.Clerk.wake",
    "wait": "group_commit.GroupCommit.run",
    "arrive": "clerk.Clerk._run",
    "take": "clerk.Clerk._run",
    "work": "clerk.Clerk._work",
    "serve": "group_commit.GroupCommit._serve_as_clerk",
    "sleep": "clerk.Clerk._work",
    "let go": "clerk.Clerk._run",
    "look again": "clerk.Clerk._run",
    "lead": "group_commit.GroupCommit.begin_leading",
    "flush": "group_commit.GroupCommit.flush",
    "leave": "group_commit.GroupCommit.end_leading",
    "keep away": "clerk.Clerk.keep_away",
    "let back": "clerk.Clerk.let_back",
}
_MOST_CLERKS: Final = 4
_OVER: Final = ("done", "gone")


class State(NamedTuple):
    """One moment. A thread of the user's is at a step, by name, and knows a number; so is each clerk."""

    line: frozenset[int]
    answered: frozenset[int]
    lives: int | None
    is_rung: bool
    ticket: int | None
    arrived: frozenset[int]
    is_kept_away: bool
    leads: bool
    leader_is_rung: bool
    threads: tuple[tuple[str, int | None], ...]
    clerks: tuple[str, ...]
    interrupts: int


class Step(NamedTuple):
    """What happens next; an optional one may never happen."""

    label: str
    after: State
    is_optional: bool = False


class Rules:
    """The steps that are possible, under all the rules but ``without``.

    ``callers``: how many submit; the last of them is the main thread. ``leads``, ``forks``: whether another thread
    leads for a while, or forks.
    """

    def __init__(
        self, callers: int, *, interrupts: int = 0, leads: bool = False, forks: bool = False, without: str | None = None
    ) -> None:
        assert without is None or without in RULES
        self._without = without
        self._callers = callers
        threads: list[tuple[str, int | None]] = [("look for a leader" if self._is_without(0) else "append", None)]
        threads *= callers
        threads += [("lead", None)] * leads + [("keep away", None)] * forks
        self.first = State(
            line=frozenset(), answered=frozenset(), lives=None, is_rung=False, ticket=None, arrived=frozenset(),
            is_kept_away=False, leads=False, leader_is_rung=False, threads=tuple(threads), clerks=(),
            interrupts=interrupts,
        )  # fmt: skip

    def _is_without(self, rule: int) -> bool:
        return self._without == RULES[rule]

    def steps(self, state: State) -> Iterator[Step]:
        """Return what may happen next."""
        for number, (at, known) in enumerate(state.threads):
            yield from self._of_thread(state, number, at, known)
            if number == self._callers - 1 and state.interrupts and at not in _OVER:
                gone = _moved(state, number, "gone")._replace(interrupts=state.interrupts - 1)
                yield Step(f"main is interrupted before it can {at}", gone, is_optional=True)
        for number, at in enumerate(state.clerks):
            yield from self._of_clerk(state, number, at)

    def _of_thread(self, state: State, me: int, at: str, known: int | None) -> Iterator[Step]:
        def to(then: str, number: int | None = None, **changes: object) -> Step:
            return Step(f"thread {me}: {at}", _moved(state, me, then, number)._replace(**changes))  # type: ignore[arg-type]

        is_caller = me < self._callers
        after_ring = "wait" if is_caller else "done"
        if is_caller and self._is_without(0) and me not in state.line | state.answered:
            after_ring = "append"
        match at:
            case "append":
                yield to("wait" if self._is_without(0) else "look for a leader", line=state.line | {me})
            case "look for a leader":
                yield to("wake the leader" if state.leads else "look for a clerk")
            case "wake the leader":
                yield to(after_ring, leader_is_rung=True)
            case "look for a clerk":
                yield to("wake the clerk" if state.lives is not None else "look at the ticket", state.ticket)
            case "wake the clerk":
                yield to(after_ring, is_rung=True)
            case "look at the ticket":
                is_on_the_way = known is not None and known not in state.arrived
                waits = state.is_kept_away or is_on_the_way
                yield to(after_ring if waits else "tell of the start" if self._is_without(4) else "start", -1)
            case "start" if len(state.clerks) < _MOST_CLERKS:
                then = after_ring if self._is_without(4) else "tell of the start"
                yield to(then, len(state.clerks), clerks=(*state.clerks, "arrive"))
            case "tell of the start":
                ticket = len(state.clerks) if self._is_without(4) else known
                yield to("start" if self._is_without(4) else after_ring, ticket=ticket)
            case "wait" if me in state.answered:
                yield to("done")
            case "lead":
                yield to("flush", leads=True)
            case "flush":
                if state.line or state.leader_is_rung:
                    yield to("flush", line=frozenset(), answered=state.answered | state.line, leader_is_rung=False)
                yield to("leave")._replace(is_optional=True)
            case "leave":
                yield to("done" if self._is_without(2) else "look at the line", leads=False)
            case "keep away":
                yield to("wait for the end", is_kept_away=True)._replace(is_optional=True)
            case "wait for the end":
                if state.lives is None:
                    yield to("let back")
                elif not state.is_rung:
                    yield to("wait for the end", is_rung=True)
            case "let back":
                yield to("done" if self._is_without(3) else "look at the line", is_kept_away=False)
            case "look at the line":
                yield to("look for a clerk" if state.line else "done")

    def _of_clerk(self, state: State, me: int, at: str) -> Iterator[Step]:
        def to(then: str, **changes: object) -> Step:
            clerks = (*state.clerks[:me], then, *state.clerks[me + 1 :])
            return Step(f"clerk {me}: {at}", state._replace(clerks=clerks, **changes))  # type: ignore[arg-type]

        arrived = state.arrived | {me}
        match at:
            case "arrive":
                yield to("end", arrived=arrived) if state.is_kept_away else to("take")
            case "take":
                yield to("work", lives=me, arrived=arrived) if state.lives is None else to("end", arrived=arrived)
            case "work":
                yield to("let go" if state.is_kept_away else "serve" if state.line else "sleep")
            case "serve":
                yield to("work", line=frozenset(), answered=state.answered | state.line)
            case "sleep":
                if state.is_rung:
                    yield to("work", is_rung=False)
                yield to("last look")
            case "last look":
                yield to("work" if state.line else "let go")
            case "let go":
                yield to("end" if self._is_without(1) else "look again", lives=None, arrived=arrived)
            case "look again":
                yield to("arrive" if state.line else "end")


def _moved(state: State, thread: int, to: str, known: int | None = None) -> State:
    threads = (*state.threads[:thread], (to, known), *state.threads[thread + 1 :])
    return state._replace(threads=threads)


class Explored(NamedTuple):
    """How many states there are, and how somebody comes to wait for ever, if anybody does."""

    states: int
    stranded: list[str] | None


def explore(rules: Rules) -> Explored:
    """Go through every state, the nearest first, until somebody is stranded."""
    came_from: dict[State, tuple[State, str] | None] = {rules.first: None}
    coming = deque([rules.first])
    while coming:
        state = coming.popleft()
        goes_on = False
        for step in rules.steps(state):
            goes_on |= not step.is_optional
            if step.after not in came_from:
                came_from[step.after] = state, step.label
                coming.append(step.after)
        if not goes_on and any(at not in _OVER for at, _ in state.threads if at == "wait"):
            return Explored(len(came_from), _story(came_from, state))
    return Explored(len(came_from), None)


def _story(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    labels: list[str] = []
    while (before := came_from[state]) is not None:
        state, label = before
        labels.append(label)
    return labels[::-1]
