"""Stored bytes and texts as people read them: JSON with indents, text, or hexadecimal; nothing that cannot be seen."""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import Final

#: Without the joiners, which scripts and pictures need.
_UNSEEN: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e0fff]"
)
_WIDTH: Final = 16
FORMS: Final = ("json", "text", "hex")
#: What is larger is not read as JSON, which would take seconds; and of that only the beginning is looked at.
_MOST_READ: Final = 262_144


def spelled_out(text: str) -> str:
    """Return a text with what cannot be seen spelled out: control characters, and what turns the direction of text.

    A terminal obeys none of it then, and a name that looks like another one is told apart.
    """
    return _UNSEEN.sub(lambda found: ascii(found.group())[1:-1], text)


def form_of(data: bytes) -> str:
    """Return the form in which bytes are read best, one of ``FORMS``."""
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
    # A few of them are in any log; a file is full of them.
    return "text" if len(_UNSEEN.findall(text)) * 20 <= len(text) else "hex"


def shown(data: bytes, form: str, most: int | None = None) -> str:
    """Return bytes in a form; as they are where they are no JSON. ``most``: characters, or four times the bytes."""
    if form == "hex":
        return "\n".join(_hexdump(data if most is None else data[: most // 4]))
    is_small = len(data) <= _MOST_READ
    # A character has four bytes at most, so that none that is shown is cut.
    part = data if is_small or most is None else data[: most * 4]
    text = part.decode("utf-8", "backslashreplace")
    if form == "json" and (is_small or most is None):
        try:
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass  # it is shown as it is
    return text if most is None else text[:most]


def _hexdump(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _WIDTH):
        piece = data[start : start + _WIDTH]
        letters = "".join(chr(each) if 32 <= each < 127 else "." for each in piece)
        yield f"{start:08x}  {piece.hex(' '):<{_WIDTH * 3 - 1}}  |{letters}|"
