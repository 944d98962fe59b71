"""Everything that reads bytes of others (rows, headers, answers of servers), each as a function of arbitrary bytes.

A target raises ``Undecoded`` for what it must not do; any exception but those a decoder is meant to raise is one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

from taquba_workflow_sync import MissingHeaderError, PermanentFailure, StorageError
from taquba_workflow_sync.queue.records import attempt_of, damage_of, record_of, record_of_claim
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.headers import decode_headers
from taquba_workflow_sync.storage.port.job import AttemptRow, JobRow
from taquba_workflow_sync.storage.port.notification import Subscription, decode_notification
from taquba_workflow_sync.storage.relational import reads, sql
from taquba_workflow_sync.storage.relational.checking.counts import is_subscription
from taquba_workflow_sync.storage.relational.rows import ShownRow, TakenRow
from taquba_workflow_sync.storage.relational.showing import readable_attempt
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.claim import claim
from taquba_workflow_sync.storage.relational.transitions.fence import row_number
from taquba_workflow_sync.storage.relational.unreadable import Unreadable
from taquba_workflow_sync.webhooks.request import read_request
from taquba_workflow_sync.webhooks.retry_after import MAX_RETRY_AFTER_S, parse_retry_after
from taquba_workflow_sync.webhooks.signing import signing_keys
from taquba_workflow_sync.workflow.status import outcome_of, status_of
from taquba_workflow_sync.workflow.steps import check_is_step

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Undecoded(AssertionError):
    """A decoder let something through, or broke in a way of its own."""


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise Undecoded(what)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _stored(data: bytes) -> str:
    """Return text as SQLite can hold it."""
    return data.decode("utf-8", "replace")


def _value(data: bytes) -> Any:
    """Return a value as a damaged column may hold it, chosen by the first byte."""
    kind, rest = data[:1], data[1:]
    match kind[0] % 8 if kind else 0:
        case 0:
            return None
        case 1 | 2:
            return int.from_bytes(rest[:8], "big", signed=True)
        case 3:
            return rest
        case 4 | 5:
            return _stored(rest)
        case 6:
            return float("inf") if rest[:1] == b"i" else len(rest) / 3
        case _:
            return int.from_bytes(rest[:2], "big")


def _row(data: bytes, fields: tuple[str, ...], good: dict[str, Any]) -> list[Any]:
    """Return the columns of a row of which up to two are replaced, which ones the first bytes say."""
    values = {name: good.get(name) for name in fields}
    for part in (data[: len(data) // 2], data[len(data) // 2 :]):
        if part:
            values[fields[part[0] % len(fields)]] = _value(part[1:])
    return [values[name] for name in fields]


_JOB: Final[dict[str, Any]] = {
    "seq": 1, "id": "J1", "queue": "q", "status": "done", "priority": 1, "step": 0, "attempts": 1, "max_attempts": 3,
    "cancel_requested": 0, "enqueued_ms": 1, "termination": 1, "headers": "", "payload": b"", "run_id": "r",
    "finished_ms": 2, "keep_done_ms": 3, "token": "x.1.1", "claimed_ms": 1, "lease_until_ms": 2, "verdict": "succeeded",
    "place": 1, "result": b"", "queue_name": "q", "belongings": 0,
}  # fmt: skip


class _Answers:
    """A connection that finds one row for some statements, and nothing for others."""

    rowcount = 0

    def __init__(self, found: dict[str, tuple[Any, ...]]) -> None:
        self._found = found
        self._row: tuple[Any, ...] | None = None

    def execute(self, statement: str, _values: object = ()) -> _Answers:
        self._row = self._found.get(statement)
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._row

    def fetchall(self) -> list[tuple[Any, ...]]:
        return [] if self._row is None else [self._row]


def decode_a_job(data: bytes) -> None:
    """What a page or a look shows of any row: a record, whatever the columns hold; parts that are gone are empty."""
    damaged: Any = _Answers({sql.GET: tuple(_row(data, ShownRow._fields, _JOB))})
    for whole in (True, False):
        row = reads.get(damaged, lambda: 5, "J1", with_payload=whole)
        assert row is not None
        _demand(_is_headers(record_of(row).headers), "headers")
        _demand(type(row.is_visible) is bool, "visible or not")
        if row.run_id is not None:
            status_of(row)
            if row.finished_ms is not None:
                _read_an_outcome(row)


def _read_an_outcome(row: JobRow) -> None:
    """It has a result of bytes if it succeeded; only one that is lost is an error, which names the run."""
    try:
        outcome = outcome_of(row)
    except StorageError as error:
        _demand(row.result is None and row.last_error is not None, "an outcome was refused that has its result")
        _demand(repr(row.run_id) in str(error), "an outcome was refused without a word of which")
    else:
        _demand(outcome.result is None or type(outcome.result) is bytes, "a result is no bytes")


def decode_a_claim(data: bytes) -> None:
    """A row just claimed is refused, which has it looked into, or dead-lettered, or is a good step."""
    answers = _Answers({sql.CLAIM: tuple(_row(data, TakenRow._fields, _JOB))})
    tx: Any = SimpleNamespace(
        execute=answers.execute, get_overflow=lambda *_: None, find_queue=lambda _: 1, move=lambda *_: None,
        now_ms=5, boot_ms=5, owner="", transitions=set(), promoted=set(), unreadable=Unreadable(),
        looked_for_late={1}, wall_moment=Transaction.wall_moment,
        queue=lambda _: SimpleNamespace(limited=0, paused=0, groups=0),
        owner_number=1, count_special=lambda *_: None,
    )  # fmt: skip
    try:
        (row,) = claim(tx, ClaimRequest((LaneClaim("q", 5),), 1))
    except (ValueError, TypeError):
        return
    if damage_of(row) is not None:
        return
    job = record_of_claim(row)
    _demand(_is_headers(job.headers) and type(job.payload) is bytes, f"headers or payload: {job!r:.200}")
    _demand(type(job.step) is int and job.step >= 0, f"step {job.step!r:.60}")
    _demand(type(job.attempts) is int and 1 <= job.attempts <= job.max_attempts, f"attempts {job.attempts!r:.60}")
    _demand(row.run_id is None or re.fullmatch(r"[A-Za-z0-9_-]{1,128}", row.run_id) is not None, "run id")
    check_is_step(row)


def decode_an_attempt(data: bytes) -> None:
    """Any history can be shown."""
    good = {"ordinal": 1, "step": 0, "attempt": 1, "claimed_ms": 1, "ended_ms": 2, "outcome": "succeeded"}
    attempt_of(readable_attempt(_row(data, AttemptRow._fields, good)))


def _is_headers(found: object) -> bool:
    return type(found) is dict and all(type(key) is str and type(value) is str for key, value in found.items())


def headers(data: bytes) -> None:
    text = _stored(data)
    found = decode_headers(text)
    _demand(_is_headers(found), f"headers {found!r:.80} of {text!r:.80}")
    row = ClaimedRow._make([_JOB.get(name) if name != "headers" else text for name in ClaimedRow._fields])
    damage = damage_of(row)
    if damage is None and text:
        _demand(_is_headers(json.loads(text)), f"damage_of lets {text!r:.80} through")


def a_notification(data: bytes) -> None:
    names = ("run_id", "status", "step", "job_id", "termination", "finished_at_ms", "error", "else")
    given = {f"workflow.{name}": _stored(part) for name, part in zip(names, data.split(b"\n"), strict=False)}
    for text in (_stored(data), json.dumps(given, ensure_ascii=False)):
        row = ClaimedRow._make([_JOB.get(name) if name != "headers" else text for name in ClaimedRow._fields])
        if damage_of(row) is not None:
            continue
        try:
            outcome = decode_notification(row)
        except (MissingHeaderError, ValueError, OverflowError):
            continue
        _demand(type(outcome.final_step) is int and type(outcome.termination) is int, "no numbers")


def a_webhook_job(data: bytes) -> None:
    names = ("webhook.url", "webhook.method", "webhook.timeout_ms", "http.X", "webhook.id", "http.\r\nY")
    given = {name: _text(part) for name, part in zip(names, data.split(b"\n\n"), strict=False)}
    try:
        request = read_request(given)
    except (MissingHeaderError, PermanentFailure):
        return
    _demand(request.url.startswith(("http://", "https://", "HTTP", "Http")) or "://" in request.url, "no URL")
    for name, value in request.headers.items():
        _demand(not re.search(r"[\r\n\0]", name + value), f"a header line is broken by {name!r}: {value!r}")
    _demand(request.timeout is None or 0 < request.timeout <= 86_400, "timeout")


def retry_after(data: bytes) -> None:
    for text in (_text(data), data.decode("latin-1")):
        seconds = parse_retry_after(text, NOW)
        _demand(seconds is None or (math.isfinite(seconds) and 0 <= seconds <= MAX_RETRY_AFTER_S), f"{seconds}")


def a_token(data: bytes) -> None:
    number = row_number(_text(data))
    _demand(type(number) is int and 0 <= number < 10**18, f"{number}")


def a_subscription(data: bytes) -> None:
    text = _stored(data)
    if is_subscription(text):
        subscription = Subscription(**json.loads(text))
        good = (
            type(subscription.lane) is str and type(subscription.max_attempts) is int and subscription.max_attempts > 0
        )
        _demand(good, f"subscription {subscription!r:.100}")


def a_secret(data: bytes) -> None:
    try:
        keys = signing_keys(_text(data))
    except ValueError as error:
        _demand(not isinstance(error, UnicodeError), "an error from the depths")
        return
    _demand(all(type(key) is bytes and key for key in keys), "an empty key")


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "headers": headers,
    "a job's row": decode_a_job,
    "a claim's row": decode_a_claim,
    "an attempt's row": decode_an_attempt,
    "a notification": a_notification,
    "a webhook job": a_webhook_job,
    "Retry-After": retry_after,
    "a token": a_token,
    "a subscription": a_subscription,
    "a secret": a_secret,
}

_NULL: Final = b"\0"
_HUGE: Final = b"\x01" + b"\x7f" * 8
_INFINITE: Final = b"\x06i"


def _struck(row: type[Any], column: str, value: bytes) -> bytes:
    """Return what has a row's column hold a value, as :func:`_row` and :func:`_value` read it."""
    return 2 * (bytes([row._fields.index(column)]) + value)


