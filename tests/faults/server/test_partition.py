"""A worker that is cut off lets go before others take over, and comes back as a zombie that is fenced."""

from __future__ import annotations

from pathlib import Path

import pytest

from taquba_workflow_sync import WorkflowClient
from tests.faults.journal import Event
from tests.faults.lab import open_queue, submit
from tests.faults.server.scene import Fleet, fleet_of
from tests.support import PATIENCE, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]


def _events(fleet: Fleet, event: str, run: str, attempt: int) -> list[Event]:
    wanted = {"event": event, "run": run, "step": 0, "attempt": attempt}
    return [each for each in fleet.events() if wanted.items() <= each.items()]


def test_the_steps_of_who_is_cut_off_are_told_before_another_takes_them_over(tmp_path: Path) -> None:
    with fleet_of(tmp_path / "fleet", workers=1, clients=0) as fleet:
        (first,) = fleet.workers
        with open_queue(fleet.url) as queue:
            client = WorkflowClient(queue)
            submit(client, fleet.journal, "r", "linger go", 10)
            wait_until(lambda: _events(fleet, "begin", "r", 1), "the first attempt")
            heir = fleet.begin("worker", 1)
            fleet.ready(heir)
            fleet.may_be_taken_over(first)
            first.proxy.vanish()
            wait_until(lambda: _events(fleet, "begin", "r", 2), "the takeover", 2 * PATIENCE)
            told = [each["event"] for each in fleet.events() if each.get("run") == "r" and each.get("step") == 0]
            (end,) = _events(fleet, "end", "r", 1)
            assert told.index("end") < len(told) - 1 - told[::-1].index("begin"), "told before the other began"
            assert end["is_set"]
            first.proxy.heal()
            assert client.wait("r", timeout=PATIENCE).result == b"0 1"
        figures = fleet.settled()
        figures.assert_clean()


def test_a_blip_cancels_nothing_and_charges_nothing(tmp_path: Path) -> None:
    """Two seconds without a packet, which nobody else has seen: the step ends in doubt and begins again, uncharged."""
    with fleet_of(tmp_path / "fleet", workers=1, clients=0) as fleet:
        (only,) = fleet.workers
        with open_queue(fleet.url) as queue:
            client = WorkflowClient(queue)
            submit(client, fleet.journal, "r", "give-up go", 1)
            wait_until(lambda: _events(fleet, "begin", "r", 1), "the first attempt")
            only.proxy.partition()
            wait_until(lambda: _events(fleet, "end", "r", 1), "the end of the step in doubt")
            only.proxy.heal()
            assert client.wait("r", timeout=PATIENCE).status == "succeeded"
            assert len(_events(fleet, "begin", "r", 1)) == 2, "the same attempt once more"


def test_a_transaction_that_stays_open_beside_it_stops_nothing(tmp_path: Path) -> None:
    """Twenty seconds of a user's snapshot, with locks on nothing of ours."""
    import psycopg

    with fleet_of(tmp_path / "fleet") as fleet:
        fleet.goes_on()
        with psycopg.connect(fleet.server.loopback_url) as user:
            user.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            user.execute("CREATE TABLE of_the_user (x INT)")
            for _ in range(4):
                before = fleet.ended_runs()
                wait_until(lambda before=before: fleet.ended_runs() > before + 10, "runs that end", PATIENCE)  # type: ignore[misc]
                user.execute("SELECT pg_sleep(5)")
            fleet.faults["a long transaction"] += 1
        fleet.settled().assert_clean()


@pytest.mark.parametrize("hours", [-1, 1])
def test_workers_whose_clocks_are_an_hour_apart_agree(tmp_path: Path, hours: int) -> None:
    """Of each process's own ``time.time``; the system's clock is the server's, too, and is left alone."""
    with fleet_of(tmp_path / "fleet", workers=1, clients=1) as fleet:
        fleet.ready(fleet.begin("worker", 2, "--ahead", hours * 3_600))
        fleet.ready(fleet.begin("client", 3, "--ahead", -hours * 3_600))
        for _ in range(3):
            fleet.goes_on()
        fleet.kill(fleet.workers[0])
        fleet.goes_on()
        fleet.settled().assert_clean()
