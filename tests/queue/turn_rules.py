"""A model of who leads a turn: threads of one pool, the dispatcher, steps that may last for ever; every order.

An explicit state, breadth first, and no tick of a clock: it would hide that something was left lying. Each step carries
the name of the code that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from .exploring import Stranded, explore

#: The rules without which something is left lying; a model without one of them must find it.
RULES: Final = (
    "a thread that led, or could not, looks again",
    "a step that ends while the dispatcher is awake tells it",
    "who takes a step calls another if more is ready or a turn is wanted",
    "the dispatcher is told where every thread is at work",
    "a step that ends while stopping tells the dispatcher",
    "whoever leads looks at the stop with the turn in hand",
)
#: What each step of the model is in the code: module, class and method.
NAMES: Final = {
    "take": "pool.Pool._take",
    "call": "pool.Pool._call_one",
    "run": "pool.Pool._work",
    "finish": "state.DispatchState.finish",
    "tell": "state.DispatchState.finish",
    "stop": "state.DispatchState.ask_to_stop",
    "begin the stop": "state.DispatchState.begin_stop",
    "lead": "dispatcher.Dispatcher._lead",
    "try": "dispatcher.Dispatcher._lead",
    "settle": "settling.Settler.settle_and_claim",
    "look again": "pool.Pool._work",
    "leave": "pool.Pool._work",
    "turn": "dispatcher.Dispatcher._turn",
    "rest": "dispatcher.Dispatcher._turn",
    "wake": "dispatcher.Dispatcher._turn",
}
_AT_WORK: Final = ("take", "tell", "lead", "try", "settle", "look again", "leave", "called")
#: Where the dispatcher is said to be about to lead, and what ends is left to it.
_AWAKE: Final = ("turn", "settle", "rest")


class State(NamedTuple):
    """One moment. A thread is at a step, by name; the dispatcher, too."""

    threads: tuple[str, ...]
    dispatcher: str
    is_told: bool
    holder: int | None
    batch: int
    finished: int
    ready: int
    calling: int | None
    #: How many steps each run has left beyond those that are ready, running or finished.
    more: int
    #: How many steps may still last for ever.
    endless: int
    #: How often the dispatcher may still be woken by what comes from elsewhere.
    news: int
    #: Whether a stop may still be asked for, was asked for, and has begun: then only the dispatcher leads.
    may_stop: bool
    stop_asked: bool
    is_stopping: bool


DISPATCHER: Final = -1


class Model:
    """The rules, less one if that is asked for."""

    def __init__(
        self, threads: int, rows: int, more: int, endless: int, *, may_stop: bool = False, without: str | None = None
    ) -> None:
        assert without is None or without in RULES
        self._rules = {rule: rule != without for rule in RULES}
        # The dispatcher has just claimed, and called a thread.
        idle = ("idle",) * (threads - 1)
        self.start = State(
            threads=("called", *idle), dispatcher="rest", is_told=False, holder=None, batch=0,
            finished=0, ready=rows, calling=0, more=more, endless=endless, news=1, may_stop=may_stop, stop_asked=False,
            is_stopping=False,
        )  # fmt: skip

    def explore(self) -> int:
        """Go through every state that can be reached; returns how many.

        Raises:
            Stranded: in one of them something waits for ever.
        """
        return explore(self.start, lambda state: map(_alike, self._steps(state)), self._check)

    def _check(self, state: State, _: bool) -> None:
        # A thread inside a step is no help: the step may last for ever. What is ready waits for one that is idle.
        waits = state.finished or (state.ready and ("idle" in state.threads or state.is_stopping))
        is_seen_to = state.holder is not None or any(thread in _AT_WORK for thread in state.threads)
        if waits and not is_seen_to and not state.is_told and state.dispatcher == "sleep":
            raise Stranded(state)

    def _steps(self, state: State) -> Iterator[State]:
        for number, step in enumerate(state.threads):
            yield from self._thread(state, number, step)
        yield from self._dispatch(state)
        if state.may_stop:
            yield state._replace(may_stop=False, stop_asked=True, is_told=True)

    def _wants_leader(self, state: State) -> bool:
        is_left_to_it = state.stop_asked or state.dispatcher in _AWAKE
        return not is_left_to_it and state.holder is None and state.finished > 0

    def _call(self, state: State) -> State:
        if not state.ready and not self._wants_leader(state):
            return state
        if "idle" not in state.threads:
            if self._wants_leader(state) and self._rules["the dispatcher is told where every thread is at work"]:
                return state._replace(is_told=True)
            return state
        if state.calling is not None:
            return state
        number = state.threads.index("idle")
        return _at(state, number, "called")._replace(calling=number)

    def _thread(self, state: State, number: int, step: str) -> Iterator[State]:
        match step:
            case "called":
                yield _at(state, number, "take")._replace(calling=None if state.calling == number else state.calling)
            case "take":
                if not state.ready:
                    yield _at(state, number, "lead")
                    return
                taken = _at(state, number, "run")._replace(ready=state.ready - 1)
                if self._rules["who takes a step calls another if more is ready or a turn is wanted"]:
                    taken = self._call(taken)
                yield taken
            case "run":
                yield _at(state, number, "tell")._replace(finished=state.finished + 1)
                if state.endless:
                    yield _at(state, number, "for ever")._replace(endless=state.endless - 1)
            case "tell":
                rules = self._rules
                stopping = state.stop_asked and rules["a step that ends while stopping tells the dispatcher"]
                is_awake = state.dispatcher in _AWAKE
                tells = stopping or (is_awake and rules["a step that ends while the dispatcher is awake tells it"])
                yield _at(state, number, "take")._replace(is_told=state.is_told or tells)
            case "lead":
                yield _at(state, number, "try" if self._wants_leader(state) else "look again")
            case "try":
                looks = self._rules["whoever leads looks at the stop with the turn in hand"]
                if state.is_stopping and looks:
                    yield _at(state, number, "look again")._replace(is_told=True)
                elif state.holder is None:
                    yield _at(state, number, "settle")._replace(holder=number, batch=state.finished, finished=0)
                else:
                    yield _at(state, number, "look again")
            case "settle":
                after = "take" if state.batch else "look again"  # another one may have been there first
                for going_on in range(min(state.batch, state.more) + 1):
                    if going_on and state.is_stopping:
                        raise Stranded(state)  # handed out once stopping: nobody would release it
                    yield _at(state, number, after)._replace(
                        holder=None, batch=0, ready=state.ready + going_on, more=state.more - going_on
                    )
            case "look again":
                wanted = self._wants_leader(state) and self._rules["a thread that led, or could not, looks again"]
                yield _at(state, number, "take" if wanted else "leave")
            case "leave":
                if state.ready:
                    yield _at(state, number, "take")
                else:
                    left = _at(state, number, "idle")
                    is_last = all(thread == "idle" for thread in left.threads)
                    yield left._replace(is_told=left.is_told or is_last)

    def _dispatch(self, state: State) -> Iterator[State]:
        match state.dispatcher:
            case "sleep":
                if state.is_told:
                    yield state._replace(dispatcher="wake", is_told=False)
                elif state.news:
                    yield state._replace(dispatcher="wake", news=state.news - 1)
            case "wake":
                yield state._replace(dispatcher="turn")
            case "turn":
                if state.holder is None:
                    batch = state.finished + (state.ready if state.stop_asked else 0)  # what is ready is released
                    ready = 0 if state.stop_asked else state.ready
                    yield state._replace(
                        dispatcher="settle", holder=DISPATCHER, batch=batch, finished=0, ready=ready,
                        is_stopping=state.stop_asked,
                    )  # fmt: skip
            case "settle":
                after = "turn" if state.batch else "rest"
                for going_on in range(1 if state.is_stopping else min(state.batch, state.more) + 1):
                    settled = state._replace(
                        dispatcher=after, holder=None, batch=0, ready=state.ready + going_on, more=state.more - going_on
                    )
                    yield self._call(settled) if going_on else settled  # what is handed out has a thread called
            case "rest":
                yield state._replace(dispatcher="sleep")


def _alike(state: State) -> State:
    """Return the one state that stands for all that differ only in which thread is which: each does what any does."""
    order = sorted(range(len(state.threads)), key=lambda n: (state.threads[n], n == state.holder, n == state.calling))
    places = {number: place for place, number in enumerate(order)}
    return state._replace(
        threads=tuple(state.threads[number] for number in order),
        holder=state.holder if state.holder is None else places.get(state.holder, state.holder),
        calling=None if state.calling is None else places.get(state.calling, state.calling),
    )


def _at(state: State, number: int, step: str) -> State:
    return state._replace(threads=(*state.threads[:number], step, *state.threads[number + 1 :]))
