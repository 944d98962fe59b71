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


#: Of the tests of the engine on a server, each of which costs ten of the others', one in so many is run by default.
_SAMPLE = 12


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most tests of the engine on a server to the runs that ask for what is slow."""
    for item in items:
        is_of_server = item.name.endswith("[postgres]") or "[postgres-" in item.name or "-postgres" in item.name
        if is_of_server and crc32(item.nodeid.encode()) % _SAMPLE:
            item.add_marker(pytest.mark.soak)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Spell out lone surrogates of captured logs: users' errors may say any, and xdist sends reports as UTF-8."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
