"""The store against the model: random transitions, and after each of them everything that can be read is equal."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from taquba_workflow_sync.errors import ClaimLostError, TaqubaError
from taquba_workflow_sync.storage.port.cancellation import CancelOutcome
from taquba_workflow_sync.storage.port.effects import (
    Add,
    ComparePut,
    Delete,
    Effect,
    Insert,
    OpenGroup,
    Put,
    SendSignal,
)
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.group import HeldBy, NewGroup, OnFailure
from taquba_workflow_sync.storage.port.job import JobRow, NewJob
from taquba_workflow_sync.storage.port.limit import HoldFor, Limit, Rate
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.progress import ProgressReport
from taquba_workflow_sync.storage.port.reads import Counts, DueIn, Filter, NextWork, Ready
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.schedule import Mark, NewSchedule, ScheduleKind
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    Answer,
    DeadLetter,
    Hold,
    Nack,
    Ongoing,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.signals import NewSignal
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions, Store
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.port.transitions import TRANSITIONS
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind, waiting_for
from taquba_workflow_sync.testing import ManualClock

from .bench import claims, job, now_ms, rows_of, run, stored, subscribe
from .engines import ENGINES, Engine
from .model import BARE, GROUP_LIFE_MS, Model, Row, Signal

QUEUES = ["a", "b"]
KEYS = ["k1", "k2"]
LANE = "a.terminal"
LEASES = [1_000, 60_000]

queues = st.sampled_from(QUEUES)
payloads = st.sampled_from([b"", b"small", b"L" * 3_000])
GROUP_NAMES = st.sampled_from(["g1", "g2"])
keeps = st.sampled_from([None, 0, 5_000, 120_000])
#: What a step is given, mostly nothing; and what ends a run that takes too long.
given = st.sampled_from([None, None, None, StepSettings("named"), StepSettings(max_attempts=5, priority=1)])
limits = st.sampled_from(
    [
        None,
        None,
        TimeLimits(deadline_after_ms=1_500),
        TimeLimits(expires_after_ms=1_000),
        TimeLimits(None, 60_000, 1_000),
    ]
)
names = st.sampled_from(["go", "stop"])


def advances(**chosen: st.SearchStrategy[object]) -> st.SearchStrategy[Advance]:
    """Advances that say nothing but what is chosen: left out, a field would get anything that fits its type."""
    nothing: dict[str, st.SearchStrategy[object]] = dict.fromkeys(Advance._field_defaults, st.none())
    return st.builds(Advance, payloads, **(nothing | {"keeps_place": st.just(False)} | chosen))


actions: st.SearchStrategy[Action] = st.one_of(
    advances(delay_ms=st.sampled_from([None, 1_000, 90_000]), keeps_place=st.booleans(), settings=given),
    advances(
        wait=st.builds(Wait, st.just(WaitKind.SIGNAL), names, st.sampled_from([None, 0, 1_000, 90_000])),
        keeps_place=st.booleans(),
    ),
    st.builds(Nack, st.just("boom"), st.sampled_from([None, 1_000])),
    st.builds(Ack, st.just(Verdict.SUCCEEDED), payloads),
    st.just(Ack(Verdict.FAILED, None, "no")),
    st.just(DeadLetter("broken")),
    st.builds(SettleCancelled, st.sampled_from([None, "why"])),
    st.just(Release()),
    st.builds(PutBack, st.sampled_from([0, 1_000]), st.just("not now"), st.booleans(), st.booleans()),
    advances(
        wait=st.builds(Wait, st.just(WaitKind.GROUP), GROUP_NAMES, st.sampled_from([None, 0, 1_000])),
    ),
)
keys = st.sampled_from(["k1", "k2"])
values = st.sampled_from([b"", b"7", b"v"])
#: A signal to be sent with an effect: to which run, and its name.
Sent = tuple[str, str]
#: What effects say of keys, or open; a text is the name of a run to submit.
effects_to_stage: st.SearchStrategy[Effect | str | Sent] = st.one_of(
    st.builds(Put, keys, values, st.sampled_from([None, 1_000])),
    st.builds(Delete, keys),
    st.builds(ComparePut, keys, st.one_of(st.none(), values), values),
    st.builds(Add, keys, st.sampled_from([1, 5])),
    st.sampled_from(["r1", "r2"]),
    st.tuples(st.sampled_from(["r1", "r2", "g1-0"]), names),
    st.builds(OpenGroup, GROUP_NAMES, st.just(b"f")),
)
staged = st.lists(effects_to_stage, max_size=3)
#: Leave to hold the claim, and whether the slice lasts; None: no leave.
leaves = st.sampled_from([None, True, False])
picks = st.integers(0, 10**6)
names_of_schedules = st.sampled_from(["s1", "s2"])
#: How far ahead a schedule is to fire next.
marks = st.sampled_from([None, -1_000, 1_000, 60_000])
reasons = st.sampled_from([None, "enough", "too late"])


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
        #: Who was given what, when, since the limits were last changed.
        self.log: list[tuple[str, str | None, str, int]] = []
        self.most_claimed: dict[tuple[str, str | None], int] = {}
        self.model = Model()
        #: Who each handle is, anew after each time that it was opened.
        self.generations = [0, 1]
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
        queue=queues, payload=payloads, name=st.sampled_from(["r1", "r2", "r3", "r4", "r5", "r6"]),
        attempts=st.integers(1, 3), keep=keeps, if_finished=st.sampled_from(IfFinished), handle=st.integers(0, 1),
        limits=limits, label=st.sampled_from([None, None, "first"]), key=st.sampled_from([None, *KEYS]),
        priority=st.sampled_from([1, 2]), delay=st.sampled_from([None, None, 1_000]),
    )  # fmt: skip
    def submit(
        self, queue: str, payload: bytes, name: str, attempts: int, keep: int | None, if_finished: IfFinished,
        handle: int, limits: TimeLimits | None, label: str | None, key: str | None, priority: int, delay: int | None,
    ) -> None:  # fmt: skip
        new = run(
            name, payload, queue=queue, if_finished=if_finished, keep_done_ms=keep, max_attempts=attempts,
            limits=limits, settings=None if label is None else StepSettings(label),
            limit_key=key, priority=priority, run_at_ms=None if delay is None else self.now + delay,
        )  # fmt: skip
        self._insert(new, handle)

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
        expected = self.model.claimable(queue, self.now)[:limit]
        held = claims(
            store, limit, queue=queue, lease_ms=lease, is_bare=bare, abandoned=abandoned, never_reap=self.running
        )
        assert [row.id for row in held] == [row.new.id for row in expected]
        if held and not bare:
            self.owners[handle] = str(stored(store, held[0].id).owner)
        for row, model in zip(held, expected, strict=True):
            self.model.claim(model, row.token, BARE if bare else self.owners[handle], self.now + lease, self.now)
            assert (row.attempts, row.step, row.payload) == (model.attempts, model.step, model.payload)
            assert row.cancel_requested == model.cancel_requested
            assert (row.wait is None) is (model.wait is None)
            if row.wait is not None:
                brought = row.wait.signal and (row.wait.signal.payload, row.wait.signal.id)
                fixed = model.found()
                assert (row.wait.wait, brought) == (model.wait, fixed and (fixed.payload, fixed.id))
            assert row.lease_until_ms == model.lease_until_ms
            assert row.token not in {token for _, token in self.held}, "a token is never used again"
            self.held.append((row.id, row.token))
            if runs and not bare:
                self.running.add(row.token)
            self.log.append((queue, model.new.limit_key, row.token, self.now))
        self._check_limits(store, queue)

    def _check_limits(self, store: Store, queue: str) -> None:
        """What limits promise, told by the rows and by who was given what; nothing of the model's is asked."""
        rows = [row for row in rows_of(store, queue) if row.finished_ms is None]
        limits = {each.pattern: each for each in store.limits(queue)}
        for key in (None, *KEYS):
            limit = limits.get(key, limits.get("k*") if key is not None else None)
            if limit is None:
                continue
            of_key = [row for row in rows if key is None or row.limit_key == key]
            claimed = [row for row in of_key if row.status is JobStatus.CLAIMED]
            at = [at for q, k, _, at in self.log if q == queue and key in (None, k)]
            given = [each for each in at if limit.rate is not None and each > self.now - limit.rate.window_ms]
            is_new = bool(at) and at[-1] == self.now
            if limit.concurrency is not None and is_new and claimed:
                assert len(claimed) <= max(limit.concurrency, self.most_claimed.get((queue, key), 0))
            self.most_claimed[queue, key] = len(claimed)
            if limit.rate is not None:
                assert len(given) <= limit.rate.most
            line = [row for row in of_key if row.status is JobStatus.PENDING and not row.is_parked]
            if key is not None and any(row.is_parked for row in of_key) and limit.hold is HoldFor.STEP:
                is_full = limit.concurrency is not None and len(line) + len(claimed) >= limit.concurrency
                counted = self.model.rate_counts(queue, key, self.now)
                is_fast = limit.rate is not None and len(line) + counted >= limit.rate.most
                assert is_full or is_fast, "nothing is parked while a slot is free"

    def _given_up(self, handle: int, pick: int) -> set[str]:
        """A token of the handle's own, if it has one, and one that is not held."""
        mine = [row for row in self.model.rows.values() if row.owner == self.owners.get(handle, "nobody")]
        return {"nothing", *([str(mine[pick % len(mine)].token)] if mine else [])}

    @rule(
        chosen=st.lists(st.tuples(picks, actions, st.booleans(), leaves, staged), min_size=1, max_size=4),
        handle=st.integers(0, 1), room=st.integers(0, 2),
    )  # fmt: skip
    def settle(
        self, chosen: list[tuple[int, Action, bool, bool | None, list[Effect | str | Sent]]], handle: int, room: int
    ) -> None:
        settlements, expected, seen = [], [], set()
        for pick, action, yields, leave, named in chosen:
            job_id, token = self.held[-1 - pick % min(len(self.held), 6)]
            row = self.model.rows.get(job_id)
            if token in seen:
                continue  # which of two ends of one claim holds is the engine's choice
            if isinstance(action, Nack) and row is not None and row.attempts >= row.max_attempts:
                action = DeadLetter("out of attempts")  # policy stands above the port
            seen.add(token)
            is_running = token in self.running
            if not (yields and row is not None and row.token == token and row.cancel_requested):
                self.running.discard(token)
            is_plain = isinstance(action, Advance) and not action.delay_ms
            if leave is not None and is_plain and action.wait is None and action.settings is None:
                action = self._with_leave(job_id, token, action, room, is_within_slice=leave)
                if is_running:  # what may go on is taken for running before it is known
                    self.running.add(_hold_of(action).token)
            settlements.append((job_id, token, action, yields, self._effects(named, row)))
        # Plain advances may be applied first, in bulk; the places they get are what their order shows.
        settlements.sort(
            key=lambda each: bool(each[4]) or not (_is_plain(each[2], yields=each[3]) and self._is_bulk(each[0]))
        )
        go_on = self.model.choose([action for _, _, action, _, _ in settlements], self.now)
        for job_id, token, action, yields, effects in settlements:
            goes_on = isinstance(action, Advance) and action.hold in go_on
            answer = self.model.settle(job_id, token, action, self.now, yields=yields, goes_on=goes_on, effects=effects)
            if isinstance(action, Release) and answer is None:
                self.log = [each for each in self.log if each[2] != token]
            expected.append(answer)
            if answer == "held":
                self.held.append((job_id, _hold_of(action).token))
            elif isinstance(action, Advance) and action.hold is not None:
                self.running.discard(action.hold.token)
        answers, _ = self.handles[handle].settle_and_claim([Settlement(*each) for each in settlements], [])
        assert [_name_of(answer) for answer in answers] == expected

    @rule(
        queue=queues, name=st.sampled_from(["r1", "r2", "r3"]), handle=st.integers(0, 1),
        chosen=st.lists(st.tuples(actions, leaves, staged), min_size=1, max_size=3),
    )  # fmt: skip
    def turn(
        self, queue: str, name: str, handle: int,
        chosen: list[tuple[Action, bool | None, list[Effect | str | Sent]]],
    ) -> None:  # fmt: skip
        """Claims that are settled at once: single rules chosen at random seldom meet a claim that is held."""
        if not any(self.model.claimable(each, self.now) for each in QUEUES):
            self._insert(run(name, queue=queue, if_finished=IfFinished.RERUN, keep_done_ms=5_000), handle)
        with_work = [each for each in (queue, *QUEUES) if self.model.claimable(each, self.now)]
        lane, lease = next(iter(with_work), queue), LEASES[1]
        self.claim(lane, len(chosen), bare=False, lease=lease, handle=handle, looks="", pick=0, runs=False)
        self.settle([(number, action, True, *rest) for number, (action, *rest) in enumerate(chosen)], handle, room=1)

    #: Chosen five times as often as another one.
    turn_1 = turn_2 = turn_3 = turn_4 = turn

    def _is_bulk(self, job_id: str) -> bool:
        row = self.model.rows.get(job_id)
        return row is None or not row.has_belongings()

    def _effects(self, named: list[Effect | str | Sent], row: Row | None) -> tuple[Effect, ...]:
        """Effects with their submits made: of the queue that the step is of, so that it may name its own run."""
        queue = "a" if row is None or row.new.queue not in QUEUES else row.new.queue
        made: list[Effect] = []
        for each in named:
            if isinstance(each, str):
                new = run(each, b"small", queue=queue, if_finished=IfFinished.RERUN, keep_done_ms=5_000)
                self.ids.append(new.id)
                made.append(Insert(new, (Add(f"submitted {each}", 1),)))
            elif isinstance(each, tuple):
                run_id, name = each
                made.append(SendSignal(queue, run_id, NewSignal(name, b"sent")))
            else:
                made.append(each)
        return tuple(made)

    @rule(named=staged, handle=st.integers(0, 1))
    def commit_effects(self, named: list[Effect | str | Sent], handle: int) -> None:
        effects = self._effects(named, None)
        expected = self.model.commit(effects, self.now)
        try:
            self.handles[handle].commit_effects(effects)
        except TaqubaError as error:
            assert type(error).__name__ == expected
        else:
            assert expected is None

    @rule(
        key=keys, expected=st.one_of(st.none(), values), value=values, ttl=st.sampled_from([None, 1_000]),
        does=st.sampled_from(["put", "delete", "compare_put", "compare_delete"]), handle=st.integers(0, 1),
    )  # fmt: skip
    def write_a_value(
        self, key: str, expected: bytes | None, value: bytes, ttl: int | None, does: str, handle: int
    ) -> None:
        store, model = self.handles[handle], self.model
        held, _ = model.live(self.now).get(key, (None, None))
        match does:
            case "put":
                store.kv_put(key, value, ttl)
                model.apply([Put(key, value, ttl)], self.now)
            case "delete":
                assert store.kv_delete(key) is (held is not None)
                model.apply([Delete(key)], self.now)
            case "compare_put":
                assert store.kv_compare_put(key, expected, value) is (held == expected)
                model.apply([ComparePut(key, expected, value)], self.now)
            case "compare_delete":
                assert store.kv_compare_delete(key, expected or b"") is (held == (expected or b""))
                if held == (expected or b""):
                    model.apply([Delete(key)], self.now)

    def _with_leave(self, job_id: str, token: str, action: Advance, room: int, *, is_within_slice: bool) -> Advance:
        row = self.model.rows.get(job_id)
        hold = Hold(
            self.handles[0].token_after(token),
            1 if row is None else row.priority,
            1 if row is None else row.place,
            ("a",) if row is None else (row.new.queue,),
            room,
            is_within_slice,
        )
        return action._replace(hold=hold)

    @rule(
        pick=picks, scope=st.sampled_from(MemoScope), key=st.sampled_from(["k1", "k2", "k3"]), value=payloads,
        handle=st.integers(0, 1),
    )  # fmt: skip
    def memo(self, pick: int, scope: MemoScope, key: str, value: bytes, handle: int) -> None:
        job_id, token = self.held[-1 - pick % min(len(self.held), 6)]
        expected = self.model.memo(job_id, token, scope, key, value)
        try:
            assert self.handles[handle].memo_put(job_id, token, scope, key, value) == expected
        except ClaimLostError:
            assert expected == "ClaimLostError"

    @rule(
        queue=queues, run_id=st.sampled_from(["r1", "r2"]), name=names, payload=payloads,
        id=st.sampled_from([None, "1", "2", "3"]), submits=st.booleans(), if_finished=st.sampled_from(IfFinished),
        handle=st.integers(0, 1),
    )  # fmt: skip
    def signal(
        self, queue: str, run_id: str, name: str, payload: bytes, id: str | None, submits: bool,
        if_finished: IfFinished, handle: int,
    ) -> None:  # fmt: skip
        new = run(run_id, payload, queue=queue, if_finished=if_finished) if submits else None
        submit = None if new is None else Insert(new)
        expected = self.model.signal(queue, Signal(name, payload, id), self.now, new, run_id)
        try:
            assert self.handles[handle].send_signal(queue, run_id, NewSignal(name, payload, id), submit) == expected
        except TaqubaError as error:
            assert type(error).__name__ == expected

    @rule(pick=picks, name=names, handle=st.integers(0, 1))
    def clear_signals(self, pick: int, name: str, handle: int) -> None:
        job_id = self._id(pick)
        removed = self.model.clear_signals(job_id, name)
        assert self.handles[handle].clear_signals(job_id, name) == (removed, None)

    @rule(pick=picks, handle=st.integers(0, 1))
    def wake(self, pick: int, handle: int) -> None:
        job_id = self._id(pick)
        assert self.handles[handle].wake(job_id) is self.model.wake(job_id, self.now)

    @rule(
        queue=queues, name=names_of_schedules, text=st.sampled_from(["d1", "d2"]), ahead=marks,
        handle=st.integers(0, 1),
    )  # fmt: skip
    def define_schedule(self, queue: str, name: str, text: str, ahead: int | None, handle: int) -> None:
        known = self.model.schedules.get((queue, name))
        mark = Mark(self.now, None if ahead is None else self.now + ahead)
        new = NewSchedule(queue, name, ScheduleKind.EVERY, text, b"input", self.now, mark)
        store = self.handles[handle]
        rows = store.find_schedules(queue, name=name).rows
        assert len(rows) == (known is not None)
        assert store.define_schedule(new, rows[0].seen.revision if rows else None)
        assert not store.define_schedule(new, rows[0].seen.revision if rows else None), "another is there by now"
        self.model.define(new)

    @rule(queue=queues, name=names_of_schedules, handle=st.integers(0, 1))
    def drop_schedule(self, queue: str, name: str, handle: int) -> None:
        known = self.model.schedules.pop((queue, name), None)
        assert self.handles[handle].drop_schedule(queue, name) == (known is not None)

    @rule(queue=queues, name=names_of_schedules, is_paused=st.booleans(), ahead=marks, handle=st.integers(0, 1))
    def move_schedule(self, queue: str, name: str, is_paused: bool, ahead: int | None, handle: int) -> None:
        mark = Mark(self.now, None if ahead is None else self.now + ahead)
        store = self.handles[handle]
        for row in store.find_schedules(queue, name=name).rows:
            assert store.move_schedule(queue, name, row.seen, mark, is_paused=is_paused)
            assert not self.handles[1 - handle].move_schedule(queue, name, row.seen, mark, is_paused=is_paused)
            known = self.model.schedules[queue, name]
            known.mark, known.is_paused = mark, is_paused

    @rule(
        queue=queues, name=names_of_schedules, runs=st.lists(st.sampled_from(["r1", "r2", "r3"]), max_size=3),
        payload=payloads, ahead=marks, moves=st.booleans(), skips=st.booleans(), handle=st.integers(0, 1),
    )  # fmt: skip
    def fire(
        self, queue: str, name: str, runs: list[str], payload: bytes, ahead: int | None, moves: bool, skips: bool,
        handle: int,
    ) -> None:  # fmt: skip
        jobs = [run(each, payload, queue=queue) for each in runs]
        mark = Mark(self.now + 1, None if ahead is None else self.now + ahead) if moves else None
        one, other = self.handles[handle], self.handles[1 - handle]
        for row in one.find_schedules(queue, name=name).rows:
            expected = self.model.fire(queue, name, jobs, mark, self.now, skips_active=skips)
            assert one.fire(queue, name, row.seen, jobs, mark, skips_active=skips) == expected
            if moves and mark is not None and mark.watermark_ms != row.seen.watermark_ms:
                assert other.fire(queue, name, row.seen, jobs, mark, skips_active=skips) is None, "never twice"

    @rule(pick=picks, done=st.integers(0, 9), handle=st.integers(0, 1))
    def progress(self, pick: int, done: int, handle: int) -> None:
        job_id, token = self.held[-1 - pick % min(len(self.held), 6)]
        self.model.progress(job_id, token, done)
        self.handles[handle].report_progress([ProgressReport(job_id, token, done, None, "")])

    @rule(queue=queues, prefix=st.sampled_from(["r", "r1", "r2"]), reason=reasons, handle=st.integers(0, 1))
    def cancel_some(self, queue: str, prefix: str, reason: str | None, handle: int) -> None:
        which = Filter(runs_only=True, visible_only=True, prefix=prefix, is_active=True, newest_first=True)
        expected = self.model.cancel_some(queue, prefix, self.now, self.running, reason)
        piece = self.handles[handle].cancel_some(queue, which, None, reason=reason, never_reap=self.running)
        assert (piece.changed, piece.next_cursor) == (expected, None)
        self._tell_members(self.handles[handle])

    @rule(queue=queues, prefix=st.sampled_from(["r", "r1", "r2"]), handle=st.integers(0, 1))
    def retry_some(self, queue: str, prefix: str, handle: int) -> None:
        which = Filter(runs_only=True, visible_only=True, prefix=prefix, verdict=Verdict.FAILED)
        expected = self.model.retry_some(queue, prefix, self.now)
        piece = self.handles[handle].retry_some(queue, which, None)
        assert (piece.changed, piece.tokens, piece.next_cursor) == (expected, [], None)

    @rule(
        name=GROUP_NAMES, queue=queues, many=st.integers(0, 3), handle=st.integers(0, 1),
        own=st.booleans(),
    )  # fmt: skip
    def submit_group(self, name: str, queue: str, many: int, handle: int, own: bool) -> None:
        if name in self.model.groups or name in self.model.written:
            return
        # Some are called as runs that are submitted singly.
        names = [f"r{index}" if own else f"{name}-{index}" for index in range(many)]
        jobs = [run(each, queue=queue, keep_done_ms=GROUP_LIFE_MS) for each in names]
        group = NewGroup(name, queue, many, b"f", OnFailure.COLLECT, GROUP_LIFE_MS)
        taken = self.model.submit_group(name, queue, jobs, self.now)
        store = self.handles[handle]
        assert store.group_write(group, 0, jobs).taken == taken
        if taken is None:
            store.group_open(name, b"f")
            self.ids += [each.id for each in jobs]

    @rule(
        name=GROUP_NAMES, queue=queues, many=st.integers(0, 2), handle=st.integers(0, 1),
        pick=st.one_of(st.none(), picks),
    )  # fmt: skip
    def write_group(self, name: str, queue: str, many: int, handle: int, pick: int | None) -> None:
        """Write a group for a claim, or for a program; an effect may open it."""
        claim = None if pick is None else self.held[-1 - pick % min(len(self.held), 6)]
        row = None if claim is None else self.model.rows.get(claim[0])
        if name in self.model.groups or name in self.model.written or (row is not None and row.run_id is None):
            return
        jobs = [run(f"{name}-{index}", queue=queue, keep_done_ms=GROUP_LIFE_MS) for index in range(many)]
        if any(each.run_id in {job.run.run_id for job in jobs if job.run} for each in self.model.rows.values()):
            return  # kept rows of the same names: another rule has that
        group = NewGroup(name, queue, many, b"f", OnFailure.COLLECT, GROUP_LIFE_MS)
        writer = self.generations[handle]
        expected = self.model.write_group(name, queue, jobs, self.now, writer, claim)
        try:
            answer = self.handles[handle].group_write(group, 0, jobs, None if claim is None else HeldBy(*claim))
        except ClaimLostError:
            assert expected == "ClaimLostError"
        else:
            assert (expected, answer.written, answer.taken) == (None, many, None)

    @rule(name=GROUP_NAMES, handle=st.integers(0, 1))
    def cancel_group(self, name: str, handle: int) -> None:
        if name not in self.model.groups:
            assert self.handles[handle].group_cancel(name) is None
            return
        self.model.cancel_group(name, self.now)
        assert self.handles[handle].group_cancel(name) is False

    @rule(pick=picks, handle=st.integers(0, 1), looks=st.booleans(), reason=reasons)
    def cancel(self, pick: int, handle: int, looks: bool, reason: str | None) -> None:
        job_id, store = self._id(pick), self.handles[handle]
        abandoned = store.abandoned_claims() if looks else None
        expected = self.model.cancel(job_id, self.now, self.dead if looks else (), self.running, reason)
        answer = store.cancel(job_id, reason=reason, abandoned=abandoned, never_reap=self.running)
        assert answer.outcome is CancelOutcome(expected)
        self._tell_members(store)

    def _tell_members(self, store: Store) -> None:
        """Have what a group's members do not know yet told by the next pieces, as the workers of their queue do."""
        for name in ("g1", "g2", "g1"):
            if name in self.model.groups and self.model.groups[name].cancel_requested:
                store.group_cancel(name)

    @rule(
        pick=picks, failed_run=st.booleans(), payload=st.one_of(st.none(), payloads), clears=st.booleans(),
        handle=st.integers(0, 1),
    )  # fmt: skip
    def requeue(self, pick: int, failed_run: bool, payload: bytes | None, clears: bool, handle: int) -> None:
        job_id = self._id(pick)
        expected = self.model.requeue(job_id, self.now, failed_run=failed_run, payload=payload, clears_memo=clears)
        try:
            self.handles[handle].requeue(job_id, failed_run=failed_run, payload=payload, clears_memo=clears)
        except TaqubaError as error:
            assert type(error).__name__ == expected
        else:
            assert expected is None

    @rule(
        queue=queues, pattern=st.sampled_from([None, "k*", *KEYS]), concurrency=st.sampled_from([None, 1, 2]),
        rate=st.sampled_from([None, Rate(1, 1_000), Rate(2, 60_000)]), hold=st.sampled_from(HoldFor),
        is_cleared=st.booleans(), handle=st.integers(0, 1),
    )  # fmt: skip
    def limit(
        self, queue: str, pattern: str | None, concurrency: int | None, rate: Rate | None, hold: HoldFor,
        is_cleared: bool, handle: int,
    ) -> None:  # fmt: skip
        store = self.handles[handle]
        if is_cleared:
            store.clear_limit(queue, pattern)
            self.model.set_limit(queue, None, pattern, self.now)
        else:
            new = Limit(pattern, concurrency, rate, HoldFor.STEP if pattern is None else hold)
            store.set_limit(queue, new)
            self.model.set_limit(queue, new, pattern, self.now)
        while store.settle_limits(queue):
            pass
        self.log.clear()
        self.most_claimed = {(queue, key): self._claimed_of(queue, key) for queue in QUEUES for key in (None, *KEYS)}

    def _claimed_of(self, queue: str, key: str | None) -> int:
        rows = [row for row in self.model.rows.values() if row.new.queue == queue and key in (None, row.new.limit_key)]
        return sum(row.status is JobStatus.CLAIMED for row in rows)

    @rule(queue=queues, is_paused=st.booleans(), handle=st.integers(0, 1))
    def pause(self, queue: str, is_paused: bool, handle: int) -> None:
        self.handles[handle].pause(queue, is_paused=is_paused)
        if is_paused:
            self.model.queues.add(queue)
        (self.model.paused.add if is_paused else self.model.paused.discard)(queue)

    @rule(chosen=st.sets(picks, max_size=3), handle=st.integers(0, 1))
    def renew(self, chosen: set[int], handle: int) -> None:
        tokens = {self.held[-1 - pick % len(self.held)][1] for pick in chosen}
        until, renewed = self.handles[handle].renew(tokens, 5_000)
        assert until == self.now + 5_000
        assert renewed == self.model.renew(tokens, until)

    @rule(handle=st.integers(0, 1))
    def sweep(self, handle: int) -> None:
        gone = self.model.sweep(self.now, self.generations)
        assert self.handles[handle].sweep() >= gone  # what else is removed was not seen before

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
        self.generations[handle] = max(self.generations) + 1
        self.dead |= {self.owners.pop(handle)} if handle in self.owners else set()

    # What must be equal

    @invariant()
    def everything_that_can_be_read_is_equal(self) -> None:
        if not hasattr(self, "model"):
            return
        store = self.handles[0]
        counts = {
            queue: Counts(*(self.model.count(queue, JobStatus(name)) for name in Counts._fields))
            for queue in self.model.queues
        }
        assert store.counts() == counts, (store.counts(), counts)
        seen: dict[str, JobRow] = {}
        for queue in self.model.queues:
            listed = rows_of(store, queue)
            numbers = [self.model.rows[row.id].seq for row in listed]
            assert numbers == sorted(numbers)
            seen |= {row.id: row for row in listed}
            self._check_next_work(store, queue)
            assert store.tally(queue) == Tally(**self.model.tally(queue))
        assert set(seen) == set(self.model.rows)
        held = sorted((key, value) for key, (value, _) in self.model.live(self.now).items())
        assert store.kv_scan("", 10, None, reverse=False) == (held, None)
        assert [store.kv_get(key) for key, _ in held] == [value for _, value in held]
        self._check_groups(store)
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
            assert (row.limit_key, row.is_parked) == (
                model.new.limit_key, model.parked > 0 and model.status is JobStatus.PENDING,
            )  # fmt: skip
            assert (row.verdict, row.result, row.termination) == (model.verdict, model.result, model.termination)
            assert model.run_id is None or row.is_visible is model.is_kept(self.now)
            assert (row.last_error is None) == (model.last_error is None)
            assert (row.priority, row.max_attempts, row.label) == (model.priority, model.max_attempts, model.label)
            if row.status is JobStatus.CANCELLED:
                assert row.last_error == model.last_error
            said = model.progress if model.progress and model.progress[0] == model.token else None
            assert (None if row.progress is None else row.progress.done) == (None if said is None else said[1])
            assert self._told(store, job_id) == ([] if model.run_id is None else model.events)
            for scope in MemoScope:
                memo = list(model.memos[scope].items())
                assert store.memo_page(job_id, scope, 10, None) == (memo, None)
                assert store.memo_keys(job_id, scope, model.step) == [key for key, _ in memo]
            assert [(each.name, each.payload, each.id) for each in store.signals(job_id)] == [
                (each.name, each.payload, each.id) for each in model.signals
            ]
            assert waiting_for(row) == self.model.waiting_for(model)
            assert [(each.step, each.attempt, each.outcome) for each in store.history(job_id)] == model.history

    @invariant()
    def schedules_are_equal(self) -> None:
        for store in getattr(self, "handles", []):
            for queue in QUEUES:
                found = store.find_schedules(queue, limit=10)
                assert found.now_ms == self.now
                assert [
                    (row.name, row.definition, Mark(row.seen.watermark_ms, row.next_ms), row.is_paused, row.last_run_id)
                    for row in found.rows
                ] == [
                    (name, each.definition, each.mark, each.is_paused, each.last_run_id)
                    for (of, name), each in sorted(self.model.schedules.items())
                    if of == queue
                ]
                waiting = [
                    each.mark.next_ms
                    for (of, _), each in self.model.schedules.items()
                    if of == queue and not each.is_paused and each.mark.next_ms is not None
                ]
                following = store.next_firing(queue, ScheduleKind.EVERY)
                assert (following is None) == (not waiting)
                if following is not None:
                    later = [each - self.now for each in waiting if each > self.now]
                    assert following == (len(later) < len(waiting), min(later, default=None))
                due = store.due_schedules(queue, ScheduleKind.EVERY, None, 10)
                assert [each.next_ms for each in due] == sorted(each for each in waiting if each <= self.now)

    def _told(self, store: Store, job_id: str) -> list[tuple[str, int, object]]:
        """What happened, as the model has it."""
        told: list[tuple[str, int, object]] = []
        for each in store.events(job_id):
            is_start = each.kind is EventKind.STARTED
            said = None if each.kind is EventKind.SIGNAL_DROPPED else each.outcome or each.detail
            told.append((each.kind, each.step, each.attempt if is_start else said))
        return told

    def _check_groups(self, store: Store) -> None:
        for name in ("g1", "g2"):
            shown, group = store.group_get(name), self.model.groups.get(name)
            if group is None:
                assert shown is None
                continue
            rows = self.model.members(name)
            assert shown is not None and shown.has_ended is self.model.has_ended(group)
            assert (shown.total, shown.succeeded, shown.failed, shown.cancelled) == (
                group.total,
                sum(row.verdict is Verdict.SUCCEEDED for row in rows),
                sum(row.verdict is Verdict.FAILED for row in rows),
                sum(row.status is JobStatus.CANCELLED for row in rows),
            )
            page = store.group_members(name, 10, None)
            assert page is not None
            assert [None if row is None else row.id for row in page.rows] == [
                row.new.id if row.finished_ms is not None else None for row in sorted(rows, key=lambda row: row.seq)
            ]

    def _check_next_work(self, store: Store, queue: str) -> None:
        opens = self.model.opens(queue, self.now)
        due, end = self.model.next_due(queue, self.now), self.model.next_end(queue)
        assert store.next_work(queue) == self._work_of(due, end, opens)
        assert store.next_work(queue, retries_only=True) == self._work_of(self.model.next_retry(queue), None, opens)

    def _work_of(self, due: int | None, end: int | None, opens: int | None) -> NextWork:
        """What is due is claimed when the queue is open; a run whose time is over ends whether it is or not."""
        is_open = opens is not None and opens <= self.now
        if due is not None and not is_open:
            due = max(due, opens or self.now)
        soonest = min((each for each in (due, end) if each is not None), default=None)
        if soonest is None:
            return None
        return Ready() if is_open and soonest <= self.now else DueIn(max(soonest - self.now, 0))


