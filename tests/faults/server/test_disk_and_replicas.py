"""A server without room, and one whose place a replica takes: all that was acknowledged is there, or but its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from taquba_workflow_sync.storage.relational.sql.names import JOB
from tests.faults.checker import check, looking_at
from tests.faults.disk.volume import Volume, mounted
from tests.faults.figures import Figures
from tests.faults.server.proxy import Proxy
from tests.faults.server.scene import PART, Fleet, fleet_of, server_of_its_own
from tests.postgres import Server, other_user, start
from tests.support import wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

_SMALL: Final = {"max_wal_size": "64MB", "min_wal_size": "32MB", "shared_buffers": "16MB", "max_connections": "60"}
_REPLICATES: Final = {"wal_level": "replica", "max_wal_senders": "5", "wal_keep_size": "256MB"}


@contextmanager
def _volume() -> Iterator[Volume]:
    """A small filesystem where the server's user gets at it: pytest's own directories are one user's alone."""
    place = Path(tempfile.mkdtemp(prefix="taquba-pgv-"))
    try:
        place.chmod(0o755)
        with mounted(place / "disk", size=300 << 20, inodes=8000) as volume:
            yield volume
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_a_server_whose_disk_is_full_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with _volume() as volume, server_of_its_own(_SMALL, directory=volume.place) as server:
        fleet = Fleet(tmp_path / "fleet", server)
        try:
            for _ in range(2):
                fleet.goes_on()
                volume.fill(is_alone=False)
                time.sleep(4)
                fleet.faults["disk full"] += 1
                volume.give_back()
                if fleet.server.process.poll() is not None:
                    fleet.restart_server()
            fleet.goes_on()
            fleet.settled().assert_clean()
        finally:
            fleet.close()
            fleet.server.stop()


@contextmanager
def _replica(primary: Server, through: Proxy | None, *, name: str = "replica") -> Iterator[Server]:
    """A replica that streams, by way of a proxy if there is one."""
    root = Path(tempfile.mkdtemp(prefix="taquba-pgr-"))
    other = other_user()
    if other:
        os.chown(root, other["user"], other["group"])
    port = primary.port if through is None else through.port
    source = f"host=127.0.0.1 port={port} user=taquba application_name={name} sslmode=disable gssencmode=disable"
    command = [
        primary.binaries / "pg_basebackup",
        "-D",
        root / "data",
        "-d",
        source,
        "-R",
        "-X",
        "stream",
        "-c",
        "fast",
    ]
    subprocess.run([*map(str, command)], check=True, cwd="/", capture_output=True, timeout=60, **other)
    server = start(primary.settings | {"hot_standby": "on", "synchronous_standby_names": ""}, directory=root)
    assert server is not None
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


def _promote(fleet: Fleet, replica: Server) -> None:
    """Have the replica be the server, as whoever decides that does: the old one is gone, and addresses lead here."""
    import psycopg

    with psycopg.connect(replica.loopback_url, autocommit=True) as connection:
        connection.execute("SELECT pg_promote(true, 30)")
    shutil.rmtree(fleet.server.directory, ignore_errors=True)
    fleet.server = replica
    fleet.url = fleet.url.replace(fleet.url.partition("127.0.0.1:")[2].partition("/")[0], str(replica.port), 1)
    for person in fleet.people:
        person.proxy.target = ("127.0.0.1", replica.port)


def test_a_synchronous_replica_that_takes_over_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    with fleet_of(tmp_path / "fleet", settings=_REPLICATES) as fleet, _replica(fleet.server, None) as replica:
        fleet.sql("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
        fleet.sql("SELECT pg_reload_conf()")
        wait_until(lambda: fleet.sql("SELECT sync_state FROM pg_stat_replication") == [("sync",)], "a replica in step")
        for _ in range(3):
            fleet.goes_on()
        fleet.may_be_taken_over(*fleet.workers)
        fleet.server.kill()
        _promote(fleet, replica)
        fleet.faults["promotion of a synchronous replica"] += 1
        fleet.goes_on()
        fleet.settled().assert_clean()


def test_of_an_asynchronous_replica_that_takes_over_only_the_last_part_is_missing(tmp_path: Path) -> None:
    with fleet_of(tmp_path / "fleet", settings=_REPLICATES) as fleet:
        link = Proxy("127.0.0.1", fleet.server.port)
        try:
            with _replica(fleet.server, link) as replica:
                for _ in range(3):
                    fleet.goes_on()
                link.partition()  # from here on nothing reaches it
                fleet.goes_on()
                fleet.may_be_taken_over(*fleet.workers)
                fleet.server.kill()
                until_promoted = len(fleet.events())
                link.close()
                _promote(fleet, replica)
                fleet.faults["promotion of an asynchronous replica"] += 1
                fleet.goes_on()
                fleet.settled()
                figures = check(fleet.url, [], is_idle=True, part=PART)
                _check_suffix(fleet, until_promoted, figures)
                figures.assert_clean()
        finally:
            link.close()


def _check_suffix(fleet: Fleet, promoted: int, figures: Figures) -> None:
    """Of what each client was told before, all is there up to some moment, and nothing after it."""
    with looking_at(fleet.url) as copy:
        there = {row["id"] for row in copy.execute(f"SELECT id FROM {JOB}")}
    told: dict[int, list[bool]] = defaultdict(list)
    for event in fleet.events()[:promoted]:
        if event["event"] == "acknowledged":
            told[event["pid"]].append(event["job"] in there)
    for pid, found in told.items():
        figures.expect("a suffix is missing", found == sorted(found, reverse=True), f"of client {pid}: {found}")
    missing = sum(not each for found in told.values() for each in found)
    figures.expect("something is missing", missing > 0, "the link to the replica was cut, and yet it has all")
