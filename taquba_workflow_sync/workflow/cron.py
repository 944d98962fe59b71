"""Cron expressions, by wall clock alone: five fields, checked one by one, and the times that they match.

They are parsed by ``cronsim`` (of the extra ``[cron]``), imported when a cron schedule is met and not before. Only its
arithmetic without a time zone is used: what it makes of summer time is not what is promised here.
"""

from __future__ import annotations

from datetime import datetime
from types import ModuleType
from typing import Final

from taquba_workflow_sync.queue import validation

FIELDS: Final = ("minute", "hour", "day of month", "month", "day of week")
_RANGES: Final = (
    "0-59",
    "0-23",
    "1-31",
    "1-12, or jan-dec",
    "0-7, where 0 and 7 are Sunday, or sun-sat",
)
#: As crontab(5) has them. There is no ``@reboot``: a store does not start.
NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LENGTH: Final = 1000
#: A day that no year is without: every month and weekday comes after it.
_SOME_DAY: Final = datetime(2000, 1, 1)


class CronUnavailable(ImportError):
    """This process has nothing that parses cron expressions."""


class Crontab:
    """A checked cron expression.

    Raises:
        ValueError: it is none; says which field is wrong.
        CronUnavailable: the extra ``[cron]`` is not installed.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LENGTH:
            raise ValueError(f"cron has {len(text)} characters; it may have {_LENGTH}")
        fields = _fields_of(text)
        self._expression = " ".join(fields)
        #: Whether its times go by elapsed time when the clocks change, by Debian's rule; else they are fixed ones.
        self.is_wildcard: bool = "*" in fields[0] or "*" in fields[1]
        for place, (name, field) in enumerate(zip(FIELDS, fields, strict=True)):
            alone = ["*"] * len(FIELDS)
            alone[place] = field
            if not _is_parsed(" ".join(alone)):
                raise ValueError(
                    f"cron {text!r}: the {name} field {validation.shown(field)} is wrong; it takes {_RANGES[place]},"
                    " '*', lists, ranges and steps"
                )
        if not _is_parsed(self._expression) or self.after(_SOME_DAY) is None:
            raise ValueError(
                f"cron {text!r} never comes: no day has its day of month ({fields[2]}), month ({fields[3]}) and day of"
                f" week ({fields[4]})"
            )

    def after(self, wall: datetime) -> datetime | None:
        """Return the first time that matches and is later than ``wall``, both without a zone; None: no year has one."""
        try:
            found: datetime | None = next(_library().CronSim(self._expression, wall), None)
        except OverflowError:  # beyond the calendar
            return None
        return found


def _fields_of(text: str) -> list[str]:
    """Return the five fields of an expression, or of what its nickname stands for."""
    fields = text.split()
    if len(fields) == 1 and fields[0].startswith("@"):
        known = NICKNAMES.get(fields[0].lower())
        if known is None:
            raise ValueError(f"cron {text!r} is no nickname; there are {', '.join(NICKNAMES)}")
        return known.split()
    if len(fields) != len(FIELDS):
        raise ValueError(f"cron {text!r} has {len(fields)} fields; it must have five: {', '.join(FIELDS)}")
    return fields


def _is_parsed(expression: str) -> bool:
    library = _library()
    try:
        library.CronSim(expression, _SOME_DAY)
    except (library.CronSimError, ValueError):
        return False
    return True


def can_parse() -> bool:
    """Whether this process can parse cron expressions."""
    try:
        _library()
    except CronUnavailable:
        return False
    return True


def _library() -> ModuleType:
    try:
        import cronsim
    except ImportError as error:
        raise CronUnavailable(
            "cron schedules need the extra: pip install 'taquba-workflow-sync[cron]'", name="cronsim"
        ) from error
    return cronsim
