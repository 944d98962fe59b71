"""Effects being staged: checked at the call, in memory until they are committed together."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple, NoReturn

from taquba_workflow_sync.errors import EffectsSealedError, PayloadTooLargeError
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration, QueueConfig
from taquba_workflow_sync.queue.new_job import Limits, new_job
from taquba_workflow_sync.storage.port.effects import Add, ComparePut, Delete, Effect, Insert, OfKey, Put, SendSignal

#: The most of one step, or of one commit.
MOST_EFFECTS: Final = 1_000
MOST_BYTES: Final = 16 * 2**20
_MOST_DELTA: Final = 2**63


class EffectsTooLargeError(PayloadTooLargeError, ValueError):
    """More effects, or more bytes in them, than one commit may have."""


class Site(NamedTuple):
    """Where effects are committed. ``queue_name`` None: outside of a step, where submits have their own default."""

    limits: Limits
    queue_name: str | None = None
    keep_ms: int | None = None


class _NoStore:
    """What is known of a store that is not known yet: what it refuses, its commit does."""

    max_payload_bytes = sys.maxsize

    def check_open(self) -> None:
        """Whether it is open, its commit tells."""

    def config_of(self, queue_name: str) -> QueueConfig:
        """Return what stands for its configuration."""
        return QueueConfig()


_NOWHERE: Final = Site(_NoStore())

#: Makes an effect where it is committed: what the caller has left out is that store's to say.
Draft = Callable[[Site], Insert | SendSignal]


class Staged(NamedTuple):
    """What was staged at one moment: how many effects that are, with those in them, and their bytes."""

    parts: tuple[Effect | Draft, ...]
    many: int
    size: int

    def at(self, site: Site) -> tuple[Effect, ...]:
        """Return them as they are committed at a site."""
        return tuple([part(site) if callable(part) else part for part in self.parts]) if self.parts else ()


NOTHING: Final = Staged((), 0, 0)


class StagedEffects:
    """Effects on keys and jobs; whoever can submit runs, derives from it. Usable from several threads.

    ``site`` None: it is not known yet where they are committed.
    """

    def __init__(self, site: Site | None = None) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._is_sealed = False
        self._of_keys: dict[str, OfKey] = {}
        self._others: list[Effect | Draft] = []
        self._count = 0
        self._size = 0

    def put(self, key: str, value: bytes, ttl: Duration | None = None) -> None:
        """Have a key hold a value, for ``ttl`` seconds from the commit or, without, for ever; a repeat replaces it.

        Raises:
            ValueError: another effect of the key is staged, or an argument is senseless; nothing was staged.
            TypeError, PayloadTooLargeError, EffectsSealedError: nothing was staged.
        """
        checked = validation.key(key)
        self._stage(Put(checked, _value(value), validation.ttl_ms(ttl)))

    def delete(self, key: str) -> None:
        """Have a key hold nothing.

        Raises:
            TypeError, ValueError, PayloadTooLargeError, EffectsSealedError: as for :meth:`put`.
        """
        self._stage(Delete(validation.key(key)))

    def compare_put(self, key: str, expected: bytes | None, value: bytes) -> None:
        """Have a key hold a value, for ever, provided that it holds ``expected`` at the commit (None: nothing).

        Does it not, nothing is committed at all: a step is tried again, uncharged; a program gets
        ``EffectConflictError``.

        Raises:
            TypeError, ValueError, PayloadTooLargeError, EffectsSealedError: as for :meth:`put`.
        """
        checked = validation.key(key)
        wanted = None if expected is None else validation.expected(expected)
        self._stage(ComparePut(checked, wanted, _value(value)))

    def add(self, key: str, delta: int) -> None:
        """Add to the integer that a key holds, as decimal text; 0 if it holds nothing. Its expiry stays as it is.

        Never in conflict with other adds. On a value that is no integer the commit is refused, permanently.

        Raises:
            TypeError, ValueError, PayloadTooLargeError, EffectsSealedError: as for :meth:`put`.
        """
        checked = validation.key(key)
        self._stage(Add(checked, validation.integer(delta, "delta", least=-_MOST_DELTA, most=_MOST_DELTA)))

    def enqueue(
        self,
        queue_name: str,
        payload: bytes,
        *,
        job_id: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        run_at: datetime | None = None,
        dedup_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Put a job in line, as ``Queue.enqueue`` does; return the id that it will have.

        A ``job_id`` that is taken at the commit refuses it, permanently. Where a waiting job of the queue holds the
        ``dedup_key``, nothing is put in line.

        Raises:
            InvalidNameError, TypeError, ValueError, PayloadTooLargeError, EffectsSealedError: as for :meth:`put`.
        """
        given_id = new_ulid() if job_id is None else job_id
        kept = validation.headers(headers)  # as they are now, whatever the mapping says at the commit

        def draft(site: Site) -> Insert:
            return Insert(
                new_job(
                    site.limits,
                    queue_name,
                    payload,
                    job_id=given_id,
                    priority=priority,
                    max_attempts=max_attempts,
                    run_at=run_at,
                    dedup_key=dedup_key,
                    headers=kept,
                )
            )

        self._stage_draft(draft)
        return given_id

    def _stage_draft(self, draft: Draft, inner: Staged | None = None) -> None:
        """Stage what is checked now, as far as it can be, and made where it is committed."""
        made = draft(self._site or _NOWHERE)
        size = _size_of_other(made)
        count = 1
        if inner is not None:
            count, size = count + inner.many, size + inner.size
        with self._lock:
            self._make_room(count, size)
            self._others.append(draft if self._site is None else made)

    def _stage(self, effect: OfKey) -> None:
        size = _size_of(effect)
        with self._lock:
            before = self._of_keys.get(effect.key)
            if before is not None and not (isinstance(before, Put) and isinstance(effect, Put)):
                self._check_open()
                raise ValueError(
                    f"key {effect.key[:40]!r} has a {type(before).__name__} staged, and a {type(effect).__name__} was"
                    " to be: there is one effect for each key (only a put replaces a put); stage what it comes to"
                )
            if before is None:
                self._make_room(1, size)
            else:
                self._make_room(0, size - _size_of(before))
            self._of_keys[effect.key] = effect

    def _make_room(self, count: int, size: int) -> None:
        self._check_open()
        if self._count + count > MOST_EFFECTS:
            raise EffectsTooLargeError(f"more than {MOST_EFFECTS} effects; commit them in several steps")
        if self._size + size > MOST_BYTES:
            raise EffectsTooLargeError(
                f"the effects have more than {MOST_BYTES} bytes together; store large data elsewhere and write a"
                " reference"
            )
        self._count += count
        self._size += size

    def _check_open(self) -> None:
        if self._is_sealed:
            raise EffectsSealedError(
                "the step, or hook, has returned: nobody would commit this effect; stage it before the return"
            )

    def __reduce__(self) -> NoReturn:
        raise TypeError("effects are of the process that stages them and cannot be pickled; stage them there")

    def _staged(self, *, seals: bool = False) -> Staged:
        with self._lock:
            self._is_sealed = self._is_sealed or seals
            return Staged((*self._of_keys.values(), *self._others), self._count, self._size)


def seal(effects: StagedEffects) -> Staged:
    """Return what was staged, and refuse what comes later."""
    return effects._staged(seals=True)


def checked_effects(value: object) -> Staged:
    """Return what is staged in the effects that somebody passes.

    Raises:
        TypeError: they are none.
        ValueError: they are a step's own, which the end of the step commits.
    """
    validation.instance(value, StagedEffects, "effects")
    assert isinstance(value, StagedEffects)
    if value._site is not None:
        raise ValueError("these effects are committed with the end of their step, or hook; make others with Effects()")
    return value._staged()


def _value(value: object) -> bytes:
    return validation.value(value, validation.VALUE_BYTES)


def _size_of_other(effect: Insert | SendSignal) -> int:
    if isinstance(effect, SendSignal):
        return len(effect.run_id) + len(effect.signal.name.encode()) + len(effect.signal.payload)
    return len(effect.job.payload) + len(effect.job.headers.encode())


def _size_of(effect: OfKey) -> int:
    size = len(effect.key.encode())
    match effect:
        case Put(value=value):
            return size + len(value)
        case ComparePut(expected=expected, value=value):
            return size + len(expected or b"") + len(value)
        case _:
            return size
