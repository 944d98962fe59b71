"""Measure persist-queue: SQLiteAckQueue, consumer threads that get and acknowledge items and do nothing else.

An item costs two commits: marked unacknowledged, then acknowledged. The library has no worker, so the loop is ours. A
get scans the table from its start, past every acknowledged row, unless those are cleared now and then (done here with
its own `clear_acked_data`) or the id to go on from is given.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from persistqueue import Empty, SQLiteAckQueue

from .measure import FSYNC_PER_COMMIT, Meter, Setting, main, require_wal_and_full_fsync

NOTES = (
    "WAL; synchronous is left at SQLite's default, FULL (checked); no retries, leases or history; "
    "enqueueing is not timed"
)
CLEAR_EVERY = 200


def run_items(workers: int, in_order: bool, directory: Path, meter: Meter) -> None:
    """Run the meter's steps as items, found in order of id or by clearing what is acknowledged."""
    queue = SQLiteAckQueue(str(directory), multithreading=True)
    require_wal_and_full_fsync(directory / queue.db_file_name)
    _fill(queue, meter.total)
    acknowledged = [0] * workers
    errors: list[BaseException] = []

    def work(index: int) -> None:
        last: int | None = None
        try:
            while True:
                item = queue.get(block=False, id=last, next_in_order=last is not None, raw=True)
                meter.step()
                queue.ack(id=item["pqid"])
                acknowledged[index] += 1
                if in_order:
                    last = item["pqid"]
                elif acknowledged[index] % CLEAR_EVERY == 0:
                    queue.clear_acked_data(max_delete=CLEAR_EVERY * workers, keep_latest=0)
        except Empty:
            return
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(index,)) for index in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise RuntimeError("a consumer failed") from errors[0]
    left = queue.qsize() + queue.unack_count() + queue.ready_count()
    queue.close()
    meter.expect(sum(acknowledged) - left)


def _fill(queue: SQLiteAckQueue, items: int) -> None:
    for number in range(items):
        queue.put(number)


if __name__ == "__main__":
    main(
        "persist-queue",
        {
            "1 consumer, clearing": Setting(partial(run_items, 1, False)),
            "4 consumers, clearing": Setting(partial(run_items, 4, False)),
            "1 consumer, next in order": Setting(partial(run_items, 1, True)),
            "16 consumers, next in order": Setting(partial(run_items, 16, True)),
        },
        durability=FSYNC_PER_COMMIT,
        notes=NOTES,
    )
