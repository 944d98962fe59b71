"""Each pure rule against its table, which holds the whole product of the rule's inputs."""

from __future__ import annotations

from itertools import product

import pytest

from taquba_workflow_sync import PermanentFailure, QueueConfig, StepError, TaqubaError
from taquba_workflow_sync.errors import InputMismatchError, StorageError
from taquba_workflow_sync.queue.policy import after_exception, after_failure
from taquba_workflow_sync.storage.port.claim import after_abandonment
from taquba_workflow_sync.storage.port.presence import may_be_taken_over
from taquba_workflow_sync.storage.port.retention import retention_ms
from taquba_workflow_sync.storage.port.run import KnownRun, RunName, final_verdict, is_new_run, terminal_status
from taquba_workflow_sync.storage.port.settlement import DeadLetter, Nack
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.texts import readable_error, storable_error

from . import truth
from .truth import BAD, CANCELLED, DEAD, DONE, GOOD, NEW, PENDING, REFUSED, THERE

VERDICTS = (None, GOOD, BAD)
KINDS = {
    "active": (PENDING, None),
    "succeeded": (DONE, GOOD),
    "failed": (DONE, BAD),
    "dead": (DEAD, BAD),
    "cancelled": (CANCELLED, None),
}


def test_the_tables_hold_the_whole_product_of_their_inputs() -> None:
    both = (False, True)
    kinds = set(product(KINDS, both, both))
    assert set(truth.IS_NEW_RUN) == kinds | {("nobody", False, False)}
    assert set(truth.FINAL_VERDICT) == set(product((DONE, DEAD, CANCELLED), both))
    assert set(truth.TERMINAL_STATUS) == {each for each in JobStatus if each.is_finished}
    assert set(truth.AFTER_ABANDONMENT) == set(product(both, range(5)))
    assert set(truth.RETENTION) == set(product(both, both, (None, 0, 5_000, 60_000, 120_000)))
    assert set(truth.AFTER_FAILURE) == set(product(range(1, 5), (None, -1.0, 0.0, 7.5)))
    columns = {len(truth.IF_FINISHED), len(VERDICTS), len(truth.KEEP_DEAD), 3}
    assert columns == {3}
    for table in (truth.IS_NEW_RUN, truth.FINAL_VERDICT, truth.TERMINAL_STATUS, truth.AFTER_ABANDONMENT,
                  truth.TAKEN_OVER, truth.RETENTION, truth.AFTER_FAILURE):  # fmt: skip
        assert {len(answers) for answers in table.values()} == {3}


@pytest.mark.parametrize(("inputs", "answers"), truth.IS_NEW_RUN.items(), ids=str)
def test_whether_a_submit_starts_a_run(inputs: tuple[str, bool, bool], answers: tuple[str, ...]) -> None:
    kind, is_visible, is_same = inputs
    known = None
    if kind != "nobody":
        status, verdict = KINDS[kind]
        known = KnownRun("there", b"one" if is_same else b"other", status, verdict, is_visible)
    for if_finished, answer in zip(truth.IF_FINISHED, answers, strict=True):
        run = RunName("r", b"one", if_finished)
        if answer == REFUSED:
            with pytest.raises(InputMismatchError, match=r"'r'.*there"):
                is_new_run(run, "q", known, is_active=kind == "active")
        else:
            assert is_new_run(run, "q", known, is_active=kind == "active") is (answer == NEW)
            assert answer in (NEW, THERE)


@pytest.mark.parametrize(("inputs", "answers"), truth.FINAL_VERDICT.items(), ids=str)
def test_the_verdict_of_what_has_ended(inputs: tuple[JobStatus, bool], answers: tuple[object, ...]) -> None:
    target, is_run = inputs
    assert tuple(final_verdict(target, verdict, is_run=is_run) for verdict in VERDICTS) == answers


@pytest.mark.parametrize(("status", "answers"), truth.TERMINAL_STATUS.items(), ids=str)
def test_how_a_run_is_said_to_have_ended(status: JobStatus, answers: tuple[object, ...]) -> None:
    assert tuple(terminal_status(status, verdict) for verdict in VERDICTS) == answers


