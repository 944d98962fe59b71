"""The file locks of a store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import filelock

from taquba_workflow_sync.errors import StorageError

_log = logging.getLogger(__name__)

_OPEN_TIMEOUT: Final = 60.0


def lock_of(path: Path) -> filelock.BaseFileLock:
    """Return the lock of a file, not yet held."""
    # thread_local: a lock taken in one thread must not look free in another. fallback_to_soft: an existence lock
    # outlives its process, so it would prove nothing.
    return filelock.FileLock(path, thread_local=False, fallback_to_soft=False, mode=0o600, is_singleton=False)


def let_go(lock: filelock.BaseFileLock) -> None:
    """Release a lock. Where the system refuses (an I/O error), that is logged: what was done under it is done."""
    try:
        lock.release()
    except OSError as error:
        _log.warning("cannot unlock %s: %s; it is free once this process has ended", lock.lock_file, error)


@contextmanager
def opening(root: Path) -> Iterator[None]:
    """Hold the store's opening lock: one process at a time creates, migrates or counts the handles.

    Raises:
        StorageError: another process held it for a minute, or the lock file cannot be used.
    """
    lock = lock_of(root / "open.lock")
    try:
        lock.acquire(timeout=_OPEN_TIMEOUT, poll_interval=0.005)
    except filelock.Timeout:
        raise StorageError(f"{lock.lock_file} was held by another process for {_OPEN_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise StorageError(f"cannot lock {lock.lock_file}: {error}") from error
    try:
        yield
    finally:
        let_go(lock)
