"""What the library costs by being there: import time, an idle worker's CPU, a worker's memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.children import child
from benchmarks.figures import Bench, Figure, Section
from benchmarks.machine import ROOT
from benchmarks.steps import PAYLOAD
from taquba_workflow_sync import Continue, Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime

IMPORTS = 11
# The worker has done something and has had time to become idle.
SETTLE_SECONDS = 3.0
BACKLOG_SECONDS = 5.0
IMPORT = "import time; t = time.perf_counter(); from taquba_workflow_sync import Queue; print(time.perf_counter() - t)"


def measure(bench: Bench) -> list[Section]:
    section = Section(
        "Footprint",
        f"Import: {IMPORTS} fresh interpreters, the import statement alone, files compiled. Idle: CPU time of a worker"
        f" process of 16 threads over {bench.scale.idle_seconds:.0f} s, after it ran a step.",
    )
    section.add("import", "from taquba_workflow_sync import Queue", _import_times(bench), "ms")
    shares, switches = zip(*(_idle(bench) for _ in range(bench.scale.rounds)), strict=True)
    section.add("idle", "idle worker, of one core", shares, "%")
    section.add("idle.wakes", "idle worker, voluntary context switches", switches, "/s")
    return [section]


def memory_over(store: Path, waiting: int) -> list[Figure]:
    """Measure the memory of a worker process that works on a backlog for some seconds."""
    with child(_report_memory, store) as worker:
        before, after, peak, steps = worker.hear()
    what = f"worker, {waiting:,} waiting"
    return [
        Figure(
            "memory", f"{what}: resident, after {steps:,} steps", [after], "MiB", after / before, "its imports alone"
        ),
        Figure("memory.peak", f"{what}: resident, at most", [peak], "MiB", peak / before, "its imports alone"),
    ]


def _import_times(bench: Bench) -> list[float]:
    """Return the milliseconds of an import in fresh interpreters, after one that fills the cache of compiled files."""
    with tempfile.TemporaryDirectory(prefix="bytecode-", dir=bench.place) as cache:
        # A cache of our own, written whatever the environment says: an installed package is compiled already.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(cache).resolve())}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        times = [_import_ms(environment) for _ in range(IMPORTS + 1)]
    return times[1:]


def _import_ms(environment: dict[str, str]) -> float:
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout) * 1000


def _idle(bench: Bench) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="idle-", dir=bench.place) as place:
        with child(_report_idle, Path(place), bench.scale.idle_seconds) as worker:
            share, switches = worker.hear()
    return share, switches


def _report_idle(pipe: Connection, store: Path, seconds: float) -> None:
    with Queue.open(store) as queue, WorkflowRuntime(queue, lambda _: Succeed()) as runtime:
        runtime.submit(RunSpec(input=b"")).wait(30.0)
        time.sleep(SETTLE_SECONDS)
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        time.sleep(seconds)
        after, took = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pipe.send((100 * cpu / took, (after.ru_nvcsw - before.ru_nvcsw) / took))


def _report_memory(pipe: Connection, store: Path) -> None:
    before = _resident()["VmRSS"]
    with Queue.open(store) as queue:
        steps: list[None] = []

        def run_step(_: Step) -> StepOutcome:
            steps.append(None)
            return Continue(PAYLOAD)

        with WorkflowRuntime(queue, run_step):
            time.sleep(BACKLOG_SECONDS)
            after = _resident()
    pipe.send((before, after["VmRSS"], after["VmHWM"], len(steps)))


def _resident() -> dict[str, float]:
    """Return resident memory in MiB, now (VmRSS) and at most (VmHWM).

    `ru_maxrss` will not do on Linux: a child starts with that of the process it was started from.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # macOS, where ru_maxrss is in bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {"VmRSS": peak, "VmHWM": peak}
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}
