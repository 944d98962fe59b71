"""One commit of a dispatcher: settle what ended, claim for what is free, hand out what was claimed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from taquba_workflow_sync.errors import ClaimLostError, StorageError, TaqubaError
from taquba_workflow_sync.queue.dispatch.holds import ask, give_up
from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.state import DispatchState, Finished, note_backlog
from taquba_workflow_sync.queue.dispatch.tally import Tally
from taquba_workflow_sync.queue.dispatch.telling import Teller
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.settlement import (
    Answer,
    DeadLetter,
    Ongoing,
    Release,
    Settlement,
    UnstorableError,
)

_log = logging.getLogger(__name__)

_HELD: Final = Ongoing.HELD


class Settler:
    """Settles and claims for one dispatcher, on the thread whose turn it is."""

    def __init__(self, handle: QueueHandle, state: DispatchState, on_start: Callable[[], None], teller: Teller) -> None:
        self._handle = handle
        self._store = handle.store
        self._state = state
        self._on_start = on_start
        self._teller = teller
        self.tally: Tally = Tally()
        #: The pools whose claims are in the commit under way: what it puts in line, they have seen.
        self.asking: tuple[Pool, ...] = ()

    def settle_and_claim(self, flush: Callable[[], None]) -> bool:
        """Commit what ended and claim for what is free; without either, ``flush`` and return False.

        Raises:
            StorageError: something has to be tried again; what was settled is let go all the same.
        """
        taken = self._state.take_batch()
        settled = [each for each in taken if each[0].is_settled]
        if settled:
            taken = [each for each in taken if not each[0].is_settled]
            self._take_note_of(settled)
        batch = ask(self._store, self._state, taken)
        requests = self._requests(batch)
        asking = self.asking
        if not batch and not requests:
            flush()
            return bool(settled)
        counting = self.tally.counting(batch)
        answers: Sequence[Answer] | None = None
        try:
            settlements = [settlement for _, settlement in batch]
            answers, claimed = self._store.settle_and_claim(settlements, requests, counting)
        except StorageError:
            # Only the claims failed (with settlements, each has its answer).
            note_backlog(asking)
            raise
        finally:
            self.asking = ()
            if answers is None:
                self._state.unsettled += batch
            if counting is not None and not counting.is_stored:
                self.tally.put_back(counting)
        if counting is None:
            self.tally.note(batch, answers)
        try:
            failed = self._let_go_of(batch, answers)
            self._tell_of(requests)
            self._hand_out(claimed, requests, batch, answers)
        except BaseException:
            self._take_up(batch)
            raise
        if failed is not None:
            # The claims beside it failed as well, or may have happened all the same: see Orphans.
            note_backlog(asking)
            raise failed
        return True

    def _requests(self, batch: Sequence[Finished]) -> list[ClaimRequest]:
        state = self._state
        # What may be held frees a thread only if it is let go of, and then the claims of the same commit know.
        freed: dict[Pool, int] = {}
        held: set[Pool] = set()
        for execution, _ in batch:
            pool = state.pool_of[execution.row.queue]
            if execution.following is None:
                freed[pool] = freed.get(pool, 0) + 1
            else:
                held.add(pool)
        asking: list[Pool] = []
        requests: list[ClaimRequest] = []
        for pool in state.pools:
            lanes, limit = pool.next_claims(), pool.free + freed.get(pool, 0)
            if state.stop_asked:
                lanes, limit = _reserved(pool, limit)
            wants_more = (limit > 0 or pool in held) and pool.has_backlog
            if lanes and (
                wants_more or state.abandoned or state.has_late
            ):  # stopping, it has none but for its own hooks
                pool.has_backlog = False
                asking.append(pool)
                is_spare = limit <= 0 and state.abandoned is None and not state.has_late
                requests.append(ClaimRequest(lanes, limit, False, state.abandoned, RUNNING, is_spare, []))
        self.asking = tuple(asking)
        state.abandoned = None
        state.has_late = False
        return requests

    def _take_note_of(self, settled: Sequence[Finished]) -> None:
        """Let go of what steps have settled themselves, with transactions of their own."""
        answers = [execution.answer for execution, _ in settled]
        for execution, _ in settled:
            execution.is_settled = False  # what is settled in its place goes the usual way
        self.tally.note(settled, answers)
        self._let_go_of(settled, answers)

    def _let_go_of(self, batch: Sequence[Finished], answers: Sequence[Answer]) -> TaqubaError | None:
        """Let go of what was settled; returns why something has to be tried again, if it has."""
        failed: TaqubaError | None = None
        for (execution, settlement), refusal in zip(batch, answers, strict=True):
            if refusal is _HELD:
                continue
            if isinstance(refusal, StorageError):
                # Unknown: tried again under the same token, whose fence tells whether it happened.
                execution.is_repeated = True
                self._state.unsettled.append((execution, settlement))
                failed = refusal
                continue
            give_up(execution)
            if isinstance(refusal, ClaimLostError) and execution.is_repeated:
                _log.info("the settlement of job %s was stored before, or its claim was lost", execution.row.id)
            other = _other_settlement(execution, settlement, refusal)
            if other is not None:
                self._state.unsettled.append((execution, other))
                continue
            if isinstance(refusal, UnstorableError):
                # Not even a dead letter can be stored. Taken back, it counts as an attempt; released, it would not.
                self._handle.abandoned_here.add(execution.row.token)
            self._state.let_go(execution)
            if execution.afterwards is not None:
                self._teller.add(execution.afterwards)
                execution.afterwards = None
        return failed

    def _tell_of(self, requests: Sequence[ClaimRequest]) -> None:
        """Have said what the claims have taken back: no step's end tells of it."""
        for request in requests:
            for each in request.taken_back or ():
                line = self._state.pool_of[each.queue].lanes[each.queue].taken_back(each)
                if line is not None:
                    self._teller.add(line)

    def _take_up(self, batch: Sequence[Finished]) -> None:
        """Settle again what a fault of ours kept from being let go of: its fence tells whether it was stored.

        Claims that were handed to no thread are released as orphans.
        """
        unsettled = {execution for execution, _ in self._state.unsettled}
        for execution, settlement in batch:
            if execution not in unsettled and execution.row.token in self._state.in_flight:
                execution.is_repeated = True
                self._state.unsettled.append((execution, settlement))

    def _hand_out(
        self,
        claimed: Sequence[ClaimedRow],
        requests: Sequence[ClaimRequest],
        batch: Sequence[Finished],
        answers: Sequence[Answer],
    ) -> None:
        state = self._state
        going_on: dict[Pool, list[Execution]] = {}
        let_go: dict[Pool, int] = {}
        for (execution, settlement), answer in zip(batch, answers, strict=True):
            if answer is _HELD:
                going_on.setdefault(state.pool_of[execution.row.queue], []).append(execution)
            elif answer is None and settlement.leave is not None:
                pool = state.pool_of[execution.row.queue]
                let_go[pool] = let_go.get(pool, 0) + 1
        for pool in state.pools:
            lanes = pool.lanes
            executions = [Execution(row, lanes[row.queue], state.stopping) for row in claimed if row.queue in lanes]
            for request in requests:
                if request.lanes[0] in pool.claims and len(executions) == request.limit + let_go.get(pool, 0):
                    pool.has_backlog = True  # there may be more
            state.take_in(pool, executions)
            held = [state.go_on(each) for each in going_on.get(pool, ())]
            if state.stopping_since is None:
                executions += held
            else:
                state.release(held)
            if not executions:
                continue
            self._on_start()
            pool.give(executions)
            if pool.is_going_down:
                state.release_unstarted()


def _other_settlement(execution: Execution, settlement: Settlement, refusal: TaqubaError | None) -> Settlement | None:
    if isinstance(refusal, UnstorableError) and not isinstance(settlement.action, DeadLetter):
        # The store cannot hold what the step came to; it would not at the next try.
        return Settlement(settlement.job_id, settlement.token, DeadLetter(str(refusal)))
    if isinstance(settlement.action, Release):
        return None
    return execution.lane.settled(execution, settlement, refusal)


def _reserved(pool: Pool, limit: int) -> tuple[tuple[LaneClaim, ...], int]:
    """Return what a stopping dispatcher still claims: the hooks of runs that it ended itself."""
    if not pool.is_going_down:
        reserved = {lane.claim: many for lane in pool.lanes.values() if (many := lane.reserved()) > 0}
        # All of them: a lane whose runs leave nothing to be told of must not keep those of others waiting.
        return tuple(reserved), min(limit, sum(reserved.values()))
    return (), 0
