"""Memos: entries written under a claim, each once."""

from __future__ import annotations

from typing import Final, NamedTuple

from taquba_workflow_sync.errors import ClaimLostError, StorageError
from taquba_workflow_sync.storage.port.memo import MemoScope, check_room, has_room, size_of_entry
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.overflow import checksum, sound
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.fence import row_number
from taquba_workflow_sync.storage.relational.transitions.garbage import Kind, discard

KIND_OF: Final = {MemoScope.STEP: 0, MemoScope.RUN: 1}
_OTHER: Final = {MemoScope.STEP: MemoScope.RUN, MemoScope.RUN: MemoScope.STEP}
#: How many memos of claims are known at most; claims end without a word here, so the oldest go.
_MOST_KNOWN: Final = 4096
_BIT: Final = {MemoScope.STEP: Belonging.STEP_MEMO, MemoScope.RUN: Belonging.RUN_MEMO}


class Filling(NamedTuple):
    """A memo's number (None: there is none yet), its last entry's, and the bytes of it and of what else the run has."""

    scope: int | None
    last: int
    bytes: int
    others: int


class Put(NamedTuple):
    """What is stored under a key; and how full the memo is, where that was found out."""

    value: bytes
    filling: Filling | None


class Fillings:
    """How full the memos of this handle's claims are, as of the last commit: a put then writes and reads nothing else.

    Nobody but its holder writes under a claim, so only this handle changes them. Where one is wrong all the same, the
    number of the next entry is taken, nothing is written, and it is looked up.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, MemoScope], Filling] = {}

    def get(self, token: str, scope: MemoScope) -> Filling | None:
        """Return how full a memo is, if it is known."""
        return self._known.get((token, scope))

    def committed(self, token: str, scope: MemoScope, filling: Filling) -> None:
        """Note how full a memo is since a commit; another thread's later one may have been noted before."""
        self._known.pop((token, _OTHER[scope]), None)  # it counted what this one had before
        known = self._known.get((token, scope))
        if known is None:
            while len(self._known) >= _MOST_KNOWN:
                self._known.pop(next(iter(self._known), (token, scope)), None)
        elif known.last >= filling.last:
            return
        self._known[token, scope] = filling


def put(tx: Transaction, job_id: str, token: str, scope: MemoScope, key: str, value: bytes, fillings: Fillings) -> Put:
    """Write an entry if there is none of that key.

    Raises:
        ClaimLostError: the claim is not held any more.
        MemoFullError: there is no room for it.
    """
    seq, raw_key = row_number(token), key.encode()
    size = size_of_entry(raw_key, value)
    known = tx.memos.get((token, scope)) or fillings.get(token, scope)
    if known is not None and has_room(known.last % sql.ROOM, known.bytes + known.others, size):
        # Others send signals meanwhile, and their bytes count: with any, it is all looked up.
        filled = _write(tx, seq, job_id, token, scope, raw_key, value, known, Belonging.SIGNALS)
        if filled is not None:
            return Put(value, filled)
    held = tx.execute(sql.FENCED_MEMO, (seq, job_id, token)).fetchone()
    if held is None:
        raise ClaimLostError(f"the claim of job {job_id} is not held any more; nothing was noted in its memo")
    belongings, step = held
    filling = _filling(tx, seq, belongings, KIND_OF[scope])
    filling = filling._replace(others=filling.others + _bytes_of_signals(tx, seq, belongings))
    if filling.scope is not None:
        found = tx.execute(sql.GET_MEMO, (filling.scope, raw_key)).fetchone()
        if found is not None:
            return Put(sound(f"memo entry {key!r} of job {job_id}", *found), None)
    check_room(scope, filling.last % sql.ROOM, filling.bytes + filling.others, size)
    if filling.scope is None:
        number = tx.next_seq()
        tx.execute(sql.ADD_SCOPE, (number, seq, KIND_OF[scope], step))
        tx.execute(sql.OWN_BELONGINGS, (_BIT[scope], seq))
        filling = filling._replace(scope=number, last=number * sql.ROOM)
    return Put(value, _write(tx, seq, job_id, token, scope, raw_key, value, filling, 0))


def _write(
    tx: Transaction,
    seq: int,
    job_id: str,
    token: str,
    scope: MemoScope,
    raw_key: bytes,
    value: bytes,
    filling: Filling,
    without: int,
) -> Filling | None:
    """Write an entry as the next one; None: nothing was written, something of it is not so."""
    filled = Filling(filling.scope, filling.last + 1, filling.bytes + size_of_entry(raw_key, value), filling.others)
    entry = (filled.last, filled.scope, raw_key, value, checksum(value), filled.bytes)
    if tx.execute(sql.PUT_MEMO, (*entry, seq, job_id, token, without)).rowcount != 1:
        return None
    tx.transitions.add("memo")
    tx.memos[token, scope] = filled
    tx.memos.pop((token, _OTHER[scope]), None)
    return filled


def _filling(tx: Transaction, seq: int, belongings: int, kind: int) -> Filling:
    """Return how full a memo is.

    Raises:
        StorageError: what is stored of it cannot be.
    """
    scope, last, size, others = None, 0, 0, 0
    if belongings & (Belonging.STEP_MEMO | Belonging.RUN_MEMO):
        for of_kind, number in tx.execute(sql.FIND_SCOPES, (seq,)).fetchall():
            found = tx.execute(sql.LAST_MEMO, (number, number)).fetchone() or (number * sql.ROOM, 0)
            if type(found[1]) is not int:
                raise StorageError(f"memo {number} of row {seq} is damaged: its last entry says {found[1]!r:.80} bytes")
            if of_kind == kind:
                scope, (last, size) = number, found
            else:
                others += found[1]
    return Filling(scope, last, size, others)


def discard_step(tx: Transaction, seq: int) -> None:
    """Have the memo of a run's step be seen by nobody; its entries go in pieces."""
    _discard(tx, sql.SCOPE_OF_STEP, seq)


def discard_all(tx: Transaction, seq: int) -> None:
    """Have a run's memos be seen by nobody; their entries go in pieces."""
    _discard(tx, sql.SCOPES_OF_JOB, seq)


def _discard(tx: Transaction, statement: str, seq: int) -> None:
    for (scope,) in tx.execute(statement, (seq,)).fetchall():
        tx.execute(sql.DROP_SCOPE, (scope,))
        discard(tx, Kind.MEMO, scope)


def used_bytes(tx: Transaction, seq: int, belongings: int) -> int:
    """Return how many bytes the memos of a row have."""
    filling = _filling(tx, seq, belongings, KIND_OF[MemoScope.STEP])
    return filling.bytes + filling.others


def _bytes_of_signals(tx: Transaction, seq: int, belongings: int) -> int:
    if not belongings & Belonging.SIGNALS:
        return 0
    found = tx.execute(sql.FIND_MAILBOX, (seq,)).fetchone()
    return 0 if found is None else int(found[1])
