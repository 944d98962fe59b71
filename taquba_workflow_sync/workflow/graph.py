"""The graph of a queue's runs, as whoever serves the queue has registered it: a part of the client."""

from __future__ import annotations

from taquba_workflow_sync.queue.handle import QueueHandle


class DrawnQueue:
    """The queue of a client, as its flow is drawn: a part of :class:`WorkflowClient`."""

    _handle: QueueHandle
    _queue_name: str

    def graph(self) -> str | None:
        """Return the text of the graph that whoever serves the queue has registered; None: nobody has, of a flow.

        ``taquba_workflow_sync.flow.Graph.of_json`` reads it.
        """
        return self._handle.graphs().get(self._queue_name)
