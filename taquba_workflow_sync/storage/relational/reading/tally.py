"""How many runs stand where, read."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.tally import SpecialCounts, Tally, tally_of
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection


def tally(connection: Connection, queue: str) -> Tally:
    """Return how many runs of a queue stand where."""
    found = connection.execute(sql.COUNTERS_OF, (queue,)).fetchone()
    if found is None:
        return Tally()
    # A counter that is none shows as nothing, until a transition meets it and it is counted anew.
    counters = [count if type(count) is int else 0 for count in found]
    split = len(Counts._fields)
    return tally_of(Counts(*counters[:split]), SpecialCounts(*counters[split:]))
