"""Which store a flow works on: the one given, the one used here, the one it is bound to; in that order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from taquba_workflow_sync.flow.errors import FlowNotBoundError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.queue import Queue

Source = Queue | Callable[[], Queue]


class Binding:
    """The stores of one flow."""

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self._used: ContextVar[Queue | None] = ContextVar(f"taquba flow {flow}", default=None)
        self._bound: Source | None = None

    def bind(self, source: Source | None) -> None:
        """Work on this store from now on where no other is said; a function is asked each time."""
        if source is not None and not isinstance(source, Queue) and not callable(source):
            raise TypeError(f"bind takes a Queue or a function that returns one, not a {type(source).__name__}")
        self._bound = source

    @contextmanager
    def using(self, queue: Queue) -> Iterator[Queue]:
        """Work on this store inside the block, in this thread."""
        token = self._used.set(_checked(queue, "queue"))
        try:
            yield queue
        finally:
            self._used.reset(token)

    def queue(self, given: Queue | None) -> Queue:
        """Return the store to work on.

        Raises:
            FlowNotBoundError: there is none.
            TypeError: what was given, or what the bound function returned, is no Queue.
        """
        if given is not None:
            return _checked(given, "queue")
        used = self._used.get()
        if used is not None:
            return used
        if self._bound is None:
            raise FlowNotBoundError(
                f"flow {self._flow!r} knows no store: pass queue=, or work inside `with flow.using(queue)`, or call"
                " flow.bind(queue) once"
            )
        if isinstance(self._bound, Queue):
            return self._bound
        return _checked(self._bound(), "what the function given to bind returns")


def _checked(queue: Queue, name: str) -> Queue:
    validation.instance(queue, Queue, name)
    return queue
