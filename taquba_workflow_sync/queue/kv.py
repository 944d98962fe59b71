"""Values by key that programs and steps share: small, durable, compared and exchanged atomically."""

from __future__ import annotations

from typing import Any

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.own_handle import checked_given
from taquba_workflow_sync.queue.records import KeyValuePage


class KeyValueView:
    """The store's values, as a step reads them (``step.kv``): what is committed, nothing that is only staged.

    Keys have 1 to 512 bytes of UTF-8 without U+0000, and are ordered by these bytes.
    """

    def __init__(self, handle: QueueHandle) -> None:
        self._handle = handle

    def get(self, key: str) -> bytes | None:
        """Return what a key holds, or None.

        Raises:
            TypeError, ValueError: ``key`` is none.
            StorageError: what it holds is damaged.
        """
        return self._handle.kv_get(validation.key(key))

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None, reverse: bool = False) -> KeyValuePage:
        """Return a page of the pairs whose keys begin with ``prefix`` (``""``: all), in the order of the keys.

        A page has up to ``limit`` pairs and 8 MiB: it may be short and have a ``next_cursor``; the last has none.
        ``reverse``: the last ones first. ``cursor`` is a page's ``next_cursor``; it stays good when its key is gone.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        checked = validation.prefix(prefix)
        validation.instance(reverse, bool, "reverse")
        return KeyValuePage(*self._handle.kv_scan(checked, limit, cursor, reverse=reverse))


class KeyValueStore(KeyValueView):
    """The store's values (``queue.kv``). Each call that writes is one commit, durable on return.

    Values have up to 1 MiB. A key whose ``ttl`` is over is absent everywhere. In a step write through ``step.effects``
    instead: what is written here stays though the step is repeated.
    """

    def put(
        self,
        key: str,
        value: bytes,
        ttl: Duration | None = None,
        *,
        connection: Any = None,
        notify: bool = False,
    ) -> None:
        """Have a key hold a value, for ``ttl`` seconds from now or, without, for ever. A repeat changes nothing else.

        With ``connection`` (of psycopg, Django or SQLAlchemy, to the database of a store on PostgreSQL) it does
        exactly if the transaction that is open there commits, and ``ttl`` counts from then. ``notify``: whoever waits
        for a change is told at once.

        Raises:
            StoreMismatchError: ``connection`` leads to another database.
            PayloadTooLargeError, TypeError, ValueError: an argument is wrong; nothing was written.
        """
        checked = validation.key(key)
        data, ttl_ms = validation.value(value, validation.VALUE_BYTES), validation.ttl_ms(ttl)
        given = checked_given(connection, notify)
        if given is not None:
            self._handle.kv_put_in(given, checked, data, ttl_ms)
        else:
            self._handle.kv_put(checked, data, ttl_ms)

    def delete(self, key: str) -> bool:
        """Have a key hold nothing; True if it held something.

        Raises:
            TypeError, ValueError: ``key`` is none.
        """
        return self._handle.kv_delete(validation.key(key))

    def compare_put(self, key: str, expected: bytes | None, value: bytes) -> bool:
        """Have a key hold a value, for ever, if it holds ``expected`` now (None: nothing); False: nothing was written.

        After a ``StorageError`` read the key: its own first try may have written.

        Raises:
            PayloadTooLargeError, TypeError, ValueError: an argument is wrong; nothing was written.
        """
        checked = validation.key(key)
        wanted = None if expected is None else validation.expected(expected)
        return self._handle.kv_compare_put(checked, wanted, validation.value(value, validation.VALUE_BYTES))

    def compare_delete(self, key: str, expected: bytes) -> bool:
        """Have a key hold nothing, if it holds ``expected`` now; False: nothing was written.

        Raises:
            TypeError, ValueError: an argument is wrong; nothing was written.
        """
        return self._handle.kv_compare_delete(validation.key(key), validation.expected(expected))
