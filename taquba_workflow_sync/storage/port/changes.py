"""How commits are heard of, in this process and in others."""

from __future__ import annotations

from collections.abc import Callable

CommitListener = Callable[[frozenset[str], bool], None]
