"""claimed -> claimed, one step on: which claims need not be let go of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from taquba_workflow_sync.storage.port.claim import ClaimRequest
from taquba_workflow_sync.storage.port.settlement import Advance, Answer, Settlement, lets_go
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from tests.storage.memory import groups, settings
from tests.storage.memory.claims import promote
from tests.storage.memory.limiting import goes_back
from tests.storage.memory.state import Row
from tests.storage.memory.timing import started
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.waits import over


def choose(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    """Return the tokens of the claims that go on: the others make room for what goes first and has none."""
    groups: dict[tuple[str, ...], list[Settlement]] = {}
    for settlement in settlements:
        if settlement.leave is not None:
            groups.setdefault(settlement.leave.lanes, []).append(settlement)
    return {each.token for lanes, group in groups.items() for each in _choose(tx, lanes, group)}


def _choose(tx: Transaction, lanes: Sequence[str], group: Sequence[Settlement]) -> list[Settlement]:
    if goes_back(tx, lanes[-1]):
        return []
    for lane in lanes:
        promote(tx, lane)
    lines = [[row for row in tx.state.of_queue(lane, JobStatus.PENDING) if not row.parked] for lane in lanes]
    first = group[0].leave
    assert first is not None
    room = first.room - sum(map(len, lines[:-1]))
    short = max(-room, 0)
    waiting = sorted((row.rank, row.place) for row in lines[-1])[max(room, 0) :]
    granted: list[Settlement] = []
    for settlement in group[short:]:
        action = settlement.action
        assert isinstance(action, Advance) and action.hold is not None
        if waiting and lets_go(action.hold, waiting[0], keeps_place=action.keeps_place):
            waiting.pop(0)
        else:
            granted.append(settlement)
    return granted


def hold(tx: Transaction, row: Row, action: Advance) -> None:
    """Have the claim go on under the token of its hold."""
    assert action.hold is not None and row.held is not None
    groups.leave(tx, row)
    held = replace(row.held, token=action.hold.token)
    ended = over(started(tx.with_attempt(row, AttemptOutcome.CONTINUED, None)))
    if action.settings is None:
        ended = settings.at_next_step(ended, None)
    tx.put(
        replace(
            ended,
            step=row.step + 1,
            attempts=1,
            ordinal=row.ordinal + 1,
            payload=bytes(action.payload),
            held=held,
            claimed_ms=tx.now_ms,
            run_at_ms=None,
            last_error=None,
            step_memo=(),
            refusals=0,
            given=ended.given if action.settings is None else row.given._replace(label=action.settings.label),
        )
    )


def widened(request: ClaimRequest, settlements: Sequence[Settlement], answers: Sequence[Answer]) -> ClaimRequest:
    """Return what to claim, with the room of what was let go of."""
    queues = {lane.queue for lane in request.lanes}
    holds = [each.leave for each, answer in zip(settlements, answers, strict=True) if answer is None]
    return request._replace(limit=request.limit + sum(hold is not None and hold.lanes[-1] in queues for hold in holds))
