"""Several processes that count in the same window of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.children import Work, child

WARMUP_SECONDS = 1.0


def rate_of(
    work: Work,
    urls: Sequence[str],
    seconds: float,
    *arguments: object,
    watch: Callable[[float, float], None] | None = None,
) -> list[Any]:
    """Run `work(pipe, url, *arguments)` in a process for each URL and return what each said after the window.

    A child says that it is ready, hears when the window begins and when it is over, and then says what it counted.
    `watch` is called with the same two times, and may look on meanwhile.
    """
    with ExitStack() as stack:
        children = [stack.enter_context(child(work, url, *arguments)) for url in urls]
        for each in children:
            each.hear()
        # It begins once everyone has been told of it and has had time to get going.
        began = time.monotonic() + WARMUP_SECONDS
        for each in children:
            each.tell((began, began + seconds))
        if watch is not None:
            watch(began, began + seconds)
        return [each.hear() for each in children]
