"""Opens stores in whose places something else stands, each in a forked child with an alarm; says how each one went.

Run as a program: ``python -m tests.faults.hostile.places DIRECTORY``, one JSON object for each case on a line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from taquba_workflow_sync import Queue, TaqubaError

PATIENCE: Final = 20
#: Where in a store something may stand; below ``owners`` a lock file of somebody else.
WHERE: Final = (
    ".", "db", "owners", "open.lock", "owners/1-00.lock", "db/cache.db", "db/cache.db-wal", "db/cache.db-shm",
)  # fmt: skip


def _socket(at: Path, _: Path) -> None:
    # An address has at most 107 bytes: bound from inside the directory.
    before = os.getcwd()
    os.chdir(at.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(at.name)
    finally:
        os.chdir(before)


def _open_to_all(at: Path, _: Path) -> None:
    at.mkdir()
    at.chmod(0o777)


WHAT: Final[dict[str, Callable[[Path, Path], Any]]] = {
    "a link to nothing": lambda at, outside: at.symlink_to(outside / "nothing"),
    "a link to a file": lambda at, outside: at.symlink_to(outside / "file"),
    "a link to a directory": lambda at, outside: at.symlink_to(outside / "directory"),
    "a link to itself": lambda at, outside: at.symlink_to(at.name),
    "a link to a database": lambda at, outside: at.symlink_to(outside / "store" / "db" / "cache.db"),
    "a pipe": lambda at, outside: os.mkfifo(at, 0o600),
    "a directory": lambda at, outside: at.mkdir(mode=0o700),
    "a full directory": lambda at, outside: (at.mkdir(mode=0o700), (at / "x").touch()),
    "a directory open to all": _open_to_all,
    "a device": lambda at, outside: os.mknod(at, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    "a socket": _socket,
    "an empty file": lambda at, outside: at.touch(mode=0o600),
}


def snapshot(directory: Path) -> dict[str, Any]:
    """Return all there is below a directory, without following links."""
    found: dict[str, Any] = {}
    for each in sorted(directory.rglob("*")):
        status = each.lstat()
        content = each.read_bytes().hex() if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20 else ""
        found[str(each.relative_to(directory))] = (oct(status.st_mode), status.st_size, hash(content))
    return found


def one(directory: Path, where: str, what: str) -> dict[str, Any]:
    """Make the case, open it in a child, and tell: how the child ended, what it said, whether outside changed."""
    root, outside = directory / "store", directory / "outside"
    outside.mkdir(parents=True, mode=0o700)
    (outside / "file").write_bytes(b"precious")
    (outside / "directory").mkdir(mode=0o700)
    (outside / "directory" / "precious").touch()
    shutil.copytree(directory.parent / "template", outside / "store")
    at = root / where
    if where != ".":
        shutil.copytree(directory.parent / "template", root)
        if at.is_dir():
            shutil.rmtree(at)
        else:
            at.unlink(missing_ok=True)
    try:
        WHAT[what](at, outside)
    except OSError as error:
        return {"where": where, "what": what, "made": str(error)}
    before = snapshot(outside)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        os.write(writer, use(root).encode()[:4000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return {
        "where": where,
        "what": what,
        "ended": os.waitstatus_to_exitcode(status),
        "said": said,
        "outside": "unchanged" if snapshot(outside) == before else "CHANGED",
        "root": str(root),
    }


def use(root: Path) -> str:
    """Open the store, use it, close it; returns how that went."""
    try:
        with Queue.open(root, durability="relaxed") as queue:
            queue.enqueue("q", b"", job_id="new")
            found = [name for name in queue.list_queues() for _ in queue.list_jobs(name).jobs]
            queue.handle.store.abandoned_claims()
        return f"well {','.join(sorted(found))}"
    except TaqubaError as error:
        return f"{type(error).__name__}: {error}"
    except BaseException as error:
        return f"BAD {error!r}"


def main(directory: Path) -> None:
    with Queue.open(directory / "template", durability="relaxed") as queue:
        queue.enqueue("precious", b"")
    number = 0
    for where in WHERE:
        for what in WHAT:
            number += 1
            print(json.dumps(one(directory / str(number), where, what)), flush=True)
            shutil.rmtree(directory / str(number))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
