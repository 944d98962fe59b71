"""One call that settles and claims: as operations of a transaction, plain settlements in bulk, and back as answers."""

from __future__ import annotations

from collections.abc import Sequence

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.embedded.access import Access
from taquba_workflow_sync.storage.embedded.pending import Operation, PendingWrite
from taquba_workflow_sync.storage.embedded.sqlite_errors import (
    DamagedDatabaseError,
    InvalidDataError,
    as_not_written,
    is_about_data,
)
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.embedded.transitions.claim import claim
from taquba_workflow_sync.storage.embedded.transitions.settle import is_plain, settle, settle_in_bulk
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest
from taquba_workflow_sync.storage.port.settlement import Release, Settlement, UnstorableError


class _Settle:
    """A settlement on its way through a transaction; a class, so that a batch can tell which go in bulk."""

    __slots__ = ("settlement",)

    def __init__(self, settlement: Settlement) -> None:
        self.settlement = settlement

    def __call__(self, tx: Transaction, /) -> None:
        settle(tx, self.settlement)


class _Claim:
    """A claim on its way through a transaction."""

    __slots__ = ("request",)

    def __init__(self, request: ClaimRequest) -> None:
        self.request = request

    def __call__(self, tx: Transaction, /) -> list[ClaimedRow]:
        return claim(tx, self.request)

    def to_retract(self, answer: list[ClaimedRow]) -> list[Operation]:
        return [_Settle(Settlement(row.id, row.token, Release())) for row in answer]


def settle_plain_in_bulk(tx: Transaction, batch: Sequence[PendingWrite]) -> Sequence[PendingWrite]:
    """Apply the plain settlements of a batch together; returns what is left to be done singly."""
    plain = [settlement for write in batch if (settlement := _plain_of(write)) is not None]
    if len(plain) < 2:
        return batch
    done = settle_in_bulk(tx, plain)
    left: list[PendingWrite] = []
    for write in batch:
        settlement = _plain_of(write)
        if settlement is not None and settlement.token in done:
            # The first plain one is what was applied; any other settlement of the claim meets the fence.
            done.discard(settlement.token)
        else:
            left.append(write)
    return left


def _plain_of(write: PendingWrite) -> Settlement | None:
    operation = write.operation
    return operation.settlement if isinstance(operation, _Settle) and is_plain(operation.settlement) else None


def settle_and_claim(
    access: Access, settlements: Sequence[Settlement], claims: Sequence[ClaimRequest]
) -> tuple[list[TaqubaError | None], list[ClaimedRow]]:
    """End claims and take new ones; see :class:`~taquba_workflow_sync.storage.port.store.Transitions`."""
    operations: list[Operation] = [*map(_Settle, settlements), *map(_Claim, claims)]
    writes = access.run(operations)
    refusals = [_refusal(write.error) for write in writes[: len(settlements)]]
    claimed: list[ClaimedRow] = []
    for write in writes[len(settlements) :]:
        # A settlement's answer must reach its caller even if the claim beside it failed.
        if write.error is None:
            claimed += write.value
        elif not settlements:
            raise as_not_written(write.error) if is_about_data(write.error) else write.error
    return refusals, claimed


def _refusal(error: BaseException | None) -> TaqubaError | None:
    if error is None or (
        isinstance(error, TaqubaError) and not isinstance(error, (InvalidDataError, DamagedDatabaseError))
    ):
        return error
    # What this one cannot be stored for must not take the answers of the others along.
    return UnstorableError(f"cannot be stored: {type(error).__name__}: {error}")
