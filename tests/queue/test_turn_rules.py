"""The rules of the turn, in every order of their steps: nothing is left lying; and each of them is needed."""

from __future__ import annotations

import importlib

import pytest

from .exploring import Stranded
from .turn_rules import NAMES, RULES, Model


@pytest.mark.parametrize(("threads", "endless"), [(1, 0), (1, 1), (2, 0), (2, 1), (3, 2)])
def test_whatever_the_order_nothing_is_left_lying(threads: int, endless: int) -> None:
    assert Model(threads, rows=threads, more=2, endless=endless).explore() > 30


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stop_at_any_moment_leaves_nothing_lying(threads: int) -> None:
    assert Model(threads, rows=threads, more=2, endless=1, may_stop=True).explore() > 100


@pytest.mark.parametrize("rule", RULES)
def test_without_one_of_the_rules_something_is(rule: str) -> None:
    with pytest.raises(Stranded):
        for threads in (1, 2, 3):
            Model(threads, rows=threads, more=2, endless=2, may_stop=threads < 3, without=rule).explore()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_the_model_is_there_in_the_code(name: str) -> None:
    module, kind, method = NAMES[name].split(".")
    found = importlib.import_module(f"taquba_workflow_sync.queue.dispatch.{module}")
    assert callable(getattr(getattr(found, kind), method))
