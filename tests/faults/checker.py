"""The one statement of what must hold, over a store and the external log of what its processes did.

Nothing of the package is used to read the store: a fault of its own reading would hide there. Times decide nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from taquba_workflow_sync.storage.relational.sql.names import (
    ATTEMPT,
    GROUP,
    JOB,
    MEMBER,
    META,
    OVERFLOW,
    QUEUE,
)
from taquba_workflow_sync.storage.relational.sql.signals import WAIT
from tests.faults.figures import Figures
from tests.faults.journal import Event
from tests.faults.server.copy import copied

LANE_SUFFIX = ".terminal"
_STATUSES = ("pending", "scheduled", "claimed", "done", "dead", "cancelled")
_FINISHED = ("done", "dead", "cancelled")


@contextmanager
def looking_at(root: Path | str) -> Iterator[sqlite3.Connection]:
    """A connection to the store's file as any program would open it, which never checkpoints while others are there.

    Of a store at a URL, one to a copy of it as of one moment.
    """
    if isinstance(root, str) and "://" in root:
        with closing(copied(root)) as connection:
            yield connection
        return
    root = Path(root)
    with closing(sqlite3.connect(root / "db" / "cache.db", isolation_level=None, timeout=60)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA wal_autocheckpoint=0")
        yield connection


def check(root: Path | str, events: Sequence[Event], *, is_idle: bool, part: str = "checker") -> Figures:
    """Look at every invariant.

    ``is_idle``: nothing is left to do and no process runs, so each run must have ended and each ending must have
    been told. Without it a run may be under way, and a hook not yet called.
    """
    figures = Figures(part)
    try:
        _check(root, events, figures, is_idle=is_idle)
    except sqlite3.DatabaseError as error:
        figures.expect("the file can be read", False, repr(error))
    return figures


def _check(root: Path | str, events: Sequence[Event], figures: Figures, *, is_idle: bool) -> None:
    with looking_at(root) as connection:
        check_file(connection, figures)
        connection.execute("BEGIN")  # one snapshot: processes may still write
        rows = {row["id"]: row for row in connection.execute(_JOBS)}
        check_rows(connection, rows, figures)
        check_checksums(connection, rows, figures)
        check_counters(connection, figures)
        check_groups(connection, figures)
        if events:
            history = _history(connection)
            check_submits(rows, events, figures, is_idle=is_idle)
            check_executions(events, figures, _put_back(history))
            check_history(rows, history, figures)
            check_hooks(connection, rows, events, figures, is_idle=is_idle)
        half = f"SELECT m.job FROM {MEMBER} AS m JOIN {GROUP} AS g ON g.id = m.grp WHERE g.state <> 1"
        unwritten = {row["job"] for row in connection.execute(half)}
        connection.execute("ROLLBACK")
        if is_idle:
            _check_idle([row for row in rows.values() if row["seq"] not in unwritten], figures)


_JOBS = f"""SELECT j.*, q.name AS queue_name, q.subscription IS NOT NULL AS is_observed FROM {JOB} AS j
    JOIN {QUEUE} AS q ON j.queue = q.id"""


# -- the store by itself -----------------------------------------------------------------------------------------------


def check_file(connection: sqlite3.Connection, figures: Figures) -> None:
    """SQLite finds nothing wrong with the file."""
    answer = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    figures.expect("integrity_check", answer == ["ok"], str(answer[:3]))
    dangling = connection.execute("PRAGMA foreign_key_check").fetchall()
    figures.expect("foreign_key_check", not dangling, str([tuple(row) for row in dangling[:3]]))


def check_rows(connection: sqlite3.Connection, rows: dict[str, sqlite3.Row], figures: Figures) -> None:
    """Every row can be reached by the path that its status calls for, and every part belongs to a row."""
    total = connection.execute(f"SELECT count(*) FROM {JOB} NOT INDEXED").fetchone()[0]
    figures.expect("no row without a queue", total == len(rows), f"{total} rows, {len(rows)} of them with a queue")
    reachable: set[str] = set()
    for statement in _PATHS:
        reachable |= {row[0] for row in connection.execute(statement)}
    lost = rows.keys() - reachable
    figures.expect("no row unreachable", not lost, f"{len(lost)} rows, {sorted(lost)[:3]}")
    next_seq = connection.execute(f"SELECT value FROM {META} WHERE key = 'next_seq'").fetchone()[0]
    parts = {row[0] for row in connection.execute(f"SELECT key FROM {OVERFLOW}")}
    wanted: set[int] = set()
    for row in rows.values():
        figures.checked["row"] += 1
        name = f"job {row['id']} ({row['status']})"
        wanted |= {row["seq"] * 4 + kind for kind in range(3) if row["belongings"] & 1 << kind}
        if row["seq"] >= next_seq or row["place"] >= next_seq:
            figures.violations.append(f"place in line: {name} stands beyond the store's counter {next_seq}")
        if row["attempts"] > row["max_attempts"]:
            figures.violations.append(f"attempts: {name} has {row['attempts']} of {row['max_attempts']}")
        if row["status"] == "claimed" and row["token"].rpartition(".")[2] != str(row["seq"]):
            figures.violations.append(f"fence: the token of {name} does not lead to its row")
        if (row["status"] in _FINISHED) and (row["token"] or row["owner"] or row["lease_until_ms"] is not None):
            figures.violations.append(f"claim: {name} has ended and is still held")
    figures.expect("parts belong to rows", parts == wanted, f"stray {sorted(parts - wanted)[:3]}, missing "
                   f"{sorted(wanted - parts)[:3]}")  # fmt: skip
    planted = connection.execute("SELECT count(*) FROM Cache").fetchone()[0]
    figures.expect("diskcache's table is empty", planted == 0, f"{planted} rows")


_PATHS = (
    f"SELECT id FROM {JOB} INDEXED BY taquba_job_pending WHERE status = 'pending' AND parked = 0",
    f"""SELECT j.id FROM {MEMBER} AS m JOIN {JOB} AS j ON j.seq = m.job WHERE j.status = 'pending' AND j.parked = 2""",
    f"SELECT id FROM {JOB} INDEXED BY taquba_job_due WHERE due_ms IS NOT NULL AND status = 'scheduled'",
    f"""SELECT id FROM {JOB} INDEXED BY taquba_job_claimed WHERE lease_until_ms IS NOT NULL AND status = 'claimed'
       AND owner IS NOT NULL""",
    f"""SELECT id FROM {JOB} INDEXED BY taquba_job_keyed WHERE limit_key IS NOT NULL AND finished_ms IS NULL
       AND status = 'pending' AND parked IN (1, 3)""",
    f"""SELECT id FROM {JOB} INDEXED BY taquba_job_finished WHERE finished_ms IS NOT NULL
       AND status IN ('done', 'dead', 'cancelled')""",
)


def check_checksums(connection: sqlite3.Connection, rows: dict[str, sqlite3.Row], figures: Figures) -> None:
    """What a row carries is what its checksum was made of."""
    large = dict(connection.execute(f"SELECT key, data FROM {OVERFLOW}").fetchall())
    for row in rows.values():
        for kind, name in enumerate(("payload", "headers", "result")):
            data = large.get(row["seq"] * 4 + kind) if row["belongings"] & 1 << kind else row[name]
            crc = None if data is None else crc32(data.encode() if isinstance(data, str) else data)
            # None: of an older version, or put in place of what was damaged.
            holds = row[f"{name}_crc"] in (None, crc)
            figures.expect("checksum", holds, f"the {name} of job {row['id']} is not what was stored")


def check_counters(connection: sqlite3.Connection, figures: Figures) -> None:
    """What a queue says it holds is what it holds; done and cancelled count what ever ended so."""
    for queue in connection.execute(f"SELECT * FROM {QUEUE}").fetchall():
        counted = Counter(
            {
                status: connection.execute(
                    f"""SELECT count(*) FROM {JOB} NOT INDEXED WHERE queue = ? AND status = ? AND NOT (parked = 2
                        AND status = 'pending' AND seq NOT IN (SELECT m.job FROM {GROUP} AS g JOIN {MEMBER} AS m
                        ON m.grp = g.id WHERE g.state = 1))""",
                    (queue["id"], status),
                ).fetchone()[0]
                for status in _STATUSES
            }
        )
        for status in _STATUSES:
            said, found = queue[status], counted[status]
            holds = said >= found if status in ("done", "cancelled") else said == found
            figures.expect("counter", holds, f"queue {queue['name']} says {said} {status}, {found} are there")
        for name, condition in _BESIDE.items():
            said, statement = queue[name], f"SELECT count(*) FROM {JOB} NOT INDEXED WHERE queue = ? AND {condition}"
            found = connection.execute(statement, (queue["id"],)).fetchone()[0]
            figures.expect("counter", said == found, f"queue {queue['name']} says {said} {name}, {found} are there")


_BESIDE = {
    "bare_waiting": "run_id IS NULL AND status IN ('pending', 'scheduled')",
    "bare_claimed": "run_id IS NULL AND status = 'claimed'",
    "cancelling": "run_id IS NOT NULL AND status = 'claimed' AND cancel_requested = 1",
    "cancelling_waiting": "run_id IS NOT NULL AND status IN ('pending', 'scheduled') AND cancel_requested = 1",
    "runs_succeeded": "run_id IS NOT NULL AND status = 'done' AND verdict = 'succeeded'",
    "runs_failed": "run_id IS NOT NULL AND verdict = 'failed'",
    "runs_cancelled": "run_id IS NOT NULL AND status = 'cancelled'",
}


def check_groups(connection: sqlite3.Connection, figures: Figures) -> None:
    """What an open group says of its members is what they are; who waits for it waits only while it has open ones."""
    for group in connection.execute(f"SELECT * FROM {GROUP} WHERE state = 1").fetchall():
        found = Counter(
            row["verdict"] or row["status"]
            for row in connection.execute(
                f"SELECT j.* FROM {MEMBER} AS m JOIN {JOB} AS j ON j.seq = m.job WHERE m.grp = ?", (group["id"],)
            )
        )
        said = {name: group[name] for name in ("succeeded", "failed", "cancelled")}
        holds = all(found[name] == many for name, many in said.items()) and found.total() == group["total"]
        figures.expect("group counters", holds, f"group {group['name']} says {said}, {dict(found)} are there")
        has_ended = sum(said.values()) == group["total"]
        waits = connection.execute(
            f"SELECT count(*) FROM {WAIT} AS w JOIN {JOB} AS j ON j.seq = w.job WHERE w.job = ? AND w.kind = 'group'"
            " AND w.ordinal IS NULL AND j.status = 'scheduled'",
            (group["waiter"],),
        ).fetchone()[0]
        figures.expect("no waiter is left", not (has_ended and waits), f"group {group['name']} has ended")


def _check_idle(rows: Sequence[sqlite3.Row], figures: Figures) -> None:
    """What nobody can see yet, the members of a group whose writer was cut off, waits for the sweep."""
    left = [row["id"] for row in rows if row["status"] not in _FINISHED]
    figures.expect("nothing is left over", not left, f"{len(left)} jobs, {left[:3]}")


# -- the store against the log -----------------------------------------------------------------------------------------


def check_submits(rows: dict[str, sqlite3.Row], events: Sequence[Event], figures: Figures, *, is_idle: bool) -> None:
    """Every acknowledged submit is there or has ended; every ended one carries the trail of each of its steps."""
    plans: dict[str, str] = {}
    ended = {(event["run"], event["job"]) for event in events if event["event"] == "hook"}
    ended |= {
        (event["run"], event["job"]) for event in events if event["event"] == "end" and event["outcome"] in ("succeed",
        "fail", "cancel", "dead")
    }  # fmt: skip
    for event in events:
        if event["event"] == "submitting":
            plans[event["run"]] = event["plan"]
        elif event["event"] == "acknowledged":
            figures.acknowledged += 1
            figures.checked["acknowledged submit"] += 1
            row = rows.get(event["job"])
            if row is None and (event["run"], event["job"]) not in ended:
                figures.lost += 1
                figures.violations.append(f"lost: run {event['run']} (job {event['job']}) was acknowledged")
            elif row is not None and row["run_id"] != event["run"]:
                figures.violations.append(f"submit: job {event['job']} is not run {event['run']}")
    for row in rows.values():
        plan = plans.get(row["run_id"] or "")
        if plan is None or row["queue_name"].endswith(LANE_SUFFIX):
            continue
        if row["status"] == "done" and row["verdict"] == "succeeded":
            trail = " ".join(map(str, range(len(plan.split()))))
            found = (row["result"] or b"").decode(errors="replace")
            if row["belongings"] & 4:
                continue  # the trail is in a part of its own
            figures.expect("trail", found.partition(";")[0] == trail, f"run {row['run_id']} went {found!r:.200}")


def check_executions(
    events: Iterable[Event], figures: Figures, put_back: Container[tuple[str, int]] = frozenset()
) -> None:
    """Steps come in order, attempts rise to their limit, and no step runs beside itself.

    The attempt of a step that was ``put_back``, as its history tells, was not charged: the next has its number.

    A second execution may begin while a first has not ended only if the first one's process was killed, or was stopped
    while the first ran, so that its claim could be taken over; then only one of the two may settle, which
    :func:`check_history` tells.
    """
    running: dict[tuple[str, int], dict[tuple[int, int], Event]] = defaultdict(dict)
    furthest: dict[str, int] = {}
    passed: set[tuple[str, int]] = set()
    attempts: dict[tuple[str, int], int] = {}
    # Retries that may have begun a life of the run since they were asked for: which executions are of it, only the
    # numbers of their attempts tell, since the one before may still have been under way.
    retries: dict[str, int] = defaultdict(int)
    dead: set[int] = set()
    for event in events:
        match event["event"]:
            case "killing":
                dead.add(event["target"])
            case "stopping":
                for executions in running.values():
                    for each in [each for each in executions if each[0] == event["target"]]:
                        del executions[each]
            case "retrying":
                retries[event["job"]] += 1
            case "begin":
                job, step, pid = event["job"], event["step"], event["pid"]
                figures.checked["execution"] += 1
                name = f"step {step} of run {event['run']} (job {job})"
                for (other, _), _first in running[job, step].items():
                    if other not in dead:
                        figures.doubled += 1
                        figures.violations.append(f"side by side: {name} began in {pid} while it ran in {other}")
                if step != furthest.get(job, 0) and not (
                    step == furthest.get(job, 0) + 1 and (job, furthest.get(job, 0)) in passed
                ):
                    figures.violations.append(f"order: {name} came after step {furthest.get(job, 'none')}")
                furthest[job] = max(step, furthest.get(job, 0))
                attempt = event["attempt"]
                if attempt <= attempts.get((job, step), 0) and retries[job]:
                    retries[job] -= 1
                    for key in [key for key in attempts if key[0] == job]:
                        del attempts[key]
                least = attempts.get((job, step), 0) + ((job, step) not in put_back)
                if not least <= attempt <= event["max"]:
                    figures.violations.append(
                        f"attempts: {name} is attempt {attempt} of {event['max']}, after {attempts.get((job, step))}"
                    )
                attempts[job, step] = attempt
                running[job, step][pid, attempt] = event
            case "end":
                key = (event["job"], event["step"])
                running[key].pop((event["pid"], event["attempt"]), None)
                if event["outcome"] == "continue":
                    passed.add(key)


def check_history(rows: dict[str, sqlite3.Row], history: dict[str, list[sqlite3.Row]], figures: Figures) -> None:
    """Each step was settled for good at most once in each life of its run, and in order."""
    for job, attempts in history.items():
        row = rows.get(job)
        if row is None:
            continue  # of no queue, which is a violation by itself
        figures.checked["history"] += 1
        settled = Counter(each["step"] for each in attempts if each["outcome"] in ("continued", "succeeded"))
        twice = [step for step, times in settled.items() if times > 1]
        if twice and row["run_id"] is not None:
            figures.doubled += len(twice)
            figures.violations.append(f"settled twice: steps {twice[:5]} of job {job}")
        steps = [each["step"] for each in attempts]
        if steps != sorted(steps):
            figures.violations.append(f"history: the steps of job {job} are out of order")
        whole = len(attempts) == (attempts[-1]["ordinal"] if attempts else 0)
        if whole and row["run_id"] is not None and not row["queue_name"].endswith(LANE_SUFFIX):
            missing = set(range(row["step"])) - settled.keys()
            if missing:
                figures.violations.append(f"skipped: steps {sorted(missing)[:5]} of job {job} were never settled")


def check_hooks(
    connection: sqlite3.Connection,
    rows: dict[str, sqlite3.Row],
    events: Sequence[Event],
    figures: Figures,
    *,
    is_idle: bool,
) -> None:
    """Each ending was told at least once (once all is done), only endings were told, and always as they are stored."""
    told: dict[tuple[str, int], set[tuple[str, str]]] = defaultdict(set)
    for event in events:
        if event["event"] == "hook":
            told[event["job"], event["termination"]].add((event["status"], event["digest"]))
    for (job, termination), versions in told.items():
        figures.expect("told the same each time", len(versions) == 1, f"job {job} ending {termination}: {versions}")
        row = rows.get(job)
        if row is None:
            continue
        figures.expect(
            "only endings are told",
            termination <= row["termination"],
            f"job {job} was told as ended {termination} times, the store has {row['termination']}",
        )
        if termination == row["termination"] and row["status"] in _FINISHED:
            status, digest = next(iter(versions))
            figures.expect(
                "told as stored",
                (status, digest) == (_terminal(row), _digest(connection, row)),
                f"job {job} was told as {status} {digest!r:.80}, the store has {_terminal(row)}",
            )
    if not is_idle:
        return
    for row in rows.values():
        if row["run_id"] is None or not row["is_observed"] or row["queue_name"].endswith(LANE_SUFFIX):
            continue
        for termination in range(1, row["termination"] + 1):
            if (row["id"], termination) not in told:
                figures.lost += 1
                figures.violations.append(f"hook lost: ending {termination} of job {row['id']} was never told")
            figures.checked["told at least once"] += 1
    counted = connection.execute(f"SELECT sum(cancelled) FROM {QUEUE} WHERE subscription IS NOT NULL").fetchone()[0]
    cancelled = sum(any(status == "cancelled" for status, _ in versions) for versions in told.values())
    figures.expect(
        "counter against the log", (counted or 0) == cancelled, f"{counted} runs cancelled, the hooks know {cancelled}"
    )


def _terminal(row: sqlite3.Row) -> str:
    if row["status"] == "cancelled":
        return "cancelled"
    return "succeeded" if row["verdict"] == "succeeded" else "failed"


def digest(result: bytes | None, error: str | None) -> str:
    """Return what a hook's event and a stored row are compared by."""
    return json.dumps([None if result is None else result.decode("latin-1"), error])


def _digest(connection: sqlite3.Connection, row: sqlite3.Row) -> str:
    result: Any = row["result"]
    if row["belongings"] & 4:
        result = connection.execute(f"SELECT data FROM {OVERFLOW} WHERE key = ?", (row["seq"] * 4 + 2,)).fetchone()[0]
    if _terminal(row) != "succeeded":
        return digest(None, row["last_error"])
    return digest(result or b"", None)


def _history(connection: sqlite3.Connection) -> dict[str, list[sqlite3.Row]]:
    history: dict[str, list[sqlite3.Row]] = defaultdict(list)
    statement = f"""SELECT a.*, j.id AS job_id FROM {ATTEMPT} AS a JOIN {JOB} AS j ON a.job = j.seq
        ORDER BY a.job, a.ordinal"""
    for row in connection.execute(statement):
        history[row["job_id"]].append(row)
    return history


def _put_back(history: dict[str, list[sqlite3.Row]]) -> set[tuple[str, int]]:
    """Return the steps of which some attempt was not charged: the effects that came with its end were refused."""
    return {(job, each["step"]) for job, rows in history.items() for each in rows if each["outcome"] == "put_back"}
