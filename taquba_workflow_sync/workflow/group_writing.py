"""How a group comes to be: checked whole, then written in pieces, by a program or by a step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from taquba_workflow_sync.errors import GroupMismatchError
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.effects import OpenGroup
from taquba_workflow_sync.storage.port.group import (
    MEMBERS_A_COMMIT,
    MOST_MEMBERS,
    HeldBy,
    NewGroup,
    OnFailure,
)
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.workflow.instruments import sending
from taquba_workflow_sync.workflow.new_run import new_run
from taquba_workflow_sync.workflow.spec import RunSpec, check_headers


def named_members(group_id: str, specs: Iterable[RunSpec], max_payload_bytes: int) -> list[RunSpec]:
    """Return the members of a group, each with a name, all checked; nothing is written.

    Raises:
        TypeError, PayloadTooLargeError, ReservedHeaderError: a member is wrong.
        ValueError: two members have one name, one has effects, or there are too many.
    """
    if isinstance(specs, RunSpec):
        raise TypeError("specs must be several RunSpecs; put a single one into a list")
    members: list[RunSpec] = []
    names: set[str] = set()
    for index, spec in enumerate(specs):
        validation.instance(spec, RunSpec, f"specs[{index}]")
        if index >= MOST_MEMBERS:
            raise ValueError(f"group {group_id!r} has more than {MOST_MEMBERS} members; make several groups of it")
        if getattr(spec, "effects", None) is not None:
            raise ValueError(f"specs[{index}] has effects, which a member of a group cannot have; use its first step")
        validation.payload(spec.input, max_payload_bytes, f"the input of specs[{index}]")
        check_headers(spec.headers)
        run_id = spec.run_id or f"{group_id}-{index}"
        if run_id in names:
            raise ValueError(f"specs[{index}] has the name {run_id!r}, which another member of the group has, too")
        names.add(run_id)
        members.append(spec if spec.run_id is not None else replace(spec, run_id=run_id))
    return members


def new_group(
    group_id: str, queue_name: str, members: Sequence[RunSpec], on_failure: object, keep_ms: int | None
) -> NewGroup:
    """Return what a group is known by.

    Raises:
        TypeError, ValueError: ``on_failure`` is wrong.
    """
    if not isinstance(on_failure, str):
        raise TypeError(f"on_failure must be a str, not {type(on_failure).__name__}")
    if on_failure not in tuple(OnFailure):
        raise ValueError(f"on_failure is {validation.shown(on_failure)}; it must be one of {', '.join(OnFailure)}")
    digest = hashlib.sha256(f"{queue_name}\0{on_failure}\0{len(members)}".encode())
    for spec in members:
        digest.update(f"\0{spec.run_id}\0".encode())
        digest.update(spec.fingerprint())
    return NewGroup(group_id, queue_name, len(members), digest.digest(), OnFailure(on_failure), keep_ms)


def write_group(
    handle: QueueHandle,
    group: NewGroup,
    members: Sequence[RunSpec],
    job_of: Callable[[RunSpec], NewJob],
    writer: HeldBy | None = None,
) -> None:
    """Write the members of a group, held, in commits of at most 1,000; whoever calls opens it then.

    A repeat goes on where the call before it stopped; of a group that is open it writes nothing.

    Raises:
        ClaimLostError: the writer's claim is not held any more.
        GroupMismatchError: the id is taken by another group, or a member's name by a run; nothing of it is left.
    """
    position, is_first = 0, True
    while is_first or position < group.total:
        is_first = False
        jobs = [job_of(spec) for spec in members[position : position + MEMBERS_A_COMMIT]]
        progress = handle.group_write(group, position, jobs, writer)
        if progress.taken is not None:
            _remove_what_was_written(handle, group)
            raise GroupMismatchError(
                f"run id {progress.taken!r} of queue {group.queue!r}, a member of group {group.name!r}, is taken by an"
                " active or kept run that is none of the group's; nothing was submitted"
            )
        if progress.is_open:
            return
        position = progress.written


class GroupWriter:
    """Writes the groups of a step, under its claim; the end of the step opens them."""

    def __init__(self, handle: QueueHandle, held_by: HeldBy, queue_name: str, keep_ms: int | None) -> None:
        self._handle = handle
        self._held_by = held_by
        self._queue_name = queue_name
        self._keep_ms = keep_ms

    def write(
        self, group_id: object, specs: Iterable[RunSpec], queue_name: str | None, on_failure: object
    ) -> OpenGroup:
        """Check a group, write its members, held, and return what opens it.

        Raises:
            ClaimLostError: the claim is not held any more.
            GroupMismatchError: the id is taken by another group, or a member's name by a run.
            TypeError, ValueError, PayloadTooLargeError, ReservedHeaderError: nothing was written.
        """
        name = validation.group_id(group_id)
        queue = self._queue_name if queue_name is None else queue_name
        members = named_members(name, specs, self._handle.max_payload_bytes)
        group = new_group(name, queue, members, on_failure, self._keep_ms)

        def job_of(spec: RunSpec) -> NewJob:
            return new_run(self._handle, spec, queue, self._keep_ms, new_ulid())

        with ExitStack() as stack:
            write_group(self._handle, group, sending(queue, members, stack), job_of, self._held_by)
        return OpenGroup(group.name, group.fingerprint)


def _remove_what_was_written(handle: QueueHandle, group: NewGroup) -> None:
    """Have the pieces of a group that was given up be gone: their names must be free for the next try."""
    for _ in range(group.total // MEMBERS_A_COMMIT * 4 + 4):
        if not handle.sweep():
            return
