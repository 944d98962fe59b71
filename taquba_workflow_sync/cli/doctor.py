"""``doctor``: looks at this machine and a store, and says what to do."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator
from typing import Final

import click

from taquba_workflow_sync.cli.exit_codes import DONE, NEEDS_HUMAN, NOT_FOUND, Failure
from taquba_workflow_sync.cli.options import store_option
from taquba_workflow_sync.cli.output import Output, is_plain
from taquba_workflow_sync.cli.store import is_url, shown, store_path
from taquba_workflow_sync.errors import StoreInUseError, TaqubaError
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.storage.port.finding import Finding

_LEAST_FREE: Final = 512 * 2**20
_LEAST_DESCRIPTORS: Final = 256


@click.command()
@store_option
def doctor(store: str | None, as_json: bool) -> int:
    """Look at this machine and the store, and say what to do.

    SQLite, the filesystem, permissions, settings, clocks, what dead processes and old hooks have left, disk space,
    descriptors, forks; of a store on PostgreSQL its server, settings that matter and long transactions. Exits 3 when
    something needs doing. `check` looks at every row.
    """
    out = Output(as_json=as_json)
    path = store_path(store)
    if not Queue.is_store(path):
        raise Failure(f"there is no store at {shown(path)}", NOT_FOUND)
    needs_doing = False
    for finding in [*_machine(path), *_store(path)]:
        needs_doing = needs_doing or finding.todo is not None
        out.record(finding._asdict(), _text(finding))
    return NEEDS_HUMAN if needs_doing else DONE


def _text(finding: Finding) -> str:
    mark = "ok" if finding.todo is None else "!!"
    if not is_plain(sys.stdout):
        mark = click.style(mark, fg="green" if finding.todo is None else "red")
    todo = "" if finding.todo is None else f"\n    to do: {finding.todo}"
    return f"{mark}  {finding.what}: {finding.says}{todo}"


def _machine(path: str) -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.release()}")
    if not is_url(path):
        yield from _disk(path)
    yield from _descriptors()


def _disk(path: str) -> Iterator[Finding]:
    free = shutil.disk_usage(path).free
    todo = "make room: a store that cannot write stands still" if free < _LEAST_FREE else None
    yield Finding("disk", f"{free / 2**30:.1f} GiB free", todo)
    counts = os.statvfs(path)
    if counts.f_files and counts.f_favail < 1000:
        yield Finding("inodes", f"{counts.f_favail} free", "remove files on this filesystem")


def _descriptors() -> Iterator[Finding]:
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        yield Finding("descriptors", "no limit")
        return
    todo = "raise the limit of open files (ulimit -n, LimitNOFILE=)" if most < _LEAST_DESCRIPTORS else None
    yield Finding("descriptors", f"{most} may be open", todo)


def _store(path: str) -> Iterator[Finding]:
    try:
        with Queue.open(path) as queue:
            yield Finding("store", f"{queue.address}, opened")
            yield from queue.examine()
            yield _fork(queue)
    except StoreInUseError:
        raise  # nothing to mend: later it can be looked at
    except TaqubaError as error:
        yield Finding("store", "cannot be worked with", str(error))


def _fork(queue: Queue) -> Finding:
    """Return whether a forked child can use the store: its guards are hooks of Python, which a host may leave out."""
    if not hasattr(os, "register_at_fork"):
        return Finding("forks", "this Python has no hooks for forks", "open the store after a fork, never before")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads in a process that forks: the guard's business
        child = os.fork()
    if child == 0:
        works = False
        try:
            queue.list_queues()
            works = True
        finally:
            os._exit(not works)
    _, status = os.waitpid(child, 0)
    if status == 0:
        return Finding("forks", "a forked child can use the store")
    return Finding("forks", "a forked child could not use the store", "open the store after a fork, never before")
