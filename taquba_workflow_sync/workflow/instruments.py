"""The one place where others hook into submits and steps: what traces them, for example.

Instruments are of the process, as what they report to is. Without one, a step pays for a look at a tuple.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Final, NamedTuple, ParamSpec, Protocol, TypeVar

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.workflow.current import CURRENT
from taquba_workflow_sync.workflow.new_run import DEFAULT_QUEUE_NAME
from taquba_workflow_sync.workflow.spec import RunSpec

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Attempt(NamedTuple):
    """An attempt of a step, as an instrument sees it; ``number`` is 1 at the first."""

    queue: str
    run_id: str | None
    job_id: str
    step: int
    label: str | None
    number: int
    headers: Mapping[str, str]


class Instrument(Protocol):
    """Goes around what the library does for its users; what it raises is theirs to see."""

    def sending(self, queue_name: str, specs: Sequence[RunSpec]) -> AbstractContextManager[Sequence[RunSpec]]:
        """Go around one submit; gives the specs to submit, which differ in their headers at most."""
        ...

    def processing(self, attempt: Attempt) -> AbstractContextManager[None]:
        """Go around one attempt of a step, on its thread; an exception of the step passes through."""
        ...


class Instruments:
    """The instruments of this process, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Replaced, never changed.
        self.active: tuple[Instrument, ...] = ()

    def add(self, instrument: Instrument) -> None:
        """Have an instrument go around what begins from now on."""
        with self._lock:
            self.active = (*self.active, instrument)

    def remove(self, instrument: Instrument) -> None:
        """Have it go around nothing more; what it is around it ends."""
        with self._lock:
            self.active = tuple(each for each in self.active if each is not instrument)


INSTRUMENTS: Final = Instruments()


def processed(
    row: ClaimedRow, headers: Mapping[str, str], run_step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Run a step inside of every instrument."""
    label = None if row.settings is None else row.settings.label
    attempt = Attempt(row.queue, row.run_id, row.id, row.step, label, row.attempts, headers)
    with ExitStack() as stack:
        for instrument in INSTRUMENTS.active:
            stack.enter_context(instrument.processing(attempt))
        return run_step(*args, **kwargs)


def sending(queue_name: str | None, specs: Sequence[RunSpec], stack: ExitStack) -> Sequence[RunSpec]:
    """Enter what goes around one submit; returns the specs to submit.

    ``queue_name`` None: that of the step which submits them.
    """
    for spec in specs:
        validation.instance(spec, RunSpec, "spec")
    here = CURRENT.get()
    queue = queue_name or (DEFAULT_QUEUE_NAME if here is None else here.queue)
    for instrument in INSTRUMENTS.active:
        specs = stack.enter_context(instrument.sending(queue, specs))
    return specs


def sent(queue_name: str | None, spec: RunSpec) -> RunSpec:
    """Return a spec that is staged, to be submitted in the commit of another; no instrument waits for that."""
    if not INSTRUMENTS.active:
        return spec
    with ExitStack() as stack:
        (spec,) = sending(queue_name, [spec], stack)
    return spec
