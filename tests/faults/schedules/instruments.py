"""What the actors yield at: SQL statements, lock files, paths, locks, clocks, shared memory; wrapped from outside."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Final
from unittest import mock

import diskcache.core
import filelock

from taquba_workflow_sync.queue import claiming as bare_claiming
from taquba_workflow_sync.queue import handle, running
from taquba_workflow_sync.storage.embedded import (
    access,
    cache,
    changes,
    checkpoint,
    commit,
    connections,
    filesystem,
    lifecycle,
    opening,
    owners,
    store,
)
from taquba_workflow_sync.storage.embedded import locks as locks_module
from taquba_workflow_sync.storage.port import worker as worker_module
from taquba_workflow_sync.storage.relational import claims_seen, clerk, gate, group_commit, pending, presence
from taquba_workflow_sync.storage.relational.transitions import claim as claiming
from taquba_workflow_sync.storage.relational.transitions import end as ending
from taquba_workflow_sync.storage.relational.transitions import hold as holding
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.workflow import client as client_module
from taquba_workflow_sync.workflow import endings

from .scheduler import SHORT_WAIT, Touch, actor_here, new_name, reads, signal, wait_for, writes, yield_point

DATABASE: Final = "database"
WRITE_LOCK: Final = "write lock"
OWNERS: Final = "owners/"
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY)
_real_connect = sqlite3.connect


# -- SQL --------------------------------------------------------------------------------------------------------------


class YieldingConnection(sqlite3.Connection):
    """Yields before every statement; waits for a busy file as its timeout says, but among the actors.

    It never syncs, whatever it says of itself: no power is cut here, and thousands of stores are opened.
    """

    patience = 0.0
    synchronous = 2
    has_write_lock = False
    has_snapshot = False
    changes_before = 0

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement.startswith("PRAGMA busy_timeout"):
            self.patience = 0.0
            return super().execute("PRAGMA busy_timeout")
        if statement.startswith("PRAGMA synchronous"):
            yield_point(statement)
            _, _, value = statement.partition("=")
            self.synchronous = int(value or self.synchronous)
            return super().execute("SELECT ?", (self.synchronous,))
        return self._run(super().execute, statement, *parameters)

    def executemany(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        return self._run(super().executemany, statement, *parameters)

    def close(self) -> None:
        # The close of the last connection moves the log into the file and removes it.
        yield_point("close a connection", writes(DATABASE), writes(WRITE_LOCK))
        super().close()
        self.has_write_lock = False
        signal(WRITE_LOCK)

    def _run(self, call: Any, statement: str, *parameters: Any) -> sqlite3.Cursor:
        label = _short(statement)
        while True:
            yield_point(label, *self._touches(label))
            was_inside = self.in_transaction
            if not was_inside:
                self.changes_before = self.total_changes
            try:
                cursor: sqlite3.Cursor = call(statement, *parameters)
                if (actor := actor_here()) is not None:
                    actor.was_refused_by = None
            except sqlite3.OperationalError as error:
                self._end_if_over(was_inside)
                if error.sqlite_errorcode not in _BUSY:
                    raise
                actor = actor_here()
                if actor is not None:
                    actor.was_refused_by = WRITE_LOCK
                if self.patience <= 0 or was_inside or not wait_for(WRITE_LOCK, self.patience):
                    raise
            except BaseException:
                self._end_if_over(was_inside)
                raise
            else:
                if self.in_transaction:
                    has_written = self.total_changes != self.changes_before
                    self.has_write_lock |= has_written or label.startswith("BEGIN IMMEDIATE")
                    self.has_snapshot |= self.has_write_lock or label.startswith("SELECT")
                self._end_if_over(was_inside)
                return cursor

    def _touches(self, label: str) -> tuple[Touch, ...]:
        word = label.partition(" ")[0]
        if label.startswith("BEGIN IMMEDIATE"):
            return writes(WRITE_LOCK), reads(DATABASE)
        if word in ("COMMIT", "ROLLBACK"):
            has_changed = word == "COMMIT" and self.total_changes != self.changes_before
            locks = (writes(WRITE_LOCK),) if self.has_write_lock else ()
            return (*locks, writes(DATABASE)) if has_changed else locks
        # Nobody sees what the holder of the write lock does before its COMMIT, and nobody else changes what it sees.
        if self.has_write_lock or label == "BEGIN":
            return ()
        if word in ("SELECT", "WITH"):
            return () if self.has_snapshot else (reads(DATABASE),)
        if word == "PRAGMA" and "=" not in label and "checkpoint" not in label:
            return (reads(DATABASE),)
        return writes(DATABASE), writes(WRITE_LOCK)

    def _end_if_over(self, was_inside: bool) -> None:
        if self.in_transaction:
            return
        actor = actor_here()
        if actor is not None and self.total_changes != self.changes_before:
            actor.written += self.total_changes - self.changes_before
        self.changes_before, self.has_snapshot = self.total_changes, False
        if was_inside or self.has_write_lock:
            self.has_write_lock = False
            signal(WRITE_LOCK)


def _short(statement: str) -> str:
    return re.sub(r"\s+", " ", statement)[:60]


def _connect(database: Any, *, timeout: float = 5.0, **options: Any) -> sqlite3.Connection:
    yield_point("connect", reads(DATABASE))
    options["check_same_thread"] = False
    connection = _real_connect(database, timeout=0, factory=YieldingConnection, **options)
    connection.patience = timeout
    sqlite3.Connection.execute(connection, "PRAGMA synchronous = OFF")
    return connection


def connect_unseen(path: Path) -> sqlite3.Connection:
    """A connection of the laboratory's own, which makes no yields."""
    return _real_connect(path, isolation_level=None, check_same_thread=False, timeout=1)


