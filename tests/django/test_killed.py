"""The shop under gunicorn, driven by HTTP while its processes are killed: no order that was taken is lost.

And nothing runs twice but the step in flight: a step is begun again only where the process that ran it was killed.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from taquba_workflow_sync import EventKind, Queue, RunState, WorkflowClient
from tests.django.support import SHOP, environment, manage
from tests.support import wait_until

pytest.importorskip("django")
pytest.importorskip("gunicorn")

PATIENCE = 90.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Shop:
    """One shop: gunicorn with four workers, and workers of steps that are begun again when they are killed."""

    def __init__(self, data: Path, *options: str, workers: int = 2) -> None:
        self.data = data
        self.port = free_port()
        self._options = options
        self._many = workers
        self.workers: list[subprocess.Popen[bytes]] = []
        self._log = (data / "log.txt").open("ab")
        self.killed: set[int] = set()

    @contextmanager
    def open(self) -> Iterator[None]:
        command = ["gunicorn", "project.wsgi", "-w", "4", "-b", f"127.0.0.1:{self.port}", *self._options]
        self.web = self._start("-m", *command)
        try:
            self.workers = [self._worker() for _ in range(self._many)]
            wait_until(self._answers, "the web server", PATIENCE)
            yield
        finally:
            for process in (self.web, *self.workers):
                process.terminate()
            for process in (self.web, *self.workers):
                process.wait(PATIENCE)
            self._log.close()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=SHOP, env=environment(self.data), stdout=self._log, stderr=self._log
        )

    def _worker(self) -> subprocess.Popen[bytes]:
        return self._start("manage.py", "taquba_worker", "--threads", "4")

    def _answers(self) -> bool:
        try:
            return self.get("/orders/999999/") == 404
        except OSError:
            return False

    def get(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def order(self) -> bool:
        """Place an order; whether it was acknowledged."""
        data = urllib.parse.urlencode({"email": "a@b.c", "item": "lamp", "cents": 100}).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/orders/", data, timeout=30) as answer:
                return int(answer.status) == 202
        except OSError:
            return False

    def kill_a_worker(self, number: int) -> None:
        process = self.workers[number]
        self.killed.add(process.pid)
        process.kill()
        process.wait()
        self.workers[number] = self._worker()

    def kill_a_web_process(self) -> None:
        """Kill one of gunicorn's children, which begins another one."""
        children = Path(f"/proc/{self.web.pid}/task/{self.web.pid}/children").read_text().split()
        if children:
            victim = int(random.choice(children))
            self.killed.add(victim)
            os.kill(victim, signal.SIGKILL)


def place_orders(shop: Shop, many: int) -> int:
    """Place orders from several threads; return how many were acknowledged."""
    taken: list[bool] = []

    def customer() -> None:
        for _ in range(many // 4):
            taken.append(shop.order())

    threads = [threading.Thread(target=customer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(taken)


def check(shop: Shop, acknowledged: int) -> None:
    manage(shop.data, "taquba_repair")
    with Queue.open(shop.data / "taquba") as queue:
        client = WorkflowClient(queue, queue_name="orders")
        wait_until(lambda: not _active(client), "the end of all runs", PATIENCE)
        runs = client.list_runs(limit=1000).runs
        assert len(runs) >= acknowledged
        assert Counter(run.state for run in runs) == {RunState.SUCCEEDED: len(runs)}
        for run in runs:
            twice = [event for event in client.history(run.run_id) if event.kind is EventKind.ENDED]
            for event in twice:
                if event.outcome in ("continued", "succeeded"):
                    continue
                assert event.pid in shop.killed, f"{run.run_id} was begun again, but {event.pid} lives: {event}"
    # The receipt is made of the idempotency key: several charges of one order are one to the provider.
    book = [line.split() for line in (shop.data / "charges.txt").read_text().splitlines()]
    assert {order: len({receipt for number, receipt, _ in book if number == order}) for order, _, _ in book} == {
        str(number): 1 for number in {int(order) for order, _, _ in book}
    }
    again = Counter(order for order, _, _ in book)
    repeated = [order for order, times in again.items() if times > 1]
    for order in repeated:
        pids = [int(pid) for number, _, pid in book if number == order]
        assert all(pid in shop.killed for pid in pids[:-1]), f"order {order} was charged again, by {pids}"
    with closing(sqlite3.connect(shop.data / "shop.sqlite3")) as database:
        tables = ("shop_order", "shop_shipment", "shop_payment")
        orders, shipped, paid = (database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables)
    assert orders == shipped == paid == len(runs) >= acknowledged


def _active(client: WorkflowClient) -> bool:
    counts = client.count_runs()
    return bool(counts[RunState.PENDING] + counts[RunState.RUNNING] + counts[RunState.CANCELLING])


def storm(data: Path, options: tuple[str, ...], many: int, kills: int, workers: int = 2) -> None:
    manage(data, "migrate", "-v0")
    shop = Shop(data, *options, workers=workers)
    with shop.open():
        over = threading.Event()

        def killer() -> None:
            for number in range(kills):
                if over.wait(random.uniform(0.1, 0.6)):
                    return
                shop.kill_a_worker(number % workers) if number % 2 else shop.kill_a_web_process()

        thread = threading.Thread(target=killer)
        thread.start()
        began = time.monotonic()
        acknowledged = place_orders(shop, many)
        thread.join()
        over.set()
        assert acknowledged > many // 2
        assert shop.killed
        check(shop, acknowledged)
        print(
            f"{acknowledged} of {many} orders acknowledged, {len(shop.killed)} killed, {time.monotonic() - began:.1f} s"
        )


@pytest.mark.timeout(300)
@pytest.mark.soak
@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_orders_survive_a_storm_of_kills(tmp_path: Path, options: tuple[str, ...]) -> None:
    storm(tmp_path, options, many=400, kills=30)


@pytest.mark.timeout(180)
def test_orders_survive_kills(tmp_path: Path) -> None:
    storm(tmp_path, ("--preload",), many=24, kills=2, workers=1)
