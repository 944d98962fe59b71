"""The store against the model: random transitions, and after each of them everything that can be read is equal."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.cancellation import CancelOutcome
from taquba_workflow_sync.storage.port.job import JobRow, NewJob
from taquba_workflow_sync.storage.port.reads import Counts, DueIn, Ready
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    Answer,
    DeadLetter,
    Hold,
    Nack,
    Ongoing,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from taquba_workflow_sync.storage.port.transitions import TRANSITIONS
from taquba_workflow_sync.testing import ManualClock

from .bench import claims, job, now_ms, rows_of, run, stored, subscribe
from .engines import ENGINES, Engine
from .model import BARE, Model, Row

QUEUES = ["a", "b"]
LANE = "a.terminal"
LEASES = [1_000, 60_000]

queues = st.sampled_from(QUEUES)
payloads = st.sampled_from([b"", b"small", b"L" * 3_000])
keeps = st.sampled_from([None, 0, 5_000, 120_000])
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Advance, payloads, delay_ms=st.sampled_from([None, 1_000, 90_000]), keeps_place=st.booleans()),
    st.builds(Nack, st.just("boom"), st.sampled_from([None, 1_000])),
    st.builds(Ack, st.just(Verdict.SUCCEEDED), payloads),
    st.just(Ack(Verdict.FAILED, None, "no")),
    st.just(DeadLetter("broken")),
    st.builds(SettleCancelled, st.sampled_from([None, "why"])),
    st.just(Release()),
)
#: Leave to hold the claim, and whether the slice lasts; None: no leave.
leaves = st.sampled_from([None, True, False])
picks = st.integers(0, 10**6)


class StoreMachine(RuleBasedStateMachine):
    """Two handles on one store, one model beside them."""

    engine: Engine

    @initialize(observed=st.booleans())
    def open(self, observed: bool) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="taquba-model-"))
        self.open_store = self.engine.opener()
        self.clock = ManualClock()
        self.running: set[str] = set()
        self.handles: list[Store] = [self._open(), self._open()]
        self.owners: dict[int, str] = {}
        self.dead: set[str] = set()
        self.model = Model()
        self.ids: list[str] = ["nobody"]
        self.held: list[tuple[str, str]] = [("nobody", "nothing")]
        if observed:
            subscribe(self.handles[0], "a", LANE)
            self.model.observers["a"] = LANE
            self.model.queues.add("a")

    def _open(self) -> Store:
        options = OpenOptions(durability=Durability.RELAXED, clock=self.clock)
        return self.open_store(str(self.directory / "store"), options)

    def teardown(self) -> None:
        for store in getattr(self, "handles", []):
            store.close()
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory)

    @property
    def now(self) -> int:
        return now_ms(self.clock)

    def _id(self, pick: int) -> str:
        # The late ones more often than the early ones, which are finished.
        known = self.ids + [each for each in self.model.rows if each not in self.ids]
        return known[-1 - pick % min(len(known), 8)]

    # Rules

    @rule(
        queue=queues, payload=payloads, priority=st.sampled_from([1, 2]), attempts=st.integers(1, 3),
        delay=st.sampled_from([None, -5, 1_000]), dedup=st.sampled_from([None, "k1", "k2"]), keep=keeps, dead=keeps,
        reused=st.one_of(st.none(), picks), handle=st.integers(0, 1),
    )  # fmt: skip
    def enqueue(
        self, queue: str, payload: bytes, priority: int, attempts: int, delay: int | None, dedup: str | None,
        keep: int | None, dead: int | None, reused: int | None, handle: int,
    ) -> None:  # fmt: skip
        new = job(
            queue, payload, priority=priority, max_attempts=attempts, dedup_key=dedup, keep_done_ms=keep,
            keep_dead_ms=dead, run_at_ms=None if delay is None else self.now + delay,
            id=None if reused is None else self._id(reused), id_given=reused is not None,
        )  # fmt: skip
        self._insert(new, handle)

    @rule(
        queue=queues, payload=payloads, name=st.sampled_from(["r1", "r2"]), attempts=st.integers(1, 3), keep=keeps,
        if_finished=st.sampled_from(IfFinished), handle=st.integers(0, 1),
    )  # fmt: skip
    def submit(
        self, queue: str, payload: bytes, name: str, attempts: int, keep: int | None, if_finished: IfFinished,
        handle: int,
    ) -> None:  # fmt: skip
        self._insert(
            run(name, payload, queue=queue, if_finished=if_finished, keep_done_ms=keep, max_attempts=attempts), handle
        )

    def _insert(self, new: NewJob, handle: int) -> None:
        expected = self.model.insert(new, self.now)
        try:
            (answer,) = self.handles[handle].insert([new])
        except TaqubaError as error:
            assert type(error).__name__ == expected
        else:
            assert tuple(answer) == expected
            self.ids.append(new.id)

    @rule(
        queue=st.sampled_from([*QUEUES, LANE]), limit=st.integers(0, 3), bare=st.booleans(),
        lease=st.sampled_from(LEASES), handle=st.integers(0, 1), looks=st.sampled_from(["", "", "dead", "own"]),
        pick=picks, runs=st.booleans(),
    )  # fmt: skip
    def claim(
        self, queue: str, limit: int, bare: bool, lease: int, handle: int, looks: str, pick: int, runs: bool
    ) -> None:
        store = self.handles[handle]
        dead, given_up = self.dead if looks else set(), self._given_up(handle, pick) if looks == "own" else set()
        abandoned = store.abandoned_claims(own=given_up) if looks else None
        if abandoned is not None:
            # No lease of these tests is watched for long enough.
            there = [row for row in self.model.rows.values() if row.owner in dead or row.token in given_up]
            assert bool(abandoned) == bool(there)
        self.model.promote_and_reap(queue, self.now, dead, given_up, self.running)
        expected = self.model.line(queue)[:limit]
        held = claims(
            store, limit, queue=queue, lease_ms=lease, is_bare=bare, abandoned=abandoned, never_reap=self.running
        )
        assert [row.id for row in held] == [row.new.id for row in expected]
        if held and not bare:
            self.owners[handle] = str(stored(store, held[0].id).owner)
        for row, model in zip(held, expected, strict=True):
            self.model.claim(model, row.token, BARE if bare else self.owners[handle], self.now + lease)
            assert (row.attempts, row.step, row.payload) == (model.attempts, model.step, model.payload)
            assert row.cancel_requested == model.cancel_requested
            assert row.lease_until_ms == model.lease_until_ms
            assert row.token not in {token for _, token in self.held}, "a token is never used again"
            self.held.append((row.id, row.token))
            if runs and not bare:
                self.running.add(row.token)

    def _given_up(self, handle: int, pick: int) -> set[str]:
        """A token of the handle's own, if it has one, and one that is not held."""
        mine = [row for row in self.model.rows.values() if row.owner == self.owners.get(handle, "nobody")]
        return {"nothing", *([str(mine[pick % len(mine)].token)] if mine else [])}

    @rule(
        chosen=st.lists(st.tuples(picks, actions, st.booleans(), leaves), min_size=1, max_size=4),
        handle=st.integers(0, 1), room=st.integers(0, 2),
    )  # fmt: skip
    def settle(self, chosen: list[tuple[int, Action, bool, bool | None]], handle: int, room: int) -> None:
        settlements, expected, seen = [], [], set()
        for pick, action, yields, leave in chosen:
            job_id, token = self.held[-1 - pick % min(len(self.held), 6)]
            row = self.model.rows.get(job_id)
            if token in seen:
                continue  # which of two ends of one claim holds is the engine's choice
            if isinstance(action, Nack) and row is not None and row.attempts >= row.new.max_attempts:
                action = DeadLetter("out of attempts")  # policy stands above the port
            seen.add(token)
            is_running = token in self.running
            if not (yields and row is not None and row.token == token and row.cancel_requested):
                self.running.discard(token)
            if leave is not None and isinstance(action, Advance) and not action.delay_ms:
                action = self._with_leave(job_id, token, action, room, is_within_slice=leave)
                if is_running:  # what may go on is taken for running before it is known
                    self.running.add(_hold_of(action).token)
            settlements.append((job_id, token, action, yields))
        # Plain advances may be applied first, in bulk; the places they get are what their order shows.
        settlements.sort(key=lambda each: not _is_plain(each[2], yields=each[3]))
        go_on = self.model.choose([action for _, _, action, _ in settlements], self.now)
        for job_id, token, action, yields in settlements:
            goes_on = isinstance(action, Advance) and action.hold in go_on
            answer = self.model.settle(job_id, token, action, self.now, yields=yields, goes_on=goes_on)
            expected.append(answer)
            if answer == "held":
                self.held.append((job_id, _hold_of(action).token))
            elif isinstance(action, Advance) and action.hold is not None:
                self.running.discard(action.hold.token)
        answers, _ = self.handles[handle].settle_and_claim([Settlement(*each) for each in settlements], [])
        assert [_name_of(answer) for answer in answers] == expected

    def _with_leave(self, job_id: str, token: str, action: Advance, room: int, *, is_within_slice: bool) -> Advance:
        row = self.model.rows.get(job_id)
        hold = Hold(
            self.handles[0].token_after(token),
            1 if row is None else row.new.priority,
            1 if row is None else row.place,
            ("a",) if row is None else (row.new.queue,),
            room,
            is_within_slice,
        )
        return replace(action, hold=hold)

    @rule(pick=picks, handle=st.integers(0, 1), looks=st.booleans())
    def cancel(self, pick: int, handle: int, looks: bool) -> None:
        job_id, store = self._id(pick), self.handles[handle]
        abandoned = store.abandoned_claims() if looks else None
        expected = self.model.cancel(job_id, self.now, self.dead if looks else (), self.running)
        answer = store.cancel(job_id, abandoned=abandoned, never_reap=self.running)
        assert answer.outcome is CancelOutcome(expected)

    @rule(pick=picks, failed_run=st.booleans(), handle=st.integers(0, 1))
    def requeue(self, pick: int, failed_run: bool, handle: int) -> None:
        job_id = self._id(pick)
        expected = self.model.requeue(job_id, failed_run=failed_run)
        try:
            self.handles[handle].requeue(job_id, failed_run=failed_run)
        except TaqubaError as error:
            assert type(error).__name__ == expected
        else:
            assert expected is None

    @rule(chosen=st.sets(picks, max_size=3), handle=st.integers(0, 1))
    def renew(self, chosen: set[int], handle: int) -> None:
        tokens = {self.held[-1 - pick % len(self.held)][1] for pick in chosen}
        until, renewed = self.handles[handle].renew(tokens, 5_000)
        assert until == self.now + 5_000
        assert renewed == self.model.renew(tokens, until)

    @rule(handle=st.integers(0, 1))
    def sweep(self, handle: int) -> None:
        assert self.handles[handle].sweep() == self.model.sweep(self.now)

    @rule(drop=st.booleans(), handle=st.integers(0, 1))
    def unsubscribe(self, drop: bool, handle: int) -> None:
        lane = LANE if drop else None
        assert self.handles[handle].unsubscribe("a", drop_from=lane) == self.model.unsubscribe("a", lane)

    @rule(handle=st.integers(0, 1))
    def subscribe(self, handle: int) -> None:
        subscribe(self.handles[handle], "a", LANE)
        self.model.observers["a"] = LANE
        self.model.queues.add("a")

    @rule(ms=st.sampled_from([1, 999, 1_000, 60_000, 200_000]))
    def advance_the_clock(self, ms: int) -> None:
        self.clock.advance(ms / 1000)

    @rule(handle=st.integers(0, 1))
    def reopen(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = self._open()
        self.dead |= {self.owners.pop(handle)} if handle in self.owners else set()

    # What must be equal

    @invariant()
    def everything_that_can_be_read_is_equal(self) -> None:
        if not hasattr(self, "model"):
            return
        store = self.handles[0]
        assert store.counts() == {
            queue: Counts(*(self.model.count(queue, JobStatus(name)) for name in Counts._fields))
            for queue in self.model.queues
        }
        seen: dict[str, JobRow] = {}
        for queue in self.model.queues:
            listed = rows_of(store, queue)
            numbers = [self.model.rows[row.id].seq for row in listed]
            assert numbers == sorted(numbers)
            seen |= {row.id: row for row in listed}
            self._check_next_work(store, queue)
        assert set(seen) == set(self.model.rows)
        for job_id, model in self.model.rows.items():
            row = seen[job_id]
            assert (row.status, row.step, row.attempts, row.payload) == (
                model.status, model.step, model.attempts, model.payload,
            )  # fmt: skip
            assert row.cancel_requested is model.cancel_requested
            assert row.owner == (None if model.owner == BARE else model.owner)
            assert (row.dedup_key, row.lease_until_ms, row.finished_ms) == (
                model.dedup_key, model.lease_until_ms, model.finished_ms,
            )  # fmt: skip
            assert (row.verdict, row.result, row.termination) == (model.verdict, model.result, model.termination)
            assert model.run_id is None or row.is_visible is model.is_kept(self.now)
            assert (row.last_error is None) == (model.last_error is None)
            assert [(each.step, each.attempt, each.outcome) for each in store.history(job_id)] == model.history

    def _check_next_work(self, store: Store, queue: str) -> None:
        due = self.now if self.model.line(queue) else self.model.next_due(queue)
        if due is None:
            assert store.next_work(queue) is None
        else:
            assert store.next_work(queue) == (DueIn(due - self.now) if due > self.now else Ready())


def _hold_of(action: Action) -> Hold:
    assert isinstance(action, Advance) and action.hold is not None
    return action.hold


def _name_of(answer: Answer) -> str | None:
    if answer is None:
        return None
    return answer.value if isinstance(answer, Ongoing) else type(answer).__name__


def _is_plain(action: Action, *, yields: bool) -> bool:
    return isinstance(action, Advance) and yields and not action.delay_ms and len(action.payload) <= 2_048


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_the_store_does_what_the_model_says(engine: Engine) -> None:
    machine = type("Machine", (StoreMachine,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_table_names_every_transition_of_the_model_once() -> None:
    names = [each.name for each in TRANSITIONS]
    assert len(names) == len(set(names))
    assert set(names) == {
        "enqueue", "claim", "promote", "ack", "advance", "hold", "nack", "dead_letter", "settle_cancelled", "release",
        "renew", "cancel", "request_cancel", "reap", "requeue", "retry", "sweep", "drop", "quarantine",
    }  # fmt: skip


def test_every_status_can_be_reached_and_left_by_the_table() -> None:
    targets = frozenset().union(*(each.targets for each in TRANSITIONS))
    sources = frozenset().union(*(each.sources for each in TRANSITIONS))
    assert targets == sources == frozenset(JobStatus)


def test_a_change_outside_the_table_is_noticed_by_the_model() -> None:
    model = Model()
    model.insert(job("a"), 0)
    (row,) = model.rows.values()
    assert isinstance(row, Row)
    with pytest.raises(AssertionError, match="not in the table"):
        model._move("ack", row, JobStatus.DONE)