# -- lock files and paths ---------------------------------------------------------------------------------------------


class YieldingFileLock:
    """A lock file: the real lock, tried once, and the waiting done among the actors.

    Waiting for an owner may run out at any time, since an owner stays. Waiting for another's probe runs out only when
    nobody can go on: that a probe is over sooner is what the patience of the second one counts on.
    """

    _probed: ClassVar[set[str]] = set()

    def __init__(self, path: Path) -> None:
        self._name = _named(path)
        self._real = _real_lock(Path(path))

    @property
    def lock_file(self) -> str:
        return self._real.lock_file

    @property
    def is_locked(self) -> bool:
        yield_point(f"is_locked {self._name}")
        return self._real.is_locked

    def acquire(
        self, timeout: float | None = None, poll_interval: float | None = None, *, blocking: bool | None = None
    ) -> None:
        patience = 0.0 if blocking is False or timeout is None else timeout
        while True:
            makes_it = not os.path.exists(self._real.lock_file)
            yield_point(f"lock {self._name}", writes(self._name), *((writes(OWNERS),) if makes_it else ()))
            try:
                self._real.acquire(timeout=0)
                if timeout is None or timeout <= SHORT_WAIT:
                    self._probed.add(self._name)
                return
            except filelock.Timeout:
                if patience == 0:
                    raise
            if not wait_for(self._name, patience, once=self._name not in self._probed):
                patience = 0.0  # one last try, as at the end of a real wait

    def release(self) -> None:
        try:
            yield_point(f"unlock {self._name}", writes(self._name))
        finally:
            self._real.release()
            self._probed.discard(self._name)
            signal(self._name)


_real_lock = locks_module.lock_of


def _named(path: os.PathLike[str]) -> str:
    parts = Path(path).parts
    return "/".join(parts[-2:]) if parts[-2:-1] in (("owners",), ("db",)) else parts[-1]


class YieldingPath(type(Path())):  # type: ignore[misc]  # PosixPath; before 3.12 pathlib.Path cannot be subclassed itself
    """A path whose looks at the file system yield."""

    def is_file(self, **_: Any) -> bool:
        return self._look("is_file", os.path.isfile)

    def is_symlink(self) -> bool:
        return self._look("is_symlink", os.path.islink)

    def exists(self, **_: Any) -> bool:
        return self._look("exists", os.path.exists)

    def stat(self, **_: Any) -> os.stat_result:
        return self._look("stat", os.stat)

    def mkdir(self, mode: int = 0o777, **_: Any) -> None:
        yield_point(f"mkdir {_named(self)}", writes(_named(self)))
        os.mkdir(self, mode)

    def unlink(self, missing_ok: bool = False) -> None:
        yield_point(f"unlink {_named(self)}", writes(_named(self)), writes(OWNERS))
        try:
            os.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise
        signal(_named(self))

    def _look(self, what: str, function: Any) -> Any:
        yield_point(f"{what} {_named(self)}", reads(_named(self)))
        return function(self)


