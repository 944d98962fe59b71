"""The truth tables of the port's pure rules, written down by hand: each holds the whole product of its inputs."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict

PENDING, DONE, DEAD, CANCELLED = JobStatus.PENDING, JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED
GOOD, BAD = Verdict.SUCCEEDED, Verdict.FAILED

# A submit of a run id: it starts a run, it is answered by the one that is there, or it is refused.
NEW, THERE, REFUSED = "new", "there", "refused"
IF_FINISHED: Final = (IfFinished.KEEP, IfFinished.RERUN_FAILED, IfFinished.RERUN)

#: By (what holds the name, is it visible, has it the same input); for each of IF_FINISHED in turn.
IS_NEW_RUN: Final = {
    ("nobody", False, False): (NEW, NEW, NEW),
    ("active", True, True): (THERE, THERE, THERE),
    ("active", True, False): (REFUSED, REFUSED, REFUSED),
    ("active", False, True): (THERE, THERE, THERE),
    ("active", False, False): (REFUSED, REFUSED, REFUSED),
    ("succeeded", True, True): (THERE, THERE, NEW),
    ("succeeded", True, False): (REFUSED, REFUSED, NEW),
    ("succeeded", False, True): (NEW, NEW, NEW),
    ("succeeded", False, False): (NEW, NEW, NEW),
    ("failed", True, True): (THERE, NEW, NEW),
    ("failed", True, False): (REFUSED, REFUSED, NEW),
    ("failed", False, True): (NEW, NEW, NEW),
    ("failed", False, False): (NEW, NEW, NEW),
    ("dead", True, True): (THERE, NEW, NEW),
    ("dead", True, False): (REFUSED, REFUSED, NEW),
    ("dead", False, True): (NEW, NEW, NEW),
    ("dead", False, False): (NEW, NEW, NEW),
    ("cancelled", True, True): (THERE, THERE, NEW),
    ("cancelled", True, False): (REFUSED, REFUSED, NEW),
    ("cancelled", False, True): (NEW, NEW, NEW),
    ("cancelled", False, False): (NEW, NEW, NEW),
}

#: By (how it ends, is it a run); for the verdicts None, GOOD, BAD in turn.
FINAL_VERDICT: Final = {
    (DONE, False): (None, GOOD, BAD),
    (DONE, True): (None, GOOD, BAD),
    (DEAD, False): (None, GOOD, BAD),
    (DEAD, True): (BAD, BAD, BAD),
    (CANCELLED, False): (None, GOOD, BAD),
    (CANCELLED, True): (None, GOOD, BAD),
}

#: By final status; for the verdicts None, GOOD, BAD in turn.
TERMINAL_STATUS: Final = {
    DONE: (TerminalStatus.FAILED, TerminalStatus.SUCCEEDED, TerminalStatus.FAILED),
    DEAD: (TerminalStatus.FAILED, TerminalStatus.SUCCEEDED, TerminalStatus.FAILED),
    CANCELLED: (TerminalStatus.CANCELLED, TerminalStatus.CANCELLED, TerminalStatus.CANCELLED),
}

#: By (was a cancellation requested, attempts so far); for 1, 2, 3 attempts at most in turn.
AFTER_ABANDONMENT: Final = {
    (False, 0): (PENDING, PENDING, PENDING),
    (False, 1): (DEAD, PENDING, PENDING),
    (False, 2): (DEAD, DEAD, PENDING),
    (False, 3): (DEAD, DEAD, DEAD),
    (False, 4): (DEAD, DEAD, DEAD),
    (True, 0): (CANCELLED, CANCELLED, CANCELLED),
    (True, 1): (CANCELLED, CANCELLED, CANCELLED),
    (True, 2): (CANCELLED, CANCELLED, CANCELLED),
    (True, 3): (CANCELLED, CANCELLED, CANCELLED),
    (True, 4): (CANCELLED, CANCELLED, CANCELLED),
}

#: By leases that it was watched unrenewed; for an owner that lives, is unknown, is dead in turn.
TAKEN_OVER: Final = {
    0.0: (False, False, True),
    0.999: (False, False, True),
    1.0: (False, True, True),
    9.999: (False, True, True),
    10.0: (True, True, True),
    1_000.0: (True, True, True),
}

KEEP_DEAD: Final = (None, 0, 70_000)
#: By (is it a run, did it end dead, keep_done_ms); for each of KEEP_DEAD in turn.
RETENTION: Final[dict[tuple[bool, bool, int | None], tuple[int | None, ...]]] = {
    (True, False, None): (60_000, 60_000, 60_000),
    (True, False, 0): (60_000, 60_000, 60_000),
    (True, False, 5_000): (60_000, 60_000, 60_000),
    (True, False, 60_000): (60_000, 60_000, 60_000),
    (True, False, 120_000): (120_000, 120_000, 120_000),
    (True, True, None): (60_000, 60_000, 60_000),
    (True, True, 0): (60_000, 60_000, 60_000),
    (True, True, 5_000): (60_000, 60_000, 60_000),
    (True, True, 60_000): (60_000, 60_000, 60_000),
    (True, True, 120_000): (120_000, 120_000, 120_000),
    (False, False, None): (0, 0, 0),
    (False, False, 0): (0, 0, 0),
    (False, False, 5_000): (5_000, 5_000, 5_000),
    (False, False, 60_000): (60_000, 60_000, 60_000),
    (False, False, 120_000): (120_000, 120_000, 120_000),
    (False, True, None): (None, 0, 70_000),
    (False, True, 0): (None, 0, 70_000),
    (False, True, 5_000): (None, 0, 70_000),
    (False, True, 60_000): (None, 0, 70_000),
    (False, True, 120_000): (None, 0, 70_000),
}

#: What a row carries of an error.
STORABLE_ERROR: Final[dict[str | None, str | None]] = {
    None: None,
    "": "",
    "plain": "plain",
    "ü\U0001f600\n": "ü\U0001f600\n",
    "a\0b": "a\ufdd00b",
    "\0\0": "\ufdd00\ufdd00",
    "\ufdd0": "\ufdd01",
    "\ufdd00": "\ufdd010",
    "a\ud800b": "a\\ud800b",
    "\udfff\0": "\\udfff\ufdd00",
    "x" * 16_384: "x" * 16_384,
    "x" * 16_385: "x" * 16_384 + "... [1 more characters were cut]",
    "x" * 20_000: "x" * 16_384 + "... [3616 more characters were cut]",
    "\0" * 16_385: "\ufdd00" * 16_384 + "... [1 more characters were cut]",
}

# What a failed attempt leads to, with a backoff of one second that doubles: dead, or back after so many milliseconds.
DEAD_LETTER: Final = "dead"
#: By (attempts so far, what the other side asked to wait); for 1, 2, 3 attempts at most in turn.
AFTER_FAILURE: Final[dict[tuple[int, float | None], tuple[int | str, ...]]] = {
    (1, None): (DEAD_LETTER, 1_000, 1_000),
    (2, None): (DEAD_LETTER, DEAD_LETTER, 2_000),
    (3, None): (DEAD_LETTER, DEAD_LETTER, DEAD_LETTER),
    (4, None): (DEAD_LETTER, DEAD_LETTER, DEAD_LETTER),
    (1, -1.0): (DEAD_LETTER, 0, 0),
    (2, -1.0): (DEAD_LETTER, DEAD_LETTER, 0),
    (3, -1.0): (DEAD_LETTER, DEAD_LETTER, DEAD_LETTER),
    (4, -1.0): (DEAD_LETTER, DEAD_LETTER, DEAD_LETTER),
    (1, 0.0): (DEAD_LETTER, 0, 0),
    (2, 0.0): (DEAD_LETTER, DEAD_LETTER, 0),
    (3, 0.0): (DEAD_LETTER, DEAD_LETTER, DEAD_LETTER),
    (4, 0.0): (DEAD_LETTER, DEAD_LETTER, DEAD_LETTER),
    (1, 7.5): (DEAD_LETTER, 7_500, 7_500),
    (2, 7.5): (DEAD_LETTER, DEAD_LETTER, 7_500),
    (3, 7.5): (DEAD_LETTER, DEAD_LETTER, DEAD_LETTER),
    (4, 7.5): (DEAD_LETTER, DEAD_LETTER, DEAD_LETTER),
}
