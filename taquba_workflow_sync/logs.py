"""Logging for programs that use the library: records as JSON, and the user's own records with the step they are of.

The library logs through loggers below ``taquba_workflow_sync`` and configures none. Its records about a run carry
``run_id``, ``step``, ``label``, ``attempt``, ``queue`` and ``job_id``: one INFO when a run starts and one when it ends,
a WARNING for an attempt that is tried again, an ERROR, with the exception if there was one, for a dead letter, which is
such a run's end.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from taquba_workflow_sync.workflow.current import CURRENT, extras_of

#: What a record about a step carries.
STEP_FIELDS: Final = ("run_id", "step", "label", "attempt", "queue", "job_id")


class CurrentStepFilter(logging.Filter):
    """Adds the step that runs to each record that passes: ``handler.addFilter(CurrentStepFilter())``.

    ``run_id``, ``step``, ``label``, ``attempt``, ``queue`` and ``job_id`` are those of the step in whose context the
    record was made, None outside of one. What a record was given by ``extra`` it keeps; one that names its own
    ``run_id`` or ``job_id`` is about that, and has None for what it does not say. On a handler it sees the records of
    every logger; a thread that a step starts has a context of its own, unless it was given the step's
    (``contextvars.copy_context().run``).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add what is missing; every record passes."""
        row = CURRENT.get()
        given = dict.fromkeys(STEP_FIELDS) if row is None else extras_of(row)
        if "run_id" in record.__dict__ or "job_id" in record.__dict__:
            given = dict.fromkeys(STEP_FIELDS)  # it is about another step, or about none: half of each would mislead
        for name, value in given.items():
            record.__dict__.setdefault(name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``, and what a step's record
    carries.

    ``exception`` has the traceback where there is one. Other attributes that a record was given by ``extra`` are added
    under their own names, or as ``extra_time`` where the line has a ``time`` of its own; what JSON has no word for,
    such as NaN or a circle, is text. No record is lost for what it holds: a message whose arguments do not fit is
    followed by them.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        line: dict[Any, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **{name: getattr(record, name, None) for name in STEP_FIELDS},
        }
        if record.exc_info:
            line["exception"] = self._exception(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        given = {name: value for name, value in record.__dict__.items() if name not in _OWN}
        line |= {f"extra_{name}" if name in line else name: value for name, value in given.items()}
        text = ", ".join(f"{_json(_shown(name))}: {_json(value)}" for name, value in line.items())
        # Whatever an exception says: a lone surrogate, which no stream takes, is spelt out.
        return f"{{{text}}}".encode("utf-8", "backslashreplace").decode()

    def _exception(self, given: Any) -> str:
        try:
            return self.formatException(given)
        except Exception:  # of an exception whose own attributes are no traceback's, as a SyntaxError's may be
            return _shown(given)


#: What every record has, whoever makes it, and what is in a line by itself.
_OWN: Final = frozenset((*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", *STEP_FIELDS))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the arguments do not fit, or one is of a user's own class: the line is worth more
        given = record.args if isinstance(record.args, tuple) else (record.args,)
        return f"{_shown(record.msg)} (arguments: {', '.join(map(_shown, given)) or 'none'})"


def _json(value: object) -> str:
    """Return a value as JSON that every reader takes; as text if it is not that, or holds something that is not."""
    try:
        return _ENCODER.encode(value)
    except Exception:  # such as a circle, a key that is no text, more levels than there may be
        return _ENCODER.encode(_shown(value))


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception:  # of a user's own class: the line is worth more than the value
        return f"({type(value).__name__}, which cannot be shown)"


_ENCODER: Final = json.JSONEncoder(default=_shown, ensure_ascii=False, allow_nan=False)
