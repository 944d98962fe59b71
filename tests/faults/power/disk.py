"""A disk with a cache that forgets: replays a record of operations, and says what a power cut could leave."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.interpose import Flag, Operation, Record

SECTOR: Final = 512

#: How what was not synced is chosen; see :meth:`Disk.leave`.
MANNERS: Final = ("nothing", "everything", "in order", "some", "sectors", "late")


#: A disk as it is found after a cut: directories and contents.
Tree = dict[str, "Tree | bytes"]


@dataclass(frozen=True, slots=True)
class Change:
    """One operation on a file that is not durable yet: a write, or a new size."""

    sequence: int
    offset: int
    data: bytes | None  # None: the file's size becomes ``offset``


@dataclass(eq=False)
class File:
    """A file: what is durable, what the cache holds, and the changes between the two."""

    durable: bytearray = field(default_factory=bytearray)
    cached: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        self.pending.append(change)
        _apply(self.cached, change)

    def sync(self, before: int) -> None:
        """Make durable what was done before that number."""
        for each in self.pending:
            if each.sequence < before:
                _apply(self.durable, each)
        self.pending = [each for each in self.pending if each.sequence >= before]


@dataclass(eq=False)
class Directory:
    """A directory: names that are durable, names as they are, and the changes between the two."""

    durable: dict[str, File | Directory] = field(default_factory=dict)
    cached: dict[str, File | Directory] = field(default_factory=dict)
    pending: list[tuple[int, str, File | Directory | None]] = field(default_factory=list)

    def change(self, sequence: int, name: str, node: File | Directory | None) -> None:
        self.pending.append((sequence, name, node))
        _rename(self.cached, name, node)

    def sync(self, before: int) -> None:
        for sequence, name, node in self.pending:
            if sequence < before:
                _rename(self.durable, name, node)
        self.pending = [each for each in self.pending if each[0] >= before]


def _apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
    else:
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data


def _rename(names: dict[str, File | Directory], name: str, node: File | Directory | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _found(tree: Tree) -> Directory:
    names: dict[str, File | Directory] = {
        name: _found(each) if isinstance(each, dict) else File(bytearray(each), bytearray(each))
        for name, each in tree.items()
    }
    return Directory(dict(names), names)


class Disk:
    """The watched directory and everything below it."""

    def __init__(self, base: Tree | None = None) -> None:
        """Begin with what an earlier cut left; it is durable."""
        self.root = _found(base or {})
        # By inode: a descriptor outlives the name.
        self._nodes: dict[int, File | Directory] = {}

    def find(self, path: str) -> File | Directory | None:
        """Return what stands at a path, as the processes see it."""
        node: File | Directory | None = self.root
        for part in [] if path == "." else path.split("/"):
            node = node.cached.get(part) if isinstance(node, Directory) else None
        return node

    def file(self, path: str) -> File | None:
        node = self.find(path)
        return node if isinstance(node, File) else None

    def _put(self, record: Record, node: File | Directory | None) -> None:
        parent, _, name = record.path.rpartition("/")
        directory = self.find(parent or ".")
        assert isinstance(directory, Directory), f"no directory for {record}"
        directory.change(record.sequence, name, node)

    def apply(self, record: Record) -> None:
        """Have one recorded operation happen; one without a result is taken to have happened."""
        happened = record.succeeded or (record.result is None and record.operation is not Operation.SYNC)
        if not happened or record.path.endswith("-shm"):
            return
        match record.operation:
            case Operation.OPEN if Flag.CREATED in record.flags:
                self._put(record, node := File())
                self._nodes[record.inode] = node
            case Operation.OPEN:
                found = self.find(record.path)
                if found is not None:
                    self._nodes[record.inode] = found
                if Flag.EMPTIED in record.flags:
                    self._change(record, 0, None)
            case Operation.MKDIR:
                directory = Directory()
                self._put(record, directory)
                self._nodes[record.inode] = directory
            case Operation.UNLINK | Operation.RMDIR:
                self._put(record, None)
            case Operation.WRITE:
                written = len(record.data) if record.result is None else record.result
                self._change(record, record.offset, record.data[:written])
            case Operation.TRUNCATE:
                self._change(record, record.length, None)
            case Operation.SYNC:
                self._nodes[record.inode].sync(record.offset)
            case Operation.RENAME | Operation.LINK | Operation.SYMLINK | Operation.ALLOCATE:
                raise ValueError(f"the model does not know what a power cut makes of {record}")

    def _change(self, record: Record, offset: int, data: bytes | None) -> None:
        node = self._nodes[record.inode]
        assert isinstance(node, File), str(record)
        node.change(Change(record.sequence, offset, data))

    def is_changed_by(self, record: Record) -> bool:
        """Whether this is a sync that makes something durable which is not."""
        if record.operation is not Operation.SYNC or not record.succeeded or record.path.endswith("-shm"):
            return False
        node = self._nodes.get(record.inode)
        if node is None:
            return False
        return any((each[0] if isinstance(each, tuple) else each.sequence) < record.offset for each in node.pending)

    def walk(self) -> Iterator[tuple[str, File | Directory]]:
        """Go through everything that could still be there, under the name it may have."""

        def below(path: str, node: File | Directory) -> Iterator[tuple[str, File | Directory]]:
            yield path, node
            if isinstance(node, Directory):
                names = [*node.durable.items(), *((name, new) for _, name, new in node.pending if new is not None)]
                for name, child in names:
                    yield from below(f"{path}/{name}" if path else name, child)

        yield from below("", self.root)

    def kind(self) -> str:
        """Return what is in doubt now, in a word or two: the kinds of instants that a cut can hit."""
        kinds = set()
        for path, node in self.walk():
            if not node.pending:
                continue
            if isinstance(node, Directory):
                if any(not name.endswith((".lock",)) for _, name, _ in node.pending):
                    kinds.add("names")
            elif path.endswith("-journal"):
                kinds.add("journal")
            elif path.endswith("-wal"):
                is_reset = any(each.offset == 0 for each in node.pending)
                kinds.add("log begins" if is_reset else "log")
            elif path.endswith("cache.db"):
                kinds.add("database")
        return "+".join(sorted(kinds)) or "nothing"

    def leave(self, chance: random.Random, manner: str) -> Tree:
        """Return what a power cut now could leave, chosen at random.

        ``nothing`` or ``everything`` that is pending; ``in order``, everything up to some sector of some operation;
        ``some`` of the operations; ``sectors``, each one by itself; ``late``, the last operations without those before.
        """
        sequences: set[int] = set()
        for _, node in self.walk():
            sequences |= {each[0] if isinstance(each, tuple) else each.sequence for each in node.pending}
        order = sorted(sequences)
        pick = _Pick(chance, manner, order, garbage=chance.random() < 0.25)
        return _lay(self.root, pick)


class _Pick:
    """Which pending operations are on the disk."""

    def __init__(self, chance: random.Random, manner: str, order: list[int], *, garbage: bool) -> None:
        self.chance = chance
        self.by_sector = manner == "sectors"
        self.garbage = garbage
        self.torn = -1
        match manner:
            case "nothing":
                self.kept: set[int] = set()
            case "everything":
                self.kept = set(order)
            case "in order":
                count = chance.randrange(len(order) + 1)
                self.kept = set(order[:count])
                self.torn = order[count] if count < len(order) else -1
            case "late":
                self.kept = set(order[chance.randrange(len(order) + 1) :])
            case _:
                odds = chance.choice((0.1, 0.5, 0.9))
                self.kept = {each for each in order if chance.random() < odds}


def _lay(directory: Directory, pick: _Pick) -> Tree:
    names = dict(directory.durable)
    versions: dict[str, list[File | Directory | None]] = {}
    for sequence, name, node in directory.pending:
        if pick.by_sector:
            versions.setdefault(name, [names.get(name)]).append(node)
        elif sequence in pick.kept:
            _rename(names, name, node)
    for name, choices in versions.items():
        _rename(names, name, pick.chance.choice(choices))
    return {
        name: _lay(node, pick) if isinstance(node, Directory) else _write_back(node, pick)
        for name, node in sorted(names.items())
    }


def _write_back(file: File, pick: _Pick) -> bytes:
    """Return the content of a file of which only some sectors were written back."""
    content = bytearray(file.durable)
    if not file.pending:
        return bytes(content)
    # For each sector the versions that the cache held, each with the number of the operation that made it.
    versions: dict[int, list[tuple[int, bytes]]] = {}
    sizes = [(-1, len(content))]
    for change in file.pending:
        before = len(content)
        _apply(content, change)
        first = min(change.offset, before)
        last = max(before, len(content)) if change.data is None else change.offset + len(change.data)
        for sector in range(first // SECTOR, -(-last // SECTOR)):
            data = bytes(content[sector * SECTOR : (sector + 1) * SECTOR]).ljust(SECTOR, b"\0")
            versions.setdefault(sector, []).append((change.sequence, data))
        if len(content) != before:
            sizes.append((change.sequence, len(content)))
    if pick.by_sector:
        size = pick.chance.choice(sizes)[1]
    else:
        size = [size for sequence, size in sizes if sequence < 0 or sequence in pick.kept][-1]
    left = bytearray(file.durable[:size].ljust(size, b"\0"))
    if pick.garbage and size > len(file.durable):
        left[len(file.durable) :] = pick.chance.randbytes(size - len(file.durable))
    torn_after = pick.chance.randrange(9)
    for sector, choices in sorted(versions.items()):
        chosen: bytes | None = None
        if pick.by_sector:
            index = pick.chance.randrange(len(choices) + 1)
            chosen = choices[index - 1][1] if index else None
        else:
            for sequence, data in choices:
                if sequence in pick.kept:
                    chosen = data
                elif sequence == pick.torn and torn_after > 0:
                    chosen, torn_after = data, torn_after - 1
                    size = max(size, min((sector + 1) * SECTOR, len(file.cached)))
        if chosen is not None:
            at = sector * SECTOR
            left.extend(bytes(max(0, at - len(left))))
            left[at : at + SECTOR] = chosen
    del left[size:]
    return bytes(left)


def lay_out(tree: Tree, directory: Path) -> None:
    """Make real files of a tree, as private as the library makes them."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, each in tree.items():
        if isinstance(each, dict):
            lay_out(each, directory / name)
        else:
            (directory / name).write_bytes(each)
            (directory / name).chmod(0o600)


def digest(tree: Tree) -> bytes:
    """Return what tells one disk from another."""
    hashed = hashlib.blake2b(digest_size=16)
    for name, each in sorted(tree.items()):
        content = digest(each) if isinstance(each, dict) else hashlib.blake2b(each, digest_size=16).digest()
        hashed.update(name.encode() + b"\0" + (b"d" if isinstance(each, dict) else b"f") + content)
    return hashed.digest()


def replay(records: Iterable[Record], base: Tree) -> Iterator[tuple[int, Disk]]:
    """Yield at the end of each interval between completed syncs: the number of its last instant, and the disk."""
    disk = Disk(base)
    last = 0
    for record in records:
        last = record.sequence
        if disk.is_changed_by(record):
            yield last, disk
        disk.apply(record)
    yield last + 1, disk
