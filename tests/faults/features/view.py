"""One moment of a store, as the rules look at it: read with SQL of the laboratory's own, in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from taquba_workflow_sync.storage.relational.sql.event import EVENT
from taquba_workflow_sync.storage.relational.sql.kv import KV
from taquba_workflow_sync.storage.relational.sql.limit import RATE, RATED
from taquba_workflow_sync.storage.relational.sql.memo import MEMO, MEMO_SCOPE, ROOM
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, GROUP, JOB, MEMBER, OVERFLOW, QUEUE
from taquba_workflow_sync.storage.relational.sql.schedule import SCHEDULE, SCHEDULE_SPEC
from taquba_workflow_sync.storage.relational.sql.signals import SIGNAL, SIGNAL_ID
from tests.faults.checker import looking_at

STEPS = "workflow-steps"
_FINISHED = ("done", "dead", "cancelled")


@dataclass
class Row:
    """A job."""

    seq: int
    id: str
    queue: str
    run: str | None
    status: str
    step: int
    key: str | None
    headers: dict[str, str]
    payload: str
    terminations: int

    @property
    def has_ended(self) -> bool:
        return self.status in _FINISHED

    @property
    def plan(self) -> list[str]:
        return self.headers.get("plan", "").split()


@dataclass
class Members:
    """A group: its row, and of each member its position and, if its row is there, its job."""

    row: sqlite3.Row
    members: list[tuple[int, str | None]]


@dataclass
class View:
    """What the features have in a store."""

    rows: dict[str, Row]
    kv: dict[str, bytes]
    #: Steps that have ended with what they returned, by job and step, each as often as the history says.
    settled: dict[tuple[str, int], int]
    put_back: set[tuple[str, int]]
    claims: dict[str, list[int]]
    signals: dict[str, list[tuple[str, str | None, str]]]
    signal_ids: dict[str, set[str]]
    memos: dict[tuple[str, str], dict[str, str]]
    groups: dict[str, Members]
    unnamed_groups: int
    stray_members: int
    schedules: list[sqlite3.Row]
    rated: dict[str, list[int]]
    dropped: dict[str, int]
    by_run: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    by_header: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def has_completed(self, job: str, step: int) -> bool:
        return (job, step) in self.settled

    def number(self, key: str) -> int:
        """Return what a counter says; of none, 0."""
        return int(self.kv.get(key, b"0"))


def look(root: Path) -> View:
    """Read a store."""
    with looking_at(root) as connection:
        connection.execute("BEGIN")
        view = View(
            rows=_rows(connection),
            kv={row["key"].decode(): row["value"] for row in connection.execute(f"SELECT key, value FROM {KV}")},
            settled=defaultdict(int),
            put_back=set(),
            claims=defaultdict(list),
            signals=defaultdict(list),
            signal_ids=defaultdict(set),
            memos=_memos(connection),
            groups={},
            unnamed_groups=0,
            stray_members=0,
            schedules=connection.execute(
                f"SELECT k.*, p.definition FROM {SCHEDULE} AS k JOIN {SCHEDULE_SPEC} AS p ON p.id = k.id"
            ).fetchall(),
            rated=defaultdict(list),
            dropped=defaultdict(int),
        )
        _add_history(connection, view)
        _add_signals(connection, view)
        _add_groups(connection, view)
        statement = f"SELECT r.limit_key, d.at_ms FROM {RATED} AS d JOIN {RATE} AS r ON r.id = d.rate"
        for key, at_ms in connection.execute(statement):
            view.rated[key].append(at_ms)
        connection.execute("ROLLBACK")
    for row in view.rows.values():
        if row.queue != STEPS:
            continue  # a notification has the headers of its run
        if row.run is not None:
            view.by_run[row.run].append(row)
        if "of" in row.headers:
            view.by_header[row.headers["of"]].append(row)
    return view


def _rows(connection: sqlite3.Connection) -> dict[str, Row]:
    large = dict(connection.execute(f"SELECT key, data FROM {OVERFLOW}").fetchall())
    found = {}
    jobs = f"SELECT j.*, q.name AS queue_name FROM {JOB} AS j JOIN {QUEUE} AS q ON j.queue = q.id"
    for row in connection.execute(jobs):
        headers = large.get(row["seq"] * 4 + 1, row["headers"]) or "{}"
        payload = large.get(row["seq"] * 4, row["payload"]) or b""
        found[row["id"]] = Row(
            row["seq"], row["id"], row["queue_name"], row["run_id"], row["status"], row["step"], row["limit_key"],
            json.loads(headers), payload.decode(errors="replace"), row["termination"],
        )  # fmt: skip
    return found


def _memos(connection: sqlite3.Connection) -> dict[tuple[str, str], dict[str, str]]:
    memos: dict[tuple[str, str], dict[str, str]] = {}
    statement = f"SELECT m.id, m.kind, j.id AS job FROM {MEMO_SCOPE} AS m JOIN {JOB} AS j ON j.seq = m.job"
    for number, kind, job in connection.execute(statement).fetchall():
        entries = connection.execute(
            f"SELECT key, value FROM {MEMO} WHERE id > ? AND id < ?", (number * ROOM, (number + 1) * ROOM)
        )
        memos[job, ("step", "run")[kind]] = {key.decode(): value.decode() for key, value in entries}
    return memos


def _add_history(connection: sqlite3.Connection, view: View) -> None:
    statement = f"SELECT j.id, a.step, a.outcome, a.claimed_ms FROM {ATTEMPT} AS a JOIN {JOB} AS j ON j.seq = a.job"
    for job, step, outcome, claimed_ms in connection.execute(statement):
        view.claims[job].append(claimed_ms)
        if outcome in ("continued", "succeeded"):
            view.settled[job, step] += 1
        elif outcome == "put_back":
            view.put_back.add((job, step))
    for job, claimed_ms in connection.execute(f"SELECT id, claimed_ms FROM {JOB} WHERE status = 'claimed'"):
        view.claims[job].append(claimed_ms)


def _add_signals(connection: sqlite3.Connection, view: View) -> None:
    statement = f"SELECT j.id, s.name, s.signal_id, s.payload FROM {SIGNAL} AS s JOIN {JOB} AS j ON j.seq = s.job"
    for job, name, signal_id, payload in connection.execute(f"{statement} ORDER BY s.id"):
        view.signals[job].append((name, signal_id, payload.decode()))
    for job, signal_id in connection.execute(
        f"SELECT j.id, s.signal_id FROM {SIGNAL_ID} AS s JOIN {JOB} AS j ON j.seq = s.job"
    ):
        view.signal_ids[job].add(signal_id)
    for job, many in connection.execute(
        f"""SELECT j.id, count(*) FROM {EVENT} AS e JOIN {JOB} AS j ON j.seq = e.job WHERE e.kind = 'signal_dropped'
            GROUP BY j.id"""
    ):
        view.dropped[job] = many


def _add_groups(connection: sqlite3.Connection, view: View) -> None:
    members: dict[int, list[tuple[int, str | None]]] = defaultdict(list)
    statement = f"""SELECT m.grp, m.position, j.id FROM {MEMBER} AS m LEFT JOIN {JOB} AS j ON j.seq = m.job
        ORDER BY m.grp, m.position"""
    for group, position, job in connection.execute(statement):
        members[group].append((position, job))
    for row in connection.execute(f"SELECT * FROM {GROUP}").fetchall():
        found = members.pop(row["id"], [])
        if row["name"] is None:
            view.unnamed_groups += 1
        else:
            view.groups[row["name"]] = Members(row, found)
    view.stray_members = sum(map(len, members.values()))
