"""How soon a worker of another process has what was submitted, and what one that has nothing to do asks the server."""

from __future__ import annotations

import os
import socket
import statistics
import struct
import time
from multiprocessing.connection import Connection

from benchmarks.children import child
from benchmarks.figures import Bench, Section, percentile
from benchmarks.latency import IDLE_AFTER_SECONDS, now, pause_between, tell_latency
from benchmarks.postgres.costs import cpu_of
from benchmarks.postgres.server import database, one
from taquba_workflow_sync import Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowClient, WorkflowRuntime
from tests.postgres import Server

SETTLE_SECONDS = 3.0
#: Where Linux's struct tcp_info has how many segments with data were sent.
_DATA_SEGMENTS = struct.Struct("156xI")


def measure(bench: Bench, server: Server) -> list[Section]:
    return [_waking(bench, server), _idle(bench, server)]


def _waking(bench: Bench, server: Server) -> Section:
    section = Section(
        "Wake-up across processes",
        "From just before the submit, its commit included, until the step has started in another process, which hears"
        " of it by a notification; submits pause at random. A worker is idle when it has had nothing to do for"
        f" {IDLE_AFTER_SECONDS} s.",
    )
    for key, what, samples, least in (
        ("pg.wake", "submit to start", bench.scale.samples, 0.0),
        ("pg.wake.idle", "submit to start, idle worker", bench.scale.slow_samples, IDLE_AFTER_SECONDS),
    ):
        took, submits = _across(server, samples, least)
        section.add(key, f"{what}: median of {len(took)}", [statistics.median(took)], "ms")
        section.add(f"{key}.p99", f"{what}: 99th percentile", [percentile(took, 0.99)], "ms")
        section.add(f"{key}.submit", "of which the submit: median", [statistics.median(submits)], "ms")
    return section


def _across(server: Server, samples: int, pause: float) -> tuple[list[float], list[float]]:
    took: list[float] = []
    submits: list[float] = []
    with database(server, "waking") as url, Queue.open(url) as queue, child(tell_latency, url) as worker:
        worker.hear()
        client = WorkflowClient(queue)
        client.submit(RunSpec(input=now()))
        worker.hear()
        for _ in range(samples):
            pause_between(pause)
            began = time.perf_counter()
            client.submit(RunSpec(input=now()))
            submits.append((time.perf_counter() - began) * 1000)
            took.append(worker.hear())
    return took, submits


def _idle(bench: Bench, server: Server) -> Section:
    section = Section(
        "A worker that has nothing to do",
        f"One process of 16 workers over {bench.scale.idle_seconds:.0f} s, after it ran a step. Messages are the"
        " segments with data that its sockets have sent, as the kernel counts them, a pipeline being one; transactions"
        " are those that the server counts in its database; CPU is the process's own, and that of all the server's.",
    )
    messages, transactions, shares, server_shares = [], [], [], []
    for _ in range(bench.scale.rounds):
        with database(server, "idle") as url, child(_report_idle, url, bench.scale.idle_seconds) as worker:
            worker.hear()
            before, cpu_before = _transactions(server), cpu_of(server)
            sent, cpu, seconds = worker.hear()
            server_shares.append(100 * (cpu_of(server) - cpu_before) / seconds)
            # The question itself is asked in another database.
            transactions.append((_transactions(server) - before) / seconds)
            messages.append(sent / seconds)
            shares.append(100 * cpu / seconds)
    section.add("pg.idle", "messages to the server", messages, "/s")
    section.add("pg.idle.transactions", "transactions", transactions, "/s")
    section.add("pg.idle.cpu", "CPU of the worker, of one core", shares, "%")
    section.add("pg.idle.server", "CPU of the server, of one core", server_shares, "%")
    return section


def _transactions(server: Server) -> int:
    time.sleep(1.0)  # a session tells of its counts once a second at most
    question = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'idle'"
    return int(one(server, question))


def _report_idle(pipe: Connection, url: str, seconds: float) -> None:
    def run_step(_: Step) -> StepOutcome:
        return Succeed()

    with Queue.open(url) as queue, WorkflowRuntime(queue, run_step, max_concurrent_steps=16) as runtime:
        runtime.submit(RunSpec(input=b"")).wait(30.0)
        time.sleep(SETTLE_SECONDS)
        pipe.send("idle")
        time.sleep(1.0)
        sent, cpu, began = _sent(), time.process_time(), time.monotonic()
        time.sleep(seconds)
        pipe.send((_sent() - sent, time.process_time() - cpu, time.monotonic() - began))
        pipe.recv()  # until the parent kills this process


def _sent() -> int:
    """Return how many messages all sockets of this process have sent."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptor = os.dup(int(name))
        except OSError:
            continue  # the directory's own
        try:
            with socket.socket(fileno=descriptor) as link:
                if link.family in (socket.AF_INET, socket.AF_INET6):
                    info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += _DATA_SEGMENTS.unpack_from(info)[0]
        except OSError:
            os.close(descriptor)
    return total
