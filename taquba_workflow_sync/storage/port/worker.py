"""Who works on a store: the processes that claim from it, whether they live, and what each holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from taquba_workflow_sync.ids import ms_of_ulid, new_ulid
from taquba_workflow_sync.storage.port.event import Worker

#: The most claims that one look at the workers shows.
MOST_SHOWN: Final = 1_000
#: What the name of an owner ends with whose handle insists on being the only one.
EXCLUSIVE: Final = "-x"


class ShownClaim(NamedTuple):
    """A claim as it is shown. ``owner`` empty: a bare one. ``is_expired``: its lease is over; ``is_overdue``: its step
    runs for longer than its step timeout."""

    owner: str
    queue: str
    job_id: str
    run_id: str | None
    step: int
    label: str | None
    attempt: int
    claimed_ms: int
    lease_until_ms: int
    is_expired: bool
    is_overdue: bool


class WorkerRow(NamedTuple):
    """A handle that works on the store, or whoever holds bare claims, of whom nothing is known.

    ``lives`` None: nobody knows. ``since_ms``: since when it has had the store open, by its machine's wall clock.
    """

    host: str | None
    pid: int | None
    lives: bool | None
    since_ms: int | None
    claims: tuple[ShownClaim, ...]


class Workers(Protocol):
    """Who works on the store."""

    def enrol(self) -> None:
        """Have this handle be known as one that works, before it has claimed anything; a repeat writes nothing."""
        ...

    def workers(self) -> list[WorkerRow]:
        """Return who has claims, and of those who live whoever has enrolled or has ever had one of a worker loop.

        At most 1,000 claims: of each owner the one whose lease ends first, then of each the second, and so on; so that
        nobody who has any is shown without. What is damaged is left out. Writes nothing and declares nobody dead.
        """
        ...


def owner_name(pid: int, *, is_exclusive: bool = False) -> str:
    """Return a name for a handle of a process that nobody else has, and that tells since when it is open."""
    return f"{pid}-{new_ulid()}{EXCLUSIVE if is_exclusive else ''}"


def pid_of(owner: str) -> str:
    """Return the number of the process that an owner is, or was, a handle of."""
    return owner.partition("-")[0]


def since_of(owner: str) -> int | None:
    """Return since when an owner has had the store open, in milliseconds; None: its name is an older one."""
    return ms_of_ulid(owner.partition("-")[2].removesuffix(EXCLUSIVE))


def in_turns(claims: Iterable[ShownClaim], most: int) -> list[ShownClaim]:
    """Return up to ``most`` claims: of each owner the one whose lease ends first, then of each the second, and so on.

    Engines that cannot have all claims at hand say the same in their own language.
    """
    turns: Counter[str] = Counter()
    ranked: list[tuple[int, str, ShownClaim]] = []
    for each in sorted(claims, key=lambda each: each.lease_until_ms):
        turns[each.owner] += 1
        ranked.append((turns[each.owner], each.owner, each))
    ranked.sort(key=lambda each: each[:2])
    return [claim for _, _, claim in ranked[:most]]


def worker_rows(
    claims: Iterable[ShownClaim], processes: Mapping[str, Worker], lives: Mapping[str, bool | None]
) -> list[WorkerRow]:
    """Return the workers in order: by host and process, what is known of nobody last; of each its oldest claim first.

    ``processes``: of those who have enrolled. ``lives``: of those who have the store open, or may have; of others
    nothing is known.
    """
    held: dict[str, list[ShownClaim]] = {owner: [] for owner in processes if lives.get(owner, False) is not False}
    for each in claims:
        held.setdefault(each.owner, []).append(each)
    rows = [_row(owner, processes.get(owner), lives.get(owner), of_owner) for owner, of_owner in held.items()]
    return sorted(rows, key=lambda row: (row.pid is None, row.host or "", row.pid or 0, row.since_ms or 0))


def _row(owner: str, process: Worker | None, lives: bool | None, claims: list[ShownClaim]) -> WorkerRow:
    pid = pid_of(owner)
    return WorkerRow(
        host=None if process is None else process.host,
        pid=int(pid) if pid.isascii() and pid.isdigit() else None,
        lives=lives,
        since_ms=since_of(owner),
        claims=tuple(sorted(claims, key=lambda each: (each.claimed_ms, each.job_id))),
    )
