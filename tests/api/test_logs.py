"""Records as JSON, and users' own records with the step that they are of."""

from __future__ import annotations

import contextvars
import json
import logging
import math
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from unittest.mock import ANY

import pytest

from taquba_workflow_sync import Continue, Queue, Step, StepOutcome, Succeed, WorkflowRuntime
from taquba_workflow_sync.logs import STEP_FIELDS, CurrentStepFilter, JsonFormatter
from tests.support import PATIENCE


class Kept(logging.Handler):
    """Keeps records that have passed its filters."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(CurrentStepFilter())
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    logger = logging.getLogger("app")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)


def fields(record: logging.LogRecord) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in STEP_FIELDS)


def test_a_users_own_line_in_a_step_has_its_place(queue: Queue, kept: Kept) -> None:
    log = logging.getLogger("app.billing")

    def runner(step: Step) -> StepOutcome:
        log.info("paying")
        if step.step_number == 0 and step.attempts == 1:
            raise OSError
        return Succeed() if step.step_number else Continue(label="ship")

    log.info("before")
    runtime = WorkflowRuntime(queue, runner)
    job_id = runtime.submit(run_id="r").first_job_id
    runtime.run_until_idle(PATIENCE)
    log.info("after")
    nothing = (None,) * 6
    assert [fields(record) for record in kept.records] == [
        nothing,
        ("r", 0, None, 1, "workflow-steps", job_id),
        ("r", 0, None, 2, "workflow-steps", job_id),
        ("r", 1, "ship", 1, "workflow-steps", job_id),
        nothing,
    ]


def test_a_thread_has_the_step_if_it_was_given_the_context(queue: Queue, kept: Kept) -> None:
    log = logging.getLogger("app")

    def runner(step: Step) -> StepOutcome:
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=lambda: context.run(log.info, "with")),
            threading.Thread(target=lambda: contextvars.Context().run(log.info, "without")),
        ]
        for thread in threads:
            thread.start()
            thread.join(PATIENCE)
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    assert [(record.getMessage(), record.run_id) for record in kept.records] == [  # type: ignore[attr-defined]
        ("with", "r"),
        ("without", None),
    ]


def test_a_hook_is_no_step(queue: Queue, kept: Kept) -> None:
    log = logging.getLogger("app")
    runtime = WorkflowRuntime(queue, lambda step: Succeed(), lambda outcome: log.info("told"))
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    assert [fields(record) for record in kept.records] == [(None,) * 6]


def test_what_a_record_says_itself_is_kept() -> None:
    record = logging.makeLogRecord({"run_id": "another"})
    assert CurrentStepFilter().filter(record)
    assert fields(record) == ("another", None, None, None, None, None)


@pytest.mark.parametrize("name", ["label", "queue", "step", "attempt"])
def test_a_users_own_field_stands_in_a_line_that_still_has_its_step(queue: Queue, kept: Kept, name: str) -> None:
    log = logging.getLogger("app")

    def runner(step: Step) -> StepOutcome:
        log.info("paying", extra={name: "mine"})
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    job_id = runtime.submit(run_id="r", label="pay").first_job_id
    runtime.run_until_idle(PATIENCE)
    log.info("outside", extra={name: "mine"})
    inside, outside = kept.records
    of_the_step = ("r", 0, "pay", 1, "workflow-steps", job_id)
    expected = {**dict(zip(STEP_FIELDS, of_the_step, strict=True)), name: "mine"}
    assert dict(zip(STEP_FIELDS, fields(inside), strict=True)) == expected
    assert dict(zip(STEP_FIELDS, fields(outside), strict=True)) == {**dict.fromkeys(STEP_FIELDS), name: "mine"}


@pytest.mark.parametrize("name", ["run_id", "job_id"])
def test_a_record_about_another_run_has_nothing_of_the_step_that_made_it(queue: Queue, kept: Kept, name: str) -> None:
    def runner(step: Step) -> StepOutcome:
        logging.getLogger("app").info("started", extra={name: "another"})
        return Succeed()

    runtime = WorkflowRuntime(queue, runner)
    runtime.submit(run_id="r")
    runtime.run_until_idle(PATIENCE)
    (record,) = kept.records
    assert dict(zip(STEP_FIELDS, fields(record), strict=True)) == {**dict.fromkeys(STEP_FIELDS), name: "another"}


def line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    read: dict[str, object] = json.loads(text, parse_constant=no_json)
    return read


def no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_a_record_is_a_line_of_json_with_its_place() -> None:
    record = logging.getLogger("app").makeRecord(
        "app", logging.WARNING, "x.py", 1, "paid %d of\n%s", (3, "é"), None,
        extra={"run_id": "r", "step": 2, "label": None, "attempt": 1, "queue": "q", "job_id": "j", "amount": 3.5},
    )  # fmt: skip
    record.created = 1_700_000_000.25
    assert line(record) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "WARNING",
        "logger": "app",
        "message": "paid 3 of\né",
        "run_id": "r", "step": 2, "label": None, "attempt": 1, "queue": "q", "job_id": "j", "amount": 3.5,
    }  # fmt: skip
    assert datetime.fromisoformat(str(line(record)["time"])).tzinfo == UTC


def test_a_record_of_no_step_has_the_same_keys_and_none_in_them() -> None:
    read = line(logging.makeLogRecord({"msg": "hello", "levelname": "INFO"}))
    assert read.keys() == {"time", "level", "logger", "message", *STEP_FIELDS}
    assert [read[name] for name in STEP_FIELDS] == [None] * 6


def test_an_exception_is_told() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    assert str(line(record)["exception"]).endswith("ValueError: boom")


def test_a_text_that_is_no_utf_8_is_spelt_out() -> None:
    text = JsonFormatter().format(logging.makeLogRecord({"msg": "a\udcffb"}))
    assert text.encode() and json.loads(text)["message"] == "a\udcffb"
    assert "é" in JsonFormatter().format(logging.makeLogRecord({"msg": "é"})), "what is UTF-8 stays legible"


def test_what_json_has_no_word_for_is_shown_as_text() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    read = line(logging.makeLogRecord({"msg": "x", "when": datetime(2026, 1, 1, tzinfo=UTC), "odd": Odd()}))
    assert (read["when"], read["odd"]) == ("2026-01-01 00:00:00+00:00", "(Odd, which cannot be shown)")


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)
UNSAID = "(Unspeakable, which cannot be shown)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ({"price": math.nan}, "{'price': nan}"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        ({1: 2}, {"1": 2}),
        ({Unspeakable(): 1}, "(dict, which cannot be shown)"),
        ([Unspeakable(), 1], [UNSAID, 1]),
        (CIRCLE, "[[...]]"),
        (nested(100_000), "(list, which cannot be shown)"),
        (10**5000, "(int, which cannot be shown)"),
    ],
    ids=["nan", "infinity", "nan inside", "a key", "a number", "no key", "inside", "a circle", "deep", "huge"],
)
def test_no_line_is_lost_for_what_was_given_to_it(value: object, shown: object) -> None:
    assert line(logging.makeLogRecord({"msg": "x", "given": value, "amount": 3})) == {
        **line(logging.makeLogRecord({"msg": "x"})), "time": ANY, "given": shown, "amount": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "arguments", "shown"),
    [
        ("%d of %d", (1,), "%d of %d (arguments: 1)"),
        ("paid", (1, 2), "paid (arguments: 1, 2)"),
        ("%s and %s", (Unspeakable(), "a"), f"%s and %s (arguments: {UNSAID}, a)"),
        ("%(a)s", {"b": 1}, "%(a)s (arguments: {'b': 1})"),
        (Unspeakable(), (), f"{UNSAID} (arguments: none)"),
    ],
)
def test_no_line_is_lost_for_arguments_that_do_not_fit(text: object, arguments: object, shown: str) -> None:
    assert line(logging.makeLogRecord({"msg": text, "args": arguments}))["message"] == shown


def test_a_name_that_is_no_text_is_text_and_one_that_is_taken_is_kept_beside_it() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        failed = sys.exc_info()
    given = {1: "a", (2,): "b", "time": "noon", "exception": "mine", "level": 3}
    read = line(logging.makeLogRecord({"msg": "x", "levelname": "INFO", "exc_info": failed, **given}))
    assert (read["1"], read["(2,)"], read["level"], read["extra_level"]) == ("a", "b", "INFO", 3)
    assert read["extra_time"] == "noon" and datetime.fromisoformat(str(read["time"]))
    assert read["extra_exception"] == "mine" and str(read["exception"]).endswith("ValueError: boom")
    assert line(logging.makeLogRecord({"msg": "x", "exception": "mine"}))["exception"] == "mine"


def test_no_line_is_lost_for_an_exception_that_cannot_be_told() -> None:
    class Odd(SyntaxError):
        text = property(lambda self: 1 / 0)  # type: ignore[assignment]  # on purpose

    try:
        raise Odd("boom")
    except Odd:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    assert "Odd" in str(line(record)["exception"])


def test_the_stack_is_told() -> None:
    record = logging.makeLogRecord({"msg": "x", "stack_info": "Stack (most recent call last):", "exc_text": "Boom"})
    assert (line(record)["stack"], line(record)["exception"]) == ("Stack (most recent call last):", "Boom")


def test_what_another_handler_has_formatted_adds_nothing() -> None:
    record = logging.makeLogRecord({"msg": "x"})
    before = line(record)
    logging.Formatter("%(asctime)s %(message)s").format(record)
    assert line(record) == before
