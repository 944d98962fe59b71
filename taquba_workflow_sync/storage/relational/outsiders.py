"""Names that a program's own open transaction has taken: of a run that is there if that is ever committed."""

from __future__ import annotations

from collections.abc import Callable

#: Takes the name of a queue's run for the transaction that asks.
#:
#: Raises:
#:     NameHeldError: another open transaction has it.
TakeName = Callable[[str, str], None]
