"""Who may give a run its name: programs' open transactions and the store's own keep out of each other's way.

A program's transaction waits for a name as for a row of a unique index. The store's own, which hold up everyone, never
wait: they take all names at once while no program has any, which is nearly always, and else each alone, or not.
"""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.port.run import NameHeldError
from taquba_workflow_sync.storage.postgres.address import Address
from taquba_workflow_sync.storage.postgres.arrivals import HAVE_COME, OF_NAME
from taquba_workflow_sync.storage.postgres.dialect import translated
from taquba_workflow_sync.storage.postgres.sessions import Session

# The server's table of locks has room for some 6,000 of them, of all sessions together.
_MOST: Final = 2000
_TRY: Final = "SELECT pg_try_advisory_xact_lock(?)"


def _key(address: Address, queue: str, run_id: str) -> int:
    return address.key(f"name\0{queue}\0{run_id}")


def wait_for_name(session: Session, address: Address, queue: str, run_id: str) -> None:
    """Take a name for a program's transaction, until that ends; waits for others that have it, as long as it may."""
    keys = address.key("names"), _key(address, queue, run_id)
    session.execute("SELECT pg_advisory_xact_lock_shared(?), pg_advisory_xact_lock(?)", keys)


class Names:
    """The names that one transaction of the store's takes."""

    def __init__(self, session: Session, address: Address) -> None:
        self._session = session
        self._address = address
        self._has_begun = self._has_all = False
        #: Whether a name that is free may be one that has arrived since this transaction began.
        self._may_have_arrived = True
        self._taken = 0

    def take(self, queue: str, run_id: str) -> None:
        """Take a name until the transaction ends.

        Raises:
            NameHeldError: a program's transaction has it that is open, or has just ended.
        """
        if not self._has_begun:
            self._begin()
        if not self._has_all:
            self._take_alone(queue, run_id)
        # Whoever had the name before has ended, so what it has committed is seen now: by a statement behind the lock.
        if self._may_have_arrived and self._session.execute(OF_NAME, (queue, run_id)).fetchall():
            raise _held(queue, run_id)

    def _begin(self) -> None:
        """Try to take all, and look what has arrived until then, in one message."""
        self._has_begun = True
        key, have_come = self._address.key("names"), translated(HAVE_COME, self._address.schema)
        ((taken, arrival),) = self._session.run(
            f"SELECT set_config('taquba.names', pg_try_advisory_xact_lock({key})::text, true);"
            f"SELECT current_setting('taquba.names'), ({have_come})"
        )
        self._has_all = taken == "true"
        self._may_have_arrived = not self._has_all or arrival is not None

    def _take_alone(self, queue: str, run_id: str) -> None:
        if self._taken >= _MOST:
            raise NameHeldError(
                f"more than {_MOST} runs with ids of the program's own were submitted in one commit, while transactions"
                " of programs that submit are open; nothing was written, submit fewer at a time"
            )
        self._taken += 1
        ((taken,),) = self._session.execute(_TRY, (_key(self._address, queue, run_id),)).fetchall()
        if not taken:
            raise _held(queue, run_id)


def _held(queue: str, run_id: str) -> NameHeldError:
    return NameHeldError(
        f"run id {run_id!r} of queue {queue!r} is submitted by a transaction that has not ended; nothing was written,"
        " submit it again when that has"
    )
