"""The model of the disk, by hand-made records: what it loses, what it keeps, and that each choice does occur."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.faults.interpose import Flag, Operation, Record
from tests.faults.power.disk import MANNERS, SECTOR, Disk, Tree, digest, replay

DONE = Flag.PERFORMED
_PATHS = {"a": 10, "b": 11, "d": 12, "d/c": 13, ".": 1}


class Made:
    """Records in the making, numbered as they come."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, operation: Operation, path: str, offset: int = 0, length: int = 0, data: bytes = b"",
            flags: Flag = DONE, result: int = 0) -> int:  # fmt: skip
        number = len(self.records)
        record = Record(number, number, 1, 1, operation, flags, 0, result, offset, length, _PATHS[path], path, data)
        self.records.append(record)
        return number

    def create(self, path: str) -> None:
        self.add(Operation.OPEN, path, flags=DONE | Flag.CREATED)

    def write(self, path: str, offset: int, data: bytes) -> int:
        return self.add(Operation.WRITE, path, offset, len(data), data, result=len(data))

    def sync(self, path: str) -> None:
        self.add(Operation.SYNC, path, self.add(Operation.SYNC_BEGIN, path))

    def sync_directory(self, path: str) -> None:
        self.add(Operation.OPEN, path)
        self.sync(path)

    def disk(self) -> Disk:
        disk = Disk()
        for record in self.records:
            disk.apply(record)
        return disk

    def left(self, times: int = 400) -> list[Tree]:
        """Return what cuts right now could leave: many choices of each manner."""
        chance = random.Random(5)
        disk = self.disk()
        return [disk.leave(chance, manner) for manner in MANNERS for _ in range(times)]


@pytest.fixture
def made() -> Made:
    made = Made()
    made.create("a")
    made.sync_directory(".")
    made.write("a", 0, b"1" * 1024)
    made.sync("a")
    return made


def contents(trees: list[Tree], name: str = "a") -> set[bytes]:
    return {content for tree in trees if isinstance(content := tree.get(name, b"gone"), bytes)}


def test_what_was_synced_is_there(made: Made) -> None:
    assert contents(made.left()) == {b"1" * 1024}


def test_what_was_not_synced_may_be_there_in_any_sectors(made: Made) -> None:
    made.write("a", 0, b"2" * 1024)
    old, new = b"1" * SECTOR, b"2" * SECTOR
    assert contents(made.left()) == {old + old, new + new, old + new, new + old}


def test_a_sync_covers_only_what_was_written_before_it_began(made: Made) -> None:
    begun = made.add(Operation.SYNC_BEGIN, "a")
    made.write("a", 0, b"2" * SECTOR)
    made.add(Operation.SYNC, "a", begun)
    assert contents(made.left()) == {b"1" * 1024, b"2" * SECTOR + b"1" * SECTOR}


def test_a_sync_that_failed_covers_nothing(made: Made) -> None:
    made.write("a", 0, b"2" * SECTOR)
    made.add(Operation.SYNC, "a", made.add(Operation.SYNC_BEGIN, "a"), result=-1)
    assert contents(made.left()) == {b"1" * 1024, b"2" * SECTOR + b"1" * SECTOR}


def test_a_sync_of_another_file_covers_nothing(made: Made) -> None:
    made.create("b")
    made.write("a", 0, b"2" * SECTOR)
    made.sync("b")
    assert b"1" * 1024 in contents(made.left())


def test_a_sector_holds_one_of_its_versions_and_is_never_torn_inside(made: Made) -> None:
    made.write("a", 100, b"2" * 10)
    made.write("a", 105, b"3" * 10)
    first = b"1" * 100 + b"2" * 10 + b"1" * 914
    assert contents(made.left()) == {b"1" * 1024, first, first[:105] + b"3" * 10 + first[115:]}


def test_a_later_write_may_arrive_without_an_earlier_one(made: Made) -> None:
    made.write("a", 0, b"2" * SECTOR)
    made.write("a", SECTOR, b"3" * SECTOR)
    assert b"1" * SECTOR + b"3" * SECTOR in contents(made.left())


