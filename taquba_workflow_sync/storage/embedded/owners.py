"""Who lives: one lock file per open handle, held while it is open and for as long as a step of it runs.

A lock that can be taken proves its owner's death; a lock that is held proves life, not health; a file that is not
there proves nothing (taking its lock would only create it).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import filelock

from taquba_workflow_sync.errors import StorageError, StoreInUseError
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.storage.embedded.locks import let_go, lock_of
from taquba_workflow_sync.storage.port.worker import EXCLUSIVE, owner_name, pid_of

_log = logging.getLogger(__name__)

_SUFFIX: Final = ".lock"
_ACQUIRE_TIMEOUT: Final = 10.0
# A probe takes a fraction of that.
_OTHERS_PROBE: Final = 0.2


def owners_in(directory: Path) -> list[str]:
    """Return the owners whose lock files are there, alive or dead."""
    return [name[: -len(_SUFFIX)] for name in os.listdir(directory) if name.endswith(_SUFFIX)]


def is_alive(directory: Path, owner: str, patience: float = 0.0) -> bool | None:
    """Whether an owner's lock is held; None where its file is missing.

    Another process that probes at this moment looks like a holder; ``patience`` outwaits it.
    """
    path = _path(directory, owner)
    if not path.is_file() or path.is_symlink():
        return None
    probe = lock_of(path)
    try:
        probe.acquire(timeout=patience, poll_interval=0.01)
    except filelock.Timeout:
        return True
    except OSError as error:
        _log.warning("cannot probe the owner lock %s: %s", path, error)
        return None
    let_go(probe)
    return False


def living_owners(directory: Path) -> list[str]:
    """Return who has the store open now; ask under the opening lock, or others come and go meanwhile.

    Raises:
        StorageError: the directory cannot be read.
    """
    try:
        return [owner for owner in owners_in(directory) if is_alive(directory, owner, _OTHERS_PROBE)]
    except OSError as error:
        raise StorageError(f"cannot look who has {directory.parent} open: {error}") from error


def _path(directory: Path, owner: str) -> Path:
    return directory / f"{owner}{_SUFFIX}"


class Owner:
    """This handle's own lock, and its look at the others'."""

    def __init__(self, directory: Path, *, is_exclusive: bool, failpoint: Failpoint | None = None) -> None:
        self.directory = directory
        self.id: str = owner_name(os.getpid(), is_exclusive=is_exclusive)
        self._failpoint = failpoint
        self._lock = lock_of(_path(directory, self.id))

    def take(self) -> None:
        """Hold the lock; the caller holds the opening lock. Nothing is claimed before.

        Raises:
            StoreInUseError: this open or an open handle insists on being the only one.
            StorageError: the lock file cannot be made.
        """
        try:
            self._refuse_company()
            if self._failpoint is not None:
                self._failpoint("take-owner:alone")
            # A cleaner may hold a file between its creation and our lock for a moment: hence the time allowed.
            self._lock.acquire(timeout=_ACQUIRE_TIMEOUT, poll_interval=0.005)
        except (OSError, filelock.Timeout) as error:
            raise StorageError(f"cannot hold the owner lock {self._lock.lock_file}: {error}") from error

    def _refuse_company(self) -> None:
        wants_all = self.id.endswith(EXCLUSIVE)
        for other in owners_in(self.directory):
            is_only = other.endswith(EXCLUSIVE)
            if (wants_all or is_only) and is_alive(self.directory, other, _OTHERS_PROBE):
                raise StoreInUseError(
                    f"{self.directory.parent} is open in process {pid_of(other)}"
                    + (" as its only handle" if is_only else "")
                    + "; close it there, or wait for that process to end"
                )

    def clean(self, has_claims: Callable[[str], bool]) -> None:
        """Remove the lock files of dead owners that hold no claims, each while holding its lock."""
        for owner in owners_in(self.directory):
            # What a dead owner holds can only become less. Asked before the lock is taken: whoever probes meanwhile
            # would take this process for the owner.
            if owner == self.id or is_alive(self.directory, owner) is not False or has_claims(owner):
                continue
            probe = lock_of(_path(self.directory, owner))
            with suppress(OSError, filelock.Timeout):
                probe.acquire(blocking=False)
                try:
                    _path(self.directory, owner).unlink(missing_ok=True)
                finally:
                    let_go(probe)

    def leave(self, *, has_claims: bool) -> None:
        """Let go of the lock; its file goes first, while it is held, unless claims still name this owner."""
        if not self._lock.is_locked:
            return
        if not has_claims:
            with suppress(OSError):
                _path(self.directory, self.id).unlink(missing_ok=True)
        let_go(self._lock)
