"""Lets atheris look for bytes that break a decoder.

``python -m tests.faults.hostile.fuzzing TARGET SECONDS DIRECTORY SEED``
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

# Before anything else imports it: only what is instrumented tells atheris where an input has led.
with atheris.instrument_imports(include=["taquba_workflow_sync", "email"]):
    from tests.faults.hostile import decoders


def main() -> None:
    """Fuzz one target; prints a line that begins with FOUND, and ends with an error, if some bytes break it."""
    target, seconds, place, seed = sys.argv[1:5]
    for number, data in enumerate(decoders.CORPUS[target]):
        (Path(place) / f"{number:03}").write_bytes(data[:512])

    def one(data: bytes) -> None:
        found = decoders.violation(target, data)
        if found is not None:
            print(f"FOUND {found}", flush=True)
            raise decoders.Undecoded(found)

    options = [f"-max_total_time={seconds}", "-max_len=512", f"-seed={seed}", "-verbosity=0", "-print_final_stats=1",
               f"-artifact_prefix={place}/"]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, place], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
