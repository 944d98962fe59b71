"""One call of a task as it is stored: a JSON document, the input of its run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.utils.module_loading import import_string

from taquba_workflow_sync.contrib.django.tasks_compat import Task, normalize_json


@dataclass(frozen=True, slots=True)
class TaskCall:
    """A task, by its path, with what it was enqueued with."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    backend: str
    queue_name: str
    priority: int
    run_after: str | None

    @classmethod
    def of(cls, task: Any, args: Any, kwargs: Any) -> TaskCall:
        """Return a call to store.

        Raises:
            TypeError, ValueError: JSON cannot hold an argument.
        """
        return cls(
            task.module_path,
            normalize_json(list(args)),
            normalize_json(dict(kwargs)),
            task.backend,
            task.queue_name,
            int(task.priority),
            None if task.run_after is None else task.run_after.isoformat(),
        )

    def encode(self) -> bytes:
        """Return what is stored."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes) -> TaskCall:
        """Return what was stored.

        Raises:
            ValueError: it is no call of a task.
        """
        try:
            return cls(**json.loads(payload))
        except (TypeError, ValueError) as error:
            raise ValueError(f"the run's input is no call of a task: {error}") from error

    def find(self) -> Any:
        """Return the task, as it was enqueued.

        Raises:
            ImportError: there is no such task (any more).
        """
        found = import_string(self.task)
        if not isinstance(found, Task):
            raise ImportError(f"{self.task} is no task but a {type(found).__name__}")
        moment = None if self.run_after is None else datetime.fromisoformat(self.run_after)
        return found.using(priority=self.priority, queue_name=self.queue_name, run_after=moment, backend=self.backend)
