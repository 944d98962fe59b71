"""What only reads: one connection, one moment; invalid rows are shown with what is wrong of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from math import isfinite
from typing import Any, Final

from taquba_workflow_sync.storage.port.group import END_OF_GROUP
from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.port.limit import Parked
from taquba_workflow_sync.storage.port.progress import Progress
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settings import CurrentSettings
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import PROGRESS, SETTINGS, TIMING, WAIT
from taquba_workflow_sync.storage.relational.columns import COLUMNS, columns_of
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.data_errors import is_corrupt
from taquba_workflow_sync.storage.relational.overflow import Overflow, is_changed
from taquba_workflow_sync.storage.relational.reading.child import children_of, parent_of
from taquba_workflow_sync.storage.relational.reading.member import has_ended, is_kept
from taquba_workflow_sync.storage.relational.rows import OwnedClaim, ShownRow
from taquba_workflow_sync.storage.relational.showing import readable_attempt, readable_row
from taquba_workflow_sync.storage.relational.signals import stored_wait
from taquba_workflow_sync.storage.relational.transitions.settings import current_of

#: Reads the time, in milliseconds: the store's clock.
Now = Callable[[], int]


def get(connection: Connection, now: Now, job_id: str, *, with_payload: bool = True) -> JobRow | None:
    """Return a job by id."""
    rows = in_one_snapshot(connection, now, (sql.GET,), (job_id,), with_payload=with_payload)
    return next(iter(rows), None)


def find_run(connection: Connection, now: Now, queue: str, run_id: str) -> JobRow | None:
    """Return the active row of a run id, else its newest, without large parts."""
    rows = in_one_snapshot(connection, now, sql.FIND_RUN, (queue, run_id), with_payload=False)
    return next(iter(rows), None)


def in_one_snapshot(
    connection: Connection,
    now: Now,
    statements: Iterable[str],
    values: tuple[object, ...],
    *,
    with_payload: bool = True,
    seqs: list[int] | None = None,
    beside: Callable[[ShownRow, JobRow], None] | None = None,
) -> list[JobRow]:
    """Return what the first statement that finds anything finds; ``seqs`` gets the rows' numbers.

    ``beside`` is called with each row, still at the same moment.
    """
    # What has a row of its own is one more statement: without a transaction it could vanish between the two.
    connection.execute("BEGIN")
    try:
        for statement in statements:
            found = connection.execute(statement, values).fetchall()
            if found:
                now_ms = now()
                rows = [readable_row(each) for each in found]
                if seqs is not None:
                    seqs += [row.seq for row, _ in rows]
                jobs = [_show(connection, row, wrong, now_ms, with_payload=with_payload) for row, wrong in rows]
                if beside is not None:
                    for (row, _), job in zip(rows, jobs, strict=True):
                        beside(row, job)
                return jobs
        return []
    finally:
        connection.execute("COMMIT")


def _show(connection: Connection, row: ShownRow, wrong: list[str], now_ms: int, *, with_payload: bool) -> JobRow:
    headers = _part(connection, row, Overflow.HEADERS, row.headers, row.headers_crc, wrong)
    payload = _part(connection, row, Overflow.PAYLOAD, row.payload, row.payload_crc, wrong, is_wanted=with_payload)
    result = _part(connection, row, Overflow.RESULT, row.result, row.result_crc, wrong, is_wanted=with_payload)
    wait = _open_wait(connection, row, wrong)
    given = current_of(connection.execute, row.seq) if row.belongings & SETTINGS else None
    damage = f"the stored row is damaged: {'; '.join(wrong)}" if wrong else None
    # What is missing or damaged reads as empty: a listing must not fail because of one row.
    return JobRow(
        id=row.id,
        queue=row.queue_name,
        status=JobStatus(row.status),
        priority=row.priority,
        step=row.step,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        cancel_requested=row.cancel_requested != 0,
        owner=row.owner or None,  # that of a bare claim is empty
        enqueued_ms=row.enqueued_ms,
        claimed_ms=row.claimed_ms,
        lease_until_ms=row.lease_until_ms,
        run_at_ms=row.run_at_ms,
        finished_ms=row.finished_ms,
        verdict=None if row.verdict is None else Verdict(row.verdict),
        last_error=row.last_error if damage is None else damage,
        dedup_key=row.dedup_key,
        run_id=row.run_id,
        termination=row.termination,
        headers=headers if isinstance(headers, str) else "",
        payload=payload if isinstance(payload, bytes) else b"",
        result=result if isinstance(result, bytes) else None,
        is_visible=_is_visible(row, now_ms) or is_kept(connection, row.seq, row.belongings, now_ms),
        damage=damage,
        wait=wait,
        label=None if given is None else given.label,
        is_overdue=_is_overdue(row, given, now_ms),
        is_late=_is_late(connection, row, now_ms),
        progress=_progress(connection, row.seq) if row.belongings & PROGRESS else None,
        limit_key=row.limit_key,
        is_parked=row.status == JobStatus.PENDING and row.parked in (Parked.FOR_SLOT, Parked.FOR_RATE),
        parent=parent_of(connection, row.seq, row.belongings),
        children=children_of(connection, row.seq, row.belongings),
    )


def _open_wait(connection: Connection, row: ShownRow, wrong: list[str]) -> tuple[str, str] | None:
    """Return what a row waits for other than a time."""
    if row.status != JobStatus.SCHEDULED or not row.belongings & WAIT:
        return None
    found = connection.execute(sql.FIND_WAIT, (row.seq,)).fetchone()
    stored = None if found is None else stored_wait(found)
    wait = None if stored is None else stored.to_wait(row.seq)
    if stored is None or wait is None:
        wrong.append("what it waits for is not what was stored")
        return None
    return (wait.kind, wait.name) if stored.is_open else None


def _is_visible(row: ShownRow, now_ms: int) -> bool:
    if row.finished_ms is None:
        return True
    if row.run_id is None and row.status == JobStatus.DEAD:
        return row.keep_dead_ms is None or now_ms < row.finished_ms + row.keep_dead_ms
    return now_ms < row.finished_ms + (row.keep_done_ms or 0)


def _is_overdue(row: ShownRow, given: CurrentSettings | None, now_ms: int) -> bool:
    if given is None or given.step_timeout_ms is None or row.status != JobStatus.CLAIMED or row.claimed_ms is None:
        return False
    return now_ms >= row.claimed_ms + given.step_timeout_ms


def _is_late(connection: Connection, row: ShownRow, now_ms: int) -> bool:
    if not row.belongings & TIMING or row.status != JobStatus.CLAIMED:
        return False
    found = connection.execute(sql.FIND_TIMING, (row.seq,)).fetchone()
    return found is not None and found[0] is not None and found[0] <= now_ms


def _part(
    connection: Connection,
    row: ShownRow,
    kind: Overflow,
    data: Any,
    stored_crc: int | None,
    wrong: list[str],
    *,
    is_wanted: bool = True,
) -> Any:
    """Return what a row carries, or None where it is large and not wanted, or is not what was stored."""
    name = kind.name.lower()
    if row.belongings & 1 << kind:
        if not is_wanted:
            return None
        try:
            found = connection.execute(sql.GET_OVERFLOW, (row.seq * 4 + kind,)).fetchone()
        except Exception as error:
            if not is_corrupt(error):
                raise
            wrong.append(f"its {name} lies on a damaged page of the database")
            return None
        data = None if found is None else found[0]
        if type(data) is not COLUMNS[name].kind:
            wrong.append(f"its {name} is missing or no {'text' if kind is Overflow.HEADERS else 'bytes'}")
            return None
    if is_changed(data, stored_crc):
        wrong.append(f"its {name} is not what was stored (the checksum differs)")
        return None
    return data


def _progress(connection: Connection, seq: int) -> Progress | None:
    """Return what was said under the claim that holds a row now; None: nothing, or it is damaged."""
    found = connection.execute(sql.GET_PROGRESS, (seq,)).fetchone()
    if found is None:
        return None
    done, total, note, at_ms = found
    is_sound = _is_number(done) and (total is None or _is_number(total)) and type(note) is str
    return Progress(done, total, note, at_ms) if is_sound and COLUMNS["enqueued_ms"].holds(at_ms) else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


_IDS: Final = (1, 8, 64, 512)
_GOING_ON: Final = {size: sql.GOING_ON.format(ids=",".join("?" * size)) for size in _IDS}


def ended(connection: Connection, job_ids: Collection[str]) -> set[str]:
    """Return which of some jobs have ended, or are not stored."""
    groups = {each for each in job_ids if each.startswith(END_OF_GROUP)}
    rest = [each for each in job_ids if each not in groups]
    left = {*rest, *(each for each in groups if has_ended(connection, each.removeprefix(END_OF_GROUP)))}
    while rest:
        # Filled up with what is no id, so that few statements serve every number.
        size = next((size for size in _IDS if size >= len(rest)), _IDS[-1])
        part, rest = rest[:size], rest[size:]
        values = (*part, *(None,) * (size - len(part)))
        left.difference_update(job_id for (job_id,) in connection.execute(_GOING_ON[size], values))
    return left


def counts(connection: Connection) -> dict[str, Counts]:
    """Return every queue's counters."""
    # A counter or a name that is none shows as nothing, until a transition meets it and it is counted anew.
    return {
        name: Counts(*(count if type(count) is int else 0 for count in rest))
        for name, *rest in connection.execute(sql.COUNTS)
        if type(name) is str
    }


def history(connection: Connection, job_id: str) -> list[AttemptRow]:
    """Return a job's ended claims in order."""
    return [readable_attempt(row) for row in connection.execute(sql.HISTORY, (job_id,))]


def has_claims(connection: Connection, owner: str) -> bool:
    """Whether any claim names this owner."""
    return connection.execute(sql.RUNNING_HERE, (owner,)).fetchone() is not None


_OWNED: Final = tuple(column for column in columns_of(OwnedClaim._fields) if column.name != "cancel_requested")


def running(connection: Connection, owner: str, *, foreign: bool) -> tuple[list[OwnedClaim], bool]:
    """Return the claims that worker loops hold, this owner's or all others', and whether some were damaged."""
    statement = sql.RUNNING_ELSEWHERE if foreign else sql.RUNNING_HERE
    found = connection.execute(statement, (owner,)).fetchall()
    sound = [claim for claim in map(OwnedClaim._make, found) if _is_sound(claim)]
    return sound, len(sound) < len(found)


def _is_sound(claim: OwnedClaim) -> bool:
    return all(
        column.holds(value) and value is not None for column in _OWNED for value in (getattr(claim, column.name),)
    )
