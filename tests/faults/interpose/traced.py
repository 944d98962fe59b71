"""Small programs for the recorder's own tests: ``python -m tests.faults.interpose.traced NAME DIRECTORY ...``."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.faults.interpose import mark
from tests.processes.harness import say


def database(directory: Path) -> None:
    """Commit rows in WAL mode, checkpoint, and close."""
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (x)")
        for number in range(5):
            connection.execute("INSERT INTO t VALUES (?)", (b"x" * 3_000,))
            mark(f"committed {number}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        mark("checkpointed")
    mark("closed")


def calls(directory: Path) -> None:
    """Make one call of each kind."""
    path = directory / "a.bin"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"one")
    os.pwrite(fd, b"two", 10)
    os.writev(fd, [b"three", b"four"])
    os.pwritev(fd, [b"five", b"six"], 100)
    other = os.dup(fd)
    os.write(other, b"seven")
    os.ftruncate(fd, 50)
    os.truncate(path, 40)
    os.posix_fallocate(fd, 0, 60)
    os.fsync(fd)
    os.fdatasync(fd)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(other)
    os.close(fd)
    with path.open("ab") as file:
        file.write(b"eight")
    os.mkdir(directory / "d")
    os.link(path, directory / "d" / "b.bin")
    os.symlink("b.bin", directory / "d" / "c.bin")
    os.rename(directory / "d" / "b.bin", directory / "d" / "e.bin")
    at = os.open(directory / "d", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(at)
    os.unlink("c.bin", dir_fd=at)
    os.close(at)
    os.chdir(directory)
    os.unlink("./d/../d/e.bin")
    os.rmdir("d")
    (directory.parent / "elsewhere").write_bytes(b"not watched")


def append(directory: Path, threads: str, times: str, forks: str = "") -> None:
    """Append numbered lines to one file, from threads, and from those of a forked child as well."""
    fd = os.open(directory / "lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def lines(name: str) -> None:
        for number in range(int(times)):
            os.write(fd, f"{os.getpid()} {name} {number}\n".encode())

    child = os.fork() if forks else None  # before the threads: with them it would be another test
    running = [threading.Thread(target=lines, args=(str(each),)) for each in range(int(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if child == 0:
        os._exit(0)
    assert child is None or os.waitpid(child, 0)[1] == 0


def obey(directory: Path) -> None:
    """Do what each line of the standard input says, and say what came of it."""
    descriptors: dict[str, int] = {}
    say("ready")
    for line in sys.stdin:
        word, name, *rest = line.split()
        try:
            if word == "open":
                descriptors[name] = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600)
                answer = 0
            elif word == "unlink":
                answer = os.unlink(directory / name) or 0
            else:
                answer = _on(descriptors[name], word, rest)
        except OSError as error:
            say("failed", error.errno)
        else:
            say("did", answer)


def _on(fd: int, word: str, rest: list[str]) -> int:
    match word:
        case "write":
            return os.pwrite(fd, rest[1].encode(), int(rest[0]))
        case "read":
            return len(os.pread(fd, int(rest[0]), 0))
        case "sync":
            os.fsync(fd)
        case "truncate":
            os.ftruncate(fd, int(rest[0]))
        case "close":
            os.close(fd)
    return 0


PROGRAMS: dict[str, Callable[..., None]] = {"database": database, "calls": calls, "append": append, "obey": obey}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
