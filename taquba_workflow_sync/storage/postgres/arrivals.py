"""What programs have put in by transactions of their own: written there, and taken over by the store's next one.

A program's transaction may be open for minutes, so it takes none of the store's locks and changes none of its rows: it
leaves what it wants as rows of a table of their own. Whoever writes to the store next, or reads from it, first has the
ordinary transitions made of what was committed, in the order of their numbers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Final

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.run import IfFinished, RunName
from taquba_workflow_sync.storage.port.settings import Backoff, StepSettings
from taquba_workflow_sync.storage.port.signals import NewSignal
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.relational.data_errors import InvalidDataError
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import kv, signals
from taquba_workflow_sync.storage.relational.transitions.cancel import cancel
from taquba_workflow_sync.storage.relational.transitions.enqueue import insert
from taquba_workflow_sync.storage.relational.transitions.event import note_event

_log = logging.getLogger(__name__)

#: How many one transaction takes over.
MOST: Final = 500
_SUBMIT: Final = "submit"
#: The table in which they are; a move puts it away with the others, or what comes late would be in neither store.
ARRIVAL: Final = "taquba_arrival"

HAVE_COME: Final = "SELECT min(id) FROM taquba_arrival"
#: The newest submit of a run's name that has not been taken over.
OF_NAME: Final = """SELECT body FROM taquba_arrival
    WHERE queue = ? AND run_id = ? AND kind = 'submit' ORDER BY id DESC LIMIT 1"""
ARRIVE: Final = "INSERT INTO taquba_arrival (kind, queue, run_id, body) VALUES (?, ?, ?, ?)"
_COME: Final = "SELECT id, kind, queue, run_id, body FROM taquba_arrival ORDER BY id LIMIT ?"
_GONE: Final = "DELETE FROM taquba_arrival WHERE id = ANY(?)"
_SET_ASIDE: Final = """INSERT INTO taquba_arrival_refused (id, kind, queue, run_id, body, why)
    SELECT id, kind, queue, run_id, body, CAST(? AS TEXT) FROM taquba_arrival WHERE id = ?"""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job to be cancelled."""

    job_id: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Put:
    """A value of a key."""

    key: str
    value: bytes
    ttl_ms: int | None


Arrival = NewJob | NewSignal | Cancelled | Put
_KINDS: Final[dict[type[Any], str]] = {NewJob: _SUBMIT, NewSignal: "signal", Cancelled: "cancel", Put: "put"}
_KNOWN: Final[dict[str, Any]] = {
    each.__name__: each for each in (*_KINDS, RunName, TimeLimits, StepSettings, Backoff, IfFinished)
}


def kind_of(arrival: Arrival) -> str:
    """Return what an arrival is called where it is stored."""
    return _KINDS[type(arrival)]


def encoded(arrival: Arrival) -> bytes:
    """Return an arrival as it is stored: a line of JSON, and behind it the bytes that stand in it by place."""
    parts: list[bytes] = []

    def shown(value: Any) -> Any:
        if isinstance(value, bytes):
            begin = sum(map(len, parts))
            parts.append(value)
            return {"bytes": [begin, begin + len(value)]}
        if isinstance(value, Enum):
            return {"of": type(value).__name__, "is": value.value}
        if is_dataclass(value):
            given = {each.name: shown(getattr(value, each.name)) for each in fields(value)}
            return {"of": type(value).__name__, "has": given}
        if isinstance(value, (Backoff, NewSignal)):
            given = {name: shown(each) for name, each in value._asdict().items()}
            return {"of": type(value).__name__, "has": given}
        return value

    return json.dumps(shown(arrival)).encode() + b"\n" + b"".join(parts)


def decoded(body: bytes) -> Arrival:
    """Return what :func:`encoded` has made.

    Raises:
        InvalidDataError: it is nothing that this version knows.
    """
    line, _, rest = body.partition(b"\n")

    def made(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "bytes" in value:
            begin, end = value["bytes"]
            return rest[begin:end]
        kind = _KNOWN[value["of"]]
        if "is" in value:
            return kind(value["is"])
        return kind(**{name: made(each) for name, each in value["has"].items()})

    try:
        arrival: Arrival = made(json.loads(line))
        _KINDS[type(arrival)]
    except (ValueError, TypeError, LookupError) as error:
        raise InvalidDataError(f"what a program's transaction has put in cannot be read: {error!r}") from error
    return arrival


def take_over(tx: Transaction, most: int = MOST) -> list[int]:
    """Do what has arrived, in order, and have it gone; returns the numbers."""
    rows = tx.execute(_COME, (most,)).fetchall()
    numbers = [number for number, *_ in rows]
    if numbers:
        tx.transitions.add("take_over")
        for _, _, queue, run_id, body in rows:
            _apply(tx, queue, run_id, decoded(body))
        tx.execute(_GONE, (numbers,))
    return numbers


def set_aside(tx: Transaction, why: str) -> None:
    """Have the first that has arrived go where an operator finds it: no program can be told any more."""
    (number, kind, queue, run_id, _), *_ = tx.execute(_COME, (1,)).fetchall()
    tx.transitions.add("set_aside")
    tx.execute(_SET_ASIDE, (why, number))
    tx.execute(_GONE, ([number],))
    _log.error(
        "the %s number %d of run %s, put in by a program's own transaction, cannot be done and was set aside in the"
        " table taquba_arrival_refused: %s",
        kind,
        number,
        run_id,
        why,
        extra={"queue": queue, "run_id": run_id},
    )


def _apply(tx: Transaction, queue: str, run_id: str, arrival: Arrival) -> None:
    try:
        match arrival:
            case NewJob():
                # Whether there was room was looked at when it was submitted: now it is there.
                (answer,) = insert(tx, [replace(arrival, is_bounded=False)])
                if not answer.is_new:
                    _log.error("run %s of queue %s had been submitted as job %s", run_id, queue, answer.job_id)
            case NewSignal():
                signals.send(tx, queue, run_id, arrival)
            case Cancelled(job_id=job_id, reason=reason):
                cancel(tx, job_id, None, (), None, reason)
            case Put(key=key, value=value, ttl_ms=ttl_ms):
                kv.put(tx, key, value, ttl_ms)
    except InvalidDataError:
        raise
    except TaqubaError as error:  # the transitions look before they write
        if isinstance(arrival, NewJob):
            raise InvalidDataError(f"{type(error).__name__}: {error}") from error
        _note(tx, queue, run_id, arrival, error)


def _note(tx: Transaction, queue: str, run_id: str, arrival: Arrival, error: TaqubaError) -> None:
    """Tell of a signal that came too late, in the history of the run that it was for and in the log."""
    name = arrival.name if isinstance(arrival, NewSignal) else kind_of(arrival)
    why = f"signal {name!r:.80}: {error}"
    _log.warning("dropped: %s", why, extra={"queue": queue, "run_id": run_id})
    seq = signals.newest(tx, queue, run_id)
    if seq is not None:
        note_event(tx, seq, EventKind.SIGNAL_DROPPED, why)


def newest_submit(rows: Sequence[tuple[bytes]]) -> NewJob | None:
    """Return the submit that :data:`OF_NAME` has found, if it has."""
    found = decoded(rows[0][0]) if rows else None
    return found if isinstance(found, NewJob) else None
