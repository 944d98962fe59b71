"""One store with a row in every state, healthy runs among them, and the question what a runtime makes of damage."""

from __future__ import annotations

import functools
import logging
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from taquba_workflow_sync import (
    JobStatus,
    Queue,
    QueueConfig,
    RunSpec,
    RunState,
    Step,
    StepOutcome,
    Succeed,
    TaqubaError,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.group import HeldBy, NewGroup, OnFailure
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.meter import Meter, Series
from taquba_workflow_sync.storage.port.progress import ProgressReport
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.signals import NewSignal
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.storage.relational.sql.names import JOB
from taquba_workflow_sync.testing import ManualClock, RecordingHook
from tests.faults.hostile.damage import Vandal
from tests.storage.bench import run

STEPS: Final = "workflow-steps"
BARE: Final = "bare"
HEALTHY: Final = 4
LIMIT: Final = 60.0
#: This many failures of a dispatcher while no step runs and no healthy run ends, and the line is blocked.
BLOCKED: Final = 6
THEN: Final = datetime(2026, 1, 1, tzinfo=UTC)
NOW: Final = THEN + timedelta(minutes=1)
ALL_HEALTHY: Final = tuple(f"healthy-{number}" for number in range(HEALTHY))
#: Every way in which a run can stand in the store; ``held`` is damaged while its step runs.
STATES: Final = ("pending", "scheduled", "lost", "done", "failed", "dead", "cancelled", "held", "member")
#: What the signals carry that some runs wait for.
SIGNALLED: Final = b"yes"
#: What some runs have in tables of its own, from their submit on.
_GIVEN: Final[dict[str, Any]] = {"deadline": timedelta(days=1), "step_timeout": 3600, "label": "first"}
CONFIG: Final = QueueConfig(retry_backoff_base=0, keep_done_jobs=timedelta(days=1))


def input_of(number: int) -> bytes:
    """Return the input of the run of that number: every third lies in a part of its own."""
    return b"in" * (3000 if number % 3 == 0 else 1)


def _key_of(number: int) -> str | None:
    """Return the limit key of the run of that number: every third has one."""
    return f"k{number}" if number % 3 == 0 else None


def make_template(root: Path, many: int) -> None:
    """Make a store with ``many`` runs in each state, as many bare jobs, and the healthy ones behind them all."""
    with Queue.open(root, durability="relaxed", clock=ManualClock(THEN), default_config=CONFIG) as queue:
        client = WorkflowClient(queue)
        client.set_limit(concurrency=10_000, rate=(10_000, 3600))
        client.set_limit(key="k*", concurrency=1000, rate=(1000, 3600), max_waiting=10_000)

        def submitted(state: str, **more: Any) -> None:
            client.submit_many(
                [
                    RunSpec(
                        run_id=f"{state}-{number}",
                        input=input_of(number),
                        headers={"h": "v"},
                        limit_key=_key_of(number),
                        **more,
                        **(_GIVEN if (state, number) == ("pending", 0) else {}),
                    )
                    for number in range(many)
                ]
            )

        def settled(state: str, how: Callable[[ClaimedRow], Any]) -> None:
            submitted(state)
            rows = queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 30_000),), many)])[1]
            refusals = queue.handle.store.settle_and_claim(
                [Settlement(row.id, row.token, how(row), trace=_trace_of(row)) for row in rows], ()
            )[0]
            assert refusals == [None] * many

        settled("done", lambda row: Ack(result=b"out"))
        settled("failed", lambda row: Ack(error="no"))
        settled("dead", lambda row: DeadLetter("broken"))
        settled("cancelled", lambda row: SettleCancelled())
        submitted("lost")
        queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 30_000),), many)])
        settled("pending", lambda row: Nack("once"))  # so that it has a history
        submitted("held")
        submitted("scheduled", run_at=THEN + timedelta(seconds=10))
        client.submit_many(
            [
                RunSpec(
                    run_id=f"healthy-{number}", input=b"in", limit_key=_key_of(number), **({} if number else _GIVEN)
                )
                for number in range(HEALTHY)
            ]
        )
        _give_events(queue)
        _give_a_wait(queue, ("pending-0", "healthy-0"))
        _give_a_history(queue, "healthy-0")
        for number in range(many):
            queue.enqueue(BARE, b"in", job_id=f"bare-{number}", dedup_key=f"key-{number}")
        queue.enqueue(BARE, b"in", job_id="bare-healthy")
        _leave_garbage(queue)
        for name in ("pending", "healthy", "healthy-too"):
            client.schedule(name, every=timedelta(seconds=30), spec=RunSpec(input=b"in", headers={"h": "v"}))
        queue.kv.put("count", b"1", ttl=timedelta(days=1))
        _add_groups(queue, many)
        queue.handle.store.add_to_meters({Series(STEPS, "ship", Meter.ATTEMPTS, "continued"): 1})


