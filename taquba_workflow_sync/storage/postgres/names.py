"""Who may give a run its name: programs' open transactions and the store's own keep out of each other's way.

A program's transaction waits for a name as for a row of a unique index. The store's own, which hold up everyone, never
wait: they take all names at once while no program has any, which is nearly always, and else each alone, or not.
"""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.postgres.address import Address
from taquba_workflow_sync.storage.postgres.sessions import Session
from taquba_workflow_sync.storage.relational.outsiders import NameHeldError, name_held

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
        self._has_all: bool | None = None
        self._taken = 0

    def take(self, queue: str, run_id: str) -> None:
        """Take a name until the transaction ends.

        Raises:
            NameHeldError: a program's open transaction has it.
        """
        if self._has_all is None:
            self._has_all = self._try(self._address.key("names"))
        if self._has_all:
            return
        if self._taken >= _MOST:
            raise NameHeldError(
                f"more than {_MOST} runs with ids of the program's own were submitted in one commit, while transactions"
                " of programs that submit are open; nothing was written, submit fewer at a time"
            )
        self._taken += 1
        if not self._try(_key(self._address, queue, run_id)):
            raise name_held(queue, run_id)

    def _try(self, key: int) -> bool:
        ((taken,),) = self._session.execute(_TRY, (key,)).fetchall()
        return bool(taken)
