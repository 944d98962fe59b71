"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest

# Started in the background (by nohup, by some CI runners) a process has SIGINT ignored, and so have its children:
# Ctrl-C would never become a KeyboardInterrupt, which is what several tests are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Spell out lone surrogates of captured logs: users' errors may say any, and xdist sends reports as UTF-8."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