def _give_a_wait(queue: Queue, run_ids: Sequence[str]) -> None:
    """Have some runs go on with a signal that they wait for; each keeps its place in line."""
    store = queue.handle.store
    for row in store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 30_000),), 100_000)])[1]:
        action: Action = Release()
        if row.run_id in run_ids:
            store.send_signal(STEPS, row.run_id, NewSignal("go", SIGNALLED, "id"))
            action = Advance(row.payload, keeps_place=True, wait=Wait(WaitKind.SIGNAL, "go", 1_000))
        store.settle_and_claim([Settlement(row.id, row.token, action)], ())


def _give_a_history(queue: Queue, run_id: str) -> None:
    """Fail the first attempt of one run; it keeps its place at the end of the line."""
    everything = queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 30_000),), 100_000)])[1]
    refused = PutBack(0, "refused", is_refusal=True)
    hows: dict[str | None, Action] = {run_id: Nack("once"), "pending-0": refused, "healthy-1": refused}
    ends = [Settlement(row.id, row.token, hows.get(row.run_id, Release()), trace=_trace_of(row)) for row in everything]
    for row in everything:
        _give_belongings(queue.handle.store, row)
    queue.handle.store.settle_and_claim(ends, ())


def _trace_of(row: ClaimedRow) -> str | None:
    """Return the traceback of a failed attempt, which some have and most do not."""
    return "Traceback\nOSError: away\n" if row.run_id in ("pending-0", "dead-0", "healthy-0") else None


def _leave_garbage(queue: Queue) -> None:
    """Have something noted that is to be collected."""
    store = queue.handle.store
    store.insert([run("noted-1", queue="noted", keep_done_ms=86_400_000)])
    _, (row,) = store.settle_and_claim((), [ClaimRequest((LaneClaim("noted", 30_000),), 1)])
    store.memo_put(row.id, row.token, MemoScope.STEP, "key", b"value")
    store.settle_and_claim([Settlement(row.id, row.token, Ack())], ())


def _add_groups(queue: Queue, many: int) -> None:
    """Have a group whose members are to enter the line, one of a step, and one that is half written."""
    client, store = WorkflowClient(queue), queue.handle.store
    members = [RunSpec(run_id=f"member-{number}", input=input_of(number), headers={"h": "v"}) for number in range(many)]
    client.submit_group("g", members)
    store.insert([run("parent-0", queue="groups", keep_done_ms=86_400_000)])
    _, (row,) = store.settle_and_claim((), [ClaimRequest((LaneClaim("groups", 30_000),), 1)])
    of_step = NewGroup("of-step", STEPS, 1, b"f", OnFailure.CANCEL, 86_400_000)
    store.group_write(of_step, 0, [run("child-0", queue=STEPS, keep_done_ms=86_400_000)], HeldBy(row.id, row.token))
    store.group_open("of-step", b"f")
    store.settle_and_claim([Settlement(row.id, row.token, Advance(b"", wait=Wait(WaitKind.GROUP, "g")))], ())
    store.group_write(of_step._replace(name="half", total=2), 0, [run("half-0", queue=STEPS)])


def _give_belongings(store: Store, row: ClaimedRow) -> None:
    """Give some runs what has tables of its own."""
    if row.run_id in ("pending-0", "healthy-0"):
        for scope in MemoScope:
            store.memo_put(row.id, row.token, scope, "key", b"value")
    if row.run_id in ("pending-0", "healthy-0"):
        store.report_progress([ProgressReport(row.id, row.token, 1, 2, "half")])


