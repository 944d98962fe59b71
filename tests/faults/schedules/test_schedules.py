"""The named pairs: whatever the order of their steps, it ends as one after the other would; a loser wrote nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.figures import Figures

from .explorer import Explorer, Scenario, Stage, report
from .instruments import instrumented
from .scenarios import (
    ADVANCE_VS_CANCEL,
    CANCEL_VS_CANCEL,
    EFFECTS,
    EVERY_SCENARIO,
    FIRE,
    GROUP_COMMIT,
    GROUPS,
    HOLD,
    LIMITS,
    MIGRATE_VS_OPEN,
    NOTIFICATION_VS_RESUBMIT,
    OPEN_VS_CLOSE,
    OPEN_VS_OPEN,
    OTHERS,
    REQUEUE_VS_SWEEP,
    RETRY_VS_SUBMIT,
    SETTLE_VS_CANCEL,
    SETTLE_VS_REAP,
    SIGNALS,
    TIME_LIMITS,
    WITH_THREE_ACTORS,
)

# Most scenarios have fewer schedules than that, and are run whole.
LIMIT = 30
#: Where every schedule starts with a directory copied and handles opened, which takes ten times as long.
LIMIT_OF_OPENS = 20
AT_EVERY_STEP = 8

Judge = Callable[[Scenario], Figures]


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    """Explores a scenario: with the alike schedules left out as far as the limit goes, then some of all."""

    def explore(scenario: Scenario) -> Figures:
        figures = Figures("schedules")
        with instrumented() as instruments:
            stage = Stage(scenario, tmp_path / "stage", instruments)
            try:
                explorer = Explorer(stage)
                explorer.find_serial_outcomes()
                limit = LIMIT_OF_OPENS if scenario.is_fresh else LIMIT
                explorer.explore(limit=limit)
                report(explorer.report, figures)
                assert explorer.report.complete_to is None or explorer.report.schedules >= limit
                assert explorer.report.schedules >= scenario.least, str(explorer.report)
                thorough = Explorer(stage, reduced=False, serial=explorer)
                thorough.walk(seed=1, count=AT_EVERY_STEP // (3 if scenario.is_fresh else 1))
                report(thorough.report, figures)
            finally:
                stage.close()
        print(*figures.notes, sep="\n")
        return figures

    return explore


def of(scenarios: tuple[Scenario, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scenario", scenarios, ids=lambda scenario: scenario.name)


@of(SETTLE_VS_REAP)
def test_settle_vs_reap(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(SETTLE_VS_CANCEL)
def test_settle_vs_cancel(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(ADVANCE_VS_CANCEL)
def test_advance_vs_cancel(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(TIME_LIMITS)
def test_time_limits(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(HOLD)
def test_hold(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(SIGNALS)
def test_signals(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(LIMITS)
def test_limits(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(CANCEL_VS_CANCEL)
def test_cancel_vs_cancel(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(RETRY_VS_SUBMIT)
def test_retry_vs_submit(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(REQUEUE_VS_SWEEP)
def test_requeue_vs_sweep(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(NOTIFICATION_VS_RESUBMIT)
def test_notification_vs_resubmit(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(OPEN_VS_OPEN)
def test_open_vs_open(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(OPEN_VS_CLOSE)
def test_open_vs_close(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(MIGRATE_VS_OPEN)
def test_migrate_vs_open(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(GROUP_COMMIT)
def test_group_commit_of_two_threads(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(EFFECTS)
def test_effects_and_values(scenario: Scenario, judge: Judge) -> None:
    judge(scenario)


@of(FIRE)
def test_fire(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(OTHERS)
def test_other_pairs(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


@of(GROUPS)
def test_groups(scenario: Scenario, judge: Judge) -> None:
    judge(scenario).assert_clean()


def test_every_scenario_has_a_name_of_its_own() -> None:
    names = [scenario.name for scenario in (*EVERY_SCENARIO, *WITH_THREE_ACTORS)]
    assert len(set(names)) == len(names)