def _list_directory(path: os.PathLike[str]) -> list[str]:
    yield_point(f"listdir {_named(path)}", reads(OWNERS))
    return sorted(os.listdir(path))


def _identify(path: os.PathLike[str]) -> os.stat_result:
    yield_point(f"os.stat {_named(path)}", reads(_named(path)))
    return os.stat(path)


def _open_file(path: Any, *arguments: Any) -> int:
    yield_point(f"os.open {_named(path)}", writes(_named(path)), writes(DATABASE))
    return os.open(path, *arguments)


# -- locks, queues and sets in memory ---------------------------------------------------------------------------------


def _named_by_maker(kind: str) -> str:
    maker, number = new_name(kind)
    return f"{kind} {maker}{number}"


class YieldingLock:
    """A lock of one process, waited for among the actors."""

    def __init__(self) -> None:
        self.name = _named_by_maker("lock")
        self._is_held = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        yield_point(f"acquire {self.name}", writes(self.name))
        while self._is_held:
            if not blocking or (not wait_for(self.name, timeout) and self._is_held):
                return False
        self._is_held = True
        return True

    def release(self) -> None:
        try:
            yield_point(f"release {self.name}", writes(self.name))
        finally:
            if not self._is_held:
                raise RuntimeError("release unlocked lock")
            self._is_held = False
            signal(self.name)

    def locked(self) -> bool:
        yield_point(f"look at {self.name}", reads(self.name))
        return self._is_held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class YieldingWakeUp:
    """What one thread sleeps on and any may notify; a notify that comes before the wait is kept."""

    def __init__(self) -> None:
        self._name = _named_by_maker("wake-up")
        self._is_told = False

    def notify(self) -> None:
        yield_point(f"notify {self._name}", writes(self._name))
        self._is_told = True
        signal(self._name)

    def wait(self, timeout: float | None) -> bool:
        yield_point(f"wait for {self._name}", writes(self._name))
        if not self._is_told:
            wait_for(self._name, -1 if timeout is None else timeout)
        is_told, self._is_told = self._is_told, False
        return is_told


class YieldingDict(dict[object, Any]):
    """Who is inside, and who is in line: changed by single calls into C, before each of which there is a yield."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __setitem__(self, key: object, value: Any) -> None:
        yield_point(f"come to {self._name}", writes(self._name))
        super().__setitem__(key, value)

    def pop(self, *arguments: Any) -> Any:
        try:
            yield_point(f"leave {self._name}", writes(self._name))
        finally:
            answer = super().pop(*arguments)
        return answer

    def __iter__(self) -> Iterator[object]:
        yield_point(f"look at {self._name}", reads(self._name))
        # tuple() of a plain dict is one step; of this one it asks for the length after the iterator.
        return iter(list(super().__iter__()))

    def __len__(self) -> int:
        yield_point(f"count {self._name}", reads(self._name))
        return super().__len__()

    def values(self) -> Any:
        yield_point(f"look into {self._name}", reads(self._name))
        return super().values()


class YieldingList(list[Any]):
    """Who has shut a gate."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def append(self, each: Any) -> None:
        yield_point(f"add to {self._name}", writes(self._name))
        super().append(each)

    def pop(self, *arguments: Any) -> Any:
        try:
            yield_point(f"take from {self._name}", writes(self._name))
        finally:
            answer = super().pop(*arguments)
        return answer

    def __iter__(self) -> Iterator[Any]:
        yield_point(f"iterate {self._name}", reads(self._name))
        return iter(list(super().__iter__()))

    def __len__(self) -> int:
        yield_point(f"any in {self._name}?", reads(self._name))
        return super().__len__()


