"""The flow: read a table of orders, clean it, write what each customer has spent. Each step may be cut and repeated.

A step writes into a file of its own and then gives it its name: whoever repeats it writes the same again, and nobody
sees half of it. States carry names of files, not their contents.
"""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO

from flask import current_app

from taquba_workflow_sync.flow import Flow, Goto, Step

COLUMNS = ("customer", "amount")
SAY_EVERY = 1000


@dataclass
class Upload:
    file: str


@dataclass
class Counted:
    file: str
    rows: int


@dataclass
class Cleaned:
    file: str
    rows: int
    refused: int


@dataclass
class Report:
    file: str
    rows: int
    refused: int
    customers: int


etl = Flow[Upload, Report]("etl")


@etl.start
def read(upload: Upload) -> Goto:
    with open(path_of(upload.file), newline="", encoding="utf-8-sig") as file:
        rows = sum(1 for _ in csv.DictReader(file))
    return transform.goto(Counted(upload.file, rows))


@etl.step
def transform(counted: Counted, step: Step) -> Goto:
    refused = 0
    with (
        open(path_of(counted.file), newline="", encoding="utf-8-sig") as file,
        replacing(f"{step.run_id}.clean") as out,
    ):
        clean = csv.writer(out)
        for number, row in enumerate(csv.DictReader(file)):
            if number % SAY_EVERY == 0:
                step.progress(number, counted.rows, "cleaning")
            customer, amount = (row["customer"] or "").strip(), amount_of(row["amount"])
            if customer and amount is not None:
                clean.writerow((customer, amount))
            else:
                refused += 1
    return write.goto(Cleaned(f"{step.run_id}.clean", counted.rows, refused))


@etl.step
def write(cleaned: Cleaned, step: Step) -> Report:
    spent: dict[str, Decimal] = {}
    with open(path_of(cleaned.file), newline="", encoding="utf-8") as file:
        for number, (customer, amount) in enumerate(csv.reader(file)):
            if number % SAY_EVERY == 0:
                step.progress(number, cleaned.rows, "adding up")
            spent[customer] = spent.get(customer, Decimal(0)) + Decimal(amount)
    with replacing(f"{step.run_id}.csv") as out:
        table = csv.writer(out)
        table.writerow(("customer", "spent"))
        table.writerows(sorted(spent.items()))
    return Report(f"{step.run_id}.csv", cleaned.rows, cleaned.refused, len(spent))


def amount_of(text: str | None) -> Decimal | None:
    try:
        amount = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def path_of(name: str) -> Path:
    """Return where a file of the application lies: a step has its context."""
    return Path(current_app.instance_path, "files", name)


@contextmanager
def replacing(name: str) -> Iterator[IO[str]]:
    """Write a file that is there as a whole, and on the disk, or not at all; what a kill cuts is left beside it."""
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{name}.{secrets.token_hex(8)}")
    try:
        with open(unfinished, "w", newline="", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
