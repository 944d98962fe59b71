"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Generator
from zlib import crc32

import pytest

# Started in the background (by nohup, by some CI runners) a process has SIGINT ignored, and so have its children:
# Ctrl-C would never become a KeyboardInterrupt, which is what several tests are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: Of each test's cases one in so many is run by default, the others by the runs that ask for what is slow: of the
#: engine on a server, where a case costs ten of the others', of the one in memory, which only the tests have, ...
_OF_SERVER = 20
_OF_MEMORY = 3
#: ... and of those tests of the laboratory that have the most and the dearest cases.
_OF_FILES = {
    "tests/faults/test_crash_points.py": 3,
    "tests/faults/disk/test_errors.py": 3,
    "tests/faults/disk/test_full.py": 2,
    "tests/faults/hostile/test_public_arguments.py": 3,
    "tests/faults/hostile/test_rows.py": 2,
    "tests/faults/schedules/test_schedules.py": 2,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most cases of what is dear to the runs that ask for what is slow; which, follows from their names."""
    for item in items:
        if crc32(item.nodeid.encode()) % _one_in(item):
            item.add_marker(pytest.mark.soak)


def _one_in(item: pytest.Item) -> int:
    engines = set(item.name.partition("[")[2].rstrip("]").split("-"))
    if "postgres" in engines:
        return _OF_SERVER
    if "memory" in engines:
        return _OF_MEMORY
    is_a_case = "[" in item.name
    return _OF_FILES.get(item.nodeid.partition("::")[0], 1) if is_a_case else 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Spell out lone surrogates of captured logs: users' errors may say any, and xdist sends reports as UTF-8."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
