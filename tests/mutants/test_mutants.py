"""The lists of mutants still fit the code; what becomes of the mutants is for ``python -m tests.mutants``."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import guards, statements
from tests.mutants.mutant import Mutant

_ALL = [*statements.mutants(), *guards.mutants()]


def test_each_guarded_statement_of_the_engine_has_mutants() -> None:
    names = {mutant.name.split(":")[0] for mutant in statements.mutants()}
    assert names == set(statements.FILES)


@pytest.mark.parametrize("mutant", _ALL, ids=lambda mutant: mutant.name)
def test_a_mutant_is_another_program_that_can_be_run(mutant: Mutant) -> None:
    assert mutant.text != mutant.path.read_text()
    ast.parse(mutant.text)
