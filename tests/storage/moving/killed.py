"""A move that is killed at an instant: ``python -m tests.storage.moving.killed SOURCE TARGET INSTANT [abort]``."""

from __future__ import annotations

import os
import signal
import sys

from taquba_workflow_sync.storage.moving import calls


def main() -> None:
    source, target, instant, *abort = sys.argv[1:]

    def at(name: str) -> None:
        if name == instant:
            os.kill(os.getpid(), signal.SIGKILL)

    if abort:
        calls.abort(source, target, at)
    else:
        calls.move(source, target, 10, at)


if __name__ == "__main__":
    main()
