"""A process whose every operation can be made to fail, one at a time, and what must hold after each."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.checker import check
from tests.faults.disk.calls import judge
from tests.faults.disk.volume import Volume
from tests.faults.interpose import Recorder
from tests.faults.test_crash_points import dump
from tests.processes.harness import Child

#: By name: what of each call fails, once, and how; each is tried at the first such operation, the second, and so on.
FAULTS: dict[str, dict[str, Any]] = {
    "fails": {"operations": "open write fsync ftruncate unlink", "fails": errno.EIO},
    "is synced, and said not to be": {"operations": "fsync", "fails": errno.EIO, "after": True},
    "is cut short": {"operations": "write", "suffix": "-wal", "partial": 100, "fails": errno.ENOSPC},
}


class Bench:
    """An actor under the interposer, and a directory for each test's stores."""

    def __init__(self, directory: Path, volume: Volume) -> None:
        self.place = self._volume = volume.place.resolve()
        self._errors = directory / "stderr"
        self.recorder = Recorder(directory / "recorder", watched=self._volume, data=False)
        self.recorder.pause_recording()
        self.actor = self._start()

    def _start(self) -> Child:
        actor = Child("tests.faults.disk.actor", [], errors=self._errors, environment=self.recorder.environment())
        actor.hear("ready")
        return actor

    @contextmanager
    def prepared(self, name: str, checkpoint_bytes: int) -> Iterator[Path]:
        """Have the actor make a store ready for a call; it survives a test that fails."""
        self.place = self._volume / name
        self.place.mkdir()
        try:
            self.tell("prepare", name, self.place, checkpoint_bytes)
            yield self.place
        except BaseException:
            self.actor.destroy()
            self.actor = self._start()
            raise
        finally:
            self.recorder.clear()
            shutil.rmtree(self.place)

    def tell(self, *words: object) -> dict[str, str]:
        self.actor.tell(*words)
        answer = " ".join(self.actor.hear(str(words[0])))
        return json.loads(answer) if answer else {}

    def close(self) -> None:
        self.actor.destroy()
        self.recorder.close()

    def act_and_die(self, place: str, **fault: Any) -> dict[str, str]:
        """Have the call made by a process in which its sync fails, and which is killed then; return its answer."""
        self.actor.tell("act_and_die", place)
        self.actor.hear("ready")
        log = self.place / place / "db" / "cache.db-wal"
        synced = log.stat().st_size
        with self.recorder.rule("fsync", "-wal", fails=errno.EIO, times=1, **fault) as rule:
            self.actor.tell("go")
            answer: dict[str, str] = json.loads(" ".join(self.actor.hear("answer")))
            assert rule.injected == 1
        self.actor.tell("die")
        self.actor.hear("act_and_die")
        if not fault.get("after"):
            os.truncate(log, synced)  # what was not synced is gone, as after a power cut
        return answer


def strike_everywhere(bench: Bench, place: Path, fault: dict[str, Any]) -> int:
    """Have the first matching operation fail, then the second, ..., each in a store of its own; return how many."""
    bench.tell("copy", "whole")
    assert bench.tell("act")["came"] == "done"
    bench.tell("close")
    before, after = dump(place / "template"), dump(place / "whole")
    for point in range(1000):
        root = place / f"at-{point}"
        bench.tell("copy", root.name)
        rule = bench.recorder.add(skip=point, times=1, **fault)
        answer = bench.tell("act")
        rule.remove()
        struck = rule.injected
        wrong = judge(answer, before, after, dump(root))
        assert wrong is None, f"operation {point}: {wrong}"
        check(root, [], is_idle=False).assert_clean()
        if answer["came"] != "done":
            again = bench.tell("act")
            assert again["came"] == "done", f"operation {point}: {answer}, then {again}"
        assert bench.tell("close")["came"] == "done"
        assert dump(root) == after
        shutil.rmtree(root)
        if not struck:
            return point
    raise AssertionError("there is no end of it")
