"""The traceback of an attempt that failed: kept beside the history, for whoever looks at night."""

from __future__ import annotations

from typing import Final, Protocol

from taquba_workflow_sync.storage.port.texts import storable_error

#: How much of a traceback is kept, in bytes of UTF-8: its end, where the error is.
MOST_BYTES: Final = 8 * 1024
_CUT: Final = "...\n"


class Traces(Protocol):
    """Tracebacks of attempts; a settlement brings one."""

    def traces(self, job_id: str) -> dict[int, str]:
        """Return the tracebacks of a job's attempts, as they were stored, by ordinal; as many as its history has."""
        ...


def storable_trace(trace: str) -> str:
    """Return the end of a traceback as a row carries it, from the beginning of a line if one begins there.

    :func:`~taquba_workflow_sync.storage.port.texts.readable_error` takes the escapes back.
    """
    # A character is one byte at least: what is further from the end than that is cut before it is escaped.
    text = storable_error(trace[-MOST_BYTES:]) or ""
    data = text.encode()
    if len(data) <= MOST_BYTES and len(trace) <= MOST_BYTES:
        return text
    end = data[-(MOST_BYTES - len(_CUT)) :].decode(errors="ignore")
    _, newline, lines = end.partition("\n")
    return _CUT + (lines if newline and lines else end)