class YieldingGate(gate.Gate):
    """A gate that yields before each look at what is shared, and before each change of it."""

    def __init__(self) -> None:
        super().__init__()
        name = _named_by_maker("gate")
        self._inside = YieldingDict(name)
        self.leave = self._inside.pop  # type: ignore[misc, assignment]  # of the other dict, before
        self._shut = YieldingList(f"shut {name}")

    def forget(self) -> None:
        """Count nobody: after a deadlock those inside are threads that have ended."""
        dict.clear(self._inside)
        list.clear(self._shut)


class YieldingRoom(gate.Room):
    """The same of a room: the readers' connections, and the turn to commit."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._line = YieldingDict(_named_by_maker("room"))
        self.leave = self._line.pop  # type: ignore[misc, assignment]  # of the other dict, before

    def forget(self) -> None:
        """Have nobody in line: after a deadlock those are threads that have ended."""
        dict.clear(self._line)


class YieldingCall(pending.PendingCall):
    """A call whose look at ``is_done`` yields."""

    __slots__ = ("_is_done", "_name")

    def __init__(self, operations: Any) -> None:
        self._name = _named_by_maker("call")
        super().__init__(operations)

    @property
    def is_done(self) -> bool:  # type: ignore[override]
        yield_point("is_done?", reads(self._name))
        return self._is_done

    @is_done.setter
    def is_done(self, value: bool) -> None:
        yield_point("is_done!", writes(self._name))
        self._is_done = value


class YieldingDeque(deque[Any]):
    """The line of calls that wait for a commit."""

    def __init__(self) -> None:
        super().__init__()
        self._name = _named_by_maker("line")

    def append(self, item: Any) -> None:
        yield_point(f"append to {self._name}", writes(self._name))
        super().append(item)

    def popleft(self) -> Any:
        yield_point(f"popleft from {self._name}", writes(self._name))
        return super().popleft()

    def remove(self, item: Any) -> None:
        yield_point(f"remove from {self._name}", writes(self._name))
        super().remove(item)

    def __len__(self) -> int:
        yield_point(f"any in {self._name}?", reads(self._name))
        return super().__len__()


class Starts:
    """What starts a clerk: as one more actor where that is allowed, else as where no thread can be started.

    Then each caller commits its own call, in its own thread.
    """

    def __init__(self) -> None:
        self.are_allowed = False

    def start_new_thread(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> int:
        actor = actor_here()
        if not self.are_allowed or actor is None:
            raise RuntimeError("can't start new thread")
        yield_point("start a clerk")
        actor.schedule.start(lambda: function(*arguments))
        return 0


def _sleep_while_busy(_: float) -> None:
    """After a statement that was answered busy until the write lock may be free, else for a moment."""
    actor = actor_here()
    if actor is not None and actor.was_refused_by is not None:
        wait_for(actor.was_refused_by, -1)
    else:
        yield_point("rest")


class Pause:
    """What a transaction that found the store busy pauses on: nobody ever notifies it."""

    def wait(self, timeout: float | None) -> bool:
        _sleep_while_busy(0.0 if timeout is None else timeout)
        return False


class RunningSet(Collection[str]):
    """The tokens whose steps run in this process."""

    def __init__(self) -> None:
        self.tokens: set[str] = set()

    def __contains__(self, token: object) -> bool:
        yield_point("token in running", reads("running"))
        return token in self.tokens

    def __iter__(self) -> Iterator[str]:
        yield_point("iterate running", reads("running"))
        return iter(sorted(self.tokens))

    def __len__(self) -> int:
        return len(self.tokens)

    def discard(self, token: str) -> None:
        yield_point("discard from running", writes("running"))
        self.tokens.discard(token)

    def add(self, token: str, _: object = None) -> None:
        yield_point("add to running", writes("running"))
        self.tokens.add(token)

    def watch(self, token: str, event: object) -> None:
        """Nobody waits for the event of a bare claim here."""

    def cancel(self, token: str) -> None:
        yield_point("cancel in running", reads("running"))


# -- time and chance --------------------------------------------------------------------------------------------------


class YieldingClock(ManualClock):
    """A wall clock that yields when it is read and when it is moved."""

    def now(self) -> datetime:
        yield_point("read the clock", reads("clock"))
        return super().now()

    def advance(self, seconds: Any) -> None:
        yield_point("move the clock", writes("clock"))
        super().advance(seconds)


class Instruments:
    """What the patches share: one monotonic time, and one source of names that are the same in every run."""

    def __init__(self) -> None:
        self.monotonic_now = 1000.0
        #: What runs in this process, for all that look: patched in wherever ``RUNNING`` was imported.
        self.running = RunningSet()
        self.starts = Starts()

    def monotonic(self) -> float:
        yield_point("read the monotonic clock", reads("monotonic"))
        return self.monotonic_now

    @staticmethod
    def token_hex(size: int) -> str:
        maker, number = new_name("token")
        return f"{ord(maker):02x}{number:0{2 * size - 2}x}"

    @staticmethod
    def new_ulid() -> str:
        maker, number = new_name("id")
        return f"J-{maker}{number}"


def _like(module: Any, **changed: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(module), **changed})


def _sync_nothing(_: Path) -> None:
    """No power is cut here."""


#: The modules whose monotonic time is the schedule's. One that was left out would wait by another clock, for ever.
TIMED: Final = (access, changes, checkpoint, claims_seen, clerk, commit, gate, handle, lifecycle, opening, store)


@contextmanager
def instrumented() -> Iterator[Instruments]:
    """Wrap the engine for as long as the block runs; threads that are no actors notice nothing."""
    shared = Instruments()
    clock = _like(time, monotonic=shared.monotonic)
    locks = _like(threading, Lock=YieldingLock)
    database = _like(sqlite3, connect=_connect)
    chance = _like(claiming.secrets, token_hex=shared.token_hex)
    patches: Iterable[tuple[Any, str, Any]] = (
        (cache, "sqlite3", database),
        (cache, "os", _like(os, open=_open_file)),
        (diskcache.core, "sqlite3", database),
        (diskcache.core, "time", _like(time, sleep=_sleep_while_busy)),
        (connections, "os", _like(os, stat=_identify)),
        # Each use looks at the files: whether a directory's change is long ago, the wall clock would say.
        (connections, "time", _like(time, time_ns=lambda: 0)),
        (connections, "Gate", YieldingGate),
        (connections, "Room", YieldingRoom),
        (group_commit, "Room", YieldingRoom),
        (group_commit, "threading", locks),
        (group_commit, "deque", YieldingDeque),
        (group_commit, "PendingCall", YieldingCall),
        (pending, "threading", locks),
        (clerk, "threading", locks),
        (clerk, "_thread", shared.starts),
        # The thread of an actor lives on for a moment after its clerk has ended.
        (clerk, "os", SimpleNamespace(path=SimpleNamespace(exists=lambda _: False))),
        (commit, "WakeUp", Pause),
        (lifecycle, "threading", locks),
        *((module, "WakeUp", YieldingWakeUp) for module in (clerk, gate, lifecycle, opening)),
        *((module, "time", clock) for module in TIMED),
        *((module, "sync_directory", _sync_nothing) for module in (filesystem, lifecycle, opening)),
        (opening, "sync_path", _sync_nothing),
        (locks_module, "lock_of", YieldingFileLock),
        (owners, "lock_of", YieldingFileLock),
        (owners, "os", _like(os, listdir=_list_directory)),
        *((module, "secrets", chance) for module in (claiming, ending, holding)),
        (worker_module, "new_ulid", lambda: shared.token_hex(8)),
        *((module, "RUNNING", shared.running) for module in (running, handle, bare_claiming, endings)),
        (client_module, "new_ulid", shared.new_ulid),
    )
    with ExitStack() as stack:
        for module, name, value in patches:
            stack.enter_context(mock.patch.object(module, name, value))
        # A default is bound when the function is made: patching the module would not reach it.
        stack.enter_context(mock.patch.dict(presence.Watch.__init__.__kwdefaults__, monotonic=shared.monotonic))
        yield shared


def close_quietly(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.close()
