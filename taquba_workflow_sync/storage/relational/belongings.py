"""What belongs to a row elsewhere: a bit of its ``belongings`` for each kind, so that a plain row costs one look.

A row without any is settled in bulk; a claim looks at nothing but the row. Whoever adds a kind says in
``transitions.belongings`` what becomes of it when a step is over, and when the row goes.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final


class Belonging(IntFlag):
    """The kinds; the first three are those of :class:`~...overflow.Overflow`, large parts with a row of their own."""

    PAYLOAD = 1 << 0
    HEADERS = 1 << 1
    RESULT = 1 << 2
    #: Entries of the memo of the step that is current.
    STEP_MEMO = 1 << 3
    #: Entries of the memo that all steps of the run see.
    RUN_MEMO = 1 << 4
    #: The effects of the current step were refused, as often in a row as is noted elsewhere: it will be tried again.
    REFUSED = 1 << 5
    #: Signals that were not used up, or ids of signals.
    SIGNALS = 1 << 6
    #: What the current step waits for, or waited for.
    WAIT = 1 << 7
    #: Limits of the run: when it ends whatever it does.
    TIMING = 1 << 8
    #: What its current step was given, or every step of it.
    SETTINGS = 1 << 9
    #: Events of the run that were noted.
    EVENTS = 1 << 10
    #: What a step has said of its progress.
    PROGRESS = 1 << 11
    #: A payload in place of the input, which a retry has given: it is not what the run's name stands for.
    OTHER_INPUT = 1 << 12
    #: A limit key, or a priority that ages: whatever moves the row looks at where it stands in line.
    RANKED = 1 << 13
    #: It is a member of a group.
    MEMBER = 1 << 14
    #: Another run has spawned it.
    CHILD = 1 << 15
    #: It has spawned others.
    PARENT = 1 << 16
    #: Tracebacks of attempts that failed.
    TRACES = 1 << 17


#: All bits that a row may have.
ALL: Final = sum(Belonging)

#: As plain numbers: each row is asked for these, and an enum's ``&`` takes ten times as long.
WAIT: Final = int(Belonging.WAIT)
TIMING: Final = int(Belonging.TIMING)
SETTINGS: Final = int(Belonging.SETTINGS)
PROGRESS: Final = int(Belonging.PROGRESS)
RANKED: Final = int(Belonging.RANKED)
MEMBER: Final = int(Belonging.MEMBER)
CHILD: Final = int(Belonging.CHILD)
PARENT: Final = int(Belonging.PARENT)
TRACES: Final = int(Belonging.TRACES)

#: What is the current step's, and goes when that ends well.
OF_STEP: Final = int(Belonging.STEP_MEMO | Belonging.REFUSED | Belonging.WAIT | Belonging.OTHER_INPUT)
