"""Stored values as a page shows them: texts, bytes, times, durations, numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

from taquba_workflow_sync.queue import readable
from taquba_workflow_sync.queue.readable import form_of, spelled_out

#: Of a payload or a result, so many characters are shown; the whole can be saved.
MOST_SHOWN: Final = 32_768


def visible(value: Any) -> Any:
    """Return a text with what cannot be seen spelled out: control characters, and what turns the direction of text.

    A run id that looks like another one, or an error that hides its end, is told apart so.
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return spelled_out(value)
    return value


def exact(value: str) -> Markup:
    """Return a text escaped, and as it is otherwise: what a form sends back must be what is meant, not what is shown.

    Names may hold what is spelled out elsewhere; a name that is spelled out is another one.
    """
    return escape(value)


def shown(data: bytes, form: str | None = None) -> str:
    """Return bytes in a form, else in the one in which they are read best; cut if they are long."""
    return readable.shown(data, form_of(data) if form is None else form, MOST_SHOWN)


def moment(value: datetime | None) -> Markup:
    """Return a moment as an element that says it to machines, too; the script shows it in the viewer's own time."""
    if value is None:
        return Markup("")
    text = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        text.isoformat(timespec="milliseconds"), f"{text:%Y-%m-%d %H:%M:%S} UTC"
    )


def duration(seconds: float | None) -> str:
    """Return seconds in the unit that fits: ``12 ms``, ``3.4 s``, ``5 min``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def number(value: float) -> str:
    """Return a number with its thousands set apart."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.2g}"
    return f"{int(value):,}"


def size(many: int) -> str:
    """Return a number of bytes in the unit that fits."""
    value = float(many)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
