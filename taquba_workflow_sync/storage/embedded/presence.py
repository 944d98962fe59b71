"""Who lives: one lock file per open handle, held while it is open and for as long as a step of it runs.

A lock that can be taken proves its owner's death; a lock that is held proves life, not health; a file that is not
there proves nothing (taking its lock would only create it).
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import filelock

from taquba_workflow_sync.errors import StorageError, StoreInUseError
from taquba_workflow_sync.storage.embedded.locks import _lock
from taquba_workflow_sync.storage.port.presence import Abandoned, RunningClaim

_log = logging.getLogger(__name__)


_SUFFIX: Final = ".lock"


_EXCLUSIVE: Final = "-x"


# A probe takes a fraction of that.
_OTHERS_PROBE: Final = 0.05


_ACQUIRE_TIMEOUT: Final = 10.0


# How many lease durations an overdue claim is watched before it counts as abandoned: its owner's process lives
# (stopped, swapping, or one call holds its GIL), or its lock file is missing, so nothing is known of it.
_LEASES_WHILE_ALIVE: Final = 10


_LEASES_WHILE_UNKNOWN: Final = 1


# The part of that which one gap between two looks may count for. A process that was stopped with all the others
# (SIGSTOP, a frozen container) looks once before and once after: without this bound it would believe that it had
# watched all the while, and take claims whose owners are just waking up too.
_MOST_OF_ONE_GAP: Final = 1 / 4


class _Watch(NamedTuple):
    """An overdue claim under watch: the lease it had, since when that counts, and when it was last looked at."""

    lease_until_ms: int
    since: float
    looked: float


class Owner:
    """This handle's own lock, and what it knows of the other owners."""

    def __init__(self, directory: Path, *, exclusive: bool, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._watched: dict[str, _Watch] = {}
        self.id: str = f"{os.getpid()}-{secrets.token_hex(8)}{_EXCLUSIVE if exclusive else ''}"
        self._lock = _lock(self._path(self.id))

    def _path(self, owner: str) -> Path:
        return self._directory / f"{owner}{_SUFFIX}"

    def take(self) -> None:
        """Hold the lock; the caller holds the opening lock. Nothing is claimed before.

        Raises:
            StoreInUseError: this open or an open handle insists on being the only one.
            StorageError: the lock file cannot be made.
        """
        try:
            self._refuse_company()
            # A cleaner may hold a file between its creation and our lock for a moment: hence the time allowed.
            self._lock.acquire(timeout=_ACQUIRE_TIMEOUT, poll_interval=0.005)
        except (OSError, filelock.Timeout) as error:
            raise StorageError(f"cannot hold the owner lock {self._lock.lock_file}: {error}") from error

    def _refuse_company(self) -> None:
        wants_all = self.id.endswith(_EXCLUSIVE)
        for other in self._others():
            if (wants_all or other.endswith(_EXCLUSIVE)) and self._is_alive(other, patience=0.2):
                pid = other.partition("-")[0]
                raise StoreInUseError(
                    f"{self._directory.parent} is open in process {pid}"
                    + (" as its only handle" if other.endswith(_EXCLUSIVE) else "")
                    + "; close it there, or wait for that process to end"
                )

    def _others(self) -> list[str]:
        names = [name[: -len(_SUFFIX)] for name in os.listdir(self._directory) if name.endswith(_SUFFIX)]
        return [name for name in names if name != self.id]

    def _is_alive(self, owner: str, patience: float = 0.0) -> bool | None:
        """Whether an owner's lock is held; None where its file is missing.

        Another process that probes at this moment looks like a holder; ``patience`` outwaits it.
        """
        path = self._path(owner)
        if not path.is_file() or path.is_symlink():
            return None
        probe = _lock(path)
        try:
            probe.acquire(timeout=patience, poll_interval=0.01)
        except filelock.Timeout:
            return True
        except OSError as error:
            _log.warning("cannot probe the owner lock %s: %s", path, error)
            return None
        probe.release()
        return False

    def abandoned_claims(
        self, running: Collection[RunningClaim], now_ms: int, *, suspect: str | None = None
    ) -> Abandoned:
        """Return which of the other owners' claims may be taken over.

        Another process that probes looks like a holder for a moment, which is outwaited for the owner ``suspect``.

        An overdue claim is timed by this process's own monotonic clock, from when this process first saw it overdue
        and for as long as it stays unrenewed, so that a stepping wall clock frees nothing. A long gap between two
        looks counts in part only, so that having been stopped is not taken for having watched.
        """
        dead: set[str] = set()
        abandoned: dict[str, int] = {}
        alive: dict[str, bool | None] = {}
        overdue: dict[str, _Watch] = {}
        now = self._monotonic()
        for claim in running:
            if claim.owner not in alive:
                alive[claim.owner] = self._is_alive(claim.owner, _OTHERS_PROBE if claim.owner == suspect else 0.0)
            lives = alive[claim.owner]
            if lives is False:
                dead.add(claim.owner)
                continue
            if claim.lease_until_ms > now_ms:
                continue
            wanted = (_LEASES_WHILE_ALIVE if lives else _LEASES_WHILE_UNKNOWN) * claim.lease_ms / 1000
            watch = self._watched.get(claim.token)
            since = now
            if watch is not None and watch.lease_until_ms == claim.lease_until_ms:
                since = watch.since + max(now - watch.looked - wanted * _MOST_OF_ONE_GAP, 0.0)
            overdue[claim.token] = _Watch(claim.lease_until_ms, since, now)
            if now - since >= wanted:
                abandoned[claim.token] = claim.lease_until_ms
        self._watched = overdue
        return Abandoned(frozenset(dead), abandoned)

    def watch_anew(self) -> None:
        """Forget for how long claims were seen overdue."""
        self._watched = {}

    def clean(self, has_claims: Callable[[str], bool]) -> None:
        """Remove the lock files of dead owners that hold no claims, each while holding its lock."""
        for owner in self._others():
            # What a dead owner holds can only become less. Asked before the lock is taken: whoever probes meanwhile
            # would take this process for the owner.
            if self._is_alive(owner) is not False or has_claims(owner):
                continue
            probe = _lock(self._path(owner))
            with suppress(OSError, filelock.Timeout):
                probe.acquire(blocking=False)
                try:
                    self._path(owner).unlink(missing_ok=True)
                finally:
                    probe.release()

    def leave(self, *, has_claims: bool) -> None:
        """Let go of the lock; its file goes first, while it is held, unless claims still name this owner."""
        if not self._lock.is_locked:
            return
        if not has_claims:
            with suppress(OSError):
                self._path(self.id).unlink(missing_ok=True)
        self._lock.release()
