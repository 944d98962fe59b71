"""The supervisor of several processes: what it begins again and what not, its bounds, and how it ends them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync.cli import processes
from taquba_workflow_sync.cli.processes import Ended, supervise
from taquba_workflow_sync.cli.stopping import Stop
from taquba_workflow_sync.cli.worker import _together
from tests.support import in_thread, wait_until

pytestmark = pytest.mark.embedded

SCRIPT = Path(__file__).with_name("member.py")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def pass_until(self, condition: Callable[[], bool]) -> None:
        """Have time pass while something is waited for."""

        def passed() -> bool:
            self.now += 0.001
            return condition()

        wait_until(passed)


class Stage:
    """A supervisor of processes that do what a plan says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stop = Stop()
        self.notified: list[str] = []

    def plan(self, *lines: str) -> None:
        (self.directory / "plan").write_text("\n".join(lines))

    def begin(self, many: int = 1, **options: Any) -> Callable[[], Ended]:
        """Begin it; the function returned waits for its end."""
        given = {"grace": None, "deadline": None, **options}
        return in_thread(lambda: supervise([str(self.directory)], many, self.stop, **given))

    def kill(self) -> None:
        """Leave no process behind, whatever a test has found."""
        for path in self.directory.glob("arguments-*"):
            pid = path.read_text().partition(" ")[0]
            with suppress(OSError):  # it has ended, as it should
                if str(self.directory) in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(int(pid), signal.SIGKILL)

    def lives(self) -> int:
        return len(list(self.directory.glob("life-*")))

    def arguments(self, number: int) -> list[str]:
        """Return the pid of a process, and what it was begun with."""
        wait_until((self.directory / f"arguments-{number}").exists)
        wait_until(lambda: (self.directory / f"arguments-{number}").read_text())
        return (self.directory / f"arguments-{number}").read_text().split()

    def touch(self, name: str) -> None:
        (self.directory / name).touch()

    def wait_for(self, name: str) -> None:
        wait_until((self.directory / name).exists, name)

    def wait_for_lives(self, many: int) -> None:
        wait_until(lambda: self.lives() >= many, f"process {many}")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    monkeypatch.setattr(processes, "_COMMAND", (sys.executable, "-IS", str(SCRIPT)))
    monkeypatch.setattr(processes, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(processes, "notify", stage.notified.append)
    yield stage
    stage.stop.is_asked = True
    stage.kill()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(processes, "time", clock)
    return clock


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to whoever looks on, as it is said: what is captured must not be read while another thread writes,
    since what comes between the reading and the emptying is lost."""
    said: list[str] = []
    monkeypatch.setattr(processes.click, "echo", lambda line, **_: said.append(line))
    return said


def pauses(said: str) -> list[str]:
    return re.findall(r"another one begins in (\S+) s", said)


@pytest.mark.parametrize("code", [0, 3, 1, 130])
def test_what_ends_by_itself_is_begun_again_whatever_its_code(
    stage: Stage, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    stage.plan(f"ready exit {code}", "ready stay")
    end = stage.begin()
    stage.wait_for_lives(2)
    stage.stop.is_asked = True
    assert end() == Ended(0, [])
    assert f"has died with exit code {code}; another one begins" in capsys.readouterr().err


def test_what_was_told_to_end_by_others_is_begun_again_and_what_it_did_counts(stage: Stage) -> None:
    stage.plan("ready told 2 exit 0", "ready done 3 exit 0")
    assert stage.begin()() == Ended(0, [{"steps": 2}, {"steps": 3}])


@pytest.mark.parametrize("code", [0, 3])
def test_what_has_nothing_left_to_do_is_not_begun_again(stage: Stage, code: int) -> None:
    stage.plan(f"ready done 1 exit {code}", "ready go done 2 exit 0", "ready stay")
    end = stage.begin(2)
    first = Path(f"/proc/{stage.arguments(0)[0]}")
    wait_until(lambda: not first.exists())  # its end has been seen, and lets the other one go on
    stage.touch("go")
    assert end() == Ended(code, [{"steps": 1}, {"steps": 2}]) and stage.lives() == 2


@pytest.mark.parametrize(("code", "all_end_with"), [(0, 1), (3, 1), (7, 7), (130, 130)])
def test_what_dies_before_it_was_ready_ends_all(
    stage: Stage, capsys: pytest.CaptureFixture[str], code: int, all_end_with: int
) -> None:
    stage.plan(*([f"exit {code}"] * 2))
    assert stage.begin(2)() == Ended(all_end_with, [])
    assert f"has died with exit code {code} before it was ready" in capsys.readouterr().err
    assert stage.lives() <= 2


def test_one_that_a_signal_kills_before_it_was_ready_is_an_error(stage: Stage) -> None:
    stage.plan("go exit 0")
    end = stage.begin()
    os.kill(int(stage.arguments(0)[0]), signal.SIGKILL)
    assert end() == Ended(1, [])


def test_one_that_says_it_is_ready_and_dies_between_two_looks_was_ready(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.plan("ready exit 1", "ready stay")
    member = processes._Member([str(stage.directory)], None, [])
    member.look(may_begin=True)
    assert member._process is not None
    member._process.wait()
    found = iter([False, True])
    monkeypatch.setattr(member._listener, "hears_ready", lambda: next(found))
    member.look(may_begin=True)
    assert (member.code, member.is_ready) == (None, True)
    member.forget()


def test_the_pauses_before_one_that_dies_at_once_grow_up_to_a_bound(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "_LONGEST_WAIT", 0.005)
    stage.plan(*(["ready exit 1"] * 5), "ready done 1 exit 0")
    assert stage.begin()().code == 0
    assert pauses(capsys.readouterr().err) == ["0.001", "0.002", "0.004", "0.005", "0.005"]


def test_after_a_long_life_the_pauses_begin_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "_LONG_LIFE", 0.0)
    stage.plan(*(["ready exit 1"] * 3), "ready done 1 exit 0")
    assert stage.begin()().code == 0
    assert pauses(capsys.readouterr().err) == ["0.001"] * 3


def test_nothing_is_begun_again_before_its_pause_is_over(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    begun: list[object] = []
    begin = processes._Member._begin
    monkeypatch.setattr(processes._Member, "_begin", lambda member: begun.append(member) or begin(member))
    monkeypatch.setattr(processes, "_FIRST_WAIT", 10.0)
    stage.plan("ready exit 1", "ready stay")
    looked: list[int] = []
    end = stage.begin(changed=lambda: looked.append(stage.lives()) or False)
    wait_until(lambda: pauses("\n".join(lines)) == ["10"])
    clock.now += 9.9
    seen = len(looked)
    wait_until(lambda: len(looked) > seen + 2)
    assert len(begun) == 1
    clock.now += 0.2
    stage.wait_for_lives(2)
    stage.stop.is_asked = True
    assert end().code == 0


def test_readiness_is_told_once_and_only_when_all_are_ready(stage: Stage) -> None:
    stage.plan("ready runs 1 stay", "go ready stay")
    looked: list[int] = []
    end = stage.begin(2, changed=lambda: looked.append(stage.lives()) or False)
    stage.wait_for_lives(2)
    seen = len(looked)
    wait_until(lambda: len(looked) > seen + 5)
    assert stage.notified == []
    stage.touch("go")
    wait_until(lambda: stage.notified)
    seen = len(looked)
    wait_until(lambda: len(looked) > seen + 2)
    stage.stop.is_asked = True
    end()
    assert stage.notified == ["READY=1", "STOPPING=1"]


def test_what_does_not_end_in_its_grace_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PATIENCE", 0.0)
    stage.plan("ready deaf stay")
    end = stage.begin(grace=0.01)
    stage.wait_for("deaf")
    stage.stop.is_asked = True
    assert end().code == 0
    assert not Path(f"/proc/{stage.arguments(0)[0]}").exists()


def test_it_is_given_its_grace_and_some_patience_before_it_is_killed(stage: Stage, clock: Clock) -> None:
    stage.plan("ready slow exit 0")
    end = stage.begin(grace=60.0)
    stage.wait_for("slow")
    clock.now += 1_000_000  # what counts is the time since the stop
    stage.stop.is_asked = True
    stage.wait_for("asked")
    clock.now += 60.0 + processes._PATIENCE - 0.1
    stage.touch("go")
    end()
    assert (stage.directory / "ended").exists()


def test_without_a_grace_it_may_take_as_long_as_it_likes(stage: Stage, clock: Clock) -> None:
    stage.plan("ready slow exit 0")
    end = stage.begin()
    stage.wait_for("slow")
    stage.stop.is_asked = True
    stage.wait_for("asked")
    clock.now += 1_000_000
    stage.touch("go")
    assert end().code == 0
    assert (stage.directory / "ended").exists()


def test_a_failure_ends_the_others_in_order(stage: Stage) -> None:
    stage.plan("ready slow exit 0", "go exit 5")
    end = stage.begin(2)
    stage.wait_for("slow")
    stage.touch("go")
    assert end().code == 5
    assert (stage.directory / "ended").exists()


def test_a_stop_is_no_failure_whatever_they_exit_with(stage: Stage) -> None:
    stage.plan("ready slow exit 9")
    end = stage.begin()
    stage.wait_for("slow")
    stage.touch("go")
    stage.stop.is_asked = True
    assert end() == Ended(0, [])


def test_a_second_signal_kills_them_and_leaves_nothing(stage: Stage) -> None:
    stage.plan("ready deaf stay")
    member = processes._Member([str(stage.directory)], None, [])
    member.look(may_begin=True)
    stage.wait_for("deaf")
    processes._end_at_once([member])
    assert member._process is not None and member._process.wait() == -signal.SIGKILL
    assert not Path(member._listener.environment["NOTIFY_SOCKET"]).parent.exists()


def test_the_bound_of_runs_is_for_all_of_them_and_over_all_their_lives(stage: Stage) -> None:
    stage.plan("ready runs 1 runs 3 exit 1", "ready runs 2 slow exit 0", "ready stay")
    end = stage.begin(max_runs=5)
    stage.wait_for("asked")  # not before the second one has said so
    stage.touch("go")
    assert end().code == 0 and stage.lives() == 2


def test_the_bound_of_runs_adds_up_what_processes_do_beside_one_another(stage: Stage) -> None:
    stage.plan("ready runs 2 slow exit 0", "ready runs 3 slow exit 0")
    end = stage.begin(2, max_runs=5)
    stage.wait_for("asked")
    stage.touch("go")
    assert end().code == 0


def test_fewer_runs_than_the_bound_end_nothing(stage: Stage) -> None:
    stage.plan("ready runs 1 runs 4 exit 1", "ready stay")
    end = stage.begin(max_runs=5)
    stage.wait_for_lives(2)
    stage.stop.is_asked = True
    assert end().code == 0


def test_each_is_begun_with_the_time_that_is_left(stage: Stage, clock: Clock) -> None:
    stage.plan("ready go exit 1", "ready stay")
    end = stage.begin(deadline=clock.now + 3600)
    assert stage.arguments(0)[-2:] == ["--max-runtime", "3600.000000s"]
    clock.now += 600
    stage.touch("go")
    clock.pass_until(lambda: stage.lives() == 2)
    left = float(stage.arguments(1)[-1].removesuffix("s"))
    assert 0 < left <= 3000
    stage.stop.is_asked = True
    assert end().code == 0


def test_without_a_bound_of_time_none_is_given(stage: Stage) -> None:
    stage.plan("ready done 1 exit 0")
    stage.begin()()
    assert stage.arguments(0)[1:] == [str(stage.directory)]


@pytest.mark.parametrize("reloads", [False, True])
def test_what_ends_after_the_deadline_is_not_begun_again(stage: Stage, clock: Clock, reloads: bool) -> None:
    stage.plan("ready go exit 0", "ready stay")
    end = stage.begin(deadline=clock.now + 3600, changed=(lambda: False) if reloads else None)
    stage.arguments(0)
    clock.now += 3600
    stage.touch("go")
    assert end() == Ended(0, []) and stage.lives() == 1


def test_one_that_waits_to_be_begun_again_at_the_deadline_is_not(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.setattr(processes, "_FIRST_WAIT", 1e9)
    stage.plan("ready exit 1", "ready stay")
    end = stage.begin(deadline=clock.now + 3600)
    wait_until(lambda: bool(pauses("\n".join(lines))))
    clock.now += 3600
    assert end() == Ended(0, []) and stage.lives() == 1


def test_a_change_has_them_begin_anew_with_the_bounds_as_they_were(stage: Stage, clock: Clock) -> None:
    stage.plan("ready runs 3 slow exit 0", "ready runs 2 go stay")
    changes = once((stage.directory / "slow").exists)
    end = stage.begin(deadline=clock.now + 3600, max_runs=5, changed=lambda: next(changes, False))
    stage.wait_for("asked")
    stage.touch("go")
    assert end().code == 0
    assert stage.lives() == 2
    assert stage.arguments(1)[-1] == "3600.000000s"


def test_a_change_after_the_bound_begins_nothing(stage: Stage, clock: Clock) -> None:
    stage.plan("ready slow exit 0", "ready stay")
    end = stage.begin(deadline=clock.now + 3600, changed=lambda: clock.now >= 4600)
    stage.wait_for("slow")
    clock.now += 3600
    stage.wait_for("asked")
    stage.touch("go")
    assert end().code == 0 and stage.lives() == 1


def test_what_cannot_begin_waits_for_a_change(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.plan("exit 1", "ready stay")
    said: list[str] = []

    def has_failed() -> bool:
        said.append(capsys.readouterr().err)
        return "before it was ready" in "".join(said)

    changes = once(has_failed)
    end = stage.begin(changed=lambda: next(changes, False))
    wait_until(lambda: "READY=1" in stage.notified)
    assert stage.lives() == 2
    stage.stop.is_asked = True
    assert end() == Ended(0, [])
    assert ("".join(said) + capsys.readouterr().err).count("a file has changed") == 1


def once(condition: Callable[[], bool]) -> Iterator[bool]:
    """A change, as soon as the condition holds."""
    while not condition():
        yield False
    yield True


def fed(member: processes._Member, data: bytes) -> None:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    member._read(read)


def test_what_is_left_is_what_the_last_to_end_saw(stage: Stage) -> None:
    counts: list[dict[str, Any]] = []
    first, second = (processes._Member([], None, counts) for _ in range(2))
    left = {"scheduled": 0, "elsewhere": 0, "dead": 0}
    did = {"succeeded": 1, "failed": 0, "cancelled": 0, "steps": 2}
    fed(second, json.dumps({"counts": {**did, **left, "elsewhere": 1}, "is_done": True}).encode() + b"\n")
    fed(first, json.dumps({"counts": {**did, **left, "dead": 1}, "is_done": True}).encode() + b"\n")
    assert _together(counts) == {
        "succeeded": 2, "failed": 0, "cancelled": 0, "steps": 4, "scheduled": 0, "elsewhere": 0, "dead": 1
    }  # fmt: skip
    first.forget()
    second.forget()


def test_half_a_report_of_one_that_was_killed_is_none(stage: Stage) -> None:
    counts: list[dict[str, Any]] = []
    member = processes._Member([], None, counts)
    fed(member, b'{"counts": {}, "is_d')
    assert counts == [] and not member._is_done
    member.forget()


def test_a_report_that_nobody_reads_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    reports = processes.Reports(write)
    reports.ended_runs(1)
    os.close(write)
    processes.Reports(None).ended_runs(1)
    assert reports.are_wanted and not processes.Reports(None).are_wanted


def test_only_news_are_told() -> None:
    read, write = os.pipe()
    reports = processes.Reports(write)
    for many in (0, 1, 1, 2):
        reports.ended_runs(many)
    os.close(write)
    with open(read, "rb") as pipe:
        assert pipe.read().splitlines() == [b'{"ended_runs": 1}', b'{"ended_runs": 2}']


def test_a_stop_of_what_could_not_begin_and_waits_for_a_change_is_no_failure(stage: Stage, lines: list[str]) -> None:
    stage.plan("exit 1")
    looked: list[int] = []
    end = stage.begin(changed=lambda: looked.append(0) or False)
    wait_until(lambda: any("before it was ready" in line for line in lines))
    seen = len(looked)
    wait_until(lambda: len(looked) > seen + 1)  # it waits, and knows how it failed
    stage.stop.is_asked = True
    assert end() == Ended(0, [])


def test_what_is_told_to_stop_says_by_its_code_that_a_human_is_needed(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.plan("ready slow told 1 exit 3")
    end = stage.begin()
    stage.wait_for("slow")
    stage.touch("go")
    stage.stop.is_asked = True
    assert end() == Ended(3, [{"steps": 1}])
    assert capsys.readouterr().err == ""
