"""One statement for many rows: made in few sizes, so that few statements serve every number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Rows of one statement at most; SQLite allows 32,766 variables, and its cache of statements likes few.
LIMIT: Final = 64
_SIZES: Final = (1, 2, 4, 8, 16, 32, LIMIT)


def sized(statement: str, width: int) -> Mapping[int, str]:
    """Return ``statement`` for each size, with so many rows of ``width`` values in place of ``{values}``."""
    row = f"({','.join('?' * width)})"
    return {size: statement.format(values=",".join([row] * size)) for size in _SIZES}


def size_for(rows: int) -> int:
    """Return the size that serves ``rows`` rows; what is left of it is filled up with rows that match nothing."""
    return 1 << (rows - 1).bit_length()
