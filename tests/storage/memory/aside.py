"""A thread of its own where a signal's handler could interrupt, so that no handler finds anything half done."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def aside(call: Callable[[], _T]) -> _T:
    """Return what ``call`` does; called on the main thread, it runs on another.

    A handler that raises leaves its caller not knowing; the call goes on to its end.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return call()
    value: list[_T] = []
    error: list[BaseException] = []
    # A bare lock: a handler that raises inside an Event or a Condition can leave their locks held.
    over = threading.Lock()
    over.acquire()

    def run() -> None:
        try:
            value.append(call())
        except BaseException as caught:
            error.append(caught)
        finally:
            over.release()

    _thread.start_new_thread(run, ())
    over.acquire()
    if error:
        raise error[0]
    return value[0]
