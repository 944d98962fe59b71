"""The traceback of what users' code raised, as it is stored: from that code on, and its end where it is long."""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import Final

from taquba_workflow_sync.storage.port.trace import MOST_BYTES

_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Of a deep recursion, more frames than the end that is kept can show.
_FRAMES: Final = 100


def trace_of(error: BaseException) -> str | None:
    """Return the end of an error's traceback; None where it cannot be told."""
    try:
        told = traceback.TracebackException(
            type(error), error, _from_users_code(error.__traceback__), limit=-_FRAMES, max_group_depth=3
        )
        return "".join(told.format())[-MOST_BYTES:] or None
    except Exception:  # a user's exception may do anything when it is looked at; its end must be stored all the same
        return None


def _from_users_code(trace: TracebackType | None) -> TracebackType | None:
    """Leave out what lies between the thread and the user's function; all of it, where the error is the library's."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace
