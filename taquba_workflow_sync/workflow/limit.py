"""Limits as users give and see them."""

from __future__ import annotations

from dataclasses import dataclass

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.limit import MOST_CLAIMS, HoldFor, Rate
from taquba_workflow_sync.storage.port.limit import Limit as StoredLimit


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of a queue, or of its keys, as it is set; see :meth:`WorkflowClient.set_limit`.

    ``key`` None: the queue's own. ``rate``: so many claims, in so many seconds.
    """

    key: str | None
    concurrency: int | None
    rate: tuple[int, float] | None
    hold: str
    max_waiting: int | None


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """What there is of a key, or with ``key`` None of the whole queue: how many of its jobs are claimed, and how many
    runs are parked, which wait for their key and stand in no line."""

    key: str | None
    claimed: int
    parked: int


def checked(key: object, concurrency: object, rate: object, hold: object, max_waiting: object) -> StoredLimit:
    """Return a limit to set.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    if concurrency is None and rate is None and max_waiting is None:
        raise ValueError("give concurrency, rate or max_waiting; clear_limit removes a limit")
    if not isinstance(hold, str):
        raise TypeError(f"hold must be a str, not {type(hold).__name__}")
    if hold not in tuple(HoldFor):
        raise ValueError(f"hold is {validation.shown(hold)}; it must be one of {', '.join(HoldFor)}")
    pattern = pattern_of(key)
    if pattern is None and hold == HoldFor.RUN:
        raise ValueError("hold='run' needs a key: a queue's own limit counts claims and keeps no slots")
    return StoredLimit(
        pattern,
        None if concurrency is None else validation.integer(concurrency, "concurrency", least=1),
        None if rate is None else _rate(rate),
        HoldFor(hold),
        None if max_waiting is None else validation.integer(max_waiting, "max_waiting", least=0),
    )


def pattern_of(key: object) -> str | None:
    """Return which keys a limit is of, checked: None the queue itself, a key, or the beginning of keys and ``*``."""
    if key is None:
        return None
    if isinstance(key, str) and key.endswith("*"):
        return validation.limit_key(key[:-1], "key", least=0) + "*"
    return validation.limit_key(key, "key")


def _rate(rate: object) -> Rate:
    if not isinstance(rate, (tuple, list)):
        raise TypeError(f"rate must be a pair (claims, seconds), not {type(rate).__name__}")
    if len(rate) != 2:
        raise ValueError(f"rate is {validation.shown(rate)}; it must be a pair (claims, seconds)")
    most, window = rate
    return Rate(
        validation.integer(most, "rate[0]", least=1, most=MOST_CLAIMS),
        validation.duration_ms(window, "rate[1]", least=1),
    )


def shown(limit: StoredLimit) -> Limit:
    """Return a stored limit as it is shown."""
    rate = None if limit.rate is None else (limit.rate.most, limit.rate.window_ms / 1000)
    return Limit(limit.pattern, limit.concurrency, rate, limit.hold.value, limit.max_waiting)


class LimitedQueue:
    """The queue of a client, as it is limited and paused: a part of :class:`WorkflowClient`."""

    _handle: QueueHandle
    _queue_name: str

    def set_limit(
        self,
        *,
        key: str | None = None,
        concurrency: int | None = None,
        rate: tuple[int, Duration] | None = None,
        hold: str = "step",
        max_waiting: int | None = None,
    ) -> None:
        """Limit the queue, or runs by their ``limit_key``, over all processes; durable and in force on return.

        The whole limit of that ``key`` is replaced. ``key`` None: the queue's own limit; ``"customer-7"``: that key's;
        ``"customer-*"``: that of each key that begins so and has no exact limit and no longer pattern. Queue and key
        limits both hold. ``concurrency``: claims at once. ``rate=(n, seconds)``: at most n claims in any window of that
        length, retries counted. ``hold="run"``: a slot is kept from a run's first claim until the run ends, not only
        for each step. ``max_waiting``: so many pending runs at most, parked ones too; more are refused at submit.
        What is in line above the limit is parked, 500 runs a commit; steps that run are left alone.

        Raises:
            TypeError, ValueError: an argument is wrong; nothing was changed.
        """
        self._handle.set_limit(self._queue_name, checked(key, concurrency, rate, hold, max_waiting))

    def clear_limit(self, key: str | None = None) -> None:
        """Remove the limit that was set for ``key``, if there is one; durable on return, and what waited is in line.

        Raises:
            TypeError, ValueError: ``key`` is none; nothing was changed.
        """
        self._handle.clear_limit(self._queue_name, pattern_of(key))

    def limits(self) -> list[Limit]:
        """Return the limits of the queue: its own, then by key."""
        return [shown(limit) for limit in self._handle.limits(self._queue_name)]

    def limit_usage(self) -> list[LimitUsage]:
        """Return what there is under the limits of the queue: the queue itself, then the keys with most parked first.

        The keys are those that have a run parked, that have one claimed under a limit, and those that have a limit of
        their own; at most 1,000. Without limits the list is empty. The queue is told of from counters. Keys are
        counted from their rows, over an index and in their order, until 10,000 keys were passed by or 100,000 parked
        runs counted; of one key no more than 10,000. Those after that are left out: the ``parked`` of the queue
        counts them, too. A run that stands in line, or keeps a slot between its steps, has a slot and counts for
        neither.
        """
        return [LimitUsage(*usage) for usage in self._handle.limit_usage(self._queue_name)]

    def pause(self) -> None:
        """Have nothing new be claimed from the queue, in any process, until :meth:`resume`; durable on return.

        Steps that run go on. The queue still takes submits, and delays, cancellations and notifications go on.
        A repeat is a no-op.
        """
        self._handle.pause(self._queue_name, is_paused=True)

    def resume(self) -> None:
        """End a pause; a queue that is not paused is left alone."""
        self._handle.pause(self._queue_name, is_paused=False)
