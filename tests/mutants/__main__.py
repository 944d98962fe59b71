"""Try the mutants: ``python -m tests.mutants [--only TEXT] [--processes N]``."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence

from tests.mutants import guards, statements
from tests.mutants.mutant import Copy, Mutant, Verdict


def _try(mutants: Sequence[Mutant]) -> list[Verdict]:
    copy = Copy()
    try:
        verdicts = []
        for mutant in mutants:
            verdict = copy.try_out(mutant)
            print(
                f"{'killed' if verdict.killed_by else 'LIVES '}  {mutant.name}  {verdict.killed_by or ''}", flush=True
            )
            verdicts.append(verdict)
        return verdicts
    finally:
        copy.close()


def main() -> None:
    """Try them, and exit with 1 if any lives."""
    parser = argparse.ArgumentParser(description="Break each guard and see a test fail.")
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    chosen = [each for each in (*statements.mutants(), *guards.mutants()) if options.only in each.name]
    parts = [chosen[number :: options.processes] for number in range(options.processes)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        verdicts = [verdict for part in pool.map(_try, parts, chunksize=1) for verdict in part]
    alive = [verdict.mutant.name for verdict in verdicts if verdict.killed_by is None]
    print(f"{len(verdicts)} mutants, {len(alive)} live")
    sys.exit(1 if alive else 0)


if __name__ == "__main__":
    main()
