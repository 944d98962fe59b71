"""The long forms of the laboratory, one after the other, and a table of what they did: ``python -m tests.faults.soak``.

Exit code 1 if anything was lost, doubled or otherwise violated; the stores and logs of such a part are kept.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.figures import Figures, LongForm

#: Where each part's long form is, and which share of the time it gets.
PARTS = {
    "process death": ("tests.faults.storm", 0.12),
    "features": ("tests.faults.features.storm", 0.12),
    "power loss": ("tests.faults.power.cuts", 0.14),
    "disk and I/O errors": ("tests.faults.disk.soak", 0.08),
    "schedules": ("tests.faults.schedules.long_form", 0.04),
    "WAL reset": ("tests.faults.wal.long", 0.09),
    "time": ("tests.faults.clocks.storm", 0.07),
    "hostile input": ("tests.faults.hostile.long", 0.05),
    "load": ("tests.faults.load.long", 0.19),
    "server": ("tests.faults.server.long", 0.1),
}


_NOTES = 20


def run(part: str, minutes: float, directory: Path) -> Figures:
    """Run one part; an exception of its own is a violation, too."""
    long_form: LongForm = importlib.import_module(PARTS[part][0]).long_form
    directory.mkdir()
    try:
        figures = long_form(minutes, directory)
    except Exception:
        figures = Figures(part)
        figures.violations.append(f"the part itself failed:\n{traceback.format_exc()}")
    figures.part = part
    return figures


def table(results: list[tuple[Figures, float]]) -> str:
    """Return the summary as Markdown."""
    lines = [
        "| part | minutes | faults injected | runs acknowledged | lost | doubled | invariants checked | violations |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    total = Figures("all")
    for figures, seconds in results:
        lines.append(_row(figures, seconds))
        total.add(figures)
    lines.append(_row(total, sum(seconds for _, seconds in results), faults=f"{total.faults.total():,}"))
    return "\n".join(lines)


def _row(figures: Figures, seconds: float, faults: str | None = None) -> str:
    said = ", ".join(f"{count:,} {name}" for name, count in figures.faults.most_common()) or "-"
    return (
        f"| {figures.part} | {seconds / 60:.1f} | {said if faults is None else faults} | {figures.acknowledged:,} |"
        f" {figures.lost} | {figures.doubled} | {figures.checked.total():,} | {len(figures.violations)} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long all parts take together, about")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part, which gets all the time")
    parser.add_argument("--dir", type=Path, help="where the stores are made; default: a temporary directory")
    options = parser.parse_args()
    chosen = options.only or list(PARTS)
    shares = sum(PARTS[part][1] for part in chosen)
    place = Path(tempfile.mkdtemp(prefix="taquba-soak-", dir=options.dir))
    results: list[tuple[Figures, float]] = []
    for part in chosen:
        print(f"-- {part}", file=sys.stderr, flush=True)
        directory = place / part.replace(" ", "-").replace("/", "-")
        began = time.monotonic()
        figures = run(part, options.minutes * PARTS[part][1] / shares, directory)
        results.append((figures, time.monotonic() - began))
        if not figures.violations:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    print()
    print(table(results))
    print()
    for figures, _ in results:
        for note in figures.notes[:_NOTES]:
            print(f"{figures.part}: {note}")
        if len(figures.notes) > _NOTES:
            print(f"{figures.part}: and {len(figures.notes) - _NOTES} notes more")
    violations = [f"{figures.part}: {each}" for figures, _ in results for each in figures.violations]
    for each in violations:
        print(f"VIOLATION {each}", file=sys.stderr)
    if violations:
        print(f"what the failed parts left is in {place}", file=sys.stderr)
        return 1
    shutil.rmtree(place, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
