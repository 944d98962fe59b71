"""``health``: whether the queues of a store are as they should be, for a probe or a monitor."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import click

from taquba_workflow_sync.cli.exit_codes import DONE, NEEDS_HUMAN
from taquba_workflow_sync.cli.options import DURATION, queue_option
from taquba_workflow_sync.cli.output import Output
from taquba_workflow_sync.cli.store import opened
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.storage.port.status import JobStatus

_LOOKED_AT: Final = 100


@click.command()
@click.option("--max-ready-age", type=DURATION, help="How long a step may stand in line; default: no limit.")
@click.option("--max-dead", type=click.IntRange(0), default=0, show_default=True, help="So many dead letters at most.")
@queue_option
def health(max_ready_age: float | None, max_dead: int, store: str | None, queue_name: str | None, as_json: bool) -> int:
    """Say whether the store is healthy: few dead letters, and nothing in line for too long.

    Of all queues together, or of the one that --queue names. Exits 3 if it is not healthy.
    """
    out = Output(as_json=as_json)
    with opened(store) as queue:
        names = queue.list_queues() if queue_name is None else [queue_name]
        dead = sum(queue.stats(name).dead for name in names)
        ages = [age for name in names if (age := ready_age(queue, name)) is not None]
    age = max(ages, default=None)
    problems = [f"{dead} dead letters, at most {max_dead} are allowed"] if dead > max_dead else []
    if max_ready_age is not None and age is not None and age > max_ready_age:
        problems.append(f"the oldest ready step waits for {age:.0f} s, at most {max_ready_age:.0f} s are allowed")
    answer = {"healthy": not problems, "dead": dead, "oldest_ready_age": age, "problems": problems}
    waits = "nothing is in line" if age is None else f"the oldest ready step waits for {age:.1f} s"
    out.record(answer, f"unhealthy: {'; '.join(problems)}" if problems else f"healthy: {dead} dead letters, {waits}")
    return NEEDS_HUMAN if problems else DONE


def ready_age(queue: Queue, name: str) -> float | None:
    """Return for how many seconds the oldest ready job of a queue has been in line; None: none is.

    Of the first hundred in the order of their submission. A job is in line since it was put in, or since it was due,
    or since its last attempt or step has ended, whichever was last.
    """
    now = datetime.now(UTC)
    since = []
    for job in queue.list_jobs(name, JobStatus.PENDING, limit=_LOOKED_AT).jobs:
        moments = [job.enqueued_at, *([job.run_at] if job.run_at is not None else [])]
        moments += [attempt.ended_at for attempt in queue.attempt_history(job.id)[-1:]]
        since.append(max(moments))
    return max((now - min(since)).total_seconds(), 0.0) if since else None
