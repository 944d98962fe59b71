"""What is written with the end of a step, or all at once by a program: a closed family of operations.

Whoever adds one adds it to :data:`Effect`, and says in each engine's ``effects`` what is checked before anything is
written, and what is written then; ``assert_never`` names the places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from taquba_workflow_sync.errors import EffectConflictError
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.kv import Value
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome

#: How many refusals in a row a step bears: with this one it is a dead letter.
MOST_REFUSALS: Final = 100
#: Python reads no text of more than 4,300 digits as a number.
_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,4000}\Z")


@dataclass(frozen=True, slots=True)
class Put:
    """Have a key hold a value, for ``ttl_ms`` from the commit or for ever."""

    key: str
    value: bytes
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Have a key hold nothing."""

    key: str


@dataclass(frozen=True, slots=True)
class ComparePut:
    """Have a key hold a value; it must hold ``expected`` (None: nothing)."""

    key: str
    expected: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Add:
    """Add to the integer that a key holds (0 where it holds nothing); its expiry stays as it is."""

    key: str
    delta: int


@dataclass(frozen=True, slots=True)
class Insert:
    """Put in a job, or submit a run, as ``insert`` does: a taken dedup key or run id answers with what is there.

    ``effects`` are applied after it, if the job is new.
    """

    job: NewJob
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Hand a signal to the active run of a name; a step's to nobody is dropped, and noted in its run's history."""

    queue: str
    run_id: str
    signal: NewSignal


@dataclass(frozen=True, slots=True)
class OpenGroup:
    """Have a group that is wholly written be there for everyone; nothing if it is. Its settlement may wait for it."""

    name: str
    fingerprint: bytes


OfKey = Put | Delete | ComparePut | Add
#: The family.
Effect = OfKey | Insert | SendSignal | OpenGroup


class EffectCommits(Protocol):
    """Effects and signals of a program; a step's come with its settlement."""

    def commit_effects(self, effects: Sequence[Effect]) -> list[Inserted]:
        """Apply effects in one commit, all or none, as if one after the other; returns what became of the jobs in them.

        Raises:
            EffectConflictError: an expectation does not hold; nothing was written.
            InputMismatchError, DuplicateJobIdError: a job is refused; nothing was written.
            RunNotFoundError, InvalidStateError, SignalBufferFullError: a signal is refused; nothing was written.
            GroupMismatchError: a group to be opened is not there as it was written; nothing was written.
        """
        ...

    def send_signal(self, queue: str, run_id: str, signal: NewSignal, submit: Insert | None = None) -> SignalOutcome:
        """Hand a signal to the active run of a name, else to the newest, in one commit.

        A run that is not there is put in first, where ``submit`` says how, and with its effects; one that waits for the
        signal is put in line, at its place. An id that the run remembers is answered as a duplicate, whatever became of
        the run.

        Raises:
            RunNotFoundError: there is no such run; nothing was written.
            InvalidStateError: it has ended; nothing was written.
            SignalBufferFullError: it has no room for the signal; nothing was written.
            InputMismatchError: ``submit`` is refused, as :meth:`Transitions.insert` would; nothing was written.
            EffectConflictError, DuplicateJobIdError: its effects are refused, as :meth:`EffectCommits.commit_effects`
                would; nothing was written.
        """
        ...


def value_after(effect: OfKey, found: Value | None, now_ms: int) -> Value | None:
    """Return what a key holds after an effect, where ``found`` is what it holds before; None: nothing.

    Raises:
        EffectConflictError: it does not hold what was expected.
    """
    if found is not None and not found.is_live(now_ms):
        found = None
    match effect:
        case Put(value=value, ttl_ms=ttl_ms):
            return Value(value, None if ttl_ms is None else now_ms + ttl_ms)
        case Delete():
            return None
        case ComparePut(key=key, expected=expected, value=value):
            if expected != (None if found is None else found.value):
                held = "holds nothing" if found is None else "holds another value"
                wanted = "nothing" if expected is None else "a value"
                raise EffectConflictError(f"key {key!r} was expected to hold {wanted}, and {held}; read it anew")
            return Value(value)
        case Add(key=key, delta=delta):
            return _sum(key, delta, found)
        case _:
            assert_never(effect)


def _sum(key: str, delta: int, found: Value | None) -> Value:
    if found is None:
        return Value(b"%d" % delta)
    if not _INTEGER.match(found.value):
        raise EffectConflictError(
            f"add: key {key!r} holds {found.value[:40]!r}, which is no integer in decimal digits; put one there, or use"
            " another key",
            is_permanent=True,
        )
    return Value(b"%d" % (int(found.value) + delta), found.expires_ms)
