"""Who works on a store while it is moved: what runs ends, nothing is lost, and everybody learns where it is."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import psycopg
import pytest

from taquba_workflow_sync import (
    Continue,
    Queue,
    RunSpec,
    StorageError,
    StoreInUseError,
    StoreMovedError,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
    run_worker,
)
from taquba_workflow_sync.storage.moving.postgres import PostgresSide
from taquba_workflow_sync.storage.postgres.address import parsed
from tests.storage.bench import rows_of
from tests.storage.moving.conftest import Pair, is_open
from tests.support import PATIENCE, wait_until


def test_what_runs_ends_and_nothing_more_is_claimed(empty_pair: Pair) -> None:
    runs, may_end = threading.Event(), threading.Event()

    def step(_: object) -> Continue:
        runs.set()
        assert may_end.wait(PATIENCE)
        return Continue(b"after the step")

    with Queue.open(empty_pair.source) as queue:
        client = WorkflowClient(queue)
        client.submit_many([RunSpec(run_id=f"r{number}") for number in range(3)])
        with WorkflowRuntime(queue, step, max_concurrent_steps=1):
            assert runs.wait(PATIENCE)
            seen: list[str] = []
            thread = threading.Thread(target=lambda: empty_pair.move(PATIENCE, seen.append))
            thread.start()
            wait_until(lambda: "marked source" in seen)
            client.submit(run_id="late")  # it is open yet
            assert thread.is_alive()
            may_end.set()
            thread.join(PATIENCE)
            assert "forgotten move" in seen
    with Queue.open(empty_pair.target) as queue:
        client = WorkflowClient(queue)
        states = {run.run_id: (run.state, run.current_step) for run in client.list_runs().runs}
        assert set(states) == {"r0", "r1", "r2", "late"}
        assert [step for _, step in states.values()].count(1) == 1, "one was running, and has advanced"
        assert queue.stats("workflow-steps").claimed == 0


def test_a_step_that_does_not_end_is_named_and_the_store_goes_on(empty_pair: Pair) -> None:
    runs, may_end = threading.Event(), threading.Event()

    def step(_: object) -> Succeed:
        runs.set()
        assert may_end.wait(PATIENCE)
        return Succeed(b"")

    with Queue.open(empty_pair.source) as queue:
        client = WorkflowClient(queue)
        client.submit(run_id="slow")
        client.submit(run_id="next")
        WorkflowClient(queue, queue_name="still").pause()
        with WorkflowRuntime(queue, step, max_concurrent_steps=1):
            assert runs.wait(PATIENCE)
            with pytest.raises(StoreInUseError, match=r"run slow of workflow-steps in process \d+ on .* still runs"):
                empty_pair.move(0.2)
            may_end.set()
            assert client.wait("next", PATIENCE).result == b"", "claims go on"
        assert queue.stats("still").paused
        assert not queue.stats("workflow-steps").paused
    with Queue.open(empty_pair.target) as queue:
        assert queue.list_queues() == [], "the target is empty, and open"
    empty_pair.move()
    with Queue.open(empty_pair.target) as queue:
        assert queue.stats("still").paused


def test_a_queue_is_shown_as_paused_only_if_somebody_paused_it(empty_pair: Pair) -> None:
    with Queue.open(empty_pair.source) as queue:
        WorkflowClient(queue, queue_name="steps").submit(run_id="r")
        paused = WorkflowClient(queue, queue_name="still")
        paused.pause()
        shown: list[tuple[bool, bool, bool]] = []

        def at(name: str) -> None:
            if name == "marked source":
                assert queue.claim("steps") is None, "nothing is claimed, from queues that are new, too"
                queue.enqueue("new", b"")
                shown.append((queue.stats("steps").paused, queue.stats("still").paused, queue.stats("new").paused))
                paused.resume()
                WorkflowClient(queue, queue_name="steps").pause()

        empty_pair.move(at=at)
    assert shown == [(False, True, False)]
    with Queue.open(empty_pair.target) as queue:
        assert queue.stats("steps").paused
        assert not queue.stats("still").paused
        claim = queue.claim("new")
        assert claim is not None


def test_a_claim_that_was_abandoned_is_taken_back_as_a_worker_would(empty_pair: Pair) -> None:
    with Queue.open(empty_pair.source) as queue:
        queue.enqueue("q", b"", job_id="left")
        assert queue.claim("q", lease=0.3) is not None
        empty_pair.move(PATIENCE)
    with Queue.open(empty_pair.target) as queue:
        claim = queue.claim("q")
        assert claim is not None
        assert claim.job.id == "left"


def test_submits_during_a_move_are_refused_or_there_afterwards(empty_pair: Pair) -> None:
    """Each answer is one of three: it is stored, try again later, it is elsewhere. What was answered so is there."""
    stored: list[str] = []
    errors: set[type[BaseException]] = set()
    is_over = threading.Event()

    def submit(number: int, queue: Queue) -> None:
        client = WorkflowClient(queue)
        count = 0
        while not is_over.is_set():
            count += 1
            try:
                client.submit(run_id=f"r-{number}-{count}", input=bytes(3000 if count % 7 == 0 else 10))
            except StorageError as error:
                errors.add(type(error))
                if isinstance(error, StoreMovedError):
                    assert error.is_permanent
                    return
                assert not error.is_permanent, error
            else:
                stored.append(f"r-{number}-{count}")

    with Queue.open(empty_pair.source) as one, Queue.open(empty_pair.source) as other:
        threads = [threading.Thread(target=submit, args=(number, (one, other)[number % 2])) for number in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(stored) > 50)
        empty_pair.move(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        is_over.set()
    assert StoreMovedError in errors
    with Queue.open(empty_pair.target) as queue:
        there = {row.run_id for row in rows_of(queue.handle.store, "workflow-steps")}
    assert there == set(stored)


def test_open_handles_learn_where_the_store_is(empty_pair: Pair) -> None:
    with Queue.open(empty_pair.source) as queue:
        client = WorkflowClient(queue)
        handle = client.submit(run_id="r")
        told: list[BaseException] = []

        def wait() -> None:
            try:
                handle.wait(PATIENCE)
            except StorageError as error:
                told.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        meanwhile: list[BaseException] = []

        def at(name: str) -> None:
            if name == "copied":
                for call in (lambda: client.status("r"), lambda: queue.enqueue("q", b""), lambda: queue.claim("q")):
                    with pytest.raises(StorageError, match="is being moved to") as raised:
                        call()
                    meanwhile.append(raised.value)

        empty_pair.move(at=at)
        assert len(meanwhile) == 3
        assert not any(error.is_permanent for error in meanwhile)  # type: ignore[attr-defined]
        calls = [
            lambda: client.status("r"),
            lambda: client.list_runs(),
            lambda: queue.enqueue("q", b""),
            lambda: queue.kv.get("k"),
            lambda: queue.stats("q"),
            lambda: queue.metrics(),
        ]
        if "://" not in empty_pair.source:
            calls += [queue.check, queue.examine]
        for call in calls:
            with pytest.raises(StoreMovedError) as moved:
                call()
            assert moved.value.address
            assert moved.value.address in str(moved.value)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert len(told) == 1
    for _ in range(2):
        with pytest.raises(StoreMovedError):
            Queue.open(empty_pair.source)


def test_workers_end_and_say_why(empty_pair: Pair) -> None:
    with Queue.open(empty_pair.source) as queue:
        ended: list[BaseException] = []

        def work(call: object) -> None:
            try:
                call()  # type: ignore[operator]
            except StoreMovedError as error:
                ended.append(error)

        runtime = WorkflowRuntime(queue, lambda _: Succeed(b""))
        beside = WorkflowRuntime(queue, lambda _: Succeed(b""), queue_name="beside")
        threads = [
            threading.Thread(target=work, args=(runtime.run,)),
            threading.Thread(target=work, args=(lambda: run_worker(queue, "bare", lambda _: None),)),
        ]
        for thread in threads:
            thread.start()
        beside.start()
        WorkflowClient(queue).submit(run_id="r").wait(PATIENCE)
        empty_pair.move(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert len(ended) == 2
        wait_until(lambda: isinstance(beside.error, StoreMovedError))
        assert beside.stop(PATIENCE)
        with pytest.raises(StoreMovedError):
            WorkflowRuntime(queue, lambda _: Succeed(b""), queue_name="third").run_until_idle(PATIENCE)


def test_two_moves_of_a_store_are_never_at_work_at_once(empty_pair: Pair) -> None:
    Queue.open(empty_pair.source).close()
    refused: list[BaseException] = []

    def at(name: str) -> None:
        if name in ("marked source", "copied"):
            for call in (empty_pair.move, empty_pair.abort):
                with pytest.raises(StoreInUseError, match="another process is moving") as raised:
                    call()
                refused.append(raised.value)

    empty_pair.move(at=at)
    assert len(refused) == 4
    assert is_open(empty_pair.target)


@pytest.mark.parametrize("direction", ["from-postgres"], indirect=True)
def test_a_transaction_that_holds_the_tables_is_named(empty_pair: Pair) -> None:
    with Queue.open(empty_pair.source) as queue:
        queue.enqueue("q", b"")
        address = parsed(empty_pair.source)
        with closing(psycopg.connect(address.dsn, application_name="a report")) as other:
            other.execute(f'SELECT count(*) FROM "{address.schema}".taquba_job_4')
            began = time.monotonic()
            with pytest.raises(StoreInUseError, match=r"pid \d+ \(a report, in a transaction for \d+ s\)"):
                empty_pair.move(0.5)
            assert time.monotonic() - began < PATIENCE
            assert queue.claim("q") is not None, "the store goes on"
            other.rollback()


@pytest.mark.parametrize("direction", ["from-postgres"], indirect=True)
def test_what_programs_own_transactions_commit_until_the_end_is_moved(empty_pair: Pair) -> None:
    """Another program's, at the last instant at which it can: the store has no reason to look once more."""
    with Queue.open(empty_pair.source) as queue:
        client = WorkflowClient(queue)
        client.submit(run_id="before")
        dsn = parsed(empty_pair.source).dsn
        with psycopg.connect(dsn) as program:
            client.submit(run_id="early", connection=program)
        with closing(psycopg.connect(dsn)) as program:
            client.submit(run_id="open", connection=program)
            queue.kv.put("k", b"value", connection=program)
            with pytest.raises(StoreInUseError, match=r"pid \d+ .*in a transaction for"):
                empty_pair.move(0.5)

            def at(name: str) -> None:
                if name == "marked source":
                    program.commit()

            empty_pair.move(at=at)
            late = (
                lambda: client.submit(run_id="late", connection=program),
                lambda: client.signal("before", "late", connection=program),
                lambda: client.cancel("before", connection=program),
                lambda: queue.kv.put("late", b"value", connection=program),
            )
            for call in late:
                with pytest.raises(StoreMovedError):
                    call()
                program.rollback()
    with Queue.open(empty_pair.target) as queue:
        there = {run.run_id for run in WorkflowClient(queue).list_runs().runs}
        assert there == {"before", "early", "open"}
        assert queue.kv.get("k") == b"value"


