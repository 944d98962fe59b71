"""What it was measured on: named without a directory, an address or a host."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import taquba_workflow_sync

ROOT = Path(__file__).resolve().parent.parent
DEPENDENCIES = ("diskcache", "filelock", "requests")
BLOCK = b"\0" * 4096
SYNC_SECONDS = 1.0


def describe(place: Path) -> Mapping[str, str]:
    """Describe the machine and the software; `place` is a directory on the disk that was measured."""
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "filesystem": _filesystem(place),
        "fdatasync of 4 KiB": f"{syncs_per_second(place):,.0f}/s",
        "load average at the start": load,
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "SQLite": sqlite3.sqlite_version,
        "packages": ", ".join([f"taquba-workflow-sync {_own_version()}", *(f"{p} {version(p)}" for p in DEPENDENCIES)]),
    }


def syncs_per_second(place: Path, seconds: float = SYNC_SECONDS) -> float:
    """Append 4 KiB to a file and wait for the disk, over and over; return how often a second."""
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
    with tempfile.TemporaryFile(dir=place, buffering=0) as file:
        times = 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            file.write(BLOCK)
            sync(file.fileno())
            times += 1
        return times / took


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown CPU"


def _filesystem(place: Path) -> str:
    """Return the type of the filesystem that holds `place`."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    real = place.resolve()
    best, kind = -1, "unknown"
    for line in lines:
        _, mount, found, *_ = line.split()
        # The last of equals: a later mount on the same place hides the earlier one.
        if real.is_relative_to(mount) and len(mount) >= best:
            best, kind = len(mount), found
    return kind


def _own_version() -> str:
    """The version of the tree that is measured, whatever is installed."""
    return taquba_workflow_sync.__version__
