"""The queue: an open store, with the checks and the policy that stand before every transition."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from taquba_workflow_sync.clock import Clock, from_ms
from taquba_workflow_sync.errors import ClaimLostError, TaqubaError
from taquba_workflow_sync.queue import claiming, engines, opening, validation
from taquba_workflow_sync.queue.config import Duration, QueueConfig
from taquba_workflow_sync.queue.effects import Site, StagedEffects, checked_effects
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.kv import KeyValueStore
from taquba_workflow_sync.queue.new_job import new_job
from taquba_workflow_sync.queue.policy import after_failure
from taquba_workflow_sync.queue.records import (
    Claim,
    JobAttempt,
    JobPage,
    JobRecord,
    QueueStats,
    attempt_of,
    record_of,
)
from taquba_workflow_sync.queue.upkeep import Upkeep
from taquba_workflow_sync.queue.watching import WatchedStore
from taquba_workflow_sync.storage.port.cancellation import CancelOutcome
from taquba_workflow_sync.storage.port.headers import encode_headers
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, Settlement
from taquba_workflow_sync.storage.port.status import JobStatus

DEFAULT_MAX_PAYLOAD_BYTES = 64 * 2**20


class Queue(Upkeep, WatchedStore):
    """A store opened by this process; usable from any thread, and in forked children.

    Make one with :meth:`open`. A call that returned is durable as ``durability`` says. Every method raises
    ``StoreClosedError`` after :meth:`close` and ``StorageError`` when the disk or another process keeps the store from
    working; from a method that writes, a ``StorageError`` may mean *unknown*: see ``docs/guarantees.md``.
    """

    def __init__(self, handle: QueueHandle) -> None:
        #: What the floors above use; not for users.
        self.handle = handle
        self._kv = KeyValueStore(handle)
        self._on_closed: Callable[[], None] | None = None

    @property
    def path(self) -> Path:
        """The store's directory, absolute; of a store on a server nothing that names a file: see :attr:`address`."""
        return Path(self.handle.address)

    @property
    def address(self) -> str:
        """Where the store is: its directory, absolute, or its URL without the password."""
        return self.handle.address

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        default_config: QueueConfig | None = None,
        queue_configs: Mapping[str, QueueConfig] | None = None,
        durability: str = "full",
        exclusive: bool = False,
        max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES,
        wait: Duration | None = None,
        clock: Clock | None = None,
        migrate: bool = True,
        liveness_dsn: str | None = None,
    ) -> Self:
        """Open the store at ``path``, a directory that is made (0700) if it is not there. Starts no thread.

        ``path`` may be the URL of a PostgreSQL database, ``postgresql://user@host/database?schema=taquba``; the schema
        is made if it is not there.

        ``durability="full"``: a call that returned survives a power cut. ``"relaxed"``: it survives a crash or kill of
        the process, but a power cut may lose the last commits (never corrupt). ``exclusive``: this handle is the only
        one, in this process too. ``wait``: how many seconds an exclusive open, or one that has to migrate a store of an
        older version, waits for the others to close it. ``queue_configs`` overrides ``default_config`` by queue name.
        ``clock`` is read for every stored time and comparison. ``migrate=False``: nothing is made and nothing upgraded;
        for programs whose role may do neither. ``liveness_dsn``: where ``path`` leads through a pooler, the URL of the
        server itself (see ``docs/fleet/operating.md``).

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong; nothing was made.
            StoreInUseError: ``exclusive``, and a handle is open; or an exclusive one is; or the store has to be
                migrated and others have it open. Names the holders' pids, on a server their hosts too.
            UnsupportedFilesystemError: SQLite's locks are not safe there.
            SchemaVersionError: a newer version of this library wrote the store; or ``migrate=False``, and there is none
                or it is of an older version.
            StoreAccessError: the server refuses, or no store can live there: the login, rights, a read-only server, a
                pooler without ``liveness_dsn``, an encoding other than UTF8. Permanent.
            StorageError: the directory or the database cannot be used.
        """
        checked = opening.checked(
            path,
            default_config=default_config,
            queue_configs=queue_configs,
            durability=durability,
            exclusive=exclusive,
            max_payload_bytes=max_payload_bytes,
            wait=wait,
            clock=clock,
            migrate=migrate,
            liveness_dsn=liveness_dsn,
        )
        return cls(checked.open())

    @classmethod
    def temporary(cls, *, address: str | None = None, **options: Any) -> Self:
        """Open a store that is gone after :meth:`close`; options as for :meth:`open`.

        It lies in a private directory, or, with the URL of a PostgreSQL database as ``address``, in a schema of its
        own, whose name begins as that of the URL. A process that is killed leaves it behind.

        Raises:
            TypeError, ValueError: ``address`` is no such URL.
            StorageError, StoreAccessError and the rest: as for :meth:`open`.
        """
        place = engines.temporary(opening.server_of(address))
        try:
            queue = cls.open(place, **options)
        except BaseException:
            with suppress(TaqubaError):  # what kept it from being opened keeps it from being dropped
                engines.drop(place)
            raise
        pid = os.getpid()
        # A forked child that closes its copy must not take the store from under its parent.
        queue._on_closed = lambda: engines.drop(place) if os.getpid() == pid else None
        return queue

    def close(self) -> None:
        """Close the handle. Idempotent. A runtime that still runs is told to stop first.

        A step that does not return keeps its claim: the handle stays open inside, unreachable, until the step ends or
        the process does, so that no successor runs beside it.
        """
        self.handle.close(self._on_closed)

    def __enter__(self) -> Self:
        self.handle.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Queue {self.handle.address!r}{' closed' if self.handle.is_closed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a Queue cannot be pickled; pickle its path and open it there: {self.handle.address}")

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
        """Put a job in line and return its id; durable on return.

        ``run_at`` in the future schedules it. A ``dedup_key`` that a waiting job of the queue holds: nothing is put in
        and that job's id comes back; the key is free again once the job is claimed. Repeat after an error with the
        same ``job_id``: ``DuplicateJobIdError`` then says that the first call had succeeded.

        Raises:
            DuplicateJobIdError: ``job_id`` exists.
            InvalidNameError, PayloadTooLargeError, TypeError, ValueError: an argument is wrong; nothing was written.
        """
        job = new_job(
            self.handle,
            queue_name,
            payload,
            job_id=job_id,
            priority=priority,
            max_attempts=max_attempts,
            run_at=run_at,
            dedup_key=dedup_key,
            headers=headers,
        )
        return self.handle.insert([job])[0].job_id

    def enqueue_batch(self, queue_name: str, payloads: Sequence[bytes]) -> list[str]:
        """Put many jobs in line in one commit, all or none, in order; return their ids.

        Raises:
            InvalidNameError, PayloadTooLargeError, TypeError: an argument is wrong; nothing was written.
        """
        if isinstance(payloads, (bytes, str)):
            raise TypeError("payloads must be a sequence of bytes, not a single one; use enqueue for that")
        validation.queue_name(queue_name)
        self.handle.check_open()
        jobs = [new_job(self.handle, queue_name, payload) for payload in payloads]
        return [answer.job_id for answer in self.handle.insert(jobs)]

    @property
    def kv(self) -> KeyValueStore:
        """The store's values by key."""
        return self._kv

    def commit(self, effects: StagedEffects) -> None:
        """Apply what is staged in an ``Effects``, in one commit, all or none; durable on return.

        After a ``StorageError`` the outcome may be unknown: a repeat applies what is staged once more, but for jobs,
        whose ids are taken then (``DuplicateJobIdError``).

        Raises:
            EffectConflictError: an expectation does not hold, or an ``add`` met no integer; nothing was written.
            InputMismatchError: a submit names a run with another input; nothing was written.
            DuplicateJobIdError: a job's id is taken; nothing was written.
            PayloadTooLargeError, TypeError, ValueError: an argument is wrong; nothing was written.
        """
        self.handle.commit_effects(checked_effects(effects).at(Site(self.handle)))

    def claim(self, queue_name: str, *, lease: Duration | None = None) -> Claim | None:
        """Claim the first job in line, or return None. The claim is good for ``lease`` seconds and is not renewed."""
        claims = self.claim_batch(queue_name, 1, lease=lease)
        return claims[0] if claims else None

    def claim_batch(self, queue_name: str, max_jobs: int, *, lease: Duration | None = None) -> list[Claim]:
        """Claim up to ``max_jobs`` jobs in one commit, in the order of the line.

        A claim that is not settled before its lease is over may be taken over; until it is, it can still be settled.
        """
        validation.queue_name(queue_name)
        limit = validation.integer(max_jobs, "max_jobs", least=1)
        return claiming.claim_batch(self.handle, queue_name, limit, claiming.lease_ms(self.handle, queue_name, lease))

    def claim_with_wait(self, queue_name: str, timeout: Duration, *, lease: Duration | None = None) -> Claim | None:
        """Claim the first job in line, waiting up to ``timeout`` seconds for one."""
        validation.queue_name(queue_name)
        lease_ms = claiming.lease_ms(self.handle, queue_name, lease)
        deadline = time.monotonic() + validation.seconds(timeout, "timeout")
        return claiming.claim_by(self.handle, queue_name, deadline, lease_ms)

    def _settle(self, claim: Claim, action: Action, *, yields_to_cancel: bool = False) -> None:
        refusal = self.handle.settle(Settlement(claim.job.id, claim.token, action, yields_to_cancel))
        if refusal is not None:
            raise refusal

    def ack(self, claim: Claim) -> None:
        """Settle: the job is done.

        Raises:
            ClaimLostError: the claim was settled before or taken over; nothing was applied.
        """
        validation.instance(claim, Claim, "claim")
        self._settle(claim, Ack())

    def nack(self, claim: Claim, error: str) -> None:
        """Settle: the attempt failed. The job waits for its backoff, or is a dead letter if it is out of attempts.

        Raises:
            ClaimLostError: the claim was settled before or taken over; nothing was applied.
        """
        validation.instance(claim, Claim, "claim")
        validation.error_text(error)
        job = claim.job
        action = after_failure(
            self.handle.config_of(job.queue), attempts=job.attempts, max_attempts=job.max_attempts, error=error
        )
        self._settle(claim, action)

    def dead_letter(self, claim: Claim, error: str) -> None:
        """Settle: no retry can help. The job is kept as a dead letter, which can be requeued.

        Raises:
            ClaimLostError: the claim was settled before or taken over; nothing was applied.
        """
        validation.instance(claim, Claim, "claim")
        validation.error_text(error)
        self._settle(claim, DeadLetter(error))

    def advance(
        self,
        claim: Claim,
        payload: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        delay: Duration | None = None,
    ) -> None:
        """Settle, and put the same job back as its next step with ``payload``: one commit, attempts start over.

        ``headers`` None keeps them; ``delay`` schedules the step that many seconds from now.

        Raises:
            ClaimLostError: the claim was settled before or taken over; nothing was applied.
            CancelRequestedError: a cancellation was requested; nothing was changed, the claim is still held.
            PayloadTooLargeError, TypeError, ValueError: an argument is wrong; nothing was written.
        """
        validation.instance(claim, Claim, "claim")
        action = Advance(
            validation.payload(payload, self.handle.max_payload_bytes),
            None if headers is None else encode_headers(validation.headers(headers)),
            None if delay is None else validation.duration_ms(delay, "delay"),
        )
        self._settle(claim, action, yields_to_cancel=True)

    def renew_lease(self, claim: Claim, extension: Duration) -> datetime:
        """Move the end of the claim's lease to ``extension`` seconds from now and return it.

        Raises:
            ClaimLostError: the claim was settled before or taken over.
        """
        validation.instance(claim, Claim, "claim")
        until, renewed = self.handle.store.renew([claim.token], validation.duration_ms(extension, "extension", least=1))
        if claim.token not in renewed:
            raise ClaimLostError(f"the claim of job {claim.job.id} is not held any more: settled, or taken over")
        return from_ms(until)

    def cancel(self, job_id: str) -> CancelOutcome:
        """Cancel a job: a waiting one leaves its queue (REMOVED), a claimed one is asked to stop (REQUESTED)."""
        validation.identifier(job_id, "job_id")
        return self.handle.cancel(job_id).outcome

    def get_job(self, job_id: str) -> JobRecord | None:
        """Return the job as it is now, or None if there is none of that id (any more)."""
        validation.identifier(job_id, "job_id")
        row = self.handle.get(job_id)
        return None if row is None else record_of(row)

    def list_jobs(
        self, queue_name: str, status: JobStatus | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> JobPage:
        """Return a page of a queue's jobs in the order they were put in; ``cursor`` is a page's ``next_cursor``.

        A cursor stays good when the row it points at is gone.
        """
        validation.queue_name(queue_name)
        which = Filter(status=None if status is None else _status(status))
        page = self.handle.page(queue_name, which, limit, cursor)
        return JobPage([record_of(row) for row in page.rows], page.next_cursor)

    def dead_jobs(self, queue_name: str, *, limit: int = 100, cursor: str | None = None) -> JobPage:
        """Return a page of a queue's dead letters."""
        return self.list_jobs(queue_name, JobStatus.DEAD, limit=limit, cursor=cursor)

    def requeue_dead_job(self, job_id: str) -> None:
        """Put a dead letter back in line, at the back of its priority, with its attempts to use again; history stays.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidStateError: it is not dead, or its run is active again under another job.
        """
        validation.identifier(job_id, "job_id")
        self.handle.requeue(job_id)

    def stats(self, queue_name: str) -> QueueStats:
        """Return a queue's counters; all zero for one that was never used."""
        validation.queue_name(queue_name)
        return QueueStats(queue_name, *self.handle.counts(queue_name), paused=self.handle.is_paused(queue_name))

    def list_queues(self) -> list[str]:
        """Return the names of all queues that were ever used, sorted."""
        return sorted(self.handle.store.counts())

    def attempt_history(self, job_id: str) -> list[JobAttempt]:
        """Return how each ended claim of a job went: the first 100 and the last 1,000."""
        validation.identifier(job_id, "job_id")
        traces = self.handle.traces(job_id)
        return [attempt_of(row, traces.get(row.ordinal)) for row in self.handle.store.history(job_id)]


def _status(value: object) -> JobStatus:
    if not isinstance(value, str):
        raise TypeError(f"status must be a JobStatus, not {type(value).__name__}")
    try:
        return JobStatus(value)
    except ValueError:
        raise ValueError(f"status is {validation.shown(value)}; it must be one of {', '.join(JobStatus)}") from None
