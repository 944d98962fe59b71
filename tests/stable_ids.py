"""Names of parametrised tests that are the same in every process, so that several can share a run."""

from __future__ import annotations

import re


def stable_id(value: object) -> str:
    """Return ``repr(value)`` without addresses, and sets in order."""
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
