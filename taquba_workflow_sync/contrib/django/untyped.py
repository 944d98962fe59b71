"""What type checkers take for Django's classes, which have no types: anything may be asked of them."""

from __future__ import annotations

from typing import Any


class Untyped:
    """Stands for a class of Django's where this is checked, and nowhere else; it is the base of nothing that runs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __getattr__(self, name: str) -> Any: ...
