"""The guards of the engine, broken one at a time: a test must fail for each, or the guard is only said to be there.

``python -m tests.mutants`` breaks every conjunct of every guarded statement and every guard of the code that is listed
in ``guards.py``, in copies of the project, and says which mutants no test noticed. It takes an hour; the tests check
only that the list still fits the code.
"""