#: What fuzzing starts from, and every default run tries first.
CORPUS: Final[dict[str, list[bytes]]] = {
    "headers": [b"", b"{}", b'{"a":"b"}', b'{"a":1}', b"[]", b"null", b"{", b'{"a":{}}', b'"a"', b"[" * 100_000,
                b'{"a":' * 100_000, b'{"a":"\\ud800"}', b"NaN", b"1" * 5000, b"\xff", b'{"a":"b","a":5}', b"{}\0"],
    "a job's row": [_struck(ShownRow, column, value) for column, value in (
        ("seq", _NULL), ("status", _NULL), ("status", b"\x04waiting"), ("enqueued_ms", _HUGE),
        ("enqueued_ms", b"\x04x"), ("finished_ms", _INFINITE),
        ("headers", b"\x04[[[["), ("owner", _NULL), ("belongings", b"\x07\0\x07"),
        ("payload_crc", b"\x07\0\x07"), ("payload", b"\x03x"), ("verdict", b"\x04ended"))],
    "a claim's row": [_struck(TakenRow, column, value) for column, value in (
        ("headers", b"\x04[]"), ("headers", b"\x04{\"a\":1}"), ("run_id", b"\x04\xff"), ("enqueued_ms", b"\x04x"),
        ("enqueued_ms", _HUGE), ("step", b"\x04x"), ("belongings", b"\x07\0\x03"), ("payload", b"\x03x"),
        ("attempts", b"\x07\0\x09"), ("input_hash", b"\x03x"))],
    "an attempt's row": [_struck(AttemptRow, column, value) for column, value in (
        ("outcome", b"\x04x"), ("claimed_ms", b"\x04x"), ("claimed_ms", _HUGE), ("claimed_ms", _NULL),
        ("ended_ms", _INFINITE))],
    "a notification": [b"r\nsucceeded\n0\nJ1\n1\n5\nno", b"r\nended\n0\nJ1\n1\n5", b"r\nfailed\nx\nJ1\n1\n5",
                       b"r\nfailed\n0\nJ1\n1\n" + b"9" * 30, b"r\nfailed\n0\nJ1\n1\n" + b"9" * 5000,
                       b"r\nfailed\n1_0\nJ1\n 1 \n5", b"{}", b"[]"],
    "a webhook job": [b"http://127.0.0.1/\n\nPOST\n\n1000\n\nv", b"http://[::1\n\nPOST", b"http://h:99999/",
                      b"http://h/\n\nPO ST", b"http://h/\n\nPOST\n\n1e3", b"http://h/\n\nPOST\n\n" + b"9" * 9,
                      b"http://h/\n\nPOST\n\n0", b"file:///etc/passwd", b"http://h/\n\nPOST\n\n5\n\na\r\nX: y",
                      b"http://\xe2\x84\x80/", b"http://h\xed\xa0\x80/"],
    "Retry-After": [b"", b"120", b"-1", b"1e9", b"9" * 5000, b"\xc2\xb2", b"Wed, 21 Oct 2015 07:28:00 GMT",
                    b"Wed, 99 Oct 99999",
                    b"Mon, 1 Jan 0001 00:00:00 +2359", b"Fri, 31 Dec 9999 23:59:59 -2359", b"NaN", b"inf", b" 5 ",
                    b"Wed, 21 Oct 2015 07:28:00 -0000", b"1 1 1 1:1:1 " + b"9" * 400],
    "a token": [b"", b"x.1.1", b".", b"x.1.-1", b"x.1.\xd9\xa3", b"x.1." + b"9" * 18, b"x.1." + b"9" * 5000,
                b"x.1.1\n"],
    "a subscription": [b"", b"{}", b"null", b"[]", b"5", b"{", b'{"lane":"x","max_attempts":1,"keep_dead_ms":null}',
                    b'{"lane":5,"max_attempts":1,"keep_dead_ms":null}',
                    b'{"lane":"x","max_attempts":"y","keep_dead_ms":null}',
                    b'{"lane":"x","max_attempts":0,"keep_dead_ms":-1,"more":1}', b"[" * 100_000],
    "a secret": [b"", b"whsec_", b"whsec_c2VjcmV0IHRoYXQgYm90aCBzaWRlcyBrbm93", b"====", b"a", b"\xff", b"whsec_whsec_",
                 b"\xed\xa0\x80"],
}  # fmt: skip


def violation(target: str, data: bytes) -> str | None:
    """Return what is wrong with how a target took some bytes, or None."""
    try:
        TARGETS[target](data)
    except Exception as error:
        return f"{target}: {type(error).__name__}: {error!s:.150} (from {data[:60]!r}{'...' if len(data) > 60 else ''})"
    return None
