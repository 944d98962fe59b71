"""Where the time of a step goes, with one worker: part by part and statement by statement, in microseconds.

The parts are timed on the pool's thread, which with one worker runs the step, settles it and commits. A part's time is
its own: what the parts and statements that it calls take is theirs. So the table adds up to the time of a step; timing
it costs about a microsecond for each part, which is in the figures.
"""

from __future__ import annotations

import importlib
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce, wraps
from typing import Any

from benchmarks.figures import Bench, Section
from benchmarks.steps import run_steps
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.relational import sql

_PACKAGE = "taquba_workflow_sync."
#: The outermost first; the others in the order in which a step meets them.
PARTS = {
    "the pool's loop": "queue.dispatch.pool:Pool._work",
    "the step: made, called, concluded": "queue.dispatch.pool:_execute",
    "taken, called, handed out (pool)": "queue.dispatch.pool:Pool.give",
    "who leads": "queue.dispatch.dispatcher:Dispatcher._lead",
    "a turn": "queue.dispatch.settling:Settler.settle_and_claim",
    "leave to hold is asked for": "queue.dispatch.settling:ask",
    "what to claim": "queue.dispatch.settling:Settler._requests",
    "what ended is let go of": "queue.dispatch.settling:Settler._let_go_of",
    "what goes on is handed out": "queue.dispatch.settling:Settler._hand_out",
    "the store's call": "storage.embedded.store:settle_and_claim",
    "repair looked at": "storage.embedded.access:Access.run",
    "in line for the commit": "storage.relational.group_commit:GroupCommit.run",
    "one transaction": "storage.embedded.commit:Transactor._transact",
    "inside the gate": "storage.embedded.commit:Transactor._try_once",
    "the files are the same (a stat of the directory)": "storage.embedded.connections:Connections.check_identity",
    "the transaction's state is made": "storage.relational.transaction:Transaction.__init__",
    "settled in bulk": "storage.embedded.commit:Transactor._fill",
    "which claims go on": "storage.relational.settling:choose",
    "held, advanced, ended": "storage.relational.settling:settle_in_bulk",
    "settled or claimed singly": "storage.embedded.commit:Transactor._run_one",
    "counters written": "storage.relational.transaction:Transaction.finish",
    "is a checkpoint due (a stat every 10 ms)": "storage.embedded.checkpoint:Checkpointer.run_if_due",
}
_ROOT = "the pool's loop"


class Profile:
    """Seconds and calls of each part, on threads that are inside the root."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self._stacks = threading.local()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``call`` with its own time noted under ``name``."""

        @wraps(call)
        def timed(*arguments: Any, **options: Any) -> Any:
            stack = getattr(self._stacks, "stack", None)
            if stack is None:
                if name != _ROOT:
                    return call(*arguments, **options)
                stack = self._stacks.stack = []
            began = time.perf_counter()
            stack.append(0.0)
            try:
                return call(*arguments, **options)
            finally:
                took = time.perf_counter() - began
                self.seconds[name] += took - stack.pop()
                self.calls[name] += 1
                if stack:
                    stack[-1] += took
                else:
                    self._stacks.stack = None

        return timed


class _Connection:
    """A connection whose statements are timed, each under the name that it has in ``sql``."""

    def __init__(self, connection: sqlite3.Connection, profile: Profile, names: dict[str, str]) -> None:
        self._connection = connection
        self._profile = profile
        self._names = names
        self._timed: dict[str, Callable[..., Any]] = {}

    def execute(self, statement: str, *arguments: Any) -> Any:
        timed = self._timed.get(statement)
        if timed is None:
            name = self._names.get(statement) or self._name_of_many(statement)
            timed = self._timed[statement] = self._profile.timed(f"SQL: {name}", self._connection.execute)
        return timed(statement, *arguments)

    def _name_of_many(self, statement: str) -> str:
        """Return the name of a statement that was made for some number of rows."""
        for text, name in self._names.items():
            before, values, after = text.partition("{values}")
            if values and statement.startswith(before) and statement.endswith(after):
                return name
        return " ".join(statement.split()[:2])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@contextmanager
def _instrumented(profile: Profile) -> Iterator[None]:
    """Have every part and every statement of the writer timed while the block runs."""
    undo: list[Callable[[], None]] = []

    def put(owner: Any, attribute: str, value: Any) -> None:
        undo.append(partial(setattr, owner, attribute, getattr(owner, attribute)))
        setattr(owner, attribute, value)

    for name, path in PARTS.items():
        module, _, attribute = path.partition(":")
        *owners, last = attribute.split(".")
        owner = reduce(getattr, owners, importlib.import_module(_PACKAGE + module))
        put(owner, last, profile.timed(name, getattr(owner, last)))
    names = {text: name for name, text in vars(sql).items() if isinstance(text, str)}
    original, proxies = Connections.writer, dict[sqlite3.Connection, _Connection]()

    def writer(self: Connections) -> Any:
        connection = original(self)
        if connection not in proxies:
            proxies[connection] = _Connection(connection, profile, names)
        return proxies[connection]

    put(Connections, "writer", writer)
    try:
        yield
    finally:
        for each in reversed(undo):
            each()


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Where the time of a step goes",
        "One worker, steps that do nothing, in microseconds a step: each part's own time, without that of the parts and"
        " statements in it, which are timed as well; of what a step does not meet each time, the mean. Timing costs"
        " about a microsecond for each call. `COMMIT` contains the fsync. The ratio is to the whole.",
    )
    steps = max(200, int(2_000 * bench.scale.seconds))
    plain = run_steps(bench.place, steps, 1)
    profile = Profile()
    with _instrumented(profile):
        timed = run_steps(bench.place, steps, 1)
    section.add("profile.plain", "a step, not timed inside", [1e6 / plain.steps_per_s], "µs")
    whole = sum(profile.seconds.values()) * 1e6 / steps
    section.add("profile.timed", "a step, timed inside", [1e6 / timed.steps_per_s], "µs")
    ranked = sorted(profile.seconds, key=lambda name: -profile.seconds[name])
    for name in ranked:
        mine = profile.seconds[name] * 1e6 / steps
        if mine < 0.05:
            continue
        times = profile.calls[name] / steps
        section.add(f"profile.{name}", f"{name}, {times:.2f} times", [mine], "µs", mine / whole, "the whole")
    return [section]
