"""What waits to be written: operations, each with the answer it gets, and the calls that they came in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from taquba_workflow_sync.storage.relational.transaction import Transaction


class Operation(Protocol):
    """One caller's part of a transaction; it guards before it writes, so a refusal leaves nothing behind."""

    def __call__(self, tx: Transaction, /) -> Any:
        """Do it."""
        ...


@runtime_checkable
class Retractable(Protocol):
    """An operation whose answer must reach its caller, or be taken back."""

    def to_retract(self, answer: Any) -> Sequence[Operation]:
        """Return the operations that take it back."""
        ...


class PendingWrite:
    """An operation on its way through a transaction, and its answer once it has one."""

    __slots__ = ("error", "is_done", "operation", "value")

    def __init__(self, operation: Operation) -> None:
        self.operation: Operation = operation
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_done: bool = False

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self.error = error
        self.is_done = True

    def answer(self) -> Any:
        """Return the operation's value, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.value


#: Runs the operations of a batch that go together better than one by one; returns those left to run singly.
Bulk = Callable[[Transaction, Sequence[PendingWrite]], Sequence[PendingWrite]]


class PendingCall:
    """The writes of one call, and the bare lock that its caller sleeps on.

    ``is_gone``: its caller was interrupted and waits no more; what has not begun need not happen. ``can_lead``: its
    caller is a thread of ours, which may commit for all.
    """

    __slots__ = ("can_lead", "is_done", "is_gone", "wake", "writes")

    def __init__(self, operations: Sequence[Operation], *, can_lead: bool = False) -> None:
        self.can_lead: bool = can_lead
        self.writes: list[PendingWrite] = [PendingWrite(operation) for operation in operations]
        self.is_done: bool = False
        self.is_gone: bool = False
        self.wake: threading.Lock = threading.Lock()
        self.wake.acquire()

    def to_retract(self) -> list[Operation]:
        """Return what takes back what nobody was told of: claims, which would else be held until their leases end."""
        operations: list[Operation] = []
        for write in self.writes:
            if isinstance(write.operation, Retractable) and write.is_done and write.error is None:
                operations += write.operation.to_retract(write.value)
        return operations

    def finish(self) -> None:
        """Have the caller take its answers; nobody but who commits calls this, and once."""
        self.is_done = True
        self.notify()

    def notify(self) -> None:
        """Wake the caller: it is done, or may lead; told both at once, it finds out by looking."""
        try:
            self.wake.release()
        except RuntimeError:
            pass  # it was woken before and has not looked yet


def settle_all(batch: Sequence[PendingWrite]) -> None:
    """Let the answers hold: they are committed."""
    for write in batch:
        write.is_done = True


def fail_all(batch: Sequence[PendingWrite], error: BaseException) -> None:
    """Answer everyone with an error."""
    if len(batch) == 1:
        batch[0].fail(error)
        return
    for write in batch:
        # Each caller gets an exception of its own: two threads raising one would share its traceback.
        own = type(error)(*error.args)
        own.__cause__ = error.__cause__ or error.__context__
        write.fail(own)
