"""A delay is counted by a clock that nobody sets: it comes neither early nor late by what the wall clock steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    Continue,
    ContinueAfter,
    Queue,
    QueueConfig,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
    run_worker,
)
from taquba_workflow_sync.storage.embedded.boot_clock import BootClock
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.reads import DueIn, Ready
from taquba_workflow_sync.storage.port.settlement import Action, Advance, Nack
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from taquba_workflow_sync.storage.relational.sql.names import META
from taquba_workflow_sync.testing import ManualClock
from tests.faults.clocks.times import HOUR, NOON_MS, SteppingWall, Wall
from tests.faults.lab import open_queue
from tests.storage.bench import QUEUE, claim, claims, job, put, put_one, settle, stored, version_of
from tests.storage.embedded.raw import raw
from tests.support import PATIENCE, await_event, in_thread

DELAY_MS = 60_000
HOUR_MS = 3_600_000
JUMPS = {"an hour ahead": HOUR_MS, "an hour back": -HOUR_MS, "a second ahead": 1_000, "nowhere": 0}
DELAYS: dict[str, Action] = {"advance": Advance(b"next", delay_ms=DELAY_MS), "retry": Nack("boom", DELAY_MS)}

Open = Callable[..., Store]


class Boot(BootClock):
    """One start of a machine, whose time somebody sets by hand."""

    def __init__(self, boot: int = 7, ms: int = 5_000_000) -> None:
        self.boot = boot
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def boot() -> Boot:
    return Boot()


@pytest.fixture
def opened(tmp_path: Path, wall: Wall, boot: Boot) -> Iterator[Open]:
    """Opens handles on one store, on the test's two clocks unless it names others."""
    stores: list[Store] = []

    def make(*, boot_clock: BootClock = boot, **options: object) -> Store:
        given = OpenOptions(**{"clock": wall, "durability": Durability.RELAXED} | options)  # type: ignore[arg-type]
        stores.append(EmbeddedStore(tmp_path / "store", given, boot_clock=boot_clock))
        return stores[-1]

    yield make
    for each in stores:
        each.close()


def delayed(store: Store, action: Action) -> str:
    """Put in a job that waits for its delay from now on."""
    job_id = put_one(store)
    settle(store, claim(store), action)
    assert stored(store, job_id).status == "scheduled"
    return job_id


# -- on one machine, between two boots --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DELAYS)
@pytest.mark.parametrize("jump", JUMPS)
def test_a_delay_is_over_when_its_time_has_passed_wherever_the_wall_clock_was_set(
    opened: Open, wall: Wall, boot: Boot, kind: str, jump: str
) -> None:
    store, other = opened(), opened()
    job_id = delayed(store, DELAYS[kind])
    wall.ms += JUMPS[jump]
    boot.ms += DELAY_MS - 1
    for each in (store, other):
        assert each.next_work(QUEUE) == DueIn(1)
        assert claims(each) == [], "early"
    boot.ms += 1
    assert other.next_work(QUEUE) == Ready()
    assert [row.id for row in claims(other)] == [job_id], "late"


@pytest.mark.parametrize("kind", DELAYS)
def test_a_delay_tells_its_due_time_as_the_wall_clock_stood_at_the_commit(opened: Open, wall: Wall, kind: str) -> None:
    store = opened()
    job_id = delayed(store, DELAYS[kind])
    wall.ms += HOUR_MS
    assert stored(store, job_id).run_at_ms == NOON_MS + DELAY_MS


def test_a_time_given_as_such_follows_the_wall_clock(opened: Open, wall: Wall, boot: Boot) -> None:
    store = opened()
    put_one(store, run_at_ms=NOON_MS + HOUR_MS)
    boot.ms += 2 * HOUR_MS
    assert claims(store) == []
    wall.ms += HOUR_MS - 1
    assert claims(store) == []
    wall.ms += 1
    assert len(claims(store)) == 1


def test_both_kinds_are_promoted_together_and_stand_at_their_places(opened: Open, wall: Wall, boot: Boot) -> None:
    store = opened()
    ids = put(store, *(job() for _ in range(4)))
    held = {row.id: row for row in claims(store)}
    for number, each in enumerate(ids):
        if number % 2:
            settle(store, held[each], Nack("boom", 1_000))
        else:
            settle(store, held[each], Nack("boom"))
    put(store, job(run_at_ms=NOON_MS + 500))
    assert [row.id for row in claims(store)] == ids[::2]
    wall.ms += 500
    boot.ms += 1_000
    late = [row.id for row in claims(store)]
    assert late[:2] == ids[1::2] and len(late) == 3


