"""What a working command logs, and how."""

from __future__ import annotations

import json
import logging
from unittest import mock

import pytest

from taquba_workflow_sync.cli.logs import LineFormatter, log_to_stderr
from taquba_workflow_sync.logs import JsonFormatter


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("app", logging.WARNING, __file__, 1, message, None, None)


def test_the_lines_of_json_are_those_of_the_library_and_know_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("app")
    with mock.patch.object(logging, "root", logger):
        log_to_stderr("info", "json")
        logger.info("two\nlines")
    said = json.loads(capsys.readouterr().err)
    assert (said["level"], said["message"], said["run_id"], said["step"]) == ("INFO", "two\nlines", None, None)
    (handler,) = logger.handlers
    assert isinstance(handler.formatter, JsonFormatter)


def test_a_line_moves_no_cursor() -> None:
    assert LineFormatter("%(message)s").format(record("a\x1b[2Jb")) == "a\\x1b[2Jb"
