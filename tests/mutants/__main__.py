"""Try the mutants: ``python -m tests.mutants [--only TEXT] [--processes N]``."""

from __future__ import annotations

import argparse
import queue
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.mutants import guards, statements
from tests.mutants.mutant import Copy, Mutant, Verdict


def try_all(mutants: list[Mutant], processes: int) -> list[Verdict]:
    """Try each, ``processes`` at a time: the tests run in processes of their own, each in its copy of the project."""
    copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    every = [Copy() for _ in range(processes)]
    for copy in every:
        copies.put(copy)

    def try_one(mutant: Mutant) -> Verdict:
        copy = copies.get()
        began = time.monotonic()
        try:
            verdict = copy.try_out(mutant)
        finally:
            copies.put(copy)
        outcome = "killed" if verdict.killed_by else "LIVES "
        took = f"{time.monotonic() - began:4.0f} s"
        print(f"{outcome}  {took}  {mutant.name}  {verdict.killed_by or ''}", flush=True)
        return verdict

    try:
        # A test that fails by itself would kill whatever lives.
        if (failing := every[0].first_failure()) is not None:
            raise SystemExit(f"nothing can be told: without any mutant {failing}")
        with ThreadPoolExecutor(processes) as pool:
            return list(pool.map(try_one, mutants))
    finally:
        for copy in every:
            copy.close()


def main() -> None:
    """Try them, and exit with 1 if any lives."""
    parser = argparse.ArgumentParser(description="Break each guard and see a test fail.")
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    chosen = [each for each in (*statements.mutants(), *guards.mutants()) if options.only in each.name]
    verdicts = try_all(chosen, options.processes)
    alive = [verdict.mutant.name for verdict in verdicts if verdict.killed_by is None]
    print(f"{len(verdicts)} mutants, {len(alive)} live")
    sys.exit(1 if alive or not verdicts else 0)


if __name__ == "__main__":
    main()