def test_more_delays_than_one_transaction_promotes_all_come_and_none_is_starved(
    opened: Open, wall: Wall, boot: Boot
) -> None:
    store = opened()
    put(store, *(job() for _ in range(600)))
    held = claims(store)
    for each in held:
        settle(store, each, Nack("boom", 1_000))
    put(store, *(job(run_at_ms=NOON_MS + 1) for _ in range(600)))
    wall.ms += 1
    boot.ms += 1_000
    taken: set[str] = set()
    for _ in range(3):
        taken |= {row.id for row in claims(store)}
    assert len(taken) == 1_200
    assert store.counts()[QUEUE].scheduled == 0


def test_a_retry_is_known_as_one_whatever_its_clock(opened: Open, wall: Wall, boot: Boot) -> None:
    store = opened()
    delayed(store, DELAYS["advance"])
    assert store.next_work(QUEUE, retries_only=True) is None
    delayed(store, DELAYS["retry"])
    wall.ms -= HOUR_MS
    assert store.next_work(QUEUE, retries_only=True) == DueIn(DELAY_MS)


def test_nothing_but_the_first_write_of_a_boot_notes_the_boot(opened: Open, boot: Boot) -> None:
    first = opened()
    first.insert([job()])
    version = version_of(first)
    other = opened()
    assert claims(other, 0) == []
    assert other.next_work(QUEUE) == Ready()
    assert version_of(first) == version, "a claim that takes nothing wrote something"


# -- a reboot in between ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DELAYS)
def test_a_delay_that_a_reboot_interrupts_goes_by_the_wall_clock(opened: Open, wall: Wall, kind: str) -> None:
    before = opened()
    job_id = delayed(before, DELAYS[kind])
    before.close()
    wall.ms += DELAY_MS - 1
    # The new boot's scale begins anew, or is far beyond the old one's: neither says anything about the old delay.
    for number, uptime in ((8, 0), (9, 10 * HOUR_MS)):
        after = opened(boot_clock=Boot(number, uptime))
        assert claims(after) == [], "early"
        after.close()
    wall.ms += 1
    after = opened(boot_clock=Boot(10, 1))
    assert after.next_work(QUEUE) is not None
    assert [row.id for row in claims(after)] == [job_id], "late"


def test_delays_begun_after_a_reboot_are_steady_again(opened: Open, wall: Wall) -> None:
    opened().close()
    after = Boot(8, 10)
    store, other = opened(boot_clock=after), opened(boot_clock=after)
    job_id = delayed(store, DELAYS["advance"])
    other.insert(
        [job("elsewhere")]
    )  # its first write looks at the boot too, and must not take the delay for an old one
    wall.ms += 2 * HOUR_MS
    assert claims(other) == []
    after.ms += DELAY_MS
    assert [row.id for row in claims(other)] == [job_id]


def test_a_process_that_was_slow_to_notice_the_boot_leaves_the_delays_begun_since(
    opened: Open, wall: Wall, boot: Boot
) -> None:
    """Two processes find the note of the last boot; the second one's entry comes after a delay of the first one."""
    store = opened()
    meanwhile: list[Callable[[], str]] = [lambda: delayed(store, DELAYS["advance"])]
    done: list[str] = []

    class Interrupted:
        """A clock is read between the look at the note and the transaction."""

        def now(self) -> datetime:
            while meanwhile:
                done.append(meanwhile.pop()())
            return wall.now()

    slow = opened(clock=Interrupted())
    slow.insert([job("elsewhere")])
    (job_id,) = done
    wall.ms += HOUR_MS
    assert claims(slow) == []
    boot.ms += DELAY_MS
    assert [row.id for row in claims(slow)] == [job_id]


def test_a_first_write_that_fails_after_a_reboot_leaves_the_delays_to_the_next(
    opened: Open, wall: Wall, tmp_path: Path
) -> None:
    before = opened()
    job_id = delayed(before, DELAYS["advance"])
    before.close()
    failing: list[str] = []

    def fault(point: str) -> None:
        if failing:
            raise MemoryError(failing.pop())

    after = opened(boot_clock=Boot(8, 0), failpoint=fault)
    failing += ["once", "again", "and again"]
    with pytest.raises(Exception, match="nothing was written"):
        after.insert([job("elsewhere")])
    failing.clear()
    wall.ms += DELAY_MS
    assert [row.id for row in claims(after)] == [job_id]
    with raw(tmp_path / "store") as connection:
        assert connection.execute(f"SELECT value FROM {META} WHERE key = 'boot'").fetchone() == (8,)


# -- where there is no such clock, or another one is asked for --------------------------------------------------------


def test_without_a_steady_clock_delays_go_by_the_wall(opened: Open, wall: Wall) -> None:
    store = opened(boot_clock=Boot(0, 0))
    job_id = delayed(store, DELAYS["advance"])
    wall.ms += DELAY_MS - 1
    assert claims(store) == []
    wall.ms += 1
    assert [row.id for row in claims(store)] == [job_id]


