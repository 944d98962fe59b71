"""Who else lives: an owner whose lock stays free for the grace is declared dead, once and for all.

The locks of living owners are free, too, for as long as they need to open a session again: the server was restarted, or
somebody ended their session. So a free lock makes an owner a suspect, and only one that was free at every look for the
grace, by this observer's own monotonic clock, is declared dead: its row says so, and it takes another name.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import psycopg

from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.errors import first_line
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.postgres.sql import owners

_log = logging.getLogger(__name__)

#: For how long an owner's lock must be free, in seconds.
GRACE_S: Final = 2.0
#: Nobody is declared dead for so long after the server has started, or crashed, or been promoted: that frees every
#: lock at once, and the living come back as fast as their machines let them.
AFTER_START_S: Final = 15.0
# The part of the grace which one gap between two looks may count for: an observer that was stopped has not watched.
_MOST_OF_ONE_GAP: Final = 1 / 4


class _Free(NamedTuple):
    """A lock that was found free: for how long that counts, and when it was last looked at."""

    lock_key: int
    free_s: float
    looked: float


class Suspects:
    """The owners whose locks one observer has found free, by its own clock."""

    def __init__(self, *, grace_s: float = GRACE_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._grace_s = grace_s
        self._monotonic = monotonic
        self._free: dict[str, _Free] = {}

    def look(self, free: Mapping[str, int]) -> dict[str, int]:
        """Note whose locks are free now, each with its key, and return those which have been for the grace."""
        now = self._monotonic()
        seen: dict[str, _Free] = {}
        for owner, key in free.items():
            known = self._free.get(owner)
            if known is None or known.lock_key != key:
                seen[owner] = _Free(key, 0.0, now)
            else:
                gap = min(now - known.looked, self._grace_s * _MOST_OF_ONE_GAP)
                seen[owner] = _Free(key, known.free_s + gap, now)
        self._free = seen
        return {owner: each.lock_key for owner, each in seen.items() if each.free_s >= self._grace_s - 1e-9}

    def begin_anew(self) -> None:
        """Forget for how long locks were free: this observer was cut off, and the others may have been, too."""
        self._free = {}


class Observer:
    """What one handle knows of the other owners."""

    def __init__(self, connections: Connections, *, suspects: Suspects | None = None) -> None:
        self._connections = connections
        self._suspects = Suspects() if suspects is None else suspects
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Know nothing."""
        self._looking = threading.Lock()
        self._lives: dict[str, bool | None] = {}
        self._suspected: frozenset[str] = frozenset()
        self._suspects.begin_anew()

    def begin_anew(self) -> None:
        """Start the clock of every suspect again: this handle had lost its own session."""
        self._suspects.begin_anew()

    def look(self) -> None:
        """Look at every lock, and declare dead whose grace is over; after an error nothing is known of anybody."""
        with self._looking:
            try:
                with self._connections.reading() as session:
                    self._look(session)
            except psycopg.Error as error:
                self._suspects.begin_anew()
                self._lives = {}
                self._suspected = frozenset()
                _log.warning("cannot look who lives: %s", first_line(error))

    def _look(self, session: Session) -> None:
        rows = session.execute(owners.LOOK).fetchall()
        free = {owner: key for owner, key, state, is_free in rows if is_free and state == "live"}
        lives: dict[str, bool | None] = {owner: not is_free for owner, _, _, is_free in rows}
        for owner in free:
            lives[owner] = True  # until it is declared dead nobody takes what it holds
        over = self._suspects.look(free)
        if free and self._up_for(session) >= AFTER_START_S:
            for owner, key in over.items():
                if session.execute(owners.DECLARE, (owner, key)).rowcount:
                    _log.warning("owner %s vanished: its claims are taken over", owner)
                    lives[owner] = False
        self._lives = lives
        self._suspected = frozenset(owner for owner, _, _, is_free in rows if is_free)

    def _up_for(self, session: Session) -> float:
        """Return for how many seconds the server is known to have kept its locks."""
        row = session.execute(owners.UP_FOR).fetchone()
        if row is None:
            session.execute(owners.NOTE_START)
            return 0.0
        return float(row[0])

    def is_alive(self, owner: str, patience: float = 0.0) -> bool | None:
        """Whether an owner lived at the last look; None: nothing is known of it. ``patience`` is for other engines."""
        del patience
        if owner not in self._lives:
            self.look()
        return self._lives.get(owner)

    def is_suspect(self, owner: str) -> bool:
        """Whether an owner's lock was free at the last look: what it holds is taken over soon, unless it comes back."""
        return owner in self._suspected

    def owners(self) -> dict[str, bool | None]:
        """Return who has the store open, or had it, and whether they live now; declares nobody dead.

        None: the lock is free, so whoever it was either is dead or comes back within seconds.
        """
        with self._connections.reading() as session:
            rows = session.execute(owners.LOOK).fetchall()
        return {owner: (None if is_free else True) if state == "live" else False for owner, _, state, is_free in rows}

    def all_dead(self) -> list[str]:
        """Return those who were dead at the last look."""
        return [owner for owner, lives in self._lives.items() if lives is False]


def holds_lock(session: Session, owner: str) -> bool:
    """Whether an owner's lock is held at this moment."""
    found = None
    with suppress(psycopg.Error):
        found = session.execute(owners.IS_FREE, (owner,)).fetchone()
    return found is not None and not found[0]
