"""Django's settings are a process's own: what needs them runs in processes of its own."""

from __future__ import annotations

import os

import pytest

# Collected by test_inside.py, in processes that have Django set up.
collect_ignore = [] if os.environ.get("TAQUBA_TEST_DJANGO") else ["inside"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/django" in str(item.path):
            item.add_marker("embedded")