def test_a_process_without_a_steady_clock_takes_over_the_delays_of_those_with_one(opened: Open, wall: Wall) -> None:
    seeing = opened()
    job_id = delayed(seeing, DELAYS["advance"])
    seeing.close()
    blind = opened(boot_clock=Boot(0, 0))
    assert claims(blind) == []
    wall.ms += DELAY_MS
    assert [row.id for row in claims(blind)] == [job_id]


def test_a_clock_of_the_users_own_is_the_only_time_for_the_delays_of_its_handle(opened: Open, boot: Boot) -> None:
    clock = ManualClock()
    store = opened(clock=clock)
    job_id = delayed(store, DELAYS["advance"])
    boot.ms += 2 * DELAY_MS
    assert claims(store) == []
    clock.advance(DELAY_MS / 1000)
    assert [row.id for row in claims(store)] == [job_id]


# -- through the runtime, while it sleeps -----------------------------------------------------------------------------

PAUSE = 0.3


@pytest.fixture
def stepping() -> SteppingWall:
    return SteppingWall()


@pytest.fixture
def queue(tmp_path: Path, stepping: SteppingWall) -> Iterator[Queue]:
    with open_queue(tmp_path / "store", clock=stepping, durability="relaxed", retry_backoff_base=PAUSE) as queue:
        yield queue


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
@pytest.mark.parametrize("how", ["continue after", "retry"])
def test_a_sleeping_runtime_does_the_delayed_step_in_time_although_the_wall_clock_steps(
    queue: Queue, stepping: SteppingWall, jump: float, how: str
) -> None:
    left: list[float] = []

    def later(step: Step) -> StepOutcome:
        if left:
            return Succeed(b"%.6f" % (time.monotonic() - left[0]))
        left.append(time.monotonic())
        if how == "retry":
            raise StepError.transient("not yet")
        return ContinueAfter(b"", PAUSE)

    with WorkflowRuntime(queue, later) as runtime:
        handle = runtime.submit()
        while (status := handle.status()) is None or not left or queue.stats("workflow-steps").scheduled != 1:
            assert status is not None and time.monotonic() < (left or [time.monotonic()])[0] + PATIENCE
            time.sleep(0.002)
        stepping.ahead_s = jump
        waited = float(handle.result(timeout=PATIENCE))
    assert waited >= PAUSE - 0.002, "early"


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_run_until_idle_waits_for_a_retry_however_the_wall_clock_steps(
    queue: Queue, stepping: SteppingWall, jump: float
) -> None:
    began: list[float] = []

    def fails_once(step: Step) -> StepOutcome:
        began.append(time.monotonic())
        if step.attempts == 1:
            stepping.ahead_s = jump
            raise StepError.transient("not yet")
        return Continue() if step.step_number == 0 else Succeed()

    runtime = WorkflowRuntime(queue, fails_once)
    runtime.submit()
    assert runtime.run_until_idle(timeout=PATIENCE).succeeded == 1
    assert began[1] - began[0] >= PAUSE - 0.002


def test_a_nacked_job_comes_back_to_a_bare_worker_in_time(queue: Queue, stepping: SteppingWall) -> None:
    shutdown, done = threading.Event(), threading.Event()
    began: list[float] = []

    def work(*_: object) -> None:
        began.append(time.monotonic())
        if len(began) == 1:
            raise RuntimeError("once")
        done.set()

    queue.enqueue("q", b"")
    join = in_thread(lambda: run_worker(queue, "q", work, shutdown=shutdown))
    try:
        while queue.stats("q").scheduled != 1:
            assert not done.is_set()
            time.sleep(0.002)
        stepping.ahead_s = -HOUR
        await_event(done)
        assert began[1] - began[0] >= PAUSE - 0.002
    finally:
        shutdown.set()
        join()


def test_a_bare_claim_that_waits_gets_the_delayed_job_in_time(queue: Queue, stepping: SteppingWall) -> None:
    queue.enqueue("q", b"")
    claim = queue.claim("q")
    assert claim is not None
    began = time.monotonic()
    queue.nack(claim, "later")
    stepping.ahead_s = -HOUR
    again = queue.claim_with_wait("q", PATIENCE)
    assert again is not None and again.job.attempts == 2
    assert time.monotonic() - began >= PAUSE - 0.002


def test_the_real_clocks_are_the_same_in_every_process_and_go_on(tmp_path: Path) -> None:
    """A delay that this process began is claimed by another handle with clocks of its own, no earlier than due."""
    config = QueueConfig(retry_backoff_base=0.2)
    with Queue.open(tmp_path / "s", default_config=config) as one, Queue.open(tmp_path / "s") as other:
        one.enqueue("q", b"")
        claim = one.claim("q")
        assert claim is not None
        began = time.monotonic()
        one.nack(claim, "later")
        assert other.claim_with_wait("q", PATIENCE) is not None
        assert time.monotonic() - began >= 0.198
