"""The rules of waiting, in every order of their steps: nobody sleeps for ever; and each of them is needed."""

from __future__ import annotations

import importlib
from functools import reduce

import pytest

from .exploring import Stranded
from .waiting_rules import END_RULES, NAMES, WORK_RULES, Ends, Work


@pytest.mark.parametrize(("waiters", "ends"), [(1, 1), (1, 3), (2, 1), (2, 2)])
def test_whoever_waits_for_an_end_learns_of_it(waiters: int, ends: int) -> None:
    assert Ends(waiters, ends).explore() > 20


@pytest.mark.parametrize("rule", END_RULES)
def test_without_one_of_the_rules_a_waiter_sleeps_for_ever(rule: str) -> None:
    with pytest.raises(Stranded):
        for waiters, ends in ((1, 1), (1, 2), (2, 1), (2, 2)):
            Ends(waiters, ends, without=rule).explore()


@pytest.mark.parametrize("commits", [(1, 1), (2,), (1, 2)])
@pytest.mark.parametrize("tired", [0, 2])
def test_no_claimer_sleeps_while_there_is_work(commits: tuple[int, ...], tired: int) -> None:
    assert Work(3, commits, tired).explore() > 50


@pytest.mark.parametrize("rule", WORK_RULES)
def test_without_one_of_the_rules_a_claimer_does(rule: str) -> None:
    with pytest.raises(Stranded):
        for commits in ((1, 1), (2,)):
            Work(3, commits, 1, without=rule).explore()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_the_models_is_there_in_the_code(name: str) -> None:
    room, module, *path = NAMES[name].split(".")
    found = importlib.import_module(f"taquba_workflow_sync.{room}.{module}")
    assert callable(reduce(getattr, path, found))
