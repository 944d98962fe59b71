"""What the engine's threads share in memory, and the actors yield at: locks, lines, gates, the start of a clerk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from types import SimpleNamespace
from typing import Any

from taquba_workflow_sync.storage.embedded import gate, pending

from .scheduler import actor_here, new_name, reads, signal, spawn, wait_for, writes, yield_point


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


def sleep_while_busy(_: float) -> None:
    """After a statement that was answered busy until the write lock may be free, else for a moment."""
    actor = actor_here()
    if actor is not None and actor.was_refused_by is not None:
        wait_for(actor.was_refused_by, -1)
    else:
        yield_point("rest")


class Pause:
    """A wake-up that nobody ever sends: what is slept on between two tries."""

    def notify(self) -> None:
        raise AssertionError("nobody waits for this one to be sent")

    def wait(self, timeout: float) -> bool:
        sleep_while_busy(timeout)
        return False


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
    """A line, of calls or of those who wait at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self._name = _named_by_maker("line")

    def append(self, item: Any) -> None:
        yield_point("append", writes(self._name))
        super().append(item)

    def popleft(self) -> Any:
        yield_point("popleft", writes(self._name))
        return super().popleft()

    def remove(self, item: Any) -> None:
        yield_point("remove", writes(self._name))
        super().remove(item)

    def __len__(self) -> int:
        yield_point("len", reads(self._name))
        return super().__len__()


class _YieldingPlaces(dict[Any, Any]):
    """Who is inside; leaving happens whatever becomes of the schedule, as the call into C does that it stands for."""

    def __init__(self) -> None:
        super().__init__()
        self._name = _named_by_maker("inside")

    def __setitem__(self, token: Any, value: Any) -> None:
        yield_point("come in", writes(self._name))
        super().__setitem__(token, value)

    def pop(self, token: Any, *default: Any) -> Any:
        try:
            yield_point("leave", writes(self._name))
        finally:
            value = super().pop(token, *default)
        return value

    def values(self) -> Any:
        yield_point("who is inside?", reads(self._name))
        return super().values()

    def __iter__(self) -> Iterator[Any]:
        yield_point("who is in line?", reads(self._name))
        return super().__iter__()


class _YieldingList(list[Any]):
    """Who has shut a gate."""

    def __init__(self) -> None:
        super().__init__()
        self._name = _named_by_maker("shut")

    def append(self, item: Any) -> None:
        yield_point("shut", writes(self._name))
        super().append(item)

    def pop(self) -> Any:  # type: ignore[override]
        yield_point("open", writes(self._name))
        return super().pop()

    def __len__(self) -> int:
        yield_point("is it shut?", reads(self._name))
        return super().__len__()


class YieldingGate(gate.Gate):
    """A gate whose every look and change yields."""

    def __init__(self) -> None:
        super().__init__()
        self._inside = _YieldingPlaces()
        self.leave = self._inside.pop  # type: ignore[misc, assignment]
        self._shut = _YieldingList()
        self._waiting = YieldingDeque()


class YieldingRoom(gate.Room):
    """A room whose every look and change yields."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._line = _YieldingPlaces()
        self.leave = self._line.pop  # type: ignore[misc, assignment]


class Starts:
    """What starts a clerk: as one more actor where that is allowed, else as where no thread can be started."""

    def __init__(self) -> None:
        self.is_allowed = False

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(start_new_thread=self._start)

    def _start(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> int:
        if not self.is_allowed or actor_here() is None:
            raise RuntimeError("can't start new thread")
        yield_point("start a clerk")
        spawn(lambda: function(*arguments))
        return 0


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

    def add(self, token: str) -> None:
        yield_point("add to running", writes("running"))
        self.tokens.add(token)
