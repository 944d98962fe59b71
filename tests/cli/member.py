"""What the tests of the supervisor begin in the place of a worker: the n-th one does what line n of a plan says."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any


def life(directory: Path) -> int:
    """Return which one this is."""
    number = 0
    while True:
        try:
            (directory / f"life-{number}").open("x").close()
        except FileExistsError:
            number += 1
        else:
            return number


def say(report: dict[str, Any]) -> None:
    os.write(int(os.environ["TAQUBA_ANSWER"]), json.dumps(report).encode() + b"\n")


def wait_for(path: Path) -> None:
    while not path.exists():
        threading.Event().wait(0.005)


def main(directory: Path) -> None:
    number = life(directory)
    words = iter((directory / "plan").read_text().splitlines()[number].split())
    (directory / f"arguments-{number}").write_text(" ".join([str(os.getpid()), *sys.argv[1:]]))
    for word in words:
        match word:
            case "ready":
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
            case "exit":
                os._exit(int(next(words)))
            case "runs":
                say({"ended_runs": int(next(words))})
            case "done" | "told":
                say({"counts": {"steps": int(next(words))}, "is_done": word == "done"})
            case "go":
                wait_for(directory / "go")
            case "stay":
                threading.Event().wait()
            case "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                (directory / "deaf").touch()
            case "slow":
                signal.signal(signal.SIGTERM, lambda number, frame: (directory / "asked").touch())
                (directory / "slow").touch()
                wait_for(directory / "asked")
                wait_for(directory / "go")
                (directory / "ended").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
