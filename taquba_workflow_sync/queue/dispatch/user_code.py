"""The way into the user's code, and out of it: marked on its thread, and only in the process that called it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

from taquba_workflow_sync.queue.running import RUNNING, Inside

_log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")


def calling(what: Inside, function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return ``function`` such that its thread is marked while it runs, and a forked child never returns from it.

    A child that a step forks has a copy of the pool thread it was forked in, and of nothing else that this library
    runs. If the step's code returns or raises there, the child would live on inside that thread, and settle, claim or
    hang; so it ends at once (``os._exit``), without the cleanup that belongs to its parent.
    """

    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        process = os.getpid()
        status = 0
        before = RUNNING.here()
        try:
            RUNNING.mark((*before, what))
            return function(*args, **kwargs)
        except SystemExit as error:
            status = _status_of(error)
            raise
        except BaseException as error:
            status = 1
            if os.getpid() != process:
                _log.error("a child that a step forked raised %s", type(error).__name__, exc_info=error)
            raise
        finally:
            RUNNING.mark(before)
            if os.getpid() != process:
                _end_child(status)

    return called


def _status_of(error: SystemExit) -> int:
    code = error.code
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _end_child(status: int) -> NoReturn:
    try:
        _log.warning("a child that a step forked came back from the step; it ends here, with status %d", status)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(status)
