"""A schedule as it is defined: checked, and as the text that a store keeps of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from taquba_workflow_sync.clock import from_ms, maybe_from_ms
from taquba_workflow_sync.errors import InvalidNameError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.storage.port.schedule import ScheduleKind, ScheduleRow
from taquba_workflow_sync.workflow.cron import Crontab
from taquba_workflow_sync.workflow.recurrence import Between, Cron, Every, Recurrence
from taquba_workflow_sync.workflow.spec import RunSpec

CATCH_UP: Final = ("one", "all", "none")
OVERLAP: Final = ("allow", "skip")
_NAME_LENGTH: Final = 100
_LEAST_MS: Final = 1000
#: Beside the zones in the directories they come in: copies with leap seconds, and what depends on the machine.
_NO_ZONES: Final = ("posix/", "right/", "posixrules", "localtime", "Factory")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it was when it was read: its definition, and what became of it. Times are aware, in UTC.

    ``next_at`` None: it is paused, or over. ``last_run_id``: the last run that it, or a trigger, has submitted.
    """

    name: str
    cron: str | None
    every: timedelta | None
    timezone: str
    spec: RunSpec
    catch_up: str
    overlap: str
    start: datetime | None
    until: datetime | None
    paused: bool
    next_at: datetime | None
    last_run_id: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """What of a schedule is stored as text: all but its name and the input of its runs.

    ``keep_ms``: how long its runs are kept, by the client that defined it.
    """

    cron: str | None
    every_ms: int | None
    timezone: str
    catch_up: str
    overlap: str
    start_ms: int | None
    until_ms: int | None
    keep_ms: int | None
    spec: Mapping[str, Any]

    @property
    def kind(self) -> ScheduleKind:
        """What is needed to tell its next time."""
        return ScheduleKind.EVERY if self.cron is None else ScheduleKind.CRON

    def encode(self) -> str:
        """Return the text; equal definitions have equal texts."""
        return json.dumps({field.name: getattr(self, field.name) for field in fields(self)}, sort_keys=True)

    @classmethod
    def decode(cls, text: str) -> Definition:
        """Undo :meth:`encode`.

        Raises:
            TypeError, ValueError: a program that knows more has written it.
        """
        return cls(**json.loads(text))

    def rule(self, defined_ms: int) -> Recurrence:
        """Return when it fires, defined at that moment.

        Raises:
            CronUnavailable: the extra ``[cron]`` is not installed.
            ValueError: this process does not know its time zone.
        """
        if self.every_ms is not None:
            first_ms = defined_ms + self.every_ms if self.start_ms is None else self.start_ms
            return Between(Every(first_ms, self.every_ms), None, self.until_ms)
        assert self.cron is not None
        return Between(Cron(Crontab(self.cron), zone_of(self.timezone)), self.start_ms, self.until_ms)

    def spec_of(self, payload: bytes) -> RunSpec:
        """Return what each run is submitted with."""
        return RunSpec(input=payload, **{name: _value_of(stored) for name, stored in self.spec.items()})


def checked_name(name: object) -> str:
    """Return a checked name of a schedule."""
    checked = validation.identifier(name, "name", InvalidNameError)
    if len(checked) > _NAME_LENGTH:
        raise InvalidNameError(f"name {checked[:40]!r}... has {len(checked)} characters; it may have {_NAME_LENGTH}")
    return checked


