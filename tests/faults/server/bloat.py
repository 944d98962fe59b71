"""What dead rows a store's tables hold and how large they are, minute by minute; and a transaction that keeps them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

EVERY_S: Final = 60.0
_EXTENSION: Final = "CREATE EXTENSION IF NOT EXISTS pgstattuple SCHEMA public"
# Counted in the tables themselves: what the server remembers of dead rows is gone after a kill of it.
_LOOK: Final = """SELECT c.relname, t.tuple_count, t.dead_tuple_count, t.dead_tuple_len, t.free_space,
    pg_table_size(c.oid), pg_indexes_size(c.oid)
    FROM pg_class AS c, LATERAL public.pgstattuple(c.oid) AS t
    WHERE c.relkind = 'r' AND c.relnamespace = to_regnamespace(%s)"""
_JOB: Final = "taquba_job_"


@dataclass(frozen=True)
class Sample:
    """One look: of all tables, and of the one whose rows every transition writes."""

    minute: float
    ended: int
    live: int
    dead: int
    dead_bytes: int
    free_bytes: int
    table_bytes: int
    index_bytes: int
    job_live: int
    job_dead: int
    job_table_bytes: int
    job_index_bytes: int
    is_held: bool

    def __str__(self) -> str:
        mib = 1 << 20
        return (
            f"minute {self.minute:.1f}{' (a transaction is open)' if self.is_held else ''}: {self.ended:,} runs ended;"
            f" all tables: {self.live:,} live and {self.dead:,} dead rows, {self.table_bytes / mib:.1f} MiB of which"
            f" {self.dead_bytes / mib:.1f} dead and {self.free_bytes / mib:.1f} free, indexes"
            f" {self.index_bytes / mib:.1f} MiB; jobs: {self.job_live:,} live and {self.job_dead:,} dead,"
            f" {self.job_table_bytes / mib:.1f} MiB, indexes {self.job_index_bytes / mib:.1f} MiB"
        )


class Bloat:
    """Looks once a minute, on a thread of its own, until closed; a server that is away is asked again soon."""

    def __init__(self, url: str, schema: str, ended: Callable[[], int], tell: Callable[[str], object]) -> None:
        self._url = url
        self._schema = schema
        self._ended = ended
        self._tell = tell
        self._began = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples: list[Sample] = []
        self.is_held = False
        self._thread.start()

    def look(self) -> None:
        """Add a sample. Raises psycopg.Error: the server is away, or has no pgstattuple."""
        import psycopg

        with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(_EXTENSION)
            rows: list[tuple[Any, ...]] = connection.execute(_LOOK, (self._schema,)).fetchall()
        total = [sum(row[column] for row in rows) for column in range(1, 7)]
        job = next(row for row in rows if row[0].startswith(_JOB))
        minute = (time.monotonic() - self._began) / 60
        sample = Sample(minute, self._ended(), *total, job[1], job[2], job[5], job[6], self.is_held)
        self.samples.append(sample)
        self._tell(str(sample))

    def _watch(self) -> None:
        import psycopg

        due = 0.0
        while not self._is_over.wait(due):
            began = time.monotonic()
            due = 2.0
            with suppress(psycopg.Error, StopIteration):
                self.look()
                due = max(1.0, EVERY_S - (time.monotonic() - began))

    def close(self) -> None:
        """Look for the last time."""
        import psycopg

        self._is_over.set()
        self._thread.join()
        with suppress(psycopg.Error, StopIteration):
            self.look()

    def notes(self) -> list[str]:
        """Return the first look, those around the transaction, and the last."""
        held = [number for number, sample in enumerate(self.samples) if sample.is_held]
        wanted = {0, len(self.samples) - 1}
        if held:
            wanted |= {held[0] - 1, held[0], held[-1], held[-1] + 1, held[-1] + 5}
        return [str(sample) for number, sample in enumerate(self.samples) if number in wanted]
