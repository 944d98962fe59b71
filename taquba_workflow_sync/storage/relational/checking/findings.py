"""What is told to an operator of any store."""

from __future__ import annotations

from collections.abc import Iterator

from taquba_workflow_sync.storage.port.finding import Finding
from taquba_workflow_sync.storage.relational import reads, sql
from taquba_workflow_sync.storage.relational.connection import Connection


def hooks(connection: Connection) -> Iterator[Finding]:
    """Return who is told of ended runs, and whether notifications wait for somebody who does not come."""
    counts = reads.counts(connection)
    many, waiting = 0, []
    for (queue,) in connection.execute(sql.ALL_QUEUES).fetchall():
        name, subscription, *_ = connection.execute(sql.READ_QUEUE, (queue,)).fetchone()
        many += subscription is not None
        lane = counts.get(f"{name}.terminal")
        if lane is not None and lane.pending:
            waiting.append(f"{lane.pending} notifications of {name}")
    if waiting:
        todo = "run a worker that has the hook, or end its registration with WorkflowClient.unregister_hook()"
        yield Finding("hooks", f"{', '.join(waiting)} wait for a hook", todo)
    else:
        yield Finding("hooks", f"{many} registered")
