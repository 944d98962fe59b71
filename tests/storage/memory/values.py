"""What can be stored: UTF-8 without U+0000, and numbers of 64 bits, as in any engine."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.settlement import UnstorableError


def check_storable(*values: str | int | None) -> None:
    """Refuse what no column could hold.

    Raises:
        UnstorableError: one of ``values`` is such.
    """
    for value in values:
        if isinstance(value, str):
            if "\0" in value:
                raise UnstorableError(f"a text cannot be stored: {value[:40]!r} holds U+0000")
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise UnstorableError(f"a text cannot be stored: {error}") from error
        elif value is not None and not -(2**63) <= value < 2**63:
            raise UnstorableError(f"a number cannot be stored: {value} has more than 64 bits")
