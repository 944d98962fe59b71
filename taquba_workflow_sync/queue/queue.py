"""The queue: an open store, with the checks and the policy that stand before every transition."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taquba_workflow_sync.clock import Clock, SystemClock, clock_reader, from_ms, on_advance
from taquba_workflow_sync.errors import (
    ClaimLostError,
    StoreClosedError,
)
from taquba_workflow_sync.faults import Fault
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration, QueueConfig
from taquba_workflow_sync.queue.dispatcher import Dispatcher
from taquba_workflow_sync.queue.opener import open_store
from taquba_workflow_sync.queue.policy import after_failure
from taquba_workflow_sync.queue.records import (
    Claim,
    JobAttempt,
    JobPage,
    JobRecord,
    QueueStats,
    attempt_of,
    damage_of,
    record_of,
    record_of_claim,
)
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.queue.waiting import Waiter
from taquba_workflow_sync.storage.port import Store
from taquba_workflow_sync.storage.records import (
    NO_DEATHS,
    Action,
    Advance,
    CancelOutcome,
    ClaimRequest,
    Counts,
    Dead,
    Deaths,
    Done,
    Filter,
    JobStatus,
    LaneClaim,
    NewJob,
    Settlement,
)

DEFAULT_MAX_PAYLOAD_BYTES = 64 * 2**20
_PROBE_INTERVAL = 0.5
_CLOSE_PATIENCE = 10.0


class Queue:
    """A store opened by this process; usable from any thread, and in forked children.

    Make one with :meth:`open`. A call that returned is durable as ``durability`` says. Every method raises
    ``StoreClosedError`` after :meth:`close` and ``StorageError`` when the disk or another process keeps the store from
    working; from a method that writes, a ``StorageError`` may mean *unknown*: see ``docs/guarantees.md``.
    """

    def __init__(
        self,
        store: Store,
        *,
        default_config: QueueConfig,
        queue_configs: Mapping[str, QueueConfig],
        max_payload_bytes: int,
        clock: Clock,
        path: Path,
        fault: Fault | None = None,
    ) -> None:
        self.path = path
        self.fault = fault
        self.max_payload_bytes = max_payload_bytes
        self.clock = clock
        self.now_ms: Callable[[], int] = clock_reader(clock)
        self._store = store
        self._default_config = default_config
        self._queue_configs = dict(queue_configs)
        self._is_closed = False
        self._dispatchers: set[Dispatcher] = set()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._deaths: Deaths = NO_DEATHS
        self._next_probe = 0.0
        self._on_closed: Callable[[], None] | None = None
        self.waiter: Waiter = Waiter(store, lambda: self._is_closed)

    # -- opening and closing -----------------------------------------------------------------------------------

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
        clock: Clock | None = None,
    ) -> Self:
        """Open the store at ``path``, a directory that is made (0700) if it is not there. Starts no thread.

        ``durability="full"``: a call that returned survives a power cut. ``"relaxed"``: it survives a crash or kill of
        the process, but a power cut may lose the last commits (never corrupt). ``exclusive``: this handle is the only
        one, in this process too. ``queue_configs`` overrides ``default_config`` by queue name. ``clock`` is read for
        every stored time and comparison.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong; nothing was made.
            StoreInUseError: ``exclusive``, and a handle is open; or an exclusive one is. Names the holder's pid.
            UnsupportedFilesystemError: SQLite's locks are not safe there.
            SchemaVersionError: a newer version of this library wrote the store.
            StorageError: the directory or the database cannot be used.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path must be a str or PathLike, not {type(path).__name__}")
        config = QueueConfig() if default_config is None else default_config
        validation.instance(config, QueueConfig, "default_config")
        configs = {} if queue_configs is None else queue_configs
        validation.instance(configs, Mapping, "queue_configs")
        for name, each in configs.items():
            validation.queue_name(name)
            validation.instance(each, QueueConfig, f"queue_configs[{name!r}]")
        if not isinstance(durability, str):
            raise TypeError(f"durability must be a str, not {type(durability).__name__}")
        if durability not in ("full", "relaxed"):
            raise ValueError(f"durability is {validation.shown(durability)}; it must be 'full' or 'relaxed'")
        validation.instance(exclusive, bool, "exclusive")
        validation.integer(max_payload_bytes, "max_payload_bytes", least=1)
        time_source = SystemClock() if clock is None else clock
        if not isinstance(time_source, Clock):
            raise TypeError(f"clock must have a method now() -> datetime; {type(clock).__name__} has none")
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError("path must be text, not bytes")
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            raise ValueError(f"path is {validation.shown(text)}; the filesystem cannot hold such a name") from None
        if not text or "\0" in text:
            raise ValueError(f"path is {validation.shown(text)}; it must name a directory")
        store = open_store(Path(text), durability=durability, exclusive=exclusive, clock=time_source)
        return cls(
            store,
            default_config=config,
            queue_configs=configs,
            max_payload_bytes=max_payload_bytes,
            clock=time_source,
            path=Path(os.path.abspath(text)),
        )

    @classmethod
    def temporary(cls, **options: Any) -> Self:
        """Open a store in a private directory that is gone after :meth:`close`; options as for :meth:`open`."""
        import shutil  # here, since nothing else needs them: importing the library stays fast
        import tempfile

        directory = tempfile.mkdtemp(prefix="taquba-")
        try:
            queue = cls.open(Path(directory) / "store", **options)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        pid = os.getpid()
        # A forked child that closes its copy must not take the directory from under its parent.
        queue._on_closed = lambda: shutil.rmtree(directory, ignore_errors=True) if os.getpid() == pid else None
        return queue

    def close(self) -> None:
        """Close the handle. Idempotent. A runtime that still runs is told to stop first.

        A step that does not return keeps its claim: the handle stays open inside, unreachable, until the step ends or
        the process does, so that no successor runs beside it.
        """
        with self._process_lock():
            if self._is_closed:
                return
            self._is_closed = True
            dispatchers = list(self._dispatchers)
        self.waiter.wake()
        for dispatcher in dispatchers:
            dispatcher.ask_to_stop()
        deadline = time.monotonic() + _CLOSE_PATIENCE
        for dispatcher in dispatchers:
            while not dispatcher.join(0.02) and not dispatcher.has_work and time.monotonic() < deadline:
                pass
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._process_lock():
            if not self._is_closed or self._dispatchers:
                return
            on_closed, self._on_closed = self._on_closed, None
        self._store.close()
        if on_closed is not None:
            on_closed()

    def _process_lock(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A forked child: the parent's dispatchers and the thread that may have held the lock are not here.
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._dispatchers = set()
        return self._lock

    def attach(self, dispatcher: Dispatcher) -> None:
        """Keep the store open for as long as ``dispatcher`` runs, also past :meth:`close`."""
        with self._process_lock():
            self._check_open()
            self._dispatchers.add(dispatcher)

        unsubscribe = on_advance(self.clock, dispatcher.ring)

        def ended() -> None:
            unsubscribe()
            with self._process_lock():
                self._dispatchers.discard(dispatcher)
            self._close_if_unused()

        dispatcher.on_end = ended

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Queue {str(self.path)!r}{' closed' if self._is_closed else ''}>"

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"the queue at {self.path} was closed; open it again")

    @property
    def store(self) -> Store:
        """The open store, for the layers above; checked to be open."""
        self._check_open()
        return self._store

    def config_of(self, queue_name: str) -> QueueConfig:
        """Return the configuration of a queue."""
        return self._queue_configs.get(queue_name, self._default_config)

    # -- putting in --------------------------------------------------------------------------------------------

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
        job = self.new_job(
            queue_name,
            payload,
            job_id=job_id,
            priority=priority,
            max_attempts=max_attempts,
            run_at=run_at,
            dedup_key=dedup_key,
            headers=headers,
        )
        return self.store.insert([job])[0].job_id

    def enqueue_batch(self, queue_name: str, payloads: Sequence[bytes]) -> list[str]:
        """Put many jobs in line in one commit, all or none, in order; return their ids.

        Raises:
            InvalidNameError, PayloadTooLargeError, TypeError: an argument is wrong; nothing was written.
        """
        if isinstance(payloads, (bytes, str)):
            raise TypeError("payloads must be a sequence of bytes, not a single one; use enqueue for that")
        validation.queue_name(queue_name)
        self._check_open()
        jobs = [self.new_job(queue_name, payload) for payload in payloads]
        return [answer.job_id for answer in self.store.insert(jobs)] if jobs else []

    def new_job(
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
    ) -> NewJob:
        """Return a checked job to insert; nothing is written."""
        self._check_open()
        config = self.config_of(validation.queue_name(queue_name))
        if dedup_key is not None:
            if not isinstance(dedup_key, str):
                raise TypeError(f"dedup_key must be a str, not {type(dedup_key).__name__}")
            if not 1 <= len(validation.encoded(dedup_key, "dedup_key")) <= 1024:
                raise ValueError(f"dedup_key {dedup_key[:40]!r} must have 1 to 1024 bytes")
        least = -validation.MAX_INT
        return NewJob(
            id=new_ulid() if job_id is None else validation.identifier(job_id, "job_id"),
            queue=queue_name,
            payload=validation.payload(payload, self.max_payload_bytes),
            headers=validation.headers(headers),
            priority=config.default_priority
            if priority is None
            else validation.integer(priority, "priority", least=least),
            max_attempts=config.max_attempts
            if max_attempts is None
            else validation.integer(max_attempts, "max_attempts", least=1),
            run_at_ms=validation.moment_ms(run_at, "run_at"),
            dedup_key=dedup_key,
            keep_done_ms=config.keep_done_ms,
            keep_dead_ms=config.keep_dead_ms,
            id_is_generated=job_id is None,
        )

    # -- claiming ----------------------------------------------------------------------------------------------

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
        lease_ms = self._lease_ms(queue_name, lease)
        request = ClaimRequest((LaneClaim(queue_name, lease_ms),), limit, is_bare=True, deaths=self._known_deaths())
        _, rows = self.store.turn((), [request])
        damaged = {row.token: damage for row in rows if (damage := damage_of(row)) is not None}
        if damaged:
            dead = [Settlement(row.id, row.token, Dead(damaged[row.token])) for row in rows if row.token in damaged]
            self.store.turn(dead, ())
            if len(dead) == len(rows):
                return self.claim_batch(queue_name, max_jobs, lease=lease)
        return [self._claim_of(record_of_claim(row), row.token) for row in rows if row.token not in damaged]

    def claim_with_wait(self, queue_name: str, timeout: Duration, *, lease: Duration | None = None) -> Claim | None:
        """Claim the first job in line, waiting up to ``timeout`` seconds for one."""
        validation.queue_name(queue_name)
        self._lease_ms(queue_name, lease)
        deadline = time.monotonic() + validation.seconds(timeout, "timeout")
        unsubscribe = on_advance(self.clock, self.waiter.wake)
        try:
            return self._claim_by(queue_name, deadline, lease)
        finally:
            unsubscribe()

    def _claim_by(self, queue_name: str, deadline: float, lease: Duration | None) -> Claim | None:
        while True:
            seen = self.waiter.now()
            claim = self.claim(queue_name, lease=lease)
            left = deadline - time.monotonic()
            if claim is not None or left <= 0:
                return claim
            due = self.store.readiness(queue_name)
            if due.is_ready:
                continue
            if due.next_due_ms is not None:
                left = min(left, max((due.next_due_ms - self.now_ms()) / 1000, 0.001))
            # A dead owner's claims announce themselves by nothing: look again every half second.
            self.waiter.wait(seen, min(left, _PROBE_INTERVAL), lambda woken, _: queue_name in woken)
            self._check_open()

    def _lease_ms(self, queue_name: str, lease: Duration | None) -> int:
        if lease is None:
            return self.config_of(queue_name).lease_ms
        return validation.duration_ms(lease, "lease", least=1)

    def _claim_of(self, job: JobRecord, token: str) -> Claim:
        event = threading.Event()
        if job.cancel_requested:
            event.set()
        RUNNING.watch(token, event)
        return Claim(job, token, event)

    def _known_deaths(self, *, doubted: str | None = None) -> Deaths:
        now = time.monotonic()
        if doubted is not None or now >= self._next_probe:
            self._next_probe = now + _PROBE_INTERVAL
            self._deaths = self.store.find_deaths(doubted=doubted)
        return self._deaths

    # -- ends of a claim ---------------------------------------------------------------------------------------

    def _settle(self, claim: Claim, action: Action, *, yields_to_cancel: bool = False) -> None:
        refusals, _ = self.store.turn([Settlement(claim.job.id, claim.token, action, yields_to_cancel)], ())
        if refusals[0] is not None:
            raise refusals[0]

    @staticmethod
    def _check_claim(claim: object) -> None:
        validation.instance(claim, Claim, "claim")

    @staticmethod
    def _check_error(error: object) -> None:
        if not isinstance(error, str):
            raise TypeError(f"error must be a str, not {type(error).__name__}; pass str(exception)")

    def ack(self, claim: Claim) -> None:
        """Settle: the job is done.

        Raises:
            ClaimLostError: the claim was settled before or taken over; nothing was applied.
        """
        self._check_claim(claim)
        self._settle(claim, Done())

    def nack(self, claim: Claim, error: str) -> None:
        """Settle: the attempt failed. The job waits for its backoff, or is a dead letter if it is out of attempts.

        Raises:
            ClaimLostError: the claim was settled before or taken over; nothing was applied.
        """
        self._check_claim(claim)
        self._check_error(error)
        job = claim.job
        action = after_failure(
            self.config_of(job.queue), attempts=job.attempts, max_attempts=job.max_attempts, error=error
        )
        self._settle(claim, action)

    def dead_letter(self, claim: Claim, error: str) -> None:
        """Settle: no retry can help. The job is kept as a dead letter, which can be requeued.

        Raises:
            ClaimLostError: the claim was settled before or taken over; nothing was applied.
        """
        self._check_claim(claim)
        self._check_error(error)
        self._settle(claim, Dead(error))

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
        self._check_claim(claim)
        action = Advance(
            validation.payload(payload, self.max_payload_bytes),
            None if headers is None else validation.headers(headers),
            None if delay is None else validation.duration_ms(delay, "delay"),
        )
        self._settle(claim, action, yields_to_cancel=True)

    def renew_lease(self, claim: Claim, extension: Duration) -> datetime:
        """Move the end of the claim's lease to ``extension`` seconds from now and return it.

        Raises:
            ClaimLostError: the claim was settled before or taken over.
        """
        self._check_claim(claim)
        until, renewed = self.store.renew([claim.token], validation.duration_ms(extension, "extension", least=1))
        if claim.token not in renewed:
            raise ClaimLostError(f"the claim of job {claim.job.id} is not held any more: settled, or taken over")
        return from_ms(until)

    # -- operators ---------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> CancelOutcome:
        """Cancel a job: a waiting one leaves its queue (REMOVED), a claimed one is asked to stop (REQUESTED)."""
        validation.identifier(job_id, "job_id")
        cancellation = self.store.cancel(job_id, self.deaths_for_cancel(job_id), None)
        if cancellation.token is not None:
            RUNNING.cancel(cancellation.token)
        return cancellation.outcome

    def deaths_for_cancel(self, job_id: str) -> Deaths:
        """Return whose claims a cancel of this job may end at once; looks only if the job is claimed."""
        row = self.store.get(job_id, whole=False)
        if row is None or row.status != JobStatus.CLAIMED:
            return NO_DEATHS
        return self._known_deaths(doubted=row.owner)

    def get_job(self, job_id: str) -> JobRecord | None:
        """Return the job as it is now, or None if there is none of that id (any more)."""
        validation.identifier(job_id, "job_id")
        row = self.store.get(job_id)
        return None if row is None else record_of(row)

    def list_jobs(
        self, queue_name: str, status: JobStatus | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> JobPage:
        """Return a page of a queue's jobs in the order they were put in; ``cursor`` is a page's ``next_cursor``.

        A cursor stays good when the row it points at is gone.
        """
        validation.queue_name(queue_name)
        which = Filter(status=None if status is None else _status(status))
        rows, next_cursor = self.page(queue_name, which, limit, cursor)
        return JobPage([record_of(row) for row in rows], next_cursor)

    def dead_jobs(self, queue_name: str, *, limit: int = 100, cursor: str | None = None) -> JobPage:
        """Return a page of a queue's dead letters."""
        return self.list_jobs(queue_name, JobStatus.DEAD, limit=limit, cursor=cursor)

    def page(self, queue_name: str, which: Filter, limit: int, cursor: str | None) -> tuple[list[Any], str | None]:
        """Return stored rows of a page, and the next page's cursor."""
        validation.integer(limit, "limit", least=1, most=10_000)
        if cursor is not None and not isinstance(cursor, str):
            raise TypeError(f"cursor must be a str, not {type(cursor).__name__}")
        if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
            raise ValueError(f"cursor {cursor[:40]!r} is none of ours; pass a page's next_cursor unchanged")
        rows = self.store.page(queue_name, which, limit + 1, int(cursor or 0))
        more = len(rows) > limit
        del rows[limit:]
        return rows, str(rows[-1].seq) if more else None

    def requeue_dead_job(self, job_id: str) -> None:
        """Put a dead letter back in line, at the back of its priority, with its attempts to use again; history stays.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidStateError: it is not dead, or its run is active again under another job.
        """
        validation.identifier(job_id, "job_id")
        self.store.requeue(job_id)

    def stats(self, queue_name: str) -> QueueStats:
        """Return a queue's counters; all zero for one that was never used."""
        validation.queue_name(queue_name)
        counts = self.store.counts().get(queue_name, Counts())
        return QueueStats(queue_name, *counts)

    def list_queues(self) -> list[str]:
        """Return the names of all queues that were ever used, sorted."""
        return sorted(self.store.counts())

    def attempt_history(self, job_id: str) -> list[JobAttempt]:
        """Return how each ended claim of a job went: the first 100 and the last 1,000."""
        validation.identifier(job_id, "job_id")
        return [attempt_of(row) for row in self.store.history(job_id)]


def _status(value: object) -> JobStatus:
    if not isinstance(value, str):
        raise TypeError(f"status must be a JobStatus, not {type(value).__name__}")
    try:
        return JobStatus(value)
    except ValueError:
        raise ValueError(f"status is {validation.shown(value)}; it must be one of {', '.join(JobStatus)}") from None
