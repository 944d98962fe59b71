"""The rules of who commits: in no order of steps is a caller stranded, and each rule is needed for that."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from .commit_rules import NAMES, RULES, Rules, explore

QUICK: dict[str, dict[str, Any]] = {
    "two callers": {"callers": 2},
    "two callers, the main thread interrupted": {"callers": 2, "interrupts": 1},
    "a caller and a leader that comes and goes": {"callers": 1, "leads": True},
    "a caller and a fork": {"callers": 1, "forks": True},
}
THOROUGH: dict[str, dict[str, Any]] = {
    "three callers, one interrupted": {"callers": 3, "interrupts": 1},
    "two callers, one interrupted, and a leader": {"callers": 2, "interrupts": 1, "leads": True},
    "two callers, one interrupted, and a fork": {"callers": 2, "interrupts": 1, "forks": True},
    "a caller, a leader and a fork": {"callers": 1, "leads": True, "forks": True},
}


@pytest.mark.parametrize("scenario", QUICK.values(), ids=QUICK.keys())
def test_nobody_is_stranded(scenario: dict[str, Any]) -> None:
    assert explore(Rules(**scenario)).stranded is None


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", THOROUGH.values(), ids=THOROUGH.keys())
def test_nobody_is_stranded_among_more(scenario: dict[str, Any]) -> None:
    assert explore(Rules(**scenario)).stranded is None


@pytest.mark.parametrize("rule", RULES)
def test_without_a_rule_somebody_is_stranded(rule: str) -> None:
    stories = [explore(Rules(**scenario, without=rule)).stranded for scenario in QUICK.values()]
    assert any(stories), "the rule is not needed, or the model does not know it"


def test_the_steps_are_the_codes() -> None:
    for name in NAMES.values():
        module, owner, method = name.split(".")
        found = importlib.import_module(f"taquba_workflow_sync.storage.relational.{module}")
        assert callable(getattr(getattr(found, owner), method)), name
