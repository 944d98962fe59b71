"""A preloaded library that records what processes do to the files below a directory, and lets calls fail.

How to use it::

    from tests.faults import interpose

    recorder = interpose.Recorder(tmp_path / "recorder", watched=tmp_path / "store")  # builds the library if need be
    subprocess.Popen([sys.executable, "-m", "..."], env={**os.environ, **recorder.environment()})
    ...
    recorder.records()                     # what happened so far, in the one true order
    with recorder.rule("write", "-wal", fails=errno.ENOSPC) as rule:   # from now on, in every living child
        ...
        assert rule.injected               # it really struck
    recorder.close()

``watched`` must be an absolute path without symbolic links (``Path.resolve``). Everything below it is recorded, by its
path relative to it; the recorder's own directory must lie elsewhere, on a disk that does not fill up. The directory
``watched`` itself has the path ``"."``. It need not exist yet.

**Order.** Each operation and its record are one step under a lock that all recorded processes share, so the order of
the records is the order of the operations. What may take long (``fsync``, a lock that waits) runs outside of that
lock and is recorded once it is over. So a sync has two records: what was written before ``SYNC_BEGIN`` is covered by
``SYNC``, what was written in between may be or not; a sync inside which the process was killed has no ``SYNC``. A
record says what came of it: ``result`` and ``error`` (errno), and ``performed`` whether the kernel was asked at all.
``result`` is None where nobody lived to note it: the process was killed inside of the operation, which happened or not.

**Marks.** Inside a recorded process, ``interpose.mark("acknowledged r-1")`` puts a text into the same order. Outside of
one it does nothing.

**Rules.** Up to 16 at once, in a file that parent and children share: they take effect at once in living children.
The first rule that strikes is the only one for that call. See :meth:`Recorder.rule`.

**Not seen**: what is done through descriptors opened before the process (or inherited over ``exec``), by stdio inside
of the C library, ``sendfile``, ``copy_file_range``, and stores into mapped memory (SQLite's ``-shm`` file: its mapping
is noted as ``MAP``). Reads are not recorded, but can be made to fail.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import functools
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any, Final

_MAGIC: Final = 0x51544C46
_PAGE: Final = 65536
_RULES: Final = 16
_RULES_AT: Final = 512
_RULE: Final = struct.Struct("<IIIIiiqqqIIQQII120s")
_RECORD: Final = struct.Struct("<IIQQIIHHIqqqQII")
_UNKNOWN: Final = -(2**63)
# Offsets inside of a rule.
_RELEASED: Final = 52
_COUNTS: Final = 56
_WAITING: Final = 72


class Operation(IntEnum):
    """What a record is of."""

    OPEN = 1
    CLOSE = 2
    WRITE = 3
    TRUNCATE = 4
    SYNC_BEGIN = 5
    SYNC = 6
    ALLOCATE = 7
    UNLINK = 8
    RENAME = 9
    MKDIR = 10
    RMDIR = 11
    LINK = 12
    SYMLINK = 13
    MAP = 14
    LOCK = 15
    FLOCK = 16
    READ = 17
    MARK = 18
    FAULT = 19


class Flag(IntFlag):
    """What else a record says."""

    CREATED = 1  # OPEN: the file was not there before
    INJECTED = 2  # a rule struck this call
    PERFORMED = 4  # the kernel was asked, and answered with `result`
    DIRECTORY = 8
    DATA_ONLY = 16  # SYNC: it was fdatasync
    EMPTIED = 32  # OPEN: with O_TRUNC


#: The names of :meth:`Recorder.rule` for classes of operations.
CLASSES: Final[dict[str, tuple[Operation, ...]]] = {
    "open": (Operation.OPEN,),
    "close": (Operation.CLOSE,),
    "write": (Operation.WRITE,),
    "read": (Operation.READ,),
    "ftruncate": (Operation.TRUNCATE,),
    "fsync": (Operation.SYNC,),
    "allocate": (Operation.ALLOCATE,),
    "unlink": (Operation.UNLINK,),
    "rename": (Operation.RENAME,),
    "mkdir": (Operation.MKDIR,),
    "mmap": (Operation.MAP,),
    "lock": (Operation.LOCK,),
    "flock": (Operation.FLOCK,),
}
_ACTIONS: Final = {"fail": 1, "short": 2, "partial": 3, "pause": 4, "kill": 5, "delay": 6}


@dataclass(frozen=True, slots=True)
class Record:
    """One operation, with what came of it.

    ``offset`` and ``length`` are those of a WRITE (``length``: what was asked for; ``result``: what was written),
    ALLOCATE, MAP and LOCK; ``length`` is the new size of a TRUNCATE and the mode of an OPEN, ``offset`` the flags of an
    OPEN, the number of a CLOSE's descriptor, the ``LOCK_*`` of a FLOCK, and the sequence number of a SYNC's SYNC_BEGIN.
    ``data`` is what a WRITE wrote, the new path of a RENAME or LINK (relative to the watched directory), the target of
    a SYMLINK, the text of a MARK, and two bytes of a LOCK: ``l_type`` (F_RDLCK 0, F_WRLCK 1, F_UNLCK 2), and 1 for
    waiting plus 2 for F_OFD_*. A FAULT has the operation in ``offset``, the rule's index in ``length``, and its action
    in ``result``; it comes right before the record of the operation that it strikes, if that one is reached.
    """

    sequence: int
    time: int  # of the monotonic clock, in nanoseconds
    pid: int
    tid: int
    operation: Operation
    flags: Flag
    error: int
    result: int | None
    offset: int
    length: int
    inode: int
    path: str
    data: bytes

    @property
    def performed(self) -> bool:
        return Flag.PERFORMED in self.flags

    @property
    def succeeded(self) -> bool:
        """Whether it took effect on the file; what an injected error said afterwards does not matter."""
        return self.performed and self.result is not None and self.result >= 0

    def __str__(self) -> str:
        what = self.data.decode(errors="replace") if self.operation is Operation.MARK else self.path
        if self.operation is Operation.LOCK:
            what += " " + ("read", "write", "unlock")[self.data[0]]
        came = "?" if self.result is None else self.result if self.error == 0 else errno.errorcode.get(self.error, "?")
        return (
            f"{self.sequence} {self.pid}/{self.tid} {self.operation.name} {what} {self.offset}+{self.length} = {came}"
        )


def missing() -> str | None:
    """Return why the library cannot be used here, None where it can: a reason to skip."""
    if not sys.platform.startswith("linux"):
        return "the interposer needs Linux"
    if _compiler() is None:
        return "the interposer needs a C compiler (cc), and there is none"
    return None


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def build() -> Path:
    """Compile the library, once a process, into a directory that goes when the process ends."""
    directory = tempfile.mkdtemp(prefix="interpose-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    library = Path(directory) / "interpose.so"
    compiler = _compiler()
    assert compiler is not None, missing()
    source = Path(__file__).with_name("interpose.c")
    command = [compiler, "-O2", "-g", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread", "-o", library, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the interposer does not compile:\n{done.stderr}"
    return library


class Rule:
    """One rule of injection: what it has done so far, and its end."""

    def __init__(self, control: mmap.mmap, index: int) -> None:
        self._control = control
        self._at = _RULES_AT + index * _RULE.size
        self.index = index

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("<I", self._control, self._at + at)[0])

    @property
    def matched(self) -> int:
        """How many calls it fitted, those that it let pass included."""
        return int(struct.unpack_from("<Q", self._control, self._at + _COUNTS)[0])

    @property
    def injected(self) -> int:
        """How many calls it struck."""
        return int(struct.unpack_from("<Q", self._control, self._at + _COUNTS + 8)[0])

    @property
    def waiting(self) -> int:
        """How many threads a ``pause`` holds right now."""
        return self._word(_WAITING)

    def wait(self, *, injected: int = 1, limit: float = 60.0) -> None:
        """Wait until it has struck so often."""
        self._until(lambda: self.injected >= injected, f"struck {self.injected} times", limit)

    def wait_paused(self, count: int = 1, limit: float = 60.0) -> None:
        """Wait until so many threads are held."""
        self._until(lambda: self.waiting >= count, f"holds {self.waiting} threads", limit)

    def _until(self, condition: Callable[[], bool], what: str, limit: float) -> None:
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, f"in {limit} s the rule only {what}"
            time.sleep(0.002)

    def release(self) -> None:
        """Let go of those that a ``pause`` holds; from now on it holds nobody."""
        struct.pack_into("<I", self._control, self._at + _RELEASED, 1)

    def remove(self) -> None:
        """End it, and let go of those whom it holds; its counts stay readable until the place is used again."""
        struct.pack_into("<I", self._control, self._at, 0)


class Recorder:
    """A trace, and the rules, for any number of processes started with :meth:`environment`.

    ``data=False`` leaves out what was written and keeps everything else, for long runs. ``capacity`` bounds the trace,
    which is sparse; :meth:`records` fails where it was not enough.
    """

    def __init__(self, directory: Path, *, watched: Path, data: bool = True, capacity: int = 1 << 30) -> None:
        self.directory = directory
        self.watched = watched
        directory.mkdir(parents=True, exist_ok=True)
        self.library = build()
        self._rules: list[Rule] = []
        self._trace_path = directory / "trace"
        with self._trace_path.open("wb") as file:
            file.truncate(capacity)
        with (directory / "control").open("w+b") as file:
            file.truncate(_PAGE)
            self._control = mmap.mmap(file.fileno(), _PAGE)
        struct.pack_into("<IIQQQQQII", self._control, 0, _MAGIC, 0, 0, capacity, 0, 0, int(data), 1, 0)
        native = ctypes.CDLL(str(self.library))
        native.taquba_layout.restype = ctypes.c_ulong
        layout = [native.taquba_layout(which) for which in range(3)]
        assert layout == [_RULE.size, _RULES_AT, _RECORD.size], f"{layout} is not the layout that this module knows"
        assert native.taquba_prepare(os.fsencode(directory / "control")) == 0

    def environment(self) -> dict[str, str]:
        """Return what a child's environment must have beside the usual."""
        return {
            "LD_PRELOAD": str(self.library),
            "TAQUBA_INTERPOSE": str(self.directory),
            "TAQUBA_INTERPOSE_ROOT": str(self.watched),
        }

    # -- the trace ---------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many bytes of trace there are: a place to read on from, with ``records(since=...)``."""
        return int(struct.unpack_from("<Q", self._control, 8)[0])

    def records(self, since: int = 0) -> list[Record]:
        """Return what was recorded, in order; with ``since``, from that place (an earlier :attr:`size`) on."""
        return list(self.read(since))

    def read(self, since: int = 0) -> Iterator[Record]:
        """Go through what was recorded up to now; the results of operations under way may be missing."""
        end, _, _, lost = struct.unpack_from("<QQQQ", self._control, 8)
        assert not lost, f"the trace is full: {lost} records were not kept"
        if end <= since:
            return
        with self._trace_path.open("rb") as file, mmap.mmap(file.fileno(), end, access=mmap.ACCESS_READ) as trace:
            at = since
            while at < end:
                (magic, size, sequence, moment, pid, tid, operation, flags, error, result, offset, length, inode,
                 path_size, data_size) = _RECORD.unpack_from(trace, at)  # fmt: skip
                assert magic == _MAGIC, f"no record at {at} of the trace"
                begin = at + _RECORD.size
                path = trace[begin : begin + path_size].decode("utf-8", "surrogateescape")
                data = trace[begin + path_size : begin + path_size + data_size]
                yield Record(
                    sequence, moment, pid, tid, Operation(operation), Flag(flags), error,
                    None if result == _UNKNOWN else result, offset, length, inode, path, data,
                )  # fmt: skip
                at += size

    def pause_recording(self, paused: bool = True) -> None:
        """Stop recording, or go on; rules work all the same."""
        struct.pack_into("<I", self._control, 48, 0 if paused else 1)

    # -- injection ---------------------------------------------------------------------------------------------

    @contextmanager
    def rule(self, operations: str, suffix: str = "", **how: Any) -> Iterator[Rule]:
        """Have calls go wrong for as long as the block lasts, in the words of :meth:`add`."""
        rule = self.add(operations, suffix, **how)
        try:
            yield rule
        finally:
            rule.remove()

    def add(
        self,
        operations: str,
        suffix: str = "",
        *,
        fails: int | None = None,
        short: int | None = None,
        partial: int | None = None,
        pauses: bool = False,
        kills: bool = False,
        delays: float | None = None,
        after: bool = False,
        skip: int = 0,
        times: int | None = None,
        pid: int = 0,
        only: str = "",
    ) -> Rule:
        """Add a rule, until its :meth:`Rule.remove`.

        Args:
            operations: one or several of :data:`CLASSES`, separated by spaces: ``"write fsync"``.
            suffix: how the path (relative to the watched directory) must end: ``"cache.db"``, ``"-wal"``, ``"-shm"``,
                ``"open.lock"``, ``".lock"``; empty fits everything. ``"cache.db"`` does not fit ``"cache.db-wal"``.
            fails: the errno that the call fails with: before the kernel was asked, or, with ``after``, although the
                operation was done.
            short: a write writes at most so many bytes, and says so (SQLite then writes the rest by a second call).
            partial: a write writes at most so many bytes, then fails with ``fails``, ENOSPC if not given.
            pauses: the thread waits there until :meth:`Rule.release` or the rule's end; then the call goes on as usual.
            kills: the process is killed there with SIGKILL.
            delays: the thread sleeps so many seconds there.
            after: once the operation was done and recorded, not before it.
            skip: how many fitting calls pass first.
            times: how many calls are struck then; None for all.
            pid: only in this process; 0 for all.
            only: ``"files"`` or ``"directories"``.
        """
        chosen = {
            "fail": fails is not None and partial is None, "short": short is not None, "partial": partial is not None,
            "pause": pauses, "kill": kills, "delay": delays is not None,
        }  # fmt: skip
        actions = [_ACTIONS[name] for name, given in chosen.items() if given]
        assert len(actions) == 1, "a rule does one thing: fails, short, partial, pauses, kills or delays"
        mask = 0
        for name in operations.split():
            for operation in CLASSES[name]:
                mask |= 1 << operation
        argument = short if short is not None else partial if partial is not None else int((delays or 0) * 1_000_000)
        error = fails if fails is not None else errno.ENOSPC
        encoded = os.fsencode(suffix)
        assert len(encoded) < 120
        index = next(i for i in range(_RULES) if not self._control[_RULES_AT + i * _RULE.size])
        packed = _RULE.pack(
            0, mask, actions[0], int(after), error, pid, skip, -1 if times is None else times, argument,
            ("", "files", "directories").index(only), 0, 0, 0, 0, 0, encoded,
        )  # fmt: skip
        at = _RULES_AT + index * _RULE.size
        self._control[at : at + _RULE.size] = packed
        struct.pack_into("<I", self._control, at, 1)  # last: until then nobody looks at it
        struct.pack_into("<I", self._control, 4, 1)
        rule = Rule(self._control, index)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """End every rule."""
        for rule in self._rules:
            rule.remove()
        self._rules.clear()
        struct.pack_into("<I", self._control, 4, 0)

    def close(self) -> None:
        """End every rule, let go of the mapping and remove the trace."""
        self.clear()
        self._control.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@functools.cache
def _marking() -> Callable[[bytes], int] | None:
    if "TAQUBA_INTERPOSE" not in os.environ:
        return None
    try:
        function = ctypes.CDLL(None).taquba_mark
    except AttributeError:
        return None
    function.argtypes = [ctypes.c_char_p]
    function.restype = ctypes.c_long
    return function  # type: ignore[no-any-return]  # ctypes is untyped here


def mark(text: str) -> int:
    """Put a text into the order of the trace, from inside a recorded process; -1 where nothing records."""
    function = _marking()
    return -1 if function is None else function(text.encode())
