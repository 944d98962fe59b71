"""What a client does with groups; needs no runner."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from taquba_workflow_sync.errors import GroupNotFoundError
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.group import OnFailure
from taquba_workflow_sync.workflow.endings import Endings
from taquba_workflow_sync.workflow.group import Group
from taquba_workflow_sync.workflow.group_writing import named_members, new_group, write_group
from taquba_workflow_sync.workflow.instruments import sending
from taquba_workflow_sync.workflow.new_run import checked_queue_name, new_run
from taquba_workflow_sync.workflow.spec import RunSpec


class GroupCalls:
    """The part of a client that submits groups and finds them."""

    _handle: QueueHandle
    _queue_name: str
    _keep_ms: int | None
    _endings: Endings

    def submit_group(
        self,
        group_id: str,
        specs: Iterable[RunSpec],
        *,
        queue_name: str | None = None,
        on_failure: OnFailure | str = OnFailure.COLLECT,
    ) -> Group:
        """Submit up to 100,000 runs as one group; durable on return, and never half there.

        Members without a ``run_id`` are named ``"<group_id>-<index>"``. ``queue_name``: of another queue than this
        client's. ``on_failure="cancel"``: the first failed member cancels the rest. Nothing is listed, counted or run
        before all members are stored. Safe to repeat after any error, which goes on where it stopped; a group that is
        there already, with the same members and inputs, is returned as it is.

        Raises:
            GroupMismatchError: the id is taken by another group, or a member's name by a run that is active or kept.
            QueueFullError: the queue, or a limit key of members, has no room for all of them; later it may have.
            ValueError: no group id, two members of one name, or too many; nothing was written.
            TypeError, InvalidRunIdError, ReservedHeaderError, PayloadTooLargeError: nothing was written.
        """
        name = validation.group_id(group_id)
        queue = self._queue_name if queue_name is None else checked_queue_name(queue_name)
        members = named_members(name, specs, self._handle.max_payload_bytes)
        group = new_group(name, queue, members, on_failure, self._keep_ms)
        self._endings.register()
        with ExitStack() as stack:
            write_group(
                self._handle,
                group,
                sending(queue, members, stack),
                lambda spec: new_run(self._handle, spec, queue, self._keep_ms, new_ulid(), is_bounded=True),
            )
            self._handle.group_open(group.name, group.fingerprint)
        return Group(self._handle, name)

    def group(self, group_id: str) -> Group:
        """Return the group of that id, of whichever queue.

        Raises:
            GroupNotFoundError: there is none (any more).
        """
        name = validation.group_id(group_id)
        if self._handle.group_get(name) is None:
            raise GroupNotFoundError(f"there is no group {name!r}")
        return Group(self._handle, name)
