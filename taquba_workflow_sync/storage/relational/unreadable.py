"""Rows on damaged pages: found, named, and passed over, so that what can be read goes on.

What SQLite cannot read it cannot write either, so such a row cannot be made a dead letter: it stays where it is. One of
them would keep a claim, a promotion or a sweep, which are one statement for many rows, from all the others.
"""

from __future__ import annotations

import re
from typing import Final

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.data_errors import Culprit, is_corrupt

#: How many rows of each index one search tries to read; what lies further back is met later, by another one.
_ROWS_AT_ONCE: Final = 5_000
_PLACE: Final = re.compile(r"(INDEXED BY \w+\s+WHERE )")


class Unreadable:
    """What one handle has found that it cannot read."""

    def __init__(self) -> None:
        self._rows: dict[int, str] = {}
        self._others: dict[str, str] = {}
        self._without_overflow: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._rows or self._others)

    def __contains__(self, seq: int) -> bool:
        return seq in self._rows

    def has_lost_overflow(self, seq: int) -> bool:
        """Whether what a row has in rows of its own cannot be read: it is damaged then, and becomes a dead letter."""
        return seq in self._without_overflow

    def blame(self, connection: Connection, culprit: Culprit) -> list[str]:
        """Pass over a row from now on, or do without its large parts; returns what is to be said, if it is new."""
        seq, is_overflow = culprit
        if is_overflow and seq not in self._without_overflow:
            self._without_overflow.add(seq)
            return [f"what {_named(connection, seq)} carries lies on a damaged page of the database"]
        if not is_overflow and seq not in self._rows:
            where = "it lies on or beside a damaged page of the database"
            self._rows[seq] = f"{_named(connection, seq)} cannot be written and is left alone: {where}"
            return [self._rows[seq]]
        return []

    def sentences(self) -> list[str]:
        """Return what was found, a sentence each."""
        return [*self._rows.values(), *self._others.values()]

    def pass_over(self, statement: str) -> str:
        """Return a statement over an index that leaves out the rows that cannot be read, by their numbers alone."""
        if not self._rows:
            return statement
        numbers = ", ".join(map(str, self._rows))
        return _PLACE.sub(rf"\1seq NOT IN ({numbers}) AND ", statement)

    def search(self, connection: Connection) -> list[str]:
        """Try to read what transitions would meet; returns what cannot be and was not known yet."""
        before = set(self.sentences())
        for name, statement in sql.LINES:
            try:
                rows = connection.execute(self.pass_over(statement), (_ROWS_AT_ONCE,)).fetchall()
            except Exception as error:
                if not is_corrupt(error):
                    raise
                self._others[name] = f"what is {name} cannot be listed: its pages are damaged ({error})"
                continue
            for (seq,) in rows:
                self._try(connection, name, seq)
        return [sentence for sentence in self.sentences() if sentence not in before]

    def _try(self, connection: Connection, name: str, seq: int) -> None:
        try:
            connection.execute(sql.WHOLE_ROW, (seq,)).fetchall()
            connection.execute(sql.WHOLE_HISTORY, (seq,)).fetchall()
            if name == sql.PAST_RETENTION:  # what is only claimed need not be whole: it becomes a dead letter
                connection.execute(sql.WHOLE_OVERFLOW, (seq * 4, seq * 4 + 3)).fetchall()
        except Exception as error:
            if not is_corrupt(error):
                return  # text that is no UTF-8 and the like: repair sees to it
            where = "it lies on a damaged page of the database"
            self._rows[seq] = f"{_named(connection, seq)} ({name}) cannot be read and is left alone: {where}"


def _named(connection: Connection, seq: int) -> str:
    """Return a row's job id as its index has it, which may be whole where the row is not."""
    try:
        for (job_id,) in connection.execute(sql.ID_OF, (seq,)).fetchall():
            return f"job {job_id} (row {seq})"
    except Exception:
        pass  # the index is damaged, too
    return f"row {seq}"
