"""Groups, their members, and who waits for them."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.relational.rows import AddressedRow, FinishedRow, GroupState, Held, StoredGroup
from taquba_workflow_sync.storage.relational.sql.listing import SHOWN
from taquba_workflow_sync.storage.relational.sql.names import GROUP, JOB, MEMBER, QUEUE, columns
from taquba_workflow_sync.storage.relational.sql.timing import TIMING

SCHEMA_OF_GROUP: Final = (
    # ``name`` is NULL once it is free for another group, or the group is being removed. ``work``: 1 while members have
    # to enter the line, or to be cancelled; ``released`` and ``stopped`` say how far that is. ``parent`` and ``waiter``
    # are rows of the job table. No CHECK: a damaged counter must not keep a member from ending.
    f"""CREATE TABLE IF NOT EXISTS {GROUP} (
        id INTEGER PRIMARY KEY,
        name TEXT UNIQUE,
        queue INTEGER NOT NULL REFERENCES {QUEUE} (id),
        state INTEGER NOT NULL,
        total INTEGER NOT NULL,
        written INTEGER NOT NULL DEFAULT 0,
        released INTEGER NOT NULL DEFAULT 0,
        stopped INTEGER NOT NULL DEFAULT 0,
        succeeded INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        cancels_on_failure INTEGER NOT NULL,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        work INTEGER NOT NULL DEFAULT 0,
        fingerprint BLOB NOT NULL,
        writer TEXT,
        parent INTEGER,
        waiter INTEGER,
        keep_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        expires_ms INTEGER
    )""",
    f"""CREATE TABLE IF NOT EXISTS {MEMBER} (
        job INTEGER PRIMARY KEY,
        grp INTEGER NOT NULL,
        position INTEGER NOT NULL,
        UNIQUE (grp, position)
    )""",
    f"CREATE INDEX IF NOT EXISTS taquba_group_work ON {GROUP} (queue, id) WHERE work > 0",
    f"CREATE INDEX IF NOT EXISTS taquba_group_waiter ON {GROUP} (waiter) WHERE waiter IS NOT NULL",
    f"CREATE INDEX IF NOT EXISTS taquba_group_expiry ON {GROUP} (expires_ms) WHERE expires_ms IS NOT NULL",
    # Those that are being written, and those that are being removed: few.
    f"CREATE INDEX IF NOT EXISTS taquba_group_closed ON {GROUP} (state, id) WHERE state <> 1",
)

# Numbers, whatever a damaged row holds: a group that cannot be read must keep no member from ending.
_MOST: Final = 1 << 53
_BYTES: Final = frozenset({"name", "fingerprint"})
_MAYBE: Final = frozenset({"parent", "waiter", "ended_ms"})


def _readable(column: str) -> str:
    if column in _BYTES:
        return f"CAST({column} AS BLOB)"
    if column in _MAYBE:
        return f"CAST({column} AS INTEGER)"
    return f"max(0, min(ifnull(CAST({column} AS INTEGER), 0), {_MOST}))"


_GROUP: Final = ", ".join(map(_readable, StoredGroup._fields))
_FIND: Final = f"SELECT {_GROUP} FROM {GROUP}"


FIND_GROUP = f"{_FIND} WHERE name = ?"


GROUP_BY_NUMBER = f"{_FIND} WHERE id = ?"


# the group that a job is a member of
GROUP_OF_MEMBER = f"{_FIND} WHERE id = (SELECT grp FROM {MEMBER} WHERE job = ?)"


# the group that a job waits for, or has received
GROUP_OF_WAITER = f"{_FIND} INDEXED BY taquba_group_waiter WHERE waiter = ?"


# the first group of a queue whose members have to be moved
GROUP_TO_WORK_ON = f"{_FIND} INDEXED BY taquba_group_work WHERE queue = ? AND work > 0 ORDER BY id LIMIT 1"


HAS_GROUP_WORK = f"SELECT 1 FROM {QUEUE} WHERE name = ? AND groups > 0"


# which of some run ids are there already?
NAMES_THERE = f"""SELECT j.seq, j.run_id, j.finished_ms, j.keep_done_ms, j.belongings
    FROM json_each(?) AS wanted CROSS JOIN {JOB} AS j INDEXED BY taquba_job_run
    WHERE j.queue = ? AND j.run_id = wanted.value"""


# what a claim may write a group for: the row, while the token holds
FENCED_GROUP = f"SELECT id, run_id FROM {JOB} WHERE seq = ? AND id = ? AND token = ? AND status = 'claimed'"


ADD_GROUP = f"""INSERT INTO {GROUP} (id, name, queue, state, total, cancels_on_failure, fingerprint, parent, keep_ms)
    VALUES (?, ?, ?, {GroupState.WRITING:d}, ?, ?, ?, ?, ?)"""


ADD_MEMBER = f"INSERT INTO {MEMBER} (job, grp, position) VALUES (?, ?, ?)"


GROW_GROUP = f"UPDATE {GROUP} SET written = ?, writer = ? WHERE id = ?"


OPEN_GROUP = f"UPDATE {GROUP} SET state = {GroupState.OPEN:d}, writer = NULL WHERE id = ?"


COUNT_MEMBER = {
    each: f"UPDATE {GROUP} SET {each} = {each} + 1 WHERE id = ?" for each in ("succeeded", "failed", "cancelled")
}


END_GROUP = f"UPDATE {GROUP} SET ended_ms = ?, expires_ms = ? WHERE id = ?"


# a member that had failed goes on
REOPEN_GROUP = f"""UPDATE {GROUP} SET failed = failed - 1, ended_ms = NULL, expires_ms = NULL, cancel_requested = 0,
    stopped = 0 WHERE id = ?"""


REQUEST_GROUP_CANCEL = f"UPDATE {GROUP} SET cancel_requested = 1, stopped = 0 WHERE id = ?"


# whether members have to be moved; only what changes
BEGIN_WORK = f"UPDATE {GROUP} SET work = 1 WHERE id = ? AND ifnull(work, 0) <= 0"
END_WORK = f"UPDATE {GROUP} SET work = 0 WHERE id = ? AND work > 0"


SET_RELEASED = f"UPDATE {GROUP} SET released = ? WHERE id = ?"


SET_STOPPED = f"UPDATE {GROUP} SET stopped = ? WHERE id = ?"


SET_WAITER = f"UPDATE {GROUP} SET waiter = ?, expires_ms = NULL WHERE name = ?"


# the step that received the group is over
LEAVE_GROUP = f"""UPDATE {GROUP} INDEXED BY taquba_group_waiter SET waiter = NULL, expires_ms =
    CASE WHEN ended_ms IS NOT NULL THEN ? + max(keep_ms, ?) END WHERE waiter = ?"""


FORGET_GROUP = f"UPDATE {GROUP} SET name = NULL WHERE id = ?"


DISCARD_GROUP = f"""UPDATE {GROUP} SET state = {GroupState.GONE:d}, name = NULL, writer = NULL, expires_ms = NULL,
    work = 0 WHERE id = ?"""


COUNT_WORK = f"UPDATE {QUEUE} SET groups = max(groups + ?, 0) WHERE id = ?"


FORGET_WORK = f"UPDATE {QUEUE} SET groups = 0 WHERE id = ?"


# release: held -> in line, or scheduled where a member has a time of its own
RELEASE_MEMBERS = f"""UPDATE {JOB} SET parked = 0, status = CASE WHEN run_at_ms > ? THEN 'scheduled' ELSE 'pending' END,
    due_ms = CASE WHEN run_at_ms > ? THEN run_at_ms END
    WHERE seq IN (SELECT job FROM {MEMBER} WHERE grp = ? AND position >= ? AND position < ?)
    AND status = 'pending' AND parked = 2 RETURNING seq, status, limit_key"""


# ... whose limits claims look after from then on
TIME_MEMBERS = f"""UPDATE {TIMING}
    SET ends_ms = min(ifnull(deadline_ms, expires_ms), ifnull(expires_ms, deadline_ms))
    WHERE job IN (SELECT m.job FROM {MEMBER} AS m CROSS JOIN {JOB} AS j ON j.seq = m.job
        WHERE m.grp = ? AND m.position >= ? AND m.position < ? AND j.status IN ('pending', 'scheduled'))"""


# deliver: what it waited for is there; scheduled -> pending, at its place in line
WAKE_WAITER = f"""UPDATE {JOB} SET status = 'pending', due_ms = NULL WHERE seq = ? AND status = 'scheduled'
    RETURNING {columns(AddressedRow)}"""


# cancel, in pieces: some members as they are
MEMBERS_HELD = f"""SELECT {columns(Held, "j.")} FROM {MEMBER} AS m CROSS JOIN {JOB} AS j ON j.seq = m.job
    WHERE m.grp = ? AND m.position >= ? AND m.position < ? ORDER BY m.position"""


# retry, in pieces: those of some members that have failed
MEMBERS_FAILED = f"""SELECT j.id, m.position FROM {MEMBER} AS m CROSS JOIN {JOB} AS j ON j.seq = m.job
    WHERE m.grp = ? AND m.position >= ? AND m.position < ? AND j.verdict = 'failed' ORDER BY m.position LIMIT ?"""


# a page of a group, and where its rows stand in it
MEMBER_POSITIONS = f"SELECT job, position FROM {MEMBER} WHERE grp = ? AND position >= ? AND position < ?"


MEMBERS_SHOWN = f"""SELECT {SHOWN} FROM {MEMBER} AS m CROSS JOIN {JOB} AS j ON j.seq = m.job
    JOIN {QUEUE} AS q ON j.queue = q.id WHERE m.grp = ? AND m.position >= ? AND m.position < ? ORDER BY m.position"""


# is a member still shown? by its group, whose end its retention counts from
MEMBER_IS_KEPT = f"""SELECT 1 FROM {GROUP} WHERE id = (SELECT grp FROM {MEMBER} WHERE job = ?) AND state = 1
    AND (expires_ms IS NULL OR expires_ms - max(? - keep_ms, 0) > ?)"""


# is a held member there for anybody to see?
IS_HIDDEN = f"""SELECT 1 FROM {JOB} WHERE seq = ? AND parked = 2 AND status = 'pending' AND NOT EXISTS
    (SELECT 1 FROM {GROUP} WHERE id = (SELECT grp FROM {MEMBER} WHERE job = ?) AND state = 1)"""


# sweep: groups past their retention, and those that nobody will open
EXPIRED_GROUPS = f"""SELECT id FROM {GROUP} INDEXED BY taquba_group_expiry
    WHERE expires_ms IS NOT NULL AND expires_ms <= ? AND state = 1 LIMIT ?"""


ABANDONED_GROUPS = f"""SELECT id FROM {GROUP} AS g INDEXED BY taquba_group_closed WHERE g.state = 0
    AND g.state <> 1 AND g.parent IS NOT NULL AND NOT EXISTS
    (SELECT 1 FROM {JOB} AS j WHERE j.seq = g.parent AND j.finished_ms IS NULL) LIMIT ?"""


WRITERS = f"""SELECT DISTINCT writer FROM {GROUP} INDEXED BY taquba_group_closed
    WHERE state = 0 AND state <> 1 AND parent IS NULL AND typeof(writer) = 'text'"""


GROUPS_OF_WRITER = f"""SELECT id FROM {GROUP} INDEXED BY taquba_group_closed
    WHERE state = 0 AND state <> 1 AND parent IS NULL AND writer = ? LIMIT ?"""


GROUP_TO_REMOVE = f"""SELECT id FROM {GROUP} INDEXED BY taquba_group_closed
    WHERE state = 2 AND state <> 1 ORDER BY id LIMIT 1"""


MEMBERS_TO_REMOVE = f"""SELECT m.job, {columns(FinishedRow, "j.")} FROM {MEMBER} AS m
    LEFT JOIN {JOB} AS j ON j.seq = m.job WHERE m.grp = ? ORDER BY m.position LIMIT ?"""


# a held member of a group that was never opened -> gone
DELETE_HELD = f"DELETE FROM {JOB} WHERE seq = ? AND status = 'pending' AND parked = 2"


DROP_MEMBER = f"DELETE FROM {MEMBER} WHERE job = ?"


DROP_GROUP = f"DELETE FROM {GROUP} WHERE id = ?"


DISOWN = f"UPDATE {JOB} SET belongings = belongings & ~? WHERE seq = ?"


# What a group's counters must be. Of its size there are two numbers; where they differ, its members' places decide. A
# member that has not succeeded, was not cancelled and is not open has failed: one whose row is lost, too.
_LAST: Final = f"CASE WHEN g.total IS g.written OR g.state <> 1 THEN g.total ELSE min(max(m.position) + 1, {_MOST}) END"
_SUCCEEDED: Final = "(j.status = 'done' AND j.verdict IS 'succeeded')"
_NOT_FAILED: Final = f"j.status IN ('pending', 'scheduled', 'claimed', 'cancelled') OR {_SUCCEEDED}"
_RIGHT_COUNTERS: Final = f"""SELECT ifnull({_LAST}, 0),
    ifnull(sum({_SUCCEEDED}), 0),
    max(ifnull(CASE WHEN g.state <> 1 THEN count(*) ELSE {_LAST} END, 0) - ifnull(sum({_NOT_FAILED}), 0), 0),
    ifnull(sum(j.status = 'cancelled'), 0)
    FROM {MEMBER} AS m LEFT JOIN {JOB} AS j ON j.seq = m.job WHERE m.grp = g.id"""


# check, repair: groups whose counters are not those of their members
MISCOUNTED_GROUPS = f"""SELECT g.id, g.name FROM {GROUP} AS g WHERE g.state IN (0, 1) AND
    (g.total, g.succeeded, g.failed, g.cancelled) IS NOT ({_RIGHT_COUNTERS}) LIMIT ?"""


RECOUNT_GROUP = (
    f"""UPDATE {GROUP} AS g SET (total, succeeded, failed, cancelled) = ({_RIGHT_COUNTERS}) WHERE g.id = ?"""
)


# a group that was taken to have ended, and has not
UNEND_GROUP = f"UPDATE {GROUP} SET ended_ms = NULL, expires_ms = NULL WHERE id = ?"


# check, repair: open groups with held members that nobody would move, and the place of the first
STUCK_GROUPS = f"""SELECT g.id, g.name, min(m.position) FROM {GROUP} AS g JOIN {MEMBER} AS m ON m.grp = g.id
    JOIN {JOB} AS j ON j.seq = m.job WHERE g.state = 1 AND j.status = 'pending' AND j.parked = 2
    AND (ifnull(g.work, 0) <= 0 OR m.position < CASE WHEN g.cancel_requested THEN g.stopped ELSE g.released END)
    GROUP BY g.id LIMIT ?"""


MOVE_FROM = f"UPDATE {GROUP} SET released = ?, stopped = ? WHERE id = ?"


STRAY_MEMBERS = f"""SELECT job FROM {MEMBER} AS m WHERE NOT EXISTS (SELECT 1 FROM {JOB} AS j WHERE j.seq = m.job)
    LIMIT ?"""
