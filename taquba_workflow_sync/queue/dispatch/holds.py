"""Claims that go on at the next step of their run: for which that is asked, and what runs then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.state import DispatchState, Finished
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.claim import next_step
from taquba_workflow_sync.storage.port.settings import CurrentSettings, StepSettings
from taquba_workflow_sync.storage.port.settlement import Advance, Hold, Settlement
from taquba_workflow_sync.storage.port.store import Store

#: For how long a run may go on though others of its priority wait. Longer, and what waits starts late: with 100 ms,
#: 200 runs of 5 ms steps started up to 1.3 s late on 16 workers.
SLICE_S: Final = 0.02


def ask(store: Store, state: DispatchState, batch: Sequence[Finished]) -> list[Finished]:
    """Return the batch with leave to hold asked for where the run may go on; the next steps count as running here.

    What was asked for before and may have been stored keeps the token that was asked for then.
    """
    if state.stop_asked:
        return list(batch)
    now = time.monotonic()
    ending: dict[Pool, int] = {}
    asked = list(batch)
    asking: list[int] = []
    for number, (execution, settlement) in enumerate(batch):
        if not _may_go_on(execution, settlement, now):
            pool = state.pool_of[execution.row.queue]
            ending[pool] = ending.get(pool, 0) + 1
        elif execution.following is None:
            asking.append(number)
    for number in asking:
        execution, settlement = batch[number]
        asked[number] = execution, _asking(store, state, execution, settlement, ending, now)
    return asked


def give_up(execution: Execution) -> None:
    """Note that the run does not go on under its claim."""
    if execution.following is not None:
        RUNNING.discard(execution.following.row.token)
        execution.following = None


def _may_go_on(execution: Execution, settlement: Settlement, now: float) -> bool:
    action = settlement.action
    if not (isinstance(action, Advance) and execution.lane.holds and not action.delay_ms and action.headers is None):
        return False
    if action.wait is not None or not _needs_no_claim(execution.row.settings, action.settings):
        return False
    # A hold leaves the lease alone, and a heartbeat that renews by a token finds it replaced where steps are short:
    # once the lease is due for renewal, the run goes back in line and is claimed anew.
    return execution.following is not None or not execution.is_due_for_renewal(now)


def _needs_no_claim(has: CurrentSettings | None, given: StepSettings | None) -> bool:
    """Whether the next step can be told what it was given without its claim, which else reads that."""
    if has is None or given is None:
        return has is None and given is None
    return given.is_label_alone and has.step_timeout_ms is None


def _asking(
    store: Store,
    state: DispatchState,
    execution: Execution,
    settlement: Settlement,
    ending: dict[Pool, int],
    now: float,
) -> Settlement:
    action, row, pool = settlement.action, execution.row, state.pool_of[execution.row.queue]
    assert isinstance(action, Advance)
    hold = Hold(
        store.token_after(row.token),
        row.rank,
        row.place,
        pool.lanes_to(row.queue),
        max(pool.free + ending.get(pool, 0), 0),
        now - execution.held_since < SLICE_S,
    )
    execution.following = _following(execution, hold.token, action)
    asking = Advance(action.payload, None, None, action.keeps_place, hold, None, action.settings)
    return Settlement(
        settlement.job_id,
        settlement.token,
        asking,
        settlement.yields_to_cancel,
        settlement.effects,
        settlement.ignores_deadline,
        settlement.step_end,
    )


def _following(execution: Execution, token: str, action: Advance) -> Execution:
    has = execution.row.settings
    settings = None if has is None or action.settings is None else has._replace(label=action.settings.label)
    row = next_step(execution.row, token, action.payload, settings)
    following = Execution(row, execution.lane, execution.stopping, execution)
    # Before the commit: from then on the claim is this token's, and nobody of this process may take it for lost.
    RUNNING.add(token, following.cancel_token)
    return following
