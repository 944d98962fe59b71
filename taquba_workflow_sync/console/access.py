"""What somebody may do in the console."""

from __future__ import annotations

import enum
from typing import Final


class Access(enum.Enum):
    """``READ``: look at everything, payloads and errors included. ``ACT``: change things, too."""

    READ = "read"
    ACT = "act"


READ: Final = Access.READ
ACT: Final = Access.ACT


def checked_access(answer: object) -> Access | None:
    """Return what an ``authorize`` function has answered.

    What is truthy by mistake, such as a coroutine or a user, must not open the console.

    Raises:
        TypeError: it is neither an Access nor None.
    """
    if answer is None or isinstance(answer, Access):
        return answer
    raise TypeError(f"authorize returned a {type(answer).__name__}; it must return READ, ACT or None")
