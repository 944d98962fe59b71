"""What a step has done already is not done again: results noted durably, under the claim, each once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.memo import MemoScope

#: The most bytes of one value.
MOST_VALUE_BYTES: Final = 2**20


class Memo:
    """Noted results of a step (``step.memo``) or of a whole run (``step.run_memo``).

    A step's entries stay for its later attempts, also after a failure and a retry; they go with the end of the step,
    when that is an advance, a success or a cancellation. A run's are seen by all its steps and stay as long as the run
    is kept. Usable from several threads. Keys have 1 to 512 bytes of UTF-8 without U+0000, values up to 1 MiB; a memo
    has up to 10,000 entries, and a run's memos with its buffered signals up to 64 MiB, keys counted.
    """

    def __init__(self, handle: QueueHandle, row: ClaimedRow, scope: MemoScope) -> None:
        self._handle = handle
        self._row = row
        self._scope = scope
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}

    def get(self, key: str) -> bytes | None:
        """Return what is noted under a key, or None.

        Raises:
            TypeError, ValueError: ``key`` is none.
        """
        checked = validation.key(key)
        return self._handle.memo_get(self._row.id, self._scope, self._row.step, checked)

    def put(self, key: str, value: bytes) -> bytes:
        """Note a value if nothing is noted under the key; return what is noted then. Durable on return.

        The first write wins, also over attempts: a repeat changes nothing. A requested cancellation is no obstacle.

        Raises:
            ClaimLostError: the step's claim was lost; nothing was noted.
            MemoFullError: there is no room; nothing was noted.
            PayloadTooLargeError, TypeError, ValueError: an argument is wrong; nothing was noted.
        """
        checked = validation.key(key)
        return self._handle.memo_put(self._row.id, self._row.token, self._scope, checked, checked_value(value))

    def call(self, key: str, function: Callable[..., bytes], /, *args: Any, **kwargs: Any) -> bytes:
        """Return what is noted under a key; if nothing is, call ``function``, note what it returns, and return that.

        Once it is noted, it is never called again, however often the step is repeated. An exception of it is raised
        and nothing noted; killed between its return and the note, it is called again. Of several threads that ask for
        one key at once, one calls and the others wait for it.

        Raises:
            RuntimeError: ``function`` asks for the same key itself.
            TypeError: ``function`` cannot be called, or returned no bytes; nothing was noted.
            ClaimLostError, MemoFullError, PayloadTooLargeError, ValueError: as for :meth:`put`.
        """
        checked = validation.key(key)
        if not callable(function):
            raise TypeError(f"function must be callable, not {type(function).__name__}")
        with _Turn(self, checked):
            noted = self._handle.memo_get(self._row.id, self._scope, self._row.step, checked)
            if noted is not None:
                return noted
            return self.put(checked, function(*args, **kwargs))

    def keys(self) -> list[str]:
        """Return the keys in the order they were written."""
        return self._handle.memo_keys(self._row.id, self._scope, self._row.step)


class _Flight:
    """One key being called for: by whom, and the lock that the others wait on."""

    __slots__ = ("lock", "thread", "waiting")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.waiting = 0


class _Turn:
    """One thread's turn at a key of a memo; another one's comes after it."""

    __slots__ = ("_flight", "_key", "_memo")

    def __init__(self, memo: Memo, key: str) -> None:
        self._memo = memo
        self._key = key

    def __enter__(self) -> None:
        memo = self._memo
        with memo._lock:
            flight = memo._flights.setdefault(self._key, _Flight())
            if flight.thread == threading.get_ident():
                raise RuntimeError(
                    f"memo.call for key {self._key!r} was made by the function that it calls; give it another key"
                )
            flight.waiting += 1
        self._flight = flight
        flight.lock.acquire()
        flight.thread = threading.get_ident()

    def __exit__(self, *error: object) -> None:
        memo, flight = self._memo, self._flight
        flight.thread = None
        flight.lock.release()
        with memo._lock:
            flight.waiting -= 1
            if not flight.waiting:
                memo._flights.pop(self._key, None)


def checked_value(value: object) -> bytes:
    """Return a checked value."""
    return validation.value(value, MOST_VALUE_BYTES)