def _hold_of(action: Action) -> Hold:
    assert isinstance(action, Advance) and action.hold is not None
    return action.hold


def _name_of(answer: Answer) -> str | None:
    if answer is None:
        return None
    return answer.value if isinstance(answer, Ongoing) else type(answer).__name__


def _is_plain(action: Action, *, yields: bool) -> bool:
    is_small = isinstance(action, Advance) and not action.delay_ms and len(action.payload) <= 2_048
    return is_small and yields and action.settings is None and action.wait is None


@pytest.mark.timeout(600)  # each example of the engine on a server costs ten of the others'
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize(
    "examples", [40, pytest.param(400, marks=[pytest.mark.soak, pytest.mark.timeout(1_800)])], ids=["some", "many"]
)
def test_the_store_does_what_the_model_says(engine: Engine, examples: int) -> None:
    machine = type("Machine", (StoreMachine,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=examples < 100,  # who changes something else meets no news here; the many do
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_table_names_every_transition_of_the_model_once() -> None:
    names = [each.name for each in TRANSITIONS]
    assert len(names) == len(set(names))
    assert set(names) == {
        "enqueue", "fire", "claim", "promote", "ack", "advance", "hold", "nack", "put_back", "dead_letter",
        "settle_cancelled", "release", "renew", "memo", "progress", "cancel", "request_cancel", "reap", "requeue",
        "retry", "sweep", "drop", "quarantine", "signal", "clear_signals", "wake", "wait_again", "exceed_deadline",
        "expire", "request_stop", "write_group", "release_members", "deliver_group", "drop_member",
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


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_refusal_beside_a_claim_that_goes_on_takes_nothing_back(engine: Engine) -> None:
    """On a server: what was put off for the one is sent with the other's look, and is no change of that."""
    machine = type("Machine", (StoreMachine,), {"engine": engine})()
    try:
        machine.open(observed=False)
        machine.turn(chosen=[(Ack(Verdict.FAILED, error="no"), None, ["r1"])], handle=0, name="r1", queue="a")
        machine.turn(chosen=[(Advance(b""), True, []), (Advance(b""), None, [])], handle=0, name="r1", queue="a")
    finally:
        machine.teardown()
