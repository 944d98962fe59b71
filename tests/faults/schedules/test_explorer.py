"""The explorer itself: it counts right, repeats itself, sees a deadlock, and finds what is broken on purpose."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from math import comb
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync.storage.embedded import lifecycle, owners, store
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transitions import advance
from taquba_workflow_sync.storage.relational.transitions import claim as claiming

from .explorer import Explorer, Outcome, Result, Scenario, Stage, choices_of
from .instruments import TIMED, YieldingLock, instrumented
from .scenarios import EVERY_SCENARIO, NAMED, WITH_THREE_ACTORS
from .scheduler import Branches, Policy, Schedule, always, first, reads, start_names, writes, yield_point

FIRST_OF_EACH = (*(group[0] for group in NAMED.values()), *WITH_THREE_ACTORS)


class Toy(Stage):
    """A stage without a store: each actor takes steps of its own, and what comes of it is their order."""

    def __init__(self, steps: Mapping[str, Callable[[list[str]], None]]) -> None:
        self.scenario = Scenario("toy", lambda _: None, dict.fromkeys(steps, ()))
        self._steps = steps

    def execute(
        self,
        choices: Sequence[str] = (),
        *,
        branches: Branches = always,
        policy: Policy = first,
        actors: Any = None,
    ) -> Result:
        made: list[str] = []

        def body(steps: Callable[[list[str]], None]) -> Callable[[], None]:
            return lambda: steps(made)

        bodies = {name: body(steps) for name, steps in self._steps.items()}
        schedule = Schedule(bodies, choices, branches, policy)
        schedule.run()
        return Result(schedule, Outcome((("order", tuple(made)),), ()), {}, schedule.violations)


def writer(name: str, steps: int, resource: str = "one") -> Callable[[list[str]], None]:
    def run(made: list[str]) -> None:
        for number in range(steps):
            yield_point(f"{name}{number}", writes(resource))
            made.append(name)

    return run


def orders(toy: Toy, *, reduced: bool, bound: int | None = None) -> tuple[list[Any], Explorer]:
    explorer = Explorer(toy, reduced=reduced)
    seen: list[Any] = []
    explorer.judge = lambda result, kind="": (explorer._learn(result.schedule), seen.append(result.outcome))  # type: ignore[method-assign]
    explorer.explore(bound)
    return seen, explorer


@pytest.mark.parametrize(("first_steps", "second_steps"), [(1, 1), (2, 3), (4, 4)])
def test_every_interleaving_is_run_once(first_steps: int, second_steps: int) -> None:
    toy = Toy({"a": writer("a", first_steps), "b": writer("b", second_steps)})
    seen, _ = orders(toy, reduced=False)
    assert len(seen) == len(set(seen)) == comb(first_steps + second_steps, first_steps)


def test_a_bound_leaves_out_what_takes_more_preemptions() -> None:
    toy = Toy({"a": writer("a", 3), "b": writer("b", 3)})
    counts = [len(orders(toy, reduced=False, bound=bound)[0]) for bound in range(6)]
    assert counts[0] == 2
    assert counts == sorted(counts)
    assert counts[-1] == comb(6, 3)


def test_steps_that_concern_nobody_else_are_no_choices_and_no_outcome_is_lost() -> None:
    def mixed(name: str) -> Callable[[list[str]], None]:
        def run(made: list[str]) -> None:
            yield_point("private", writes(name))
            yield_point("looks", reads("quiet"))
            yield_point("shared", writes("one"))
            made.append(name)

        return run

    toy = Toy({"a": mixed("a"), "b": mixed("b")})
    all_of_them, _ = orders(toy, reduced=False)
    fewer, explorer = orders(toy, reduced=True)
    assert set(fewer) == set(all_of_them)
    assert len(all_of_them) == comb(6, 3) > 2 * len(fewer)
    assert explorer.report.complete_to is None


def test_a_deadlock_is_seen_and_ends() -> None:
    def crossed(one: str, two: str) -> Callable[[list[str]], None]:
        def run(_: list[str]) -> None:
            with locks[one]:
                with locks[two]:
                    pass

        return run

    locks: dict[str, YieldingLock] = {}
    toy = Toy({"a": crossed("x", "y"), "b": crossed("y", "x")})
    ends = set()
    for choices in ("", "aabb", "ab", "abab"):
        start_names("T")
        locks.update(x=YieldingLock(), y=YieldingLock())
        result = toy.execute(choices)
        ends.add(tuple("nobody can go on" in each for each in result.violations))
    assert ends == {(), (True,)}


@pytest.mark.parametrize("scenario", FIRST_OF_EACH, ids=lambda scenario: scenario.name)
def test_a_replay_makes_the_same_steps(scenario: Scenario, tmp_path: Path) -> None:
    with instrumented() as instruments:
        stage = Stage(scenario, tmp_path / "stage", instruments)
        try:
            walked = Explorer(stage, reduced=False).walk_once(7, 0)
            again = stage.execute(choices_of(walked.choices))
            assert again.schedule.trace == walked.schedule.trace
            assert again.outcome == walked.outcome
            assert again.choices == walked.choices
        finally:
            stage.close()


def test_no_module_of_the_engine_goes_by_another_clock() -> None:
    # boot_clock asks for CLOCK_BOOTTIME by itself, presence is given its clock, that of connections stands still.
    excused = {"boot_clock", "presence", "connections"}
    engine = Path(store.__file__).parent
    files = [*engine.rglob("*.py"), *(engine.parent / "relational").rglob("*.py")]
    named = {path.stem for path in files if re.search("^import time$", path.read_text(), re.MULTILINE)}
    assert named - excused == {module.__name__.rpartition(".")[2] for module in TIMED} - {"handle"}


def test_every_kind_of_step_is_a_moment_to_switch(tmp_path: Path) -> None:
    labels = set()
    wanted = ("reap vs cancel of a dead owner's claim", "settle vs reap of a step that runs in this process",
              "group commit of two inserts", "open vs open of nothing",
              "close vs a write on the same handle")  # fmt: skip
    for number, scenario in enumerate(each for each in EVERY_SCENARIO if each.name in wanted):
        with instrumented() as instruments:
            stage = Stage(scenario, tmp_path / str(number), instruments)
            try:
                labels |= {step.label for _, step in stage.execute().schedule.trace}
            finally:
                stage.close()
    missing = [
        kind
        for kind in (
            "BEGIN IMMEDIATE", "BEGIN", "COMMIT", "SELECT", "UPDATE", "INSERT", "PRAGMA", "CREATE", "connect", "close",
            "lock owners/", "unlock owners/", "lock open.lock", "listdir owners", "unlink owners/", "is_file owners/",
            "exists db", "mkdir", "os.stat db/cache.db", "os.open db/cache.db", "token in running",
            "discard from running", "read the clock", "read the monotonic clock", "acquire lock", "release lock",
            "come to gate", "leave gate", "look into gate", "any in shut gate", "come to room", "leave room",
            "look at room", "count room", "append to line", "popleft from line", "remove from line", "any in line",
            "is_done?", "is_done!", "start a clerk", "look at lock", "wait for wake-up", "notify wake-up",
        )
        if not any(label.startswith(kind) for label in labels)
    ]  # fmt: skip
    assert missing == []


def test_a_clerk_commits_one_call_alone_and_two_together(tmp_path: Path) -> None:
    (scenario,) = (each for each in EVERY_SCENARIO if each.name == "group commit of two inserts")
    commits = set()
    with instrumented() as instruments:
        stage = Stage(scenario, tmp_path / "stage", instruments)
        try:
            for number in range(20):
                trace = Explorer(stage, reduced=False).walk_once(1, number).schedule.trace
                commits.add(tuple(name for name, step in trace if step.label == "COMMIT"))
        finally:
            stage.close()
    assert {("k",), ("k", "k")} <= commits


# -- what is broken on purpose must be found --------------------------------------------------------------------------


def _never_refuses_active_runs(patch: pytest.MonkeyPatch) -> None:
    # The unique index still stands: what was a refusal becomes an error of the store.
    patch.setattr(sql, "FIND_ACTIVE_RUN", sql.FIND_ACTIVE_RUN + " AND 0")


def _deferred(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sql, "BEGIN", "BEGIN")


def _everyone_is_dead(patch: pytest.MonkeyPatch) -> None:
    real = claiming.reap
    patch.setattr(claiming, "reap", lambda tx, queue, abandoned, _: real(tx, queue, abandoned, ()))


def _say_instead(patch: pytest.MonkeyPatch, name: str, statement: str) -> None:
    assert statement != getattr(sql, name)
    if name == "ADVANCE_MANY":  # its forms are made at import, one for each size
        made = {
            size: statement.format(values=",".join([f"({','.join('?' * sql.ADVANCE_MANY_VALUES)})"] * size))
            for size in advance._STATEMENTS
        }
        patch.setattr(advance, "_STATEMENTS", made)
    patch.setattr(sql, name, statement)


def _fence_open(patch: pytest.MonkeyPatch) -> None:
    """Any row of that number passes, whoever holds it."""
    for name in sql.DOOR:
        statement: str = getattr(sql, name)
        opened = statement.replace("token = ? AND status = 'claimed'", "? <> ''")
        opened = opened.replace(f" AND {sql.JOB}.token = s.token AND status = 'claimed'", "")
        _say_instead(patch, name, opened)


def _bulk_overlooks_cancels(patch: pytest.MonkeyPatch) -> None:
    """Noticed only where one commits for both: an advance alone is not made in bulk."""
    _say_instead(patch, "ADVANCE_MANY", sql.ADVANCE_MANY.replace(" AND cancel_requested = 0", ""))


def _clean_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    real = owners.Owner.clean
    patch.setattr(owners.Owner, "clean", lambda self, _: real(self, lambda __: False))


def _no_opening_lock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lifecycle, "opening", lambda _: nullcontext())


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "a fence that does not ask for the token": (_fence_open, "settle vs reap of a bare claim"),
    "BEGIN that takes no lock": (_deferred, "settle vs cancel"),
    "a reaper that does not ask what runs here": (
        _everyone_is_dead,
        "settle vs reap of a step that runs in this process",
    ),
    "a requeue that does not look for another life": (_never_refuses_active_runs, "retry vs submit"),
    "an advance in bulk that overlooks a cancel": (
        _bulk_overlooks_cancels,
        "group commit of two advances, one asked to cancel",
    ),
    "a cleaner that does not ask for claims": (_clean_asks_nobody, "reap vs reap"),
    "an exclusive open without the opening lock": (_no_opening_lock, "exclusive open vs exclusive open"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_what_is_broken_is_found(mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it, name = MUTANTS[mutant]
    (scenario,) = (each for each in EVERY_SCENARIO if each.name == name)
    break_it(monkeypatch)
    with instrumented() as instruments:
        stage = Stage(scenario, tmp_path / "stage", instruments)
        try:
            explorer = Explorer(stage)
            explorer.find_serial_outcomes()
            explorer.explore(limit=60)
        finally:
            stage.close()
    assert explorer.report.violations, str(explorer.report)