def checked_definition(
    *,
    cron: object,
    every: Duration | None,
    timezone: object,
    spec: object,
    catch_up: object,
    overlap: object,
    start: datetime | None,
    until: datetime | None,
    keep_ms: int | None,
) -> Definition:
    """Return a definition of which everything holds.

    Raises:
        TypeError, ValueError: an argument is wrong; says which, and what it may be.
        CronUnavailable: the extra ``[cron]`` is not installed.
    """
    if (cron is None) == (every is None):
        raise ValueError("give a schedule either cron or every, one of them")
    if cron is not None:
        if not isinstance(cron, str):
            raise TypeError(f"cron must be a str, not {type(cron).__name__}")
        Crontab(cron)
    if not isinstance(timezone, str):
        raise TypeError(f"timezone must be a str, the name of an IANA zone, not {type(timezone).__name__}")
    zone_of(timezone)
    every_ms = None if every is None else validation.duration_ms(every, "every")
    if every_ms is not None and every_ms < _LEAST_MS:
        raise ValueError(f"every is {validation.shown(every)}; it must be at least one second")
    start_ms, until_ms = validation.moment_ms(start, "start"), validation.moment_ms(until, "until")
    if start_ms is not None and until_ms is not None and until_ms <= start_ms:
        raise ValueError(f"until is {until}, which is not after start, {start}: the schedule would never fire")
    return Definition(
        cron=cron,
        every_ms=every_ms,
        timezone=timezone,
        catch_up=_one_of(catch_up, "catch_up", CATCH_UP),
        overlap=_one_of(overlap, "overlap", OVERLAP),
        start_ms=start_ms,
        until_ms=until_ms,
        keep_ms=keep_ms,
        spec=_stored(spec),
    )


def schedule_of(row: ScheduleRow) -> Schedule:
    """Return a stored schedule as it is shown.

    Raises:
        TypeError, ValueError: its definition cannot be read by this program.
    """
    definition = Definition.decode(row.definition)
    return Schedule(
        name=row.name,
        cron=definition.cron,
        every=None if definition.every_ms is None else timedelta(milliseconds=definition.every_ms),
        timezone=definition.timezone,
        spec=definition.spec_of(row.payload),
        catch_up=definition.catch_up,
        overlap=definition.overlap,
        start=maybe_from_ms(definition.start_ms),
        until=maybe_from_ms(definition.until_ms),
        paused=row.is_paused,
        next_at=None if row.is_paused else maybe_from_ms(row.next_ms),
        last_run_id=row.last_run_id,
    )


def run_id_at(name: str, moment_ms: int) -> str:
    """Return what the run of a firing is called."""
    return f"{name}-{from_ms(moment_ms):%Y%m%dT%H%M%SZ}"


def zone_of(name: str) -> tzinfo:
    """Return a time zone of the IANA data base.

    Raises:
        ValueError: there is none of that name, or this machine has no such data.
    """
    if name == "UTC":
        return UTC  # also where there is no data
    from zoneinfo import ZoneInfo

    if not name.startswith(_NO_ZONES):
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            pass
    raise ValueError(
        f"timezone {validation.shown(name)} is no IANA zone that is known here, like 'Europe/Berlin' (their data comes"
        " with the system, or with the package tzdata)"
    )


def _one_of(value: object, name: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} is {validation.shown(value)}; it must be one of {', '.join(choices)}")
    return str(value)


def _stored(spec: object) -> dict[str, Any]:
    """Return what a run is submitted with as JSON can say it, but for its input: every field that was given.

    A field that is new needs nothing here, if it is of a type that :func:`_storable` knows. One that must not be part
    of a schedule (``effects``) is of none, and refused.
    """
    validation.instance(spec, RunSpec, "spec")
    assert isinstance(spec, RunSpec)
    if spec.run_id is not None:
        raise ValueError(f"spec has the run_id {spec.run_id!r}; it must have none, a schedule names its runs")
    stored: dict[str, Any] = {}
    for field in fields(spec):
        value = getattr(spec, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name not in ("input", "run_id") and value != default:
            stored[field.name] = _storable(value, field.name)
    return stored


def _storable(value: object, name: str) -> object:
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, timedelta):
        return ["timedelta", value.days, value.seconds, value.microseconds]
    if isinstance(value, tuple):
        return ["tuple", *(_storable(each, name) for each in value)]
    if isinstance(value, Mapping):
        return {key: _storable(each, name) for key, each in value.items()}
    raise ValueError(f"spec has {name}, a {type(value).__name__}, which cannot be part of a schedule; leave it out")


def _value_of(stored: object) -> Any:
    match stored:
        case ["datetime", str(text)]:
            return datetime.fromisoformat(text)
        case ["timedelta", int(days), int(seconds), int(microseconds)]:
            return timedelta(days, seconds, microseconds)
        case ["tuple", *each]:
            return tuple(map(_value_of, each))
        case dict():
            return {key: _value_of(each) for key, each in stored.items()}
        case _:
            return stored
