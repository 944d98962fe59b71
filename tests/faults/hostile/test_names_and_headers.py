"""Names and headers with odd characters, at and beyond every limit: refused clearly, or carried to the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taquba_workflow_sync import (
    Fail,
    InvalidNameError,
    PayloadTooLargeError,
    Queue,
    RunSpec,
    StepError,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.testing import RecordingHook
from tests.faults.hostile.robbed import LIMIT

ODD = {
    "NUL": "a\0b", "newline": "a\nb", "carriage return": "a\r\nX-Y: z", "escape": "\x1b[31mred", "delete": "a\x7f",
    "right to left": "\u202eabc", "marks": "e" + "\u0301" * 100, "zero width": "a\u200bb", "none": "\ufffe\uffff",
    "astral": "\U0001f600" * 10, "line separator": "a\u2028b", "quotes": "\"'`;--\\", "template": "%s{0}${x}",
    "space": " ", "percent": "%00", "path": "../../etc/passwd", "json": '{"a": 1}', "glob": "*?[]",
}  # fmt: skip
HEADER_LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def queue() -> Iterator[Queue]:
    with Queue.temporary(durability="relaxed") as one:
        yield one


def test_odd_headers_reach_every_step_and_the_hook_as_they_are(queue: Queue) -> None:
    seen: dict[str, Any] = {}

    def look(step: Any) -> Any:
        seen[step.run_id] = step.headers
        return Fail(ODD["NUL"]) if step.run_id == "fails" else Succeed(b"")

    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, look, hook, queue_name="odd")
    headers = {**{f"value of {name}": text for name, text in ODD.items()}, **{text: name for name, text in ODD.items()}}
    for name in ("ends", "fails"):
        runtime.submit(run_id=name, headers=headers)
    runtime.run_until_idle(LIMIT)
    assert seen == {"ends": headers, "fails": headers}
    assert {outcome.run_id: outcome.headers for outcome in hook.outcomes} == seen
    assert runtime.wait("fails", 0).error == ODD["NUL"]
    assert runtime.status("ends").headers == headers  # type: ignore[union-attr]  # it is there


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_refused_or_is_that_very_name(queue: Queue, name: str) -> None:
    text = ODD[name]
    client = WorkflowClient(queue)
    for call in (
        lambda: client.submit(run_id=text), lambda: client.status(text), lambda: queue.get_job(text),
        lambda: queue.enqueue("q", b"", job_id=text),
    ):  # fmt: skip
        with pytest.raises(InvalidNameError):
            call()
    if "\0" in text:
        with pytest.raises(ValueError, match=r"U\+0000"):
            queue.enqueue("dedup", b"", dedup_key=text)
    else:
        job_id = queue.enqueue("dedup", b"", dedup_key=text)
        assert queue.enqueue("dedup", b"", dedup_key=text) == job_id
        assert queue.get_job(job_id).dedup_key == text  # type: ignore[union-attr]  # it is there
    try:
        queue.enqueue(text, name.encode())
    except InvalidNameError as error:
        assert text not in str(error) or text.isprintable(), "a control character in a message of ours"
        return
    assert text in queue.list_queues()
    claim = queue.claim(text)
    assert claim is not None and claim.job.payload == name.encode()
    queue.ack(claim)
    runtime = WorkflowRuntime(queue, lambda step: Succeed(b"x"), queue_name=text)
    assert runtime.submit().run_id
    assert runtime.run_until_idle(LIMIT).succeeded == 1


@pytest.mark.parametrize("size", [127, 128])
def test_names_at_the_limit_work_to_the_end(queue: Queue, size: int) -> None:
    name = "\U0001f600" * 61 + "q" * (size - 126)
    runtime = WorkflowRuntime(queue, lambda step: Succeed(b"x"), RecordingHook(), queue_name=name)
    runtime.submit(run_id="r" * size)
    assert runtime.run_until_idle(LIMIT).succeeded == 1
    assert runtime.wait("r" * size, 0).result == b"x"


def test_a_byte_over_the_limit_is_refused(queue: Queue) -> None:
    client = WorkflowClient(queue)
    for call in (
        lambda: client.submit(run_id="r" * 129), lambda: queue.enqueue("q" * 256, b""),
        lambda: queue.enqueue("\U0001f600" * 64, b""), lambda: WorkflowClient(queue, queue_name="q" * 247),
        lambda: queue.enqueue("q", b"", dedup_key="k" * 1025),
        lambda: queue.enqueue("q", b"", dedup_key="\u00e9" * 513),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"\d"):
            call()


def test_headers_at_the_limit_are_carried_to_the_end(queue: Queue) -> None:
    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, lambda step: Fail("x" * 20_000), hook, queue_name="full")
    for number, headers in enumerate(
        [
            {"h": "\u00e9" * (HEADER_LIMIT // 2 - 1) + "x"},
            {f"{n:05}": "" for n in range(HEADER_LIMIT // 5)},
            {"h": "\x00" * (HEADER_LIMIT - 1)},
            {'"' * 100: '\\"' * (HEADER_LIMIT // 2 - 50)},
        ]
    ):
        runtime.submit(run_id=f"run-{number}", headers=headers)
        runtime.run_until_idle(LIMIT)
        assert hook.outcomes[-1].headers == headers
        assert runtime.wait(f"run-{number}", 0).headers == headers


@pytest.mark.parametrize(
    "headers",
    [
        {"h": "x" * HEADER_LIMIT},
        {"h": "x" * 10_000_000},
        {"x" * 10_000_000: ""},
        {str(n): "" for n in range(100_000)},
        {str(n): "v" for n in range(100_000)},
    ],
    ids=["a byte over", "10 MB in a value", "10 MB in a name", "100,000 names", "100,000 headers"],
)  # fmt: skip
def test_headers_beyond_the_limit_are_refused_and_the_others_go_on(queue: Queue, headers: dict[str, str]) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Succeed(b"x"), queue_name="beside")
    handle = runtime.submit()
    for call in (
        lambda: RunSpec(headers=headers), lambda: runtime.submit(headers=headers),
        lambda: queue.enqueue("beside", b"", headers=headers),
        lambda: queue.enqueue("beside", b"", headers={"workflow.run_id": "x", **headers}),
    ):  # fmt: skip
        with pytest.raises(PayloadTooLargeError) as caught:
            call()
        assert len(str(caught.value)) < 500
    assert runtime.run_until_idle(LIMIT).succeeded == 1 and handle.result(0) == b"x"
    assert queue.stats("beside").dead == 0


@settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    headers=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4),
    reason=st.text(max_size=30),
    error=st.text(max_size=30).map(lambda text: text + "\ud800"),
)
def test_whatever_text_a_run_meets_it_ends(queue: Queue, headers: dict[str, str], reason: str, error: str) -> None:
    outcomes = {"fail": lambda: Fail(reason), "surrogate": lambda: Fail(error)}

    def step(step: Any) -> Any:
        if step.headers.get("how") == "raise":
            raise StepError.permanent(error)
        return outcomes[step.headers["how"]]()

    hook = RecordingHook()
    runtime = WorkflowRuntime(queue, step, hook, queue_name="texts")
    try:
        handles = [runtime.submit(headers={**headers, "how": how}) for how in ("fail", "surrogate", "raise")]
    except ValueError as refused:
        assert not isinstance(refused, UnicodeError)
        assert "" in headers or any(name.startswith("workflow.") for name in headers)
        return
    runtime.run_until_idle(LIMIT)
    assert [handle.wait(0).status for handle in handles] == [TerminalStatus.FAILED] * 3
    assert handles[0].wait(0).error == reason
    assert len(hook.outcomes) == 3
