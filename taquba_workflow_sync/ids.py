"""Ids of our own making: ULIDs that ascend within a process and never repeat, after a fork either."""

from __future__ import annotations

import os
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as the ULID specification has it
_DIGITS = frozenset(_ALPHABET)
_RANDOM_BITS = 80
_RANDOM_LIMIT = 1 << _RANDOM_BITS


class UlidFactory:
    """Makes ULIDs, each greater than the one before, whatever the wall clock does.

    The random part is fresh ``os.urandom`` for every id and only forced upwards within a millisecond (or while the
    wall clock stands behind the last id): a generator that only counted up from shared state would make the same ids
    in a parent and its forked child.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._last_ms = 0
        self._last_random = 0

    def __call__(self) -> str:
        """Return a new ULID: 26 characters, sortable by time of making."""
        if self._pid != os.getpid():
            # A child must not wait for a lock that a thread of its parent held at the fork.
            self._lock = threading.Lock()
            self._pid = os.getpid()
            self._last_random = 0
            self._last_ms = 0
        ms = time.time_ns() // 1_000_000
        random = int.from_bytes(os.urandom(_RANDOM_BITS // 8), "big")
        with self._lock:
            if ms > self._last_ms:
                # The top bit stays free, so that counting up within one millisecond cannot overflow.
                random >>= 1
            else:
                ms = self._last_ms
                random = self._last_random + 1 + (random >> 40)
                if random >= _RANDOM_LIMIT:
                    ms, random = ms + 1, random >> 41
            self._last_ms, self._last_random = ms, random
        value = ms << _RANDOM_BITS | random
        return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def ms_of_ulid(text: str) -> int | None:
    """Return when a ULID was made, in milliseconds by the wall clock of its maker; None: it is none."""
    if len(text) != 26 or not _DIGITS.issuperset(text):
        return None
    ms = 0
    for letter in text[:10]:
        ms = ms << 5 | _ALPHABET.index(letter)
    return ms


new_ulid: UlidFactory = UlidFactory()