def _give_events(queue: Queue) -> None:
    """Give some runs a history of their own: they were failed and retried."""
    client = WorkflowClient(queue)
    for run_id in ("pending-0", "healthy-0"):
        job_id = client.submit(run_id=run_id, input=input_of(0) if run_id == "pending-0" else b"in").first_job_id
        everything = queue.handle.store.settle_and_claim((), [ClaimRequest((LaneClaim(STEPS, 30_000),), 100_000)])[1]
        ends = [Settlement(row.id, row.token, DeadLetter("x") if row.id == job_id else Release()) for row in everything]
        queue.handle.store.settle_and_claim(ends, ())
        client.retry(run_id)


@dataclass
class Records(logging.Handler):
    """What the library logs, kept."""

    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.WARNING)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message, without what differs from row to row."""
        self.lines.append(record.getMessage())

    def failures_in_a_row(self) -> int:
        """Return the most failures in a row that a dispatcher has told of."""
        found = (re.search(r"failed \((\d+) in a row\)", line) for line in self.lines)
        return max((int(each[1]) for each in found if each), default=0)

    def last_failure(self) -> str:
        """Return what a dispatcher said of its last failure."""
        return next((line for line in reversed(self.lines) if "in a row" in line), "nothing was logged")[:300]

    def kinds(self) -> Counter[str]:
        """Return how often each message was logged, whatever row it names."""
        return Counter(re.sub(r"[0-9A-Z]{26}|\d+", "#", line)[:160] for line in self.lines)


@contextmanager
def listening() -> Iterator[Records]:
    """Keep what the library logs during the block."""
    records = Records()
    logger = logging.getLogger("taquba_workflow_sync")
    logger.addHandler(records)
    try:
        yield records
    finally:
        logger.removeHandler(records)


@dataclass
class Runner:
    """Notes what it is given that no step may look like; ``damage`` strikes a held run while its step runs."""

    damage: Callable[[str], None]
    wrong: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    def run_step(self, step: Step) -> StepOutcome:
        """Look at the step, and have it damaged if it is one of the held."""
        self.wrong += not_a_step(step)
        name = step.run_id if isinstance(step.run_id, str) else "?"
        self.calls[name] += 1
        if name.startswith("held-") and self.calls[name] == 1:
            self.damage(name)
        if name == "scheduled-1":
            step.effects.add("count", 1)  # to what may be damaged
        return Succeed(b"out")


def not_a_step(step: Step) -> list[str]:
    """Return what in a step is no value that a submit and the steps before could have made."""
    good = {
        "run_id": isinstance(step.run_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", step.run_id),
        "job_id": isinstance(step.job_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", step.job_id),
        "step_number": type(step.step_number) is int and step.step_number >= 0,
        "payload": type(step.payload) is bytes,
        "headers": type(step.headers) is dict
        and all(type(k) is str and type(v) is str for k, v in step.headers.items()),
        "attempts": type(step.attempts) is int and step.attempts >= 1,
        "max_attempts": type(step.max_attempts) is int and step.max_attempts >= 1,
        "signal": not step.wait_timed_out and (step.signal is None or step.signal.payload == SIGNALLED),
        "attempts and max_attempts": good_attempts(step.attempts, step.max_attempts),
    }
    return [
        f"a step was run with {name} = {getattr(step, name, (step.attempts, step.max_attempts))!r:.60}"
        for name, holds in good.items()
        if not holds
    ]


def good_attempts(attempts: object, most: object) -> bool:
    """Whether these two can be of one claim."""
    return isinstance(attempts, int) and isinstance(most, int) and attempts <= most


class DamagedStore:
    """A copy of the template, opened; ``ids`` names its rows, so that they are found whatever became of their ids."""

    def __init__(self, template: Path, directory: Path) -> None:
        self.root = directory
        shutil.copytree(template, directory)
        self.wrong: list[str] = []
        self.is_emptied = False

    def ids(self) -> dict[str, str]:
        """Return the job id of each run, and of each bare job, by name; look before anything is damaged."""
        return dict(Vandal(self.root).run(f"SELECT coalesce(run_id, id), id FROM {JOB}"))

    def check(
        self,
        *,
        names: Sequence[str],
        ids: dict[str, str],
        strike: Callable[[str], None] = lambda _: None,
        healthy: Sequence[str] = ALL_HEALTHY,
        bare: bool = True,
        queue_name: str = STEPS,
    ) -> list[str]:
        """Run what can be run and look at everything; returns what went wrong, in sentences."""
        runner = Runner(strike)
        with listening() as records:
            try:
                queue = Queue.open(self.root, durability="relaxed", clock=ManualClock(NOW), default_config=CONFIG)
            except TaqubaError as error:
                return [] if str(self.root) in str(error) or "schema" in str(error) else [f"open: {error}"]
            except Exception as error:
                return [f"open raised {error!r:.200}"]
            try:
                runtime = WorkflowRuntime(queue, runner, RecordingHook(), queue_name=queue_name, poll_interval=0.05)
                self._run(runtime, runner, healthy, records)
                self._look(queue, runtime, names, ids)
                if bare and not self.is_emptied:
                    self._bare(queue)
            finally:
                _close(queue, self.wrong)
        self.wrong += runner.wrong
        for kind, count in records.kinds().items():
            if count > 2 * len(ids) + 20:
                self.wrong.append(f"logged {count} times: {kind}")
        return list(dict.fromkeys(self.wrong))

    def _run(self, runtime: WorkflowRuntime, runner: Runner, healthy: Sequence[str], records: Records) -> None:
        try:
            runtime.start()
        except TaqubaError as error:
            self.wrong.append(f"start: {error}")
            return
        except Exception as error:
            self.wrong.append(f"start raised {error!r:.200}")
            return
        left = list(healthy)

        def over() -> bool:
            left[:] = [name for name in left if not self._has_ended(runtime, name)]
            return not left

        if not self._comes(over, lambda: (len(left), runner.calls.total()), records):
            why = records.last_failure()
            self.wrong.append(f"blocked: {len(left)} of {len(healthy)} healthy runs do not end: {why}")
        if not self._comes(lambda: runtime.stop(timeout=0.1), runner.calls.total, records):
            self.wrong.append(f"a settlement is tried for ever: {records.last_failure()}")
            # Nothing is left to settle, then: the dispatcher must not go on beside the tests that follow.
            Vandal(self.root).run(f"DELETE FROM {JOB}")
            runtime.stop(timeout=LIMIT)
            self.is_emptied = True

    @staticmethod
    def _comes(condition: Callable[[], bool], progress: Callable[[], object], records: Records) -> bool:
        """Wait for the condition; False if the dispatcher only fails meanwhile and gets nowhere."""
        deadline = time.monotonic() + LIMIT
        pause = threading.Event()
        reached: object = None
        allowed = 0
        while not condition():
            if progress() != reached:
                reached, allowed = progress(), records.failures_in_a_row() + BLOCKED
            if records.failures_in_a_row() >= allowed or time.monotonic() > deadline:
                return False
            pause.wait(0.01)
        return True

    def _has_ended(self, runtime: WorkflowRuntime, name: str) -> bool:
        try:
            status = runtime.status(name)
        except TaqubaError:
            return False
        except Exception as error:
            self.wrong.append(f"status of a healthy run raised {error!r:.200}")
            return True
        return status is not None and status.state is RunState.SUCCEEDED

    def _look(self, queue: Queue, client: WorkflowClient, names: Sequence[str], ids: dict[str, str]) -> None:
        calls: list[tuple[str, Callable[[], Any]]] = []
        for name in names:
            job_id = ids[name]
            calls += [
                ("get_job", lambda job_id=job_id: queue.get_job(job_id)),
                ("attempt_history", lambda job_id=job_id: queue.attempt_history(job_id)),
                ("status", lambda name=name: client.status(name)),
                ("outcome", lambda name=name: client.outcome(name)),
                ("wait", lambda name=name: client.wait(name, 0)),
                ("signals", lambda name=name: client.signals(name)),
                ("signal", lambda name=name: client.signal(name, "go", SIGNALLED)),
                ("clear_signals", lambda name=name: client.clear_signals(name, "go")),
                ("wake", lambda name=name: client.wake(name)),
                ("submit", lambda name=name: client.submit(run_id=name, input=input_of(int(name.rpartition("-")[2])))),
                ("retry", lambda name=name: client.retry(name)),
                ("cancel", lambda name=name: client.cancel(name, reason="enough")),
                ("history", lambda name=name: client.history(name)),
                ("requeue_dead_job", lambda job_id=job_id: queue.requeue_dead_job(job_id)),
                ("Queue.cancel", lambda job_id=job_id: queue.cancel(job_id)),
            ]
        for name in ("pending", "healthy"):
            calls += [
                ("trigger", lambda name=name: client.trigger(name)),
                ("pause_schedule", lambda name=name: client.pause_schedule(name)),
                ("resume_schedule", lambda name=name: client.resume_schedule(name)),
                ("schedule", lambda name=name: client.schedule(name, every=30, spec=RunSpec())),
                ("unschedule", lambda name=name: client.unschedule(name)),
            ]
        for status in (None, *JobStatus):
            pages = functools.partial(self._all_pages, queue.list_jobs, client.queue_name, status)
            calls.append((f"list_jobs({status})", pages))
        for state in (None, *RunState):
            calls.append((f"list_runs({state})", functools.partial(self._all_pages, client.list_runs, state)))
        narrowed: dict[str, Any] = {"prefix": "pending", "header": ("h", "v"), "failed_with": "broken", "since": THEN}
        for name, value in narrowed.items():
            narrow = functools.partial(client.list_runs, **{name: value}, newest_first=name == "header")
            calls.append((f"list_runs({name}=)", functools.partial(self._all_pages, narrow)))
        calls += [
            ("count_runs", client.count_runs),
            ("retry_many", lambda: client.retry_many(all=True)),
            ("cancel_many", lambda: client.cancel_many(prefix="scheduled")),
            ("group", lambda: client.group("g").status()),
            ("results", lambda: client.group("g").results(limit=1_000)),
            ("wait for a group", lambda: client.group("g").wait(0)),
            ("submit_group", lambda: client.submit_group("another", [RunSpec()])),
            ("list_runs(parent)", lambda: client.list_runs(parent="parent-0")),
            ("retry_failed", lambda: client.group("g").retry_failed()),
            ("cancel a group", lambda: client.group("g").cancel()),
            ("forget", lambda: client.group("g").forget()),
            ("stats", lambda: queue.stats(client.queue_name)),
            ("list_queues", queue.list_queues),
            ("sweep", lambda: queue.handle.store.sweep()),
            ("kv.get", lambda: queue.kv.get("count")),
            ("kv.scan", lambda: queue.kv.scan("")),
            ("kv.compare_put", lambda: queue.kv.compare_put("count", b"1", b"2")),
            ("kv.compare_delete", lambda: queue.kv.compare_delete("count", b"1")),
            ("kv.delete", lambda: queue.kv.delete("count")),
            ("kv.put", lambda: queue.kv.put("count", b"1")),
            ("schedules", client.schedules),
        ]
        for what, call in calls:
            try:
                call()
            except (TaqubaError, TimeoutError):
                pass
            except Exception as error:
                self.wrong.append(f"{what} raised {_plain(error)}")

    @staticmethod
    def _all_pages(call: Callable[..., Any], *arguments: Any) -> None:
        cursor = None
        for _ in range(10_000):
            page = call(*arguments, limit=50, cursor=cursor)
            cursor = page.next_cursor
            if cursor is None:
                return
        raise AssertionError("the pages never end")

    def _bare(self, queue: Queue) -> None:
        try:
            claimed = queue.claim_batch(BARE, 1000)
            if "bare-healthy" not in [claim.job.id for claim in claimed]:
                self.wrong.append("a healthy bare job cannot be claimed")
            for claim in claimed:
                with suppress(TaqubaError):
                    queue.ack(claim)
        except TaqubaError as error:
            self.wrong.append(f"a healthy bare job cannot be claimed: {error!r:.160}")
        except Exception as error:
            self.wrong.append(f"claim_batch raised {error!r:.160}")


def _plain(error: BaseException) -> str:
    return re.sub(r"\\\\x[0-9a-f]{2}|[a-z]+-\d+|x{9,}|nonsense", "", f"{error!r}")[:120]


def _close(queue: Queue, wrong: list[str]) -> None:
    try:
        queue.close()
    except Exception as error:
        wrong.append(f"close raised {error!r:.160}")