@pytest.mark.parametrize("direction", ["from-postgres"], indirect=True)
def test_programs_own_transactions_during_a_move_are_refused_or_there_afterwards(empty_pair: Pair) -> None:
    stored: list[str] = []
    refused: list[BaseException] = []

    def submit(number: int, queue: Queue) -> None:
        client, count = WorkflowClient(queue), 0
        with closing(psycopg.connect(parsed(empty_pair.source).dsn)) as program:
            while True:
                count += 1
                name = f"r-{number}-{count}"
                try:
                    client.submit(run_id=name, connection=program)
                    program.commit()
                    stored.append(name)
                except StoreMovedError as error:
                    refused.append(error)
                    return
                except StorageError as error:
                    assert not error.is_permanent, error
                    program.rollback()

    with Queue.open(empty_pair.source) as queue:
        threads = [threading.Thread(target=submit, args=(number, queue), daemon=True) for number in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(stored) > 20, "programs that submit")
        empty_pair.move(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert len(refused) == 3
    with Queue.open(empty_pair.target) as queue:
        there = {row.run_id for row in rows_of(queue.handle.store, "workflow-steps")}
    assert there == set(stored)


@pytest.mark.parametrize("direction", ["from-postgres"], indirect=True)
def test_programs_that_never_pause_keep_a_move_from_its_end_and_nothing_is_changed(
    empty_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Queue.open(empty_pair.source) as queue:
        queue.enqueue("q", b"x")
        with monkeypatch.context() as patched:
            patched.setattr(PostgresSide, "has_arrivals", lambda side: True)
            with pytest.raises(StoreInUseError, match=r"own transactions go on putting .* in; stop them"):
                empty_pair.move(0.5)
        claim = queue.claim("q")
        assert claim is not None, "the store goes on"
        queue.ack(claim)
    with Queue.open(empty_pair.target) as queue:
        assert queue.list_queues() == []
    empty_pair.move()
