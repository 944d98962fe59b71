"""A program of two versions, as a process of its own: ``python -m tests.flow.program STORE LOG VERSION``, a worker."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from taquba_workflow_sync import Queue, WorkflowRuntime
from taquba_workflow_sync.flow import Do, Flow, Goto
from tests.processes.harness import Witness, say, say_when_ready


@dataclass
class OldMail:
    run: str
    to: str


@dataclass
class Mail:
    run: str
    to: list[str]


@dataclass
class Order:
    run: str


def mails_of_version_1(witness: Witness) -> Flow[OldMail, str]:
    mails = Flow[OldMail, str]("mails", version=1)

    @mails.start
    def write(mail: OldMail) -> Goto:
        witness.note("ran", mail.run, "write", "1")
        return send.on_signal(mail, "go")

    @mails.step
    def send(mail: OldMail) -> str:
        witness.note("ran", mail.run, "send", "1")
        return f"1 {mail.to}"

    return mails


def mails_of_version_2(witness: Witness) -> Flow[Mail, str]:
    mails = Flow[Mail, str]("mails", version=2)

    @mails.start
    def write(mail: Mail) -> Goto:
        witness.note("ran", mail.run, "write", "2")
        return deliver.on_signal(mail, "go")

    @mails.step(formerly=("send",))
    def deliver(mail: Mail) -> str:
        witness.note("ran", mail.run, "send", "2")
        return f"2 {','.join(mail.to)}"

    @mails.upgrade(write, since=2)
    @mails.upgrade(deliver, since=2)
    def of_one(old: Any) -> Mail:
        return Mail(old["run"], [old["to"]])

    return mails


def invoices(witness: Witness) -> Flow[Order, str]:
    flow = Flow[Order, str]("invoices")

    def charge(run: str) -> str:
        witness.note("called", run, "charge", os.getpid())
        return "paid"

    def book(run: str) -> str:
        witness.note("called", run, "book", os.getpid())
        return "booked"

    def archive(run: str, attempts: int) -> str:
        witness.note("called", run, "archive", os.getpid())
        if attempts == 1:
            say("holds")
            threading.Event().wait()  # until it is killed
        return "archived"

    @flow.durable
    def invoice(order: Order, do: Do) -> str:
        return " ".join((do(charge, order.run), do(book, order.run), do(archive, order.run, do.step.attempts)))

    return flow


def main() -> None:
    store, log, version = sys.argv[1:]
    witness = Witness(Path(log))
    mails: Flow[Any, str] = mails_of_version_1(witness) if version == "1" else mails_of_version_2(witness)
    nightly = OldMail("nightly", "a") if version == "1" else Mail("nightly", ["a"])
    with Queue.open(store) as queue:
        mails.schedule("nightly", nightly, every=timedelta(days=1), queue=queue)
        threading.Thread(target=say_when_ready, daemon=True).start()
        WorkflowRuntime(queue, [mails, invoices(witness)]).run(handle_signals=True)


if __name__ == "__main__":
    main()
