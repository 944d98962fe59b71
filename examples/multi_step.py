"""An order in three steps: reserve the goods, charge the card, ship. And a payment service that fails half-way.

    python examples/multi_step.py

Each step hands its state to the next with ``Continue``; the payload says what is to be done. The payment service takes
the money and then breaks the connection, so the step raises, is retried after a short backoff, and asks again. What
keeps the customer from paying twice is the idempotency key, made of the run's id and the step's number: the same on
every attempt.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from taquba_workflow_sync import (
    Continue,
    Queue,
    QueueConfig,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
)


class PaymentService:
    """Stands for a service elsewhere that knows idempotency keys, as real ones do."""

    def __init__(self) -> None:
        self.charges: dict[str, int] = {}

    def charge(self, cents: int, idempotency_key: str) -> str:
        first_time = idempotency_key not in self.charges
        self.charges[idempotency_key] = cents
        if first_time:
            raise ConnectionError("connection lost after the money was taken")
        return f"charge-{idempotency_key}"


class OrderRunner:
    def __init__(self, payments: PaymentService) -> None:
        self.payments = payments

    def run_step(self, step: Step) -> StepOutcome:
        order = json.loads(step.payload)
        print(f"step {step.step_number} attempt {step.attempts}: {order['next']} (customer {step.headers['customer']})")
        match order["next"]:
            case "reserve":
                return Continue(to_json({**order, "next": "charge", "reserved": True}))
            case "charge":
                try:
                    receipt = self.payments.charge(order["cents"], f"{step.run_id}-{step.step_number}")
                except ConnectionError as error:
                    print(f"  payment failed: {error}")
                    raise StepError.transient(str(error)) from error
                return Continue(to_json({**order, "next": "ship", "receipt": receipt}))
            case "ship":
                return Succeed(to_json({**order, "next": None, "shipped": True}))
            case unknown:
                raise StepError.permanent(f"no such step: {unknown}")


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Run an order through three steps, one of which is retried.")
    parser.add_argument("--store", type=Path, help="directory to keep the run in (default: a temporary one)")
    args = parser.parse_args()

    payments = PaymentService()
    order = {"next": "reserve", "item": "kettle", "cents": 3900}
    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        queue = stack.enter_context(Queue.open(store, default_config=QueueConfig(retry_backoff_base=0.2)))
        runtime = stack.enter_context(WorkflowRuntime(queue, OrderRunner(payments)))
        handle = runtime.submit(RunSpec(input=to_json(order), headers={"customer": "c-17"}))
        done = json.loads(handle.result(timeout=10))
        history = queue.attempt_history(handle.first_job_id)

    print(f"result: {done}")
    print("history: " + ", ".join(f"step {line.step} attempt {line.attempt}" for line in history))
    assert done["reserved"] and done["receipt"] and done["shipped"]
    assert [(line.step, line.attempt) for line in history] == [(0, 1), (1, 1), (1, 2), (2, 1)]
    assert list(payments.charges.values()) == [3900], "the customer pays once"


if __name__ == "__main__":
    main()