@pytest.mark.parametrize(("inputs", "answers"), truth.AFTER_ABANDONMENT.items(), ids=str)
def test_where_an_abandoned_claim_goes(inputs: tuple[bool, int], answers: tuple[JobStatus, ...]) -> None:
    cancel_requested, attempts = inputs
    for max_attempts, answer in zip((1, 2, 3), answers, strict=True):
        found = after_abandonment(cancel_requested=cancel_requested, attempts=attempts, max_attempts=max_attempts)
        assert found is answer


@pytest.mark.parametrize(("leases", "answers"), truth.TAKEN_OVER.items(), ids=str)
@pytest.mark.parametrize("lease_s", [1.0, 30.0])
def test_whether_a_claim_may_be_taken_over(leases: float, answers: tuple[bool, ...], lease_s: float) -> None:
    found = (
        may_be_taken_over(owner_lives=lives, unrenewed_s=leases * lease_s, lease_s=lease_s)
        for lives in (True, None, False)
    )
    assert tuple(found) == answers


@pytest.mark.parametrize(("inputs", "answers"), truth.RETENTION.items(), ids=str)
def test_how_long_a_finished_row_stays(inputs: tuple[bool, bool, int | None], answers: tuple[int | None, ...]) -> None:
    is_run, is_dead, keep_done = inputs
    for keep_dead, answer in zip(truth.KEEP_DEAD, answers, strict=True):
        found = retention_ms(is_run=is_run, is_dead=is_dead, keep_done_ms=keep_done, keep_dead_ms=keep_dead)
        assert found == answer


@pytest.mark.parametrize(("error", "stored"), truth.STORABLE_ERROR.items(), ids=lambda each: repr(each)[:30])
def test_what_a_row_carries_of_an_error(error: str | None, stored: str | None) -> None:
    assert storable_error(error) == stored
    if stored is not None and error is not None and len(error) <= 16_384:
        assert readable_error(stored) == error.encode("utf-8", "backslashreplace").decode()


CONFIG = QueueConfig(retry_backoff_base=1.0)


@pytest.mark.parametrize(("inputs", "answers"), truth.AFTER_FAILURE.items(), ids=str)
def test_what_a_failed_attempt_leads_to(inputs: tuple[int, float | None], answers: tuple[int | str, ...]) -> None:
    attempts, retry_after = inputs
    for max_attempts, answer in zip((1, 2, 3), answers, strict=True):
        found = after_failure(CONFIG, attempts=attempts, max_attempts=max_attempts, error="e", retry_after=retry_after)
        assert found == (DeadLetter("e") if answer == truth.DEAD_LETTER else Nack("e", int(answer)))


class AskedToWait(StorageError):
    retry_after = 7.5


class Stubborn(Exception):
    retry_after = 7.5  # only the library's own errors are asked


#: An exception: whether it is permanent, what it asks to wait, and what is told of it.
EXCEPTIONS: list[tuple[BaseException, bool, float | None, str]] = [
    (StepError.permanent("m"), True, None, "m"),
    (StepError.transient("m"), False, None, "m"),
    (PermanentFailure("m"), True, None, "m"),
    (TaqubaError("m"), True, None, "TaqubaError: m"),
    (StorageError("m"), False, None, "StorageError: m"),
    (AskedToWait("m"), False, 7.5, "AskedToWait: m"),
    (Stubborn("m"), False, None, "Stubborn: m"),
    (ValueError(), False, None, "ValueError"),
    (KeyboardInterrupt(), False, None, "KeyboardInterrupt"),
]


@pytest.mark.parametrize(("error", "is_permanent", "retry_after", "text"), EXCEPTIONS, ids=lambda each: repr(each))
def test_what_an_exception_leads_to(
    error: BaseException, is_permanent: bool, retry_after: float | None, text: str
) -> None:
    for attempts, (column, max_attempts) in product(range(1, 5), enumerate((1, 2, 3))):
        answer = truth.AFTER_FAILURE[attempts, retry_after][column]
        found = after_exception(CONFIG, error, attempts=attempts, max_attempts=max_attempts)
        is_dead = is_permanent or answer == truth.DEAD_LETTER
        assert found == (DeadLetter(text) if is_dead else Nack(text, int(answer)))
