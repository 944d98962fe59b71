"""Pages that are told of changes: the same read for all who look, and one read a second for all of them together."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

#: How often the store is read at most, whoever looks at what.
_READ_EVERY: Final = 1.0
#: For how long a page that nobody asked for again has its turn.
_FORGET_AFTER: Final = 3.0
_TICK: Final = 0.25
#: How often something is sent at least, so that a viewer who has gone is noticed.
_QUIET: Final = 5.0
#: After how many milliseconds a browser asks again whose stream has ended.
RETRY: Final = b"retry: 1000\n\n"

#: What is looked at: the store's name, the address below the console, and what else makes its text differ.
Key = tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    id: str = ""
    text: bytes = b""
    text_at: float = float("-inf")
    read_at: float = float("-inf")
    asked_at: float = 0.0


class Live:
    """What is on the pages that somebody looks at. A page waits for its turn where several are looked at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: dict[Key, _Seen] = {}
        self._read_at = float("-inf")

    def latest(self, key: Key, read: Callable[[], bytes], *, since: float = float("-inf")) -> tuple[str, bytes]:
        """Return the newest text of a page, with an id of it; read anew if it is this page's turn.

        Empty if it was read before ``since``, a time of ``time.monotonic``.
        """
        now = time.monotonic()
        with self._lock:
            for each in [each for each, seen in self._pages.items() if now - seen.asked_at > _FORGET_AFTER]:
                del self._pages[each]
            seen = self._pages.setdefault(key, _Seen())
            seen.asked_at = now
            is_oldest = seen.read_at <= min(each.read_at for each in self._pages.values())
            if now - self._read_at < _READ_EVERY or not is_oldest:
                return (seen.id, seen.text) if seen.text_at >= since else ("", b"")
            # Taken before it is done: whoever comes meanwhile has the text of before.
            self._read_at = seen.read_at = now
        text = read()
        with self._lock:
            seen.id, seen.text, seen.text_at = hashlib.sha256(text).hexdigest()[:16], text, now
            return seen.id, seen.text

    def stream(self, key: Key, read: Callable[[], bytes], last_id: str | None, seconds: float) -> Iterator[bytes]:
        """Yield server-sent events: the text of a page whenever it is another, for so many seconds."""
        said_at = time.monotonic()
        deadline = said_at + seconds
        # Who has just loaded the page has it as it is now: a text of before would take back what was done since.
        since = said_at if last_id is None else float("-inf")
        pause = threading.Event()
        yield RETRY
        while True:
            now_id, text = self.latest(key, read, since=since)
            now = time.monotonic()
            if now_id and now_id != last_id:
                last_id, said_at = now_id, now
                yield event(now_id, text)
            elif now - said_at >= _QUIET:
                said_at = now
                yield b":\n\n"
            if now >= deadline:
                return
            pause.wait(min(_TICK, deadline - now))


def event(name: str, text: bytes) -> bytes:
    """Return a text as one event."""
    lines = b"".join(b"data: " + line + b"\n" for line in text.replace(b"\r", b"").split(b"\n"))
    return b"id: " + name.encode() + b"\n" + lines + b"\n"
