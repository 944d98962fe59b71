"""Renewing a bare lease."""

from __future__ import annotations

from datetime import timedelta

import pytest

from taquba_workflow_sync import ClaimLostError, Queue
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed, stored


@pytest.mark.parametrize("extension", [5, 5.0, timedelta(seconds=5)])
def test_it_extends_from_now_not_from_the_old_end(
    still: Queue, clock: ManualClock, extension: float | timedelta
) -> None:
    job_id = still.enqueue("q", b"")
    claim = claimed(still)
    clock.advance(10)

    until = still.renew_lease(claim, extension)

    assert until == START + timedelta(seconds=15) == stored(still, job_id).lease_expires_at


def test_a_renewed_claim_is_not_taken_over_until_its_new_end(still: Queue, clock: ManualClock) -> None:
    still.enqueue("q", b"")
    claim = claimed(still)
    clock.advance(29)
    still.renew_lease(claim, 100)
    clock.advance(99.999)
    assert still.claim("q") is None
    clock.advance(0.001)
    assert claimed(still).job.attempts == 2


def test_an_expired_lease_that_nobody_took_over_can_be_renewed(still: Queue, clock: ManualClock) -> None:
    still.enqueue("q", b"")
    claim = claimed(still)
    clock.advance(1000)

    still.renew_lease(claim, 10)

    assert still.claim("q") is None


def test_a_claim_taken_over_cannot_be_renewed_and_the_holder_keeps_its_lease(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"")
    lost = claimed(still)
    clock.advance(31)
    held = claimed(still)

    with pytest.raises(ClaimLostError, match=job_id):
        still.renew_lease(lost, 1000)

    assert stored(still, job_id).lease_expires_at == held.job.lease_expires_at


def test_a_settled_claim_cannot_be_renewed(still: Queue) -> None:
    still.enqueue("q", b"")
    claim = claimed(still)
    still.nack(claim, "again")

    with pytest.raises(ClaimLostError):
        still.renew_lease(claim, 10)


def test_a_renewal_leaves_payload_and_attempts_alone(still: Queue) -> None:
    job_id = still.enqueue("q", b"x" * 10_000)
    claim = claimed(still)
    still.renew_lease(claim, 10)

    job = stored(still, job_id)
    assert (job.payload, job.attempts, job.claimed_at) == (b"x" * 10_000, 1, START)
