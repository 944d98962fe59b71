"""No hot statement scans the job table, and the claim stays on its partial index whatever the table holds."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.embedded.cache import connect
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.relational import listing, sql
from taquba_workflow_sync.storage.relational.conditions import conditions
from taquba_workflow_sync.workflow.selection import selection
from taquba_workflow_sync.workflow.status import RunState

from .conftest import open_at

FINISHED = 100_000

_FILL = f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {FINISHED})
    INSERT INTO {sql.JOB} (seq, id, queue, status, priority, place, max_attempts, enqueued_ms, finished_ms,
        expires_ms, verdict, run_id, input_hash)
    SELECT i, 'F' || i, 1 + i % 2, CASE i % 3 WHEN 0 THEN 'done' WHEN 1 THEN 'dead' ELSE 'cancelled' END, 1000, i, 3, 0,
        i, i + 60000, CASE i % 3 WHEN 1 THEN 'failed' END, 'r' || i, x'00' FROM n"""


@pytest.fixture(scope="module", params=[False, True], ids=["no statistics", "analyzed"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A store with 100,000 finished rows and few others; with and without what ANALYZE leaves behind."""
    root: Path = tmp_path_factory.mktemp("plans") / "store"
    open_at(root).close()
    with closing(connect(root / "db", synchronous=1)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"INSERT INTO {sql.QUEUE} (name) VALUES ('q'), ('other')")
        connection.execute(_FILL)
        for status, columns, values in (
            ("pending", "", ""),
            ("scheduled", ", due_ms", ", 5"),
            ("scheduled", ", due_ms, due_clock", ", 5, 1"),
            ("claimed", ", token, owner, lease_until_ms, claimed_ms", ", 't.1.1', 'o', 5, 5"),
            ("claimed", ", token, owner, lease_until_ms, claimed_ms", ", 't.1.2', '', 5, 5"),
        ):
            for _ in range(20):
                connection.execute(
                    f"INSERT INTO {sql.JOB} (id, queue, status, priority, place, max_attempts, enqueued_ms{columns})"
                    f" VALUES (hex(randomblob(8)), 1, '{status}', 1000, abs(random()), 3, 0{values})"
                )
        connection.execute(f"UPDATE {sql.QUEUE} SET pending = 20, scheduled = 40, claimed = 40 WHERE id = 1")
        connection.execute("COMMIT")
        if request.param:
            connection.execute("ANALYZE")
        yield connection


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    """What SQLite says it will do; placeholders are given values nobody has."""
    values = [1] * statement.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


#: The tables that grow; a queue's is small.
_TABLES = rf"taquba_(?!queue|meta)\w+_{sql.SCHEMA_VERSION}"


def lines_about_tables(steps: list[str]) -> list[str]:
    return [step for step in steps if re.search(rf"\b({_TABLES}|[a-p])\b", step)]


_VALUES = ",".join(["(?,?,?,?,?)"] * 16)
_SIX_VALUES = ",".join(["(?,?,?,?,?,?)"] * 16)
_BY_ID = f"sqlite_autoindex_{sql.JOB}_1"
_MARKS = ",".join("?" * 16)

#: What each statement that runs while steps run must use. "": only that nothing is scanned.
HOT: dict[str, tuple[str, str]] = {
    "claim": (sql.CLAIM, "taquba_job_pending"),
    "claim one": (sql.CLAIM_ONE, _BY_ID),
    "first in line": (sql.FIRST_IN_LINE, "taquba_job_pending"),
    "claim a row": (sql.CLAIM_SEQ, "INTEGER PRIMARY KEY"),
    "promote": (sql.PROMOTE, "taquba_job_due"),
    "leave the boot clock": (sql.LEAVE_BOOT_CLOCK, "taquba_job_due"),
    "advance in bulk": (sql.ADVANCE_MANY.format(values=_VALUES), "INTEGER PRIMARY KEY"),
    "ack in bulk": (sql.FINISH_MANY.format(values=",".join(["(?,?,?,?)"] * 16)), "INTEGER PRIMARY KEY"),
    "history of an ack in bulk": (
        sql.FINISH_HISTORY.format(values=",".join(["(?,?,?,?)"] * 16)),
        "INTEGER PRIMARY KEY",
    ),
    "hold in bulk": (sql.HOLD.format(values=_SIX_VALUES), "INTEGER PRIMARY KEY"),
    "hold": (sql.HOLD_ONE, "INTEGER PRIMARY KEY"),
    "history of what is held on": (sql.HOLD_HISTORY.format(values=_SIX_VALUES), "INTEGER PRIMARY KEY"),
    "waits past the room": (sql.PAST_ROOM, "taquba_job_pending"),
    "waits ahead": (sql.WAITING, "taquba_job_pending"),
    "read what is held": (sql.READ_HELD, "INTEGER PRIMARY KEY"),
    "find what is held": (sql.FIND_HELD, _BY_ID),
    "advance": (sql.ADVANCE, "INTEGER PRIMARY KEY"),
    "nack": (sql.RETRY, "INTEGER PRIMARY KEY"),
    "put back a step": (sql.PUT_BACK, "INTEGER PRIMARY KEY"),
    "release": (sql.RELEASE, "INTEGER PRIMARY KEY"),
    "finish": (sql.FINISH, "INTEGER PRIMARY KEY"),
    "request cancel": (sql.REQUEST_CANCEL, "INTEGER PRIMARY KEY"),
    "renew": (sql.RENEW.format(seqs=_MARKS, tokens=_MARKS), "INTEGER PRIMARY KEY"),
    "reap an owner": (sql.CLAIMS_OF_OWNER, "taquba_job_claimed"),
    "reap bare": (sql.EXPIRED_BARE, "taquba_job_claimed"),
    "reap a token": (sql.CLAIM_OF_TOKEN, "INTEGER PRIMARY KEY"),
    "put back": (sql.REAP, "INTEGER PRIMARY KEY"),
    "find finished": (sql.FIND_FINISHED, _BY_ID),
    "requeue": (sql.REQUEUE, "INTEGER PRIMARY KEY"),
    "expiry": (sql.EXPIRED, "taquba_job_expiry"),
    "delete": (sql.DELETE, "INTEGER PRIMARY KEY"),
    "finish what waits": (sql.FINISH_WAITING, "INTEGER PRIMARY KEY"),
    "delete what waits": (sql.DELETE_WAITING, "INTEGER PRIMARY KEY"),
    "delete what is finished": (sql.DELETE_FINISHED, "INTEGER PRIMARY KEY"),
    "notifications in line": (sql.WAITING_IN_LINE, "taquba_job_pending"),
    "notifications to be retried": (sql.WAITING_FOR_TIME, "taquba_job_due"),
    "id": (sql.FIND_ID, _BY_ID),
    "dedup key": (sql.FIND_DEDUP, "taquba_job_dedup"),
    "active run": (sql.FIND_ACTIVE_RUN, "taquba_job_active_run"),
    "last run": (sql.FIND_LAST_RUN, "taquba_job_run"),
    "read": (sql.GET, _BY_ID),
    "which go on": (sql.GOING_ON.format(ids=_MARKS), _BY_ID),
    "read active run": (sql.FIND_RUN[0], "taquba_job_active_run"),
    "read last run": (sql.FIND_RUN[1], "taquba_job_run"),
    "is pending": (sql.IS_PENDING, "taquba_job_pending"),
    "next due": (sql.NEXT_DUE, "taquba_job_due"),
    "next retry": (sql.NEXT_RETRY, "taquba_job_due"),
    "next bare expiry": (sql.NEXT_BARE_EXPIRY, "taquba_job_claimed"),
    "running here": (sql.RUNNING_HERE, "taquba_job_claimed"),
    "running elsewhere": (sql.RUNNING_ELSEWHERE, "taquba_job_claimed"),
    "history": (sql.HISTORY, _BY_ID),
    "drop attempts": (sql.DROP_ATTEMPTS, "PRIMARY KEY"),
    "drop attempt": (sql.DROP_ATTEMPT, "PRIMARY KEY"),
    "overflow bytes": (sql.OVERFLOW_BYTES, "INTEGER PRIMARY KEY"),
    "overflow": (sql.GET_OVERFLOW, "INTEGER PRIMARY KEY"),
    "drop overflow": (sql.DROP_OVERFLOW, "INTEGER PRIMARY KEY"),
    "drop overflows": (sql.DROP_OVERFLOWS, "INTEGER PRIMARY KEY"),
    "whole row": (sql.WHOLE_ROW, "INTEGER PRIMARY KEY"),
    "whole history": (sql.WHOLE_HISTORY, "PRIMARY KEY"),
    "whole overflow": (sql.WHOLE_OVERFLOW, "INTEGER PRIMARY KEY"),
    # what has belongings, whatever they are
    "own belongings": (sql.OWN_BELONGINGS, "INTEGER PRIMARY KEY"),
    "first garbage": (sql.FIRST_GARBAGE, "INTEGER PRIMARY KEY"),
    "drop garbage": (sql.DROP_GARBAGE, "INTEGER PRIMARY KEY"),
    # values by key
    "get a value": (sql.GET_VALUE, "(key=?)"),
    "drop a value": (sql.DROP_VALUE, "(key=?)"),
    "scan values": (sql.SCAN_VALUES, "(key>? AND key<?)"),
    "scan values back": (sql.SCAN_VALUES_BACK, "(key>? AND key<?)"),
    "expired values": (sql.EXPIRED_VALUES, "taquba_kv_expiry"),
    "drop an expired value": (sql.DROP_EXPIRED_VALUE, "INTEGER PRIMARY KEY"),
    # refusals of effects
    "refusals": (sql.REFUSALS_OF, "INTEGER PRIMARY KEY"),
    "drop refusals": (sql.DROP_REFUSALS, "INTEGER PRIMARY KEY"),
    "forget refusals": (sql.FORGET_REFUSALS, "INTEGER PRIMARY KEY"),
    "history in bulk of what advances": (sql.ADVANCE_HISTORY.format(values=_VALUES), "INTEGER PRIMARY KEY"),
    "requeue with another payload": (sql.REQUEUE_WITH_PAYLOAD, "INTEGER PRIMARY KEY"),
    "newest life": (sql.NEWEST_LIFE, "taquba_job_run"),
    # owner
    "number of an owner": (sql.OWNER_NUMBER, "(name=?)"),
    "worker": (sql.WORKER_OF, "(name=?)"),
    "forget an owner": (sql.FORGET_OWNER, "INTEGER PRIMARY KEY"),
    # event
    "note an event": (sql.NOTE_EVENT, "INTEGER PRIMARY KEY"),
    "note a termination": (sql.NOTE_TERMINATION, "INTEGER PRIMARY KEY"),
    "leave a claim": (sql.LEAVE_CLAIM, "(job=?"),
    "drop an event": (sql.DROP_EVENT, "(job=? AND number=?)"),
    "notes": (sql.NOTES, "(job=?)"),
    "attempts with workers": (sql.ATTEMPTS_WITH_WORKERS, "(job=?)"),
    "discarded events": (sql.DISCARDED_EVENT, "(job=?)"),
    "drop a discarded event": (sql.DROP_DISCARDED_EVENT, "INTEGER PRIMARY KEY"),
    # progress
    "fence of a progress": (sql.FENCED_PROGRESS, "INTEGER PRIMARY KEY"),
    "progress": (sql.GET_PROGRESS, "INTEGER PRIMARY KEY"),
    "drop a progress": (sql.DROP_PROGRESS, "INTEGER PRIMARY KEY"),
    # operators
    "is still found": (sql.STILL_FITS.format(where=""), "INTEGER PRIMARY KEY"),
    "runs of a prefix": (sql.COUNT_PREFIX, "taquba_job_run"),
    # limit
    "limit of a pattern": (sql.FIND_LIMIT, "(queue=? AND pattern=?)"),
    "limit of a key": (sql.FIND_PATTERN, "taquba_limit_prefix (queue=?)"),
    "limits": (sql.LIMITS, "(queue=?)"),
    "has limits": (sql.HAS_LIMITS, "(queue=?)"),
    "clear a limit": (sql.CLEAR_LIMIT, "(queue=? AND pattern=?)"),
    "drop a limit": (sql.DROP_GONE, "INTEGER PRIMARY KEY"),
    "first unsettled limit": (sql.FIRST_UNSETTLED, "taquba_limit_unsettled"),
    "settled so far": (sql.SETTLED_TO, "INTEGER PRIMARY KEY"),
    "rows of a key in a state": (sql.COUNT_OF_KEY, "(queue=? AND limit_key=? AND status=? AND parked=?)"),
    "pending rows of a key": (sql.COUNT_PENDING_OF_KEY, "(queue=? AND limit_key=? AND status=?)"),
    "claims of a queue": (sql.COUNT_CLAIMED, "taquba_job_claimed (owner>?"),
    "first parked": (sql.FIRST_PARKED, "(queue=? AND limit_key=? AND status=? AND parked=?)"),
    "last in line": (sql.LAST_IN_LINE, "(queue=? AND limit_key=? AND status=? AND parked=?)"),
    "any row of a key": (sql.HAS_ROWS, "(queue=? AND limit_key=?)"),
    "slots kept between steps": (sql.KEPT_BETWEEN, "(queue=? AND limit_key=? AND status=? AND parked=?)"),
    "park": (sql.SET_PARKED, "INTEGER PRIMARY KEY"),
    "next key": (sql.NEXT_KEY, "(queue=? AND limit_key>?)"),
    "promote with keys": (sql.PROMOTE_KEYED, "taquba_job_due"),
    "rate": (sql.FIND_RATE, "(queue=? AND limit_key=?)"),
    "set a refill": (sql.SET_REFILL, "INTEGER PRIMARY KEY"),
    "due refills": (sql.DUE_REFILLS, "taquba_rate_refill (queue=? AND refill_clock=? AND refill_ms>? AND refill_ms<?)"),
    "next refill": (sql.NEXT_REFILL, "taquba_rate_refill (queue=? AND refill_clock=?"),
    "note a claim": (sql.ADD_RATED, "(rate=?"),
    "claims of a window": (sql.IN_WINDOW, "(rate=?)"),
    "count the claims of a window": (sql.COUNT_IN_WINDOW, "(rate=?)"),
    "drop claims of no window": (sql.DROP_OLD_RATED, "(rate=? AND number=?)"),
    "drop some claims": (sql.DROP_SOME_RATED, "(rate=? AND number=?)"),
    "drop a claim": (sql.DROP_RATED, "(rate=? AND number=?)"),
    "last claim of a row": (sql.LAST_RATED_OF, "(rate=?"),
    "idle rates": (sql.IDLE_RATES, "taquba_rate_idle"),
    "drop a rate": (sql.DROP_RATE, "INTEGER PRIMARY KEY"),
    "refills of another boot": (sql.LEAVE_BOOT_REFILLS, "taquba_rate_refill"),
    "set a rank": (sql.SET_RANK, "INTEGER PRIMARY KEY"),
    # memo
    "fence of a memo": (sql.FENCED_MEMO, "INTEGER PRIMARY KEY"),
    "memos of a job": (sql.FIND_SCOPES, "(job=?)"),
    "numbers of a job's memos": (sql.SCOPES_OF_JOB, "(job=?)"),
    "number of a step's memo": (sql.SCOPE_OF_STEP, "(job=? AND kind=?)"),
    "memo of a job": (sql.FIND_SCOPE_OF, _BY_ID),
    "how full a memo is": (sql.LAST_MEMO, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    "put an entry": (sql.PUT_MEMO, "INTEGER PRIMARY KEY"),
    "drop a memo": (sql.DROP_SCOPE, "INTEGER PRIMARY KEY"),
    "get an entry": (sql.GET_MEMO, "(scope=? AND key=?)"),
    "keys of a memo": (sql.MEMO_KEYS, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    "page of a memo": (sql.MEMO_PAGE, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    "discarded entries": (sql.DISCARDED_MEMO, "(scope=?"),
    "drop an entry": (sql.DROP_MEMO, "INTEGER PRIMARY KEY"),
    # signals
    "run that a signal is for": (sql.ADDRESS_ACTIVE, "taquba_job_active_run"),
    "last run that a signal is for": (sql.ADDRESS_LAST, "taquba_job_run"),
    "job to be woken": (sql.ADDRESS_JOB, _BY_ID),
    "id of a signal": (sql.IS_ID_KNOWN, "(job=? AND signal_id=?)"),
    "drop the oldest id": (sql.DROP_OLDEST_ID, "taquba_signal_id_job"),
    "mailbox": (sql.FIND_MAILBOX, "INTEGER PRIMARY KEY"),
    "drop a mailbox": (sql.DROP_MAILBOX, "INTEGER PRIMARY KEY"),
    "any signal": (sql.ANY_SIGNAL, "taquba_signal_name"),
    "any id": (sql.ANY_SIGNAL_ID, "(job=?"),
    "first of a name": (sql.FIRST_SIGNAL, "taquba_signal_name"),
    "last of a name": (sql.LAST_SIGNAL, "taquba_signal_name"),
    "signals of a name": (sql.SIGNALS_OF_NAME, "taquba_signal_name"),
    "get a signal": (sql.GET_SIGNAL, "INTEGER PRIMARY KEY"),
    "size of a signal": (sql.SIZE_OF_SIGNAL, "INTEGER PRIMARY KEY"),
    "drop a signal": (sql.DROP_SIGNAL, "INTEGER PRIMARY KEY"),
    "drop an id": (sql.DROP_SIGNAL_ID, "INTEGER PRIMARY KEY"),
    "wake": (sql.WAKE, "INTEGER PRIMARY KEY"),
    "find a wait": (sql.FIND_WAIT, "INTEGER PRIMARY KEY"),
    "ordinal of the last claim": (sql.ORDINAL_OF, "INTEGER PRIMARY KEY"),
    "wait again": (sql.WAIT_AGAIN, "INTEGER PRIMARY KEY"),
    "drop a wait": (sql.DROP_WAIT, "INTEGER PRIMARY KEY"),
    "disown belongings": (sql.DISOWN_BELONGINGS, "INTEGER PRIMARY KEY"),
    "signals of a job": (sql.SIGNALS_OF, _BY_ID),
    "discarded signals": (sql.DISCARDED_SIGNALS, "taquba_signal_name"),
    "discarded ids": (sql.DISCARDED_IDS, "taquba_signal_id_job"),
    # timing
    "late runs": (sql.LATE, "taquba_timing_ends"),
    "next end": (sql.NEXT_END, "taquba_timing_ends"),
    "a late run": (sql.FIND_LATE, "INTEGER PRIMARY KEY"),
    "time limits": (sql.FIND_TIMING, "INTEGER PRIMARY KEY"),
    "limits of a claim": (sql.HOLD_TIMING, "INTEGER PRIMARY KEY"),
    "limits of a stop": (sql.STOP_TIMING, "INTEGER PRIMARY KEY"),
    "limits that go on": (sql.WAIT_TIMING, "INTEGER PRIMARY KEY"),
    "limits of a release": (sql.RELEASE_TIMING, "INTEGER PRIMARY KEY"),
    "limits of a retry": (sql.RENEW_TIMING, "INTEGER PRIMARY KEY"),
    "stopped for its deadline": (sql.IS_STOPPED_FOR_DEADLINE, "INTEGER PRIMARY KEY"),
    "drop limits": (sql.DROP_TIMING, "INTEGER PRIMARY KEY"),
    # settings
    "settings": (sql.FIND_SETTINGS, "INTEGER PRIMARY KEY"),
    "defaults": (sql.FIND_DEFAULTS, "INTEGER PRIMARY KEY"),
    "may be renamed": (sql.MAY_BE_RENAMED, "INTEGER PRIMARY KEY"),
    "rename a step": (sql.RENAME, "INTEGER PRIMARY KEY"),
    "rename steps in bulk": (sql.RENAME_MANY.format(values=",".join(["(?,?)"] * 16)), "INTEGER PRIMARY KEY"),
    "set a step": (sql.SET_STEP, "INTEGER PRIMARY KEY"),
    "drop settings": (sql.DROP_SETTINGS, "INTEGER PRIMARY KEY"),
    # schedule
    "find a schedule": (sql.FIND_SCHEDULE, "(queue=? AND name=?)"),
    "redefine a schedule": (sql.REDEFINE_SCHEDULE, "INTEGER PRIMARY KEY"),
    "drop a schedule": (sql.DROP_SCHEDULE, "INTEGER PRIMARY KEY"),
    "drop what a schedule submits": (sql.DROP_SCHEDULE_SPEC, "INTEGER PRIMARY KEY"),
    "move a schedule": (sql.MOVE_SCHEDULE, "INTEGER PRIMARY KEY"),
    "mark a schedule": (sql.MARK_SCHEDULE, "INTEGER PRIMARY KEY"),
    "last run of a schedule": (sql.LAST_RUN_OF_SCHEDULE, "INTEGER PRIMARY KEY"),
    "is the last run active": (sql.IS_LAST_RUN_ACTIVE, _BY_ID),
    "show a schedule": (sql.SHOW_SCHEDULE, "(queue=? AND name=?)"),
    "show schedules": (sql.SHOW_SCHEDULES, "(queue=? AND name>?)"),
    "first firing": (sql.NEXT_FIRING[0], "taquba_schedule_due (queue=? AND kind=? AND next_ms>?)"),
    "next firing": (sql.NEXT_FIRING[1], "taquba_schedule_due (queue=? AND kind=? AND next_ms>?)"),
    "how far ahead": (sql.NEXT_FIRING[2], "taquba_schedule_ahead (queue=? AND kind=?)"),
    "due schedules": (sql.DUE_SCHEDULES, "taquba_schedule_due (queue=? AND kind=? AND next_ms"),
    "schedules ahead": (sql.SCHEDULES_AHEAD, "taquba_schedule_ahead (queue=? AND kind=? AND watermark_ms>?)"),
    # groups
    "find a group": (sql.FIND_GROUP, "(name=?)"),
    "group by number": (sql.GROUP_BY_NUMBER, "INTEGER PRIMARY KEY"),
    "group of a member": (sql.GROUP_OF_MEMBER, "INTEGER PRIMARY KEY"),
    "group of a waiter": (sql.GROUP_OF_WAITER, "taquba_group_waiter"),
    "group to work on": (sql.GROUP_TO_WORK_ON, "taquba_group_work"),
    "names that are there": (sql.NAMES_THERE, "taquba_job_run"),
    "fence of a group": (sql.FENCED_GROUP, "INTEGER PRIMARY KEY"),
    "grow a group": (sql.GROW_GROUP, "INTEGER PRIMARY KEY"),
    "open a group": (sql.OPEN_GROUP, "INTEGER PRIMARY KEY"),
    "count a member": (sql.COUNT_MEMBER["failed"], "INTEGER PRIMARY KEY"),
    "end a group": (sql.END_GROUP, "INTEGER PRIMARY KEY"),
    "reopen a group": (sql.REOPEN_GROUP, "INTEGER PRIMARY KEY"),
    "cancel a group": (sql.REQUEST_GROUP_CANCEL, "INTEGER PRIMARY KEY"),
    "begin a group's work": (sql.BEGIN_WORK, "INTEGER PRIMARY KEY"),
    "end a group's work": (sql.END_WORK, "INTEGER PRIMARY KEY"),
    "note what is released": (sql.SET_RELEASED, "INTEGER PRIMARY KEY"),
    "note what is stopped": (sql.SET_STOPPED, "INTEGER PRIMARY KEY"),
    "set a waiter": (sql.SET_WAITER, "(name=?)"),
    "wake a waiter": (sql.WAKE_WAITER, "INTEGER PRIMARY KEY"),
    "limits of members": (sql.TIME_MEMBERS, "INTEGER PRIMARY KEY"),
    "leave a group": (sql.LEAVE_GROUP, "taquba_group_waiter"),
    "forget a group": (sql.FORGET_GROUP, "INTEGER PRIMARY KEY"),
    "discard a group": (sql.DISCARD_GROUP, "INTEGER PRIMARY KEY"),
    "release members": (sql.RELEASE_MEMBERS, "(grp=? AND position>? AND position<?)"),
    "members as they are": (sql.MEMBERS_HELD, "(grp=? AND position>? AND position<?)"),
    "members that failed": (sql.MEMBERS_FAILED, "(grp=? AND position>? AND position<?)"),
    "positions of members": (sql.MEMBER_POSITIONS, "(grp=? AND position>? AND position<?)"),
    "members shown": (sql.MEMBERS_SHOWN, "(grp=? AND position>? AND position<?)"),
    "is a member kept": (sql.MEMBER_IS_KEPT, "INTEGER PRIMARY KEY"),
    "is a member hidden": (sql.IS_HIDDEN, "INTEGER PRIMARY KEY"),
    "expired groups": (sql.EXPIRED_GROUPS, "taquba_group_expiry"),
    "abandoned groups": (sql.ABANDONED_GROUPS, "taquba_group_closed (state=?)"),
    "writers": (sql.WRITERS, "taquba_group_closed (state=?)"),
    "groups of a writer": (sql.GROUPS_OF_WRITER, "taquba_group_closed (state=?)"),
    "group to remove": (sql.GROUP_TO_REMOVE, "taquba_group_closed (state=?)"),
    "members to remove": (sql.MEMBERS_TO_REMOVE, "(grp=?)"),
    "delete what is held": (sql.DELETE_HELD, "INTEGER PRIMARY KEY"),
    "drop a member": (sql.DROP_MEMBER, "INTEGER PRIMARY KEY"),
    "drop a group": (sql.DROP_GROUP, "INTEGER PRIMARY KEY"),
    "disown": (sql.DISOWN, "INTEGER PRIMARY KEY"),
    "end of examined children": (sql.END_OF_EXAMINED_CHILDREN, "taquba_child_parent (parent=? AND job>?)"),
    # children
    "count children": (sql.COUNT_CHILDREN, "INTEGER PRIMARY KEY"),
    "drop a child": (sql.DROP_CHILD, "INTEGER PRIMARY KEY"),
    "drop a parent": (sql.DROP_PARENT, "INTEGER PRIMARY KEY"),
    "parent of": (sql.PARENT_OF, "INTEGER PRIMARY KEY"),
    "children of": (sql.CHILDREN_OF, "INTEGER PRIMARY KEY"),
    "parents by id": (sql.PARENTS_OF_ID, "taquba_parent_id"),
    "parents by run": (sql.PARENTS_OF_RUN, "taquba_parent_run"),
    # meters
    "has label": (sql.HAS_LABEL, "(minute=? AND queue=? AND label=?)"),
    "count labels": (sql.COUNT_LABELS, "(minute=? AND queue=?)"),
    "drop minutes": (sql.DROP_MINUTES, "(minute>? AND minute<?)"),
    "meters": (sql.METERS, "(minute=?)"),
    "recent minutes": (sql.RECENT_MINUTES, "(minute>?)"),
    "ranks": (sql.RANKS, "taquba_job_pending (queue=? AND rank>?)"),
    "drop old traces": (sql.DROP_OLD_TRACES, "(job=? AND ordinal>? AND ordinal<?)"),
    "traces of a row": (sql.TRACES_OF_ROW, "(job=?)"),
    "traces of a job": (sql.TRACES_OF_JOB, "(job=?)"),
    "discarded traces": (sql.DISCARDED_TRACES, "(job=?)"),
    "drop a trace": (sql.DROP_TRACE, "INTEGER PRIMARY KEY"),
    "ready since": (sql.READY_SINCE, "taquba_job_pending (queue=? AND rank=?)"),
    # who works, and what is under limits
    "claims in turns": (sql.CLAIMS_IN_TURNS, "taquba_job_claimed (owner>?)"),
    "bare claims in turns": (sql.CLAIMS_IN_TURNS, "taquba_job_claimed (owner=? AND lease_until_ms>?)"),
    "who has enrolled": (sql.ENROLLED, "(name=?)"),
    "next key in use": (sql.USAGE_OF_KEYS, "taquba_job_keyed (queue=? AND limit_key>?)"),
    "usage of a key": (sql.USAGE_OF_KEYS, "taquba_job_keyed (queue=? AND limit_key=? AND status=? AND parked=?)"),
}


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_searches_its_index_and_scans_nothing(database: sqlite3.Connection, name: str) -> None:
    statement, index = HOT[name]
    steps = lines_about_tables(plan(database, statement))
    assert steps, "the statement does not touch the tables it is about"
    assert not [step for step in steps if step.startswith("SCAN")], steps
    assert any(index in step for step in steps), steps


@pytest.mark.parametrize(
    "name",
    [
        *("claim", "last run", "read last run", "scan values", "scan values back", "late runs"),
        *("first parked", "last in line", "limit of a key", "next key"),
        *("recent minutes", "ready since"),
        *("first firing", "next firing", "how far ahead", "due schedules"),
    ],
)
def test_an_ordered_statement_sorts_nothing(database: sqlite3.Connection, name: str) -> None:
    assert not [step for step in plan(database, HOT[name][0]) if "TEMP B-TREE" in step]


def test_a_promotion_looks_for_what_is_due_on_both_clocks_by_their_bounds(database: sqlite3.Connection) -> None:
    steps = [step for step in plan(database, sql.PROMOTE) if "taquba_job_due" in step]
    assert len(steps) == 2
    assert all("COVERING INDEX" in step and "queue=? AND due_clock=? AND due_ms<?" in step for step in steps), steps


#: Those that look at everything on purpose: a repair, a check, the first open of a backup, a move (at every claim).
THOROUGH = {
    "COUNT_ROWS", "LEAST_NEXT_SEQ", "DROP_STRANGE_ATTEMPTS", "LAST_ORDINAL", "SET_ORDINAL", "DELETE_EXPIRED",
    "STRAY_ROWS", "ALL_CLAIMS", "ROWS_AFTER", "NUMBERS_AFTER", "STRAY_OVERFLOWS", "STRAY_ATTEMPTS", "RIGHT_FLAGS",
    "ID_OF", "VALUES_AFTER", "ALL_SCHEDULES", "MISCOUNTED_GROUPS", "RECOUNT_GROUP", "STUCK_GROUPS", "STRAY_MEMBERS",
    "UNEND_GROUP", "MOVE_FROM", "HAS_TIMING", "NEWEST_ROW_MS", "HELD_CLAIMS",
}  # fmt: skip


def test_every_statement_of_the_engine_is_looked_at() -> None:
    in_pieces = {
        sql.RENEW, sql.ADVANCE_MANY, sql.HOLD, sql.HOLD_HISTORY, sql.GOING_ON, sql.FINISH_MANY, sql.FINISH_HISTORY,
        sql.ADVANCE_HISTORY, sql.STILL_FITS, sql.RENAME_MANY,
    }  # fmt: skip
    looked_at = {statement for statement, _ in HOT.values()} | in_pieces
    table = re.compile(rf"\b(FROM|UPDATE) {_TABLES}\b")
    statements = {name: value for name, value in vars(sql).items() if name.isupper() and isinstance(value, str)}
    about_jobs = {name for name, value in statements.items() if table.search(value) and value not in looked_at}
    # A page is planned with each of its indexes, and of what narrows it, below; the last two are parts of statements,
    # planned with them.
    narrowing = {"IS_SHOWN", "IS_VISIBLE", "IS_CHILD"}
    assert about_jobs == THOROUGH | narrowing | {"PAGE", "END_OF_EXAMINED"} | {"HAS_HEADER", "NUMBER_OF_HOLDER"}


FILTERS = [
    Filter(),
    *(Filter(status) for status in JobStatus),
    Filter(verdict=Verdict.FAILED),
    Filter(verdict=Verdict.SUCCEEDED, visible_only=True),
    Filter(JobStatus.DONE, Verdict.SUCCEEDED, runs_only=True, visible_only=True),
    Filter(JobStatus.CLAIMED, cancel_requested=True),
    Filter(is_waiting=True, runs_only=True),
    Filter(is_waiting=True),
    Filter(JobStatus.PENDING, cancel_requested=True),
    Filter(cancel_requested=True, is_active=True, runs_only=True),
    Filter(is_active=True, runs_only=True),
    Filter(runs_only=True, visible_only=True),
    Filter(runs_only=True, prefix="r12"),
    Filter(runs_only=True, prefix="r", newest_first=True, most_examined=10),
    Filter(header=("a", "b"), newest_first=True, most_examined=10),
    Filter(failed_with="no", most_examined=10),
    Filter(JobStatus.DONE, Verdict.SUCCEEDED, since_ms=1, until_ms=2, most_examined=10),
    Filter(JobStatus.CLAIMED, cancel_requested=True, most_examined=10),
    Filter(runs_only=True, visible_only=True, parent="nobody"),
    Filter(JobStatus.DEAD, ended_for_ms=1, most_examined=10),
]


#: What operators may ask, each with each.
NARROWED = [
    replace(selection(state, newest_first=newest_first, **narrow), is_active=is_active)
    for state in (None, *RunState)
    for newest_first in (False, True)
    for is_active in (False, True)
    for narrow in (
        {},
        {"prefix": "r1"},
        {"header": ("a", "b")},
        {"failed_with": "x"},
        {"prefix": "r", "failed_with": "x"},
    )
]


@pytest.mark.parametrize("most", [10, 10_000])
@pytest.mark.parametrize("many", [False, True], ids=["few of the status", "many of the status"])
def test_whatever_operators_ask_is_found_by_an_index(
    database: sqlite3.Connection, many: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr(listing, "_SORT_LIMIT", 0)
    for which in NARROWED:
        page = listing.page(database, lambda: 0, "q", replace(which, most_examined=most), 5, None, with_payload=False)
        assert len(page.rows) <= 5
    assert len(NARROWED) == len(set(NARROWED))


@pytest.mark.parametrize("which", FILTERS, ids=str)
@pytest.mark.parametrize("many", [False, True], ids=["few of the status", "many of the status"])
def test_a_listing_never_scans_the_job_table(
    database: sqlite3.Connection, which: Filter, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr(listing, "_SORT_LIMIT", 0)
    seen: list[str] = []
    database.set_trace_callback(seen.append)
    try:
        rows = listing.page(database, lambda: 0, "q", which, 5, None).rows
    finally:
        database.set_trace_callback(None)
    assert len(rows) <= 5
    statements = [each for each in seen if f"FROM {sql.JOB}" in each]
    steps = [step for statement in statements for step in lines_about_tables(plan(database, statement))]
    # The index of claims holds claims only, by owner: read whole where they are known to be few.
    bounded = () if many else ("SCAN j USING INDEX taquba_job_claimed",)
    assert steps and not [step for step in steps if step.startswith("SCAN") and step not in bounded], steps


def _virtual_machine_steps(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> int:
    """How many thousands of SQLite's instructions a statement took, by its progress handler."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    connection.set_progress_handler(count, 100)
    try:
        connection.execute(statement, values).fetchall()
    finally:
        connection.set_progress_handler(None, 0)
    return counted[0]


def test_a_claim_beside_a_hundred_thousand_finished_rows_does_little(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        steps = _virtual_machine_steps(database, sql.CLAIM, ("t.", "o", 1, 2, 1, 1, 1))
    finally:
        database.execute("ROLLBACK")
    assert steps <= 10, f"{steps} hundred instructions for one claim"


@pytest.mark.parametrize("name", ["promote", "reap bare", "reap an owner", "is pending", "next due", "running here"])
def test_what_every_turn_asks_is_cheap_beside_a_hundred_thousand_finished_rows(
    database: sqlite3.Connection, name: str
) -> None:
    statement = HOT[name][0]
    database.execute("BEGIN IMMEDIATE")
    try:
        steps = _virtual_machine_steps(database, statement, tuple(["1"] * statement.count("?")))
    finally:
        database.execute("ROLLBACK")
    assert steps <= 20


def test_cancelling_runs_are_found_among_very_many_claimed_ones(database: sqlite3.Connection) -> None:
    """147 ms at 300,000 rows, when every claimed row was looked at."""
    which = Filter(JobStatus.CLAIMED, cancel_requested=True, runs_only=True)
    where, values = conditions(which, 0)
    statement = sql.PAGE.format(index=listing._choose_index(database, "q", which), where=where)
    assert any("taquba_job_cancelling (queue=? AND rowid>?)" in step for step in plan(database, statement)) or any(
        "taquba_job_cancelling (queue=? AND seq>?)" in step for step in plan(database, statement)
    )
    assert _virtual_machine_steps(database, statement, (1, 0, *values, 100)) <= 5
