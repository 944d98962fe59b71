"""The straight-line style: calls are made once, in their order, whatever happens in between."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from taquba_workflow_sync import Queue, RunFailedError, StepError, WorkflowRuntime
from taquba_workflow_sync.flow import Do, Fail, Flow


@dataclass
class Receipt:
    number: int


CALLS: list[str] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def charge(number: int, *, key: str = "") -> Receipt:
    CALLS.append(f"charge {number}")
    return Receipt(number)


def render(receipt: Receipt) -> str:
    CALLS.append("render")
    return f"<{receipt.number}>"


def fail_once(name: str, failures: list[str]) -> str:
    CALLS.append(name)
    if name not in failures:
        failures.append(name)
        raise OSError(name)
    return name


def run_one(queue: Queue, flow: Flow[Any, Any], state: Any) -> Any:
    handle = flow.submit(state, run_id="x", queue=queue)
    WorkflowRuntime(queue, flow).run_until_idle()
    return handle


def test_a_repeated_function_goes_on_behind_the_last_call_that_finished(queue: Queue) -> None:
    flow = Flow[int, str]("invoices")
    failures: list[str] = []

    @flow.durable(backoff=(0, 0), max_attempts=5)
    def invoice(number: int, do: Do) -> str | Fail:
        receipt = do(charge, number, key=do.step.idempotency_key("charge"))
        do(fail_once, "mail", failures)
        page = do(render, receipt)
        do(fail_once, "archive", failures)
        return f"{page} {do.step.attempts}"

    assert run_one(queue, flow, 7).result(0) == "<7> 3"
    assert CALLS == ["charge 7", "mail", "mail", "render", "archive", "archive"]


def test_it_may_take_do_alone_and_knows_the_version_the_run_began_with(queue: Queue) -> None:
    def nightly(version: int) -> Flow[None, int]:
        flow = Flow[None, int]("nightly", version=version)

        @flow.durable
        def work(do: Do) -> int:
            return do(abs, -do.version)

        return flow

    handle = nightly(3).submit(queue=queue)
    WorkflowRuntime(queue, nightly(4)).run_until_idle()
    assert handle.result(0) == 3


def test_another_order_of_calls_is_a_permanent_failure_naming_both_and_mended_by_a_clear_memo(queue: Queue) -> None:
    def invoices(*calls: Any) -> Flow[int, str]:
        flow = Flow[int, str]("invoices")

        @flow.durable(backoff=(0, 0), max_attempts=1)
        def invoice(number: int, do: Do) -> str:
            for call in calls:
                do(call, Receipt(number) if call is render else number)
            if len(calls) < 3:
                raise OSError
            return "end"

        return flow

    handle = run_one(queue, invoices(charge, charge), 7)
    handle.retry()
    changed = invoices(charge, render, charge)
    WorkflowRuntime(queue, changed).run_until_idle()
    with pytest.raises(RunFailedError, match=r"FlowChangedError: call 2 is render, but .* it was charge"):
        handle.result(0)
    assert CALLS == ["charge 7", "charge 7"]
    handle.retry(memo="clear")
    WorkflowRuntime(queue, changed).run_until_idle()
    assert handle.result(0) == "end"
    assert CALLS == ["charge 7", "charge 7", "charge 7", "render", "charge 7"]


def test_what_has_no_name_is_refused_for_good(queue: Queue) -> None:
    flow = Flow[int, str]("lambdas")

    @flow.durable
    def work(number: int, do: Do) -> str:
        return do(lambda: "x") if number else do(5)  # type: ignore[arg-type]  # that is what is tried

    for number, why in ((1, "takes no lambda"), (0, "takes a plain function, not 5")):
        with pytest.raises(TypeError, match=why):
            work.test(number)
    handle = run_one(queue, flow, 1)
    with pytest.raises(RunFailedError, match="takes no lambda"):
        handle.result(0)
    assert handle.status().attempts == 1


def test_calls_are_made_one_by_one_on_one_thread() -> None:
    flow = Flow[int, str]("alone")

    @flow.durable
    def work(number: int, do: Do) -> str:
        errors: list[str] = []

        def inner() -> str:
            return do(charge, 1).__class__.__name__

        def elsewhere() -> None:
            try:
                do(charge, 1)
            except RuntimeError as error:
                errors.append(str(error))

        if number:
            return do(inner)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return errors[0]

    assert "called from another thread" in str(work.test(0))
    with pytest.raises(RuntimeError, match=r"do\(charge\) was called by .*inner"):
        work.test(1)


def test_what_was_noted_and_does_not_fit_any_more_is_a_permanent_failure(queue: Queue) -> None:
    def invoices(number: Any) -> Flow[int, str]:
        flow = Flow[int, str]("invoices")

        @flow.durable(backoff=(0, 0), max_attempts=1)
        def invoice(state: int, do: Do) -> str:
            do(number)
            raise OSError

        return flow

    def number() -> int:
        return 5

    handle = run_one(queue, invoices(number), 7)
    number.__annotations__["return"] = str
    handle.retry()
    WorkflowRuntime(queue, invoices(number)).run_until_idle()
    with pytest.raises(RunFailedError, match=r"what was noted of call 1 does not fit: .*number: expected str, got int"):
        handle.result(0)


def test_it_is_tried_without_a_store() -> None:
    flow = Flow[int, str]("invoices")

    @flow.durable
    def invoice(number: int, do: Do) -> str:
        return do(render, do(charge, number))

    assert invoice.test(3) == "<3>"
    with pytest.raises(StepError, match="expected str"):
        wrong = Flow[int, str]("wrong")
        wrong.durable(returns_a_number).test(1)


def returns_a_number(number: int, do: Do) -> str:
    return number  # type: ignore[return-value]  # that is what is tried
