"""Stored values as a page shows them: texts, bytes, times, durations, numbers."""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e0fff]"
)
_WIDTH: Final = 16
#: Of a payload or a result, so many characters are shown; the whole can be saved.
MOST_SHOWN: Final = 32_768
#: What is larger is not read as JSON, which would take seconds; and of that only the beginning is looked at.
_MOST_READ: Final = 262_144


def visible(value: Any) -> Any:
    """Return a text with what cannot be seen spelled out: control characters, and what turns the direction of text.

    A run id that looks like another one, or an error that hides its end, is told apart so.
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], value)
    return value


def exact(value: str) -> Markup:
    """Return a text escaped, and as it is otherwise: what a form sends back must be what is meant, not what is shown.

    Names may hold what is spelled out elsewhere; a name that is spelled out is another one.
    """
    return escape(value)


FORMS: Final = ("json", "text", "hex")


def form_of(data: bytes) -> str:
    """Return the form in which bytes are read best: "json", "text" or "hex"."""
    is_whole = len(data) <= _MOST_READ
    try:
        # Of a part the last character may be cut.
        text = data.decode() if is_whole else getincrementaldecoder("utf-8")().decode(data[:_MOST_READ])
    except UnicodeDecodeError:
        return "hex"
    try:
        if is_whole and isinstance(json.loads(text), (dict, list)):
            return "json"
    except (ValueError, RecursionError):
        pass
    return "text" if len(_CONTROL.findall(text)) <= len(text) // 20 else "hex"


def shown(data: bytes, form: str) -> str:
    """Return bytes in a form; as text where they are none of it."""
    if form == "hex":
        return "\n".join(_hexdump(data[: MOST_SHOWN // 4]))
    # A character has four bytes at most, so that none that is shown is cut.
    text = data[: max(_MOST_READ, MOST_SHOWN * 4)].decode("utf-8", "backslashreplace")
    if form == "json" and len(data) <= _MOST_READ:
        try:
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass  # it is shown as it is
    return text[:MOST_SHOWN]


def _hexdump(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _WIDTH):
        piece = data[start : start + _WIDTH]
        letters = "".join(chr(each) if 32 <= each < 127 else "." for each in piece)
        yield f"{start:08x}  {piece.hex(' '):<{_WIDTH * 3 - 1}}  |{letters}|"


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
