"""Measure everything in one run: `python -m benchmarks`, from the root of the repository.

    python -m benchmarks                       all of it, about ten minutes, into benchmarks/RESULTS.md
    python -m benchmarks --quick               the same, small and noisy, printed only
    python -m benchmarks --only steps          one theme, printed only

A theme that fails is named in the page, its traceback is printed, and the others go on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    claims,
    console,
    flask_submit,
    flows,
    footprint,
    groups,
    latency,
    limits,
    machine,
    memo,
    peer_rates,
    recovery,
    signals,
    step_profile,
    steps,
    submits,
    waiting,
)
from benchmarks.figures import FULL, QUICK, Bench, Section
from benchmarks.report import render

RESULTS = Path(__file__).with_name("RESULTS.md")
THEMES: dict[str, Callable[[Bench], list[Section]]] = {
    "steps": steps.measure,
    "submits": submits.measure,
    "latency": latency.measure,
    "waiting": waiting.measure,
    "recovery": recovery.measure,
    "footprint": footprint.measure,
    "claims": claims.measure,
    "profile": step_profile.measure,
    "memo": memo.measure,
    "flows": flows.measure,
    "signals": signals.measure,
    "limits": limits.measure,
    "groups": groups.measure,
    "flask": flask_submit.measure,
    "console": console.measure,
}


def main() -> int:
    options = _options()
    output = options.output
    if output is None and not (options.quick or options.only):
        output = RESULTS
    # Below the current directory: /tmp may be memory, where an fsync costs nothing.
    with tempfile.TemporaryDirectory(prefix=".benchmarks-", dir=options.dir) as place:
        bench = Bench(Path(place), QUICK if options.quick else FULL)
        about = machine.describe(bench.place)
        sections, missing = _measure(bench, options)
    page = render(about, sections, missing)
    print(page)
    if output is not None:
        output.write_text(page, encoding="utf-8")
    return 1 if any("failed" in each for each in missing) else 0


def _measure(bench: Bench, options: argparse.Namespace) -> tuple[list[Section], list[str]]:
    sections: list[Section] = []
    missing: list[str] = []
    themes = dict(THEMES)
    if not options.skip_peers:
        themes["peers"] = lambda bench: _measure_peers(bench, options.peer_cache, sections)
    for name in [*THEMES, "peers"]:
        if name not in themes or (options.only and name not in options.only):
            missing.append(name)
            continue
        began = time.monotonic()
        _say(name)
        try:
            sections += themes[name](bench)
        except Exception:
            # One theme that fails must not cost the ten minutes of the others.
            traceback.print_exc()
            missing.append(f"{name}, which failed")
        _say(f"{name} took {time.monotonic() - began:.0f} s")
    return sections, missing


def _measure_peers(bench: Bench, cache: Path | None, sections: list[Section]) -> list[Section]:
    ours = next((each.value for section in sections for each in section.figures if each.key == "noop.16"), None)
    # Outside the directory measured, with the same life: a cache of environments that nobody asked to keep.
    with tempfile.TemporaryDirectory(prefix="peers-") as temporary:
        return peer_rates.measure(bench, cache or Path(temporary), ours, _say)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it works")
    parser.add_argument("--only", action="append", choices=[*THEMES, "peers"], metavar="NAME", help="only this theme")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--dir", type=Path, default=Path(), help="where stores are made (default: here)")
    parser.add_argument("--peer-cache", type=Path, help="where the peers' environments are kept (default: nowhere)")
    parser.add_argument("--output", type=Path, help="write the page there (default of a full run: RESULTS.md)")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
