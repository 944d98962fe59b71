"""The open stores of this process, by alias, each opened when it is first used; they bear a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from functools import cache

from django.core.exceptions import ImproperlyConfigured

from taquba_workflow_sync.contrib.django.conf import DEFAULT_ALIAS, aliases, problems_of_setting, settings_of
from taquba_workflow_sync.contrib.django.immediate import immediate
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.served import Served


@cache
def stores() -> Stores:
    """Return those of this process.

    Not kept on the app: a test that hides apps (``available_apps``) must find the stores that are open.
    """
    return Stores()


def store(alias: str = DEFAULT_ALIAS) -> Queue:
    """Return the open store of an alias of ``TAQUBA``, opened now if it was not; never close it.

    Raises:
        ImproperlyConfigured: there is no such alias, or what it says is wrong.
        StorageError, StoreInUseError and the rest: as for ``Queue.open``.
    """
    return stores().queue(alias)


class Stores:
    """Opens each alias once in a process."""

    def __init__(self) -> None:
        #: What works on an alias in immediate mode; the app says it, which knows the flows.
        self.served_by: Callable[[str], Iterable[Served]] = lambda alias: ()
        self._open: dict[str, tuple[Queue, bool]] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def queue(self, alias: str) -> Queue:
        """Return the store of an alias; where it is immediate, one that has the steps done before a call returns."""
        plain, is_immediate = self._opened(alias)
        return immediate(plain, lambda: self.served_by(alias)) if is_immediate else plain

    def plain(self, alias: str) -> Queue:
        """Return the store of an alias, which does nothing by itself."""
        return self._opened(alias)[0]

    def is_immediate(self, alias: str) -> bool:
        """Whether what is submitted to an alias is worked on before the call returns."""
        return self._opened(alias)[1]

    def _opened(self, alias: str) -> tuple[Queue, bool]:
        with self._process_lock():
            found = self._open.get(alias)
            # A worker closes what it has worked on; whoever asks next in this process opens it anew.
            if found is None or found[0].handle.is_closed:
                found = self._open[alias] = _opened(alias)
            return found

    def close(self) -> None:
        """Close all of them; who asks again opens them again, by the settings of then."""
        with self._process_lock():
            queues = [queue for queue, _ in self._open.values()]
            self._open.clear()
        for queue in queues:
            queue.close()

    def _process_lock(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A forked child: the thread that may have held the lock is not here. The stores themselves bear a fork.
            self._pid = os.getpid()
            self._lock = threading.Lock()
        return self._lock


def _opened(alias: str) -> tuple[Queue, bool]:
    if alias not in aliases():
        wrong = problems_of_setting()
        known = ", ".join(repr(each) for each in aliases()) or "none"
        why = wrong[0].text if wrong else f"TAQUBA has no alias {alias!r}; it has {known}"
        raise ImproperlyConfigured(why)
    found = settings_of(alias)
    if found.errors:
        raise ImproperlyConfigured(f"{found.errors[0].text} {found.errors[0].hint}")
    assert found.path is not None
    return Queue.open(found.path, **found.options), found.is_immediate
