"""What is done to a fleet, each by its name: one call is one fault, and when it returns the fleet is left to itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tests.faults.server.proxy import Fault
from tests.faults.server.scene import Fleet

#: A transaction is on its way when its COMMIT is; what the server answers to it are messages 0 and on of its side.
_COMMIT: Final = b"COMMIT"


def worker_killed(fleet: Fleet) -> None:
    """kill -9 of a worker or a client."""
    fleet.kill(fleet.chance.choice(fleet.people))


def session_ended(fleet: Fleet) -> None:
    """An administrator ends a session, whatever it is doing: liveness, writer, reader, listener, notifier."""
    rows = fleet.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'taquba %'")
    if rows:
        (pid,) = fleet.chance.choice(rows)
        fleet.sql(f"SELECT pg_terminate_backend({pid})")


def every_session_ended(fleet: Fleet) -> None:
    """All of them at once: the pooler or the firewall was restarted."""
    fleet.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'taquba %'")


def backend_killed(fleet: Fleet) -> None:
    """kill -9 of a server process: the server throws everybody out and recovers."""
    rows = fleet.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'taquba %'")
    if rows:
        with suppress(ProcessLookupError):
            os.kill(fleet.chance.choice(rows)[0], signal.SIGKILL)


def server_killed(fleet: Fleet) -> None:
    """kill -9 of the whole server, which is started again a moment later."""
    fleet.server.kill()
    time.sleep(fleet.chance.uniform(0, 1))
    fleet.restart_server()


def server_restarted(fleet: Fleet) -> None:
    """A restart as for an upgrade: fast, in order."""
    fleet.server.process.send_signal(signal.SIGINT)
    fleet.server.process.wait(60)
    fleet.restart_server()


def server_stopped(fleet: Fleet) -> None:
    """SIGSTOP of the whole server for three seconds: nothing is ended, nothing is answered."""
    fleet.server.signal_all(signal.SIGSTOP)
    try:
        time.sleep(3)
    finally:
        fleet.server.signal_all(signal.SIGCONT)


def worker_stopped(fleet: Fleet) -> None:
    """SIGSTOP of a worker for four seconds, wherever it is: maybe with the store's lock, which it then loses."""
    person = fleet.chance.choice(fleet.workers)
    fleet.may_be_taken_over(person)
    person.child.signal(signal.SIGSTOP)
    time.sleep(4)
    person.child.signal(signal.SIGCONT)


def links_cut(fleet: Fleet) -> None:
    """A reset of every link of one process."""
    fleet.chance.choice(fleet.people).proxy.cut_all()


def link_silent(fleet: Fleet) -> None:
    """Three seconds without a packet, and then all that was kept."""
    person = fleet.chance.choice(fleet.people)
    fleet.may_be_taken_over(person)
    person.proxy.partition()
    time.sleep(3)
    person.proxy.heal()


def taken_over_and_back(fleet: Fleet) -> None:
    """A worker is cut off, the server notices, others take over; then it comes back as a zombie."""
    person = fleet.chance.choice(fleet.workers)
    fleet.may_be_taken_over(person)
    person.proxy.vanish()
    time.sleep(4)
    fleet.may_be_taken_over(person)  # what began here since
    person.proxy.heal()


def _at_commit(what: str, side: str, number: int) -> Callable[[Fleet], None]:
    def fault(fleet: Fleet) -> None:
        person = fleet.chance.choice(fleet.people)
        asked = Fault(what, side, number, armed_by=_COMMIT, delay_s=1.0)  # type: ignore[arg-type]
        person.proxy.add(asked)
        asked.is_over.wait(5)

    fault.__doc__ = f"{what} at message {number} of the {side}'s of a COMMIT."
    return fault


FAULTS: Final[dict[str, Callable[[Fleet], None]]] = {
    "kill -9 of a worker": worker_killed,
    "a session ended": session_ended,
    "every session ended": every_session_ended,
    "kill -9 of a backend": backend_killed,
    "kill -9 of the server": server_killed,
    "the server restarted": server_restarted,
    "SIGSTOP of the server": server_stopped,
    "SIGSTOP of a worker": worker_stopped,
    "links cut": links_cut,
    "a silent link": link_silent,
    "a zombie": taken_over_and_back,
    **{
        f"{what} at a COMMIT's message {number} of the {side}": _at_commit(what, side, number)
        for what in ("cut", "half-close", "delay")
        for side, number in (("client", 0), ("server", 0), ("server", 1), ("server", 2))
    },
}
