"""A state that an operator gives to a run that failed, in place of the one that its step had."""

from __future__ import annotations

from typing import Any

from taquba_workflow_sync.errors import InvalidStateError, StepError
from taquba_workflow_sync.flow.definition import Definition
from taquba_workflow_sync.flow.routing import marked, place_in
from taquba_workflow_sync.queue.records import JobRecord


def state_for_retry(definition: Definition, job: JobRecord, run: str, state: Any) -> bytes:
    """Return a state as it is stored for the step that a run, called so in messages, stands at.

    Raises:
        TypeError: it does not fit the step; names the path.
        InvalidStateError: this program does not know the step, or is older than what is stored.
    """
    where = f"{run} of flow {definition.name!r}"
    try:
        place = place_in(job.step, job.headers, job.payload)
    except StepError as error:
        raise InvalidStateError(f"{where} cannot be given a state: {error}") from None
    if place.version is not None and place.version > definition.version:
        raise InvalidStateError(
            f"{where} stands at a state of version {place.version}, this program has version {definition.version};"
            " retry it by a newer one"
        )
    node = definition.first if place.step is None else definition.find(place.step)
    if node is None:
        raise InvalidStateError(
            f"{where} stands at step {place.step!r}, which version {definition.version} of it has not"
        )
    data = node.encode(state)
    if job.step > 0:
        return node.wrap(data)
    # The version of an input is the submitter's; what is of another one has to say so itself.
    return data if place.version == definition.version else marked(node.wrap(data))