def test_a_file_may_have_grown_without_its_data(made: Made) -> None:
    made.write("a", 1024, b"2" * SECTOR)
    found = contents(made.left())
    assert {b"1" * 1024, b"1" * 1024 + bytes(SECTOR), b"1" * 1024 + b"2" * SECTOR} <= found
    assert len(found) > 3, "there was never rubbish where data had not arrived"
    assert {len(each) for each in found} == {1024, 1024 + SECTOR}


def test_a_truncation_may_have_happened_or_not(made: Made) -> None:
    made.add(Operation.TRUNCATE, "a", length=100)
    found = contents(made.left())
    assert {b"1" * 1024, b"1" * 100} <= found
    # The tail may be zeroed on the disk before the size is; nothing else comes of it.
    assert {each[:100] for each in found} == {b"1" * 100}
    made.sync("a")
    assert contents(made.left()) == {b"1" * 100}


def test_a_short_write_counts_as_far_as_it_came(made: Made) -> None:
    number = made.write("a", 0, b"2" * 1024)
    made.records[number] = replace(made.records[number], result=SECTOR)
    made.sync("a")
    assert contents(made.left()) == {b"2" * SECTOR + b"1" * SECTOR}


def test_a_name_needs_its_directory_synced_not_its_file() -> None:
    made = Made()
    made.create("a")
    made.write("a", 0, b"1")
    made.sync("a")
    assert contents(made.left()) == {b"gone", b"1"}
    made.sync_directory(".")
    assert contents(made.left()) == {b"1"}


def test_a_removed_name_may_be_there_again(made: Made) -> None:
    made.add(Operation.UNLINK, "a")
    assert contents(made.left()) == {b"gone", b"1" * 1024}
    made.sync_directory(".")
    assert contents(made.left()) == {b"gone"}


def test_a_name_may_stand_for_the_file_that_had_it_before(made: Made) -> None:
    made.add(Operation.UNLINK, "a")
    made.create("a")
    made.write("a", 0, b"2")
    made.sync("a")
    assert contents(made.left()) == {b"gone", b"1" * 1024, b"2"}


def test_what_is_below_goes_with_a_directory() -> None:
    made = Made()
    made.add(Operation.MKDIR, "d")
    made.create("d/c")
    made.write("d/c", 0, b"1")
    made.sync("d/c")
    made.sync_directory("d")
    assert {"d" in tree for tree in made.left()} == {True, False}
    made.sync_directory(".")
    assert made.left() == [{"d": {"c": b"1"}}] * len(made.left())


def test_a_cut_during_an_operation_leaves_a_part_of_it(made: Made) -> None:
    """``in order``: all operations before one, none after it, and of that one the first sectors."""
    made.write("a", 0, b"2" * 1024)
    made.write("a", 0, b"3" * SECTOR)
    chance = random.Random(5)
    disk = made.disk()
    found = contents([disk.leave(chance, "in order") for _ in range(400)])
    one, two, three = (each * SECTOR for each in (b"1", b"2", b"3"))
    assert found == {one + one, two + one, two + two, three + two}


def test_between_two_syncs_there_is_one_interval(made: Made) -> None:
    made.write("a", 0, b"2")
    made.sync("a")
    made.sync("a")  # makes nothing durable that was not: no interval of its own
    made.write("a", 0, b"3")
    kinds = [end for end, _ in replay(made.records, {})]
    synced = [each.sequence for each in made.records if each.operation is Operation.SYNC]
    assert kinds == [*synced[:3], len(made.records)]


def test_disks_differ_by_names_and_contents() -> None:
    trees: list[Tree] = [{}, {"a": b""}, {"a": {}}, {"a": b"1"}, {"b": b"1"}, {"d": {"a": b"1"}}]
    assert len({digest(tree) for tree in trees}) == len(trees)


def test_what_an_earlier_cut_left_is_durable() -> None:
    made = Made()
    made.add(Operation.OPEN, "a")
    made.write("a", 0, b"2")
    disk = Disk({"a": b"1"})
    for record in made.records:
        disk.apply(record)
    chance = random.Random(5)
    assert contents([disk.leave(chance, manner) for manner in MANNERS for _ in range(50)]) == {b"1", b"2"}
