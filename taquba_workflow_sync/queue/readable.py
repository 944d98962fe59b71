"""Stored bytes and texts as people read them: JSON with indents, text, or hexadecimal; nothing that cannot be seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

_UNSEEN: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_WIDTH: Final = 16
FORMS: Final = ("json", "text", "hex")


def spelled_out(text: str) -> str:
    """Return a text with what cannot be seen spelled out: control characters, and what turns the direction of text.

    A terminal obeys none of it then, and a name that looks like another one is told apart.
    """
    return _UNSEEN.sub(lambda found: ascii(found.group())[1:-1], text)


def form_of(data: bytes) -> str:
    """Return the form in which bytes are read best, one of ``FORMS``."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "hex"
    try:
        return "json" if isinstance(json.loads(text), (dict, list)) else "text"
    except (ValueError, RecursionError):
        # A few of them are in any log; a file is full of them.
        return "hex" if len(_UNSEEN.findall(text)) * 20 > len(text) else "text"


def shown(data: bytes, form: str) -> str:
    """Return bytes in a form; as they are where they are no JSON."""
    if form == "hex":
        return "\n".join(_hexdump(data))
    text = data.decode("utf-8", "backslashreplace")
    if form == "json":
        try:
            return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass  # it is shown as it is
    return text


def _hexdump(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _WIDTH):
        piece = data[start : start + _WIDTH]
        letters = "".join(chr(each) if 32 <= each < 127 else "." for each in piece)
        yield f"{start:08x}  {piece.hex(' '):<{_WIDTH * 3 - 1}}  |{letters}|"
