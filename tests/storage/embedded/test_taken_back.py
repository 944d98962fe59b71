"""What a claim tells to have taken back, where it comes to nothing."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim, TakenBack
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.relational.transitions import claim as claim_module
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import LEASE_MS, QUEUE, put_run

from .conftest import OpenEmbedded


def test_a_claim_that_came_to_nothing_tells_nothing(
    open_embedded: OpenEmbedded, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_embedded(clock=clock)
    put_run(store, limits=TimeLimits(deadline_after_ms=1_000))
    clock.advance(2)
    taken_back: list[TakenBack] = []
    request = ClaimRequest((LaneClaim(QUEUE, LEASE_MS),), 1, taken_back=taken_back)

    def fail(*_: object) -> int:
        assert len(taken_back) == 1
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(claim_module, "reap", fail)
        with pytest.raises(StorageError):
            store.settle_and_claim([], [request])
    assert taken_back == []
    store.settle_and_claim([], [request])
    assert len(taken_back) == 1
