"""The theme as a whole: its parts one after the other on one server, and its page."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg

from benchmarks import machine
from benchmarks.figures import Bench, Section
from benchmarks.machine import ROOT
from benchmarks.postgres import claims, costs, rates, saturation, waking
from benchmarks.postgres.goals import GOALS
from benchmarks.postgres.server import SETTINGS, one, server_on
from benchmarks.report import render
from tests.postgres import Server

PAGE = Path(__file__).parent.parent / "POSTGRES.md"
HEAD = """# Results of the engine for several machines

Written by `python -m benchmarks --only postgres`, in one run, everything on one machine: the server, the workers and
the peers share its cores. Machines are noisy: only ratios within one run count. A figure is the median of its rounds;
where there were several, the least and the greatest follow in brackets. What is missed is looked into in
[SHORTFALLS.md](SHORTFALLS.md).
"""


def measure(bench: Bench, cache: Path | None, *, peers: bool, say: Callable[[str], None]) -> tuple[str, bool]:
    """Measure everything and return the page, and whether all of it could be measured."""
    sections: list[Section] = []
    missing: list[str] = []
    with ExitStack() as stack:
        if cache is None:
            cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")))
        server = stack.enter_context(server_on(bench.place))
        about = _about(bench, server)
        for name, part in _parts(bench, cache, peers=peers, say=say):
            say(name)
            try:
                sections += part(server)
            except Exception:
                traceback.print_exc()
                missing.append(f"{name}, which failed")
    say("costs")
    try:
        sections += costs.measure(bench)
    except Exception:
        traceback.print_exc()
        missing.append("costs, which failed")
    about |= {
        "fdatasync of 4 KiB, at the end": f"{machine.syncs_per_second(bench.place):,.0f}/s",
        "load average at the end": ", ".join(f"{each:.2f}" for each in os.getloadavg()),
    }
    if not peers:
        missing.append("peers")
    return render(about, sections, missing, head=HEAD, goals=GOALS), not any("failed" in each for each in missing)


def _parts(
    bench: Bench, cache: Path, *, peers: bool, say: Callable[[str], None]
) -> list[tuple[str, Callable[[Server], list[Section]]]]:
    return [
        ("rates", lambda server: rates.measure(bench, server, cache, peers, say)),
        ("waking", lambda server: waking.measure(bench, server)),
        ("saturation", lambda server: saturation.measure(bench, server)),
        ("claims", lambda server: claims.measure(bench, server, say)),
    ]


def _about(bench: Bench, server: Server) -> dict[str, str]:
    about: Mapping[str, str] = machine.describe(bench.place)
    settings = ", ".join(f"{name}={value}" for name, value in SETTINGS.items())
    return {
        **{name: value for name, value in about.items() if name != "SQLite"},
        "commit": _commit(),
        "PostgreSQL": f"{one(server, 'SHOW server_version')}, {settings}",
        "psycopg": psycopg.__version__,
    }


def _commit() -> str:
    """Return the commit that is measured, and whether anything differs from it."""
    try:
        head, changes = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return "unknown"
    return f"{head}, with changes" if changes else head
