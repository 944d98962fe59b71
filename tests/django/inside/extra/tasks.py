"""Tasks of the tests."""

from __future__ import annotations

import os
import signal
from typing import Any

from taquba_workflow_sync.contrib.django.tasks_compat import task

SEEN: list[object] = []


@task
def note(value: Any) -> Any:
    SEEN.append(value)
    return value


@task(queue_name="mails", priority=10)
def mail(to: str) -> str:
    SEEN.append(to)
    return to


@task
def fail(text: str) -> None:
    raise LookupError(text)


@task(backend="any", queue_name="whatever it is called")
def anywhere(value: int) -> int:
    return value + 1


@task(backend="now")
def now(value: int) -> int:
    SEEN.append(value)
    return value


@task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task
def stop() -> None:
    raise KeyboardInterrupt
