"""Effects with submits and signals: what a step writes with its own end, exactly once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from taquba_workflow_sync.errors import InvalidRunIdError, InvalidStateError
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.effects import Site, StagedEffects, checked_effects
from taquba_workflow_sync.storage.port.effects import Insert, SendSignal
from taquba_workflow_sync.storage.port.group import OnFailure
from taquba_workflow_sync.workflow.group_writing import GroupWriter
from taquba_workflow_sync.workflow.instruments import sent
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP, DEFAULT_QUEUE_NAME, checked_queue_name, new_run
from taquba_workflow_sync.workflow.signals import new_signal
from taquba_workflow_sync.workflow.spec import RunSpec

_DEFAULT_KEEP_MS: Final = validation.duration_ms(DEFAULT_KEEP, "keep_runs")


class Effects(StagedEffects):
    """Effects that are applied together: ``step.effects``, a hook's second argument, or made by a program.

    They are checked as they are staged, and kept in memory. Those of a step are applied in the commit that ends the
    step, whatever outcome its runner returns; they are dropped when it raises, when a cancellation overrides what it
    returned, and when the claim is lost. So they happen exactly once for each step that ends, however often it was
    tried. Those of a program are applied by ``Queue.commit``, or with a new submission (``RunSpec.effects``). One
    effect for each key, 1,000 effects and 16 MiB together at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self._writer: GroupWriter | None = None

    def submit(self, spec: RunSpec, *, queue_name: str | None = None) -> str:
        """Submit a run, as ``WorkflowClient.submit`` does; return its run id.

        In a step or hook, to the queue of its runtime unless another is named, and kept as its runs are; else to
        ``workflow-steps``, and kept for 7 days. A step that ends its run may submit its own name. What the submit of
        a client would refuse with ``InputMismatchError`` refuses the commit, permanently.

        Raises:
            TypeError, ValueError, InvalidNameError, PayloadTooLargeError, EffectsSealedError: nothing was staged.
        """
        validation.instance(spec, RunSpec, "spec")
        spec = sent(queue_name, spec)
        given = None if queue_name is None else checked_queue_name(queue_name)
        inner = None if spec.effects is None else checked_effects(spec.effects)
        job_id = new_ulid()

        def draft(site: Site) -> Insert:
            is_outside = site.queue_name is None
            name = given or site.queue_name or DEFAULT_QUEUE_NAME
            job = new_run(site.limits, spec, name, _DEFAULT_KEEP_MS if is_outside else site.keep_ms, job_id)
            return Insert(replace(job, id_given=True), () if inner is None else inner.at(site))

        self._stage_draft(draft, inner)
        return spec.run_id or job_id

    def signal(self, run_id: str, name: str, payload: bytes = b"", *, queue_name: str | None = None) -> None:
        """Send a signal to a run, of the same queue as :meth:`submit` would submit it to; it may be one submitted here.

        A step's signal to a run that is unknown or has ended at the commit is dropped, and noted in the history of the
        step's run (``signal_dropped``; a hook's is logged). A program is told by ``RunNotFoundError`` or
        ``InvalidStateError``, and nothing is committed. A run whose buffer is full refuses the commit: a step is
        tried again as after a failure.

        Raises:
            InvalidRunIdError, TypeError, ValueError, PayloadTooLargeError, EffectsSealedError: nothing was staged.
        """
        validation.identifier(run_id, "run_id", InvalidRunIdError)
        given = None if queue_name is None else checked_queue_name(queue_name)
        sent = new_signal(name, payload, None)
        self._stage_draft(lambda site: SendSignal(given or site.queue_name or DEFAULT_QUEUE_NAME, run_id, sent))

    def submit_group(
        self,
        group_id: str,
        specs: Iterable[RunSpec],
        *,
        queue_name: str | None = None,
        on_failure: OnFailure | str = OnFailure.COLLECT,
    ) -> None:
        """Submit up to 100,000 runs as one group with the end of the step, which may wait for it: ``ContinueOnGroup``.

        The members are written at this call, held: nobody sees them before the step ends, and they are gone if its run
        ends without this effect. A later attempt of the step goes on where the one before stopped. To the queue of the
        runtime unless another is named, and kept as its runs are; see ``WorkflowClient.submit_group`` for the rest.

        Raises:
            InvalidStateError: these are not a step's effects; a program calls ``WorkflowClient.submit_group``.
            GroupMismatchError: the id is taken by another group, or a member's name by a run that is active or kept.
            ClaimLostError: another attempt of the step has taken over.
            TypeError, ValueError, InvalidNameError, PayloadTooLargeError, EffectsSealedError: nothing was staged.
        """
        with self._lock:
            self._check_open()
        if self._writer is None:
            raise InvalidStateError("only a step can submit a group as an effect; use WorkflowClient.submit_group")
        given = None if queue_name is None else checked_queue_name(queue_name)
        opening = self._writer.write(group_id, specs, given, on_failure)
        with self._lock:
            if opening not in self._others:
                self._make_room(1, len(opening.name) + len(opening.fingerprint))
                self._others.append(opening)


def effects_of(site: Site, writer: GroupWriter | None = None) -> Effects:
    """Return effects that are committed at a site, with the end of a step or hook, and by nobody else.

    ``writer`` writes the groups of a step.
    """
    effects = Effects()
    effects._site = site
    effects._writer = writer
    return effects
