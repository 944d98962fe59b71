from tests.processes.conftest import client, queue, stage

__all__ = ["client", "queue", "stage"]
