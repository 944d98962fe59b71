"""What is found of a store when an operator has it looked at, and what there is to do."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at: ``what``, how it is, and what to do about it; None: nothing."""

    what: str
    says: str
    todo: str | None = None
