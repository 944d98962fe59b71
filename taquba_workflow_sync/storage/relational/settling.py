"""One call that settles and claims: as operations of a transaction, plain settlements in bulk, and back as answers."""

from __future__ import annotations

from collections.abc import Sequence

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest
from taquba_workflow_sync.storage.port.meter import Counting, merged
from taquba_workflow_sync.storage.port.settlement import (
    Answer,
    Hold,
    Ongoing,
    Release,
    Settlement,
    UnstorableError,
)
from taquba_workflow_sync.storage.relational.data_errors import (
    DamagedDatabaseError,
    InvalidDataError,
    as_refused,
    is_of_data,
)
from taquba_workflow_sync.storage.relational.pending import Operation, PendingWrite
from taquba_workflow_sync.storage.relational.reading_access import Reading
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.claim import claim
from taquba_workflow_sync.storage.relational.transitions.hold import choose
from taquba_workflow_sync.storage.relational.transitions.meter import add as add_to_meters
from taquba_workflow_sync.storage.relational.transitions.settle import is_plain, settle, settle_in_bulk


class _Turn:
    """One call: the claims that it let go of though it might have held them, by token, with the queue of each."""

    __slots__ = ("applied", "let_go")

    def __init__(self, applied: set[str] | None = None) -> None:
        self.let_go: dict[str, str] = {}
        #: The tokens of the settlements that were applied, where anybody counts them.
        self.applied = applied

    def note(self, settlement: Settlement, leave: Hold | None, answer: Ongoing | None) -> None:
        """Note what became of one, if it had leave to hold."""
        if self.applied is not None:
            self.applied.add(settlement.token)
        if leave is not None and answer is None:
            self.let_go[settlement.token] = leave.lanes[-1]

    def widened(self, request: ClaimRequest) -> ClaimRequest:
        """Return what to claim, with the room of what was let go of."""
        if not self.let_go:
            return request
        queues = {lane.queue for lane in request.lanes}
        return request._replace(limit=request.limit + sum(queue in queues for queue in self.let_go.values()))


class _Settle:
    """A settlement on its way through a transaction; a class, so that a batch can tell which go in bulk."""

    __slots__ = ("leave", "settlement", "turn")

    def __init__(self, settlement: Settlement, turn: _Turn) -> None:
        self.settlement = settlement
        self.leave = settlement.leave
        self.turn = turn

    def __call__(self, tx: Transaction, /) -> Ongoing | None:
        if self.turn.applied is not None:
            self.turn.applied.discard(self.settlement.token)  # it may have been rolled back
        answer = settle(tx, self.settlement)
        self.turn.note(self.settlement, self.leave, answer)
        return answer


class _Claim:
    """A claim on its way through a transaction."""

    __slots__ = ("request", "turn")

    def __init__(self, request: ClaimRequest, turn: _Turn) -> None:
        self.request = request
        self.turn = turn

    def __call__(self, tx: Transaction, /) -> list[ClaimedRow]:
        tx.taken_back = self.request.taken_back
        self.forget()  # what was noted by a transaction that was rolled back
        try:
            return claim(tx, self.turn.widened(self.request))
        finally:
            tx.taken_back = None

    def forget(self) -> None:
        """Have what was noted go: it has not happened."""
        if self.request.taken_back is not None:
            self.request.taken_back.clear()

    @property
    def is_idle(self) -> bool:
        """Whether it has no room, as long as nothing more is let go of."""
        return self.request.is_spare and not self.turn.let_go and self.request.limit <= 0

    def to_retract(self, answer: list[ClaimedRow]) -> list[Operation]:
        turn = _Turn()
        return [_Settle(Settlement(row.id, row.token, Release()), turn) for row in answer]


class _Count:
    """What is counted of a call on its way through a transaction: behind its settlements, of what they have come to."""

    __slots__ = ("applied", "counting", "tokens")

    def __init__(self, counting: Counting, settlements: Sequence[Settlement], applied: set[str]) -> None:
        self.counting = counting
        self.tokens = [settlement.token for settlement in settlements]
        self.applied = applied

    def __call__(self, tx: Transaction, /) -> None:
        counting = self.counting
        ended = [added for token, added in zip(self.tokens, counting.each, strict=True) if token in self.applied]
        add_to_meters(tx, merged(counting.before, *ended))


def settle_plain_in_bulk(tx: Transaction, batch: Sequence[PendingWrite]) -> Sequence[PendingWrite]:
    """Choose the claims that go on, and apply a batch's plain settlements together; returns what is left to be done."""
    ends = [(write, write.operation) for write in batch if isinstance(write.operation, _Settle)]
    asking = [end.settlement for _, end in ends if end.leave is not None]
    if asking:
        tx.go_on = choose(tx, asking)
    plain = [each for each in ends if is_plain(each[1].settlement)]
    if len(plain) < 2 and not tx.go_on:
        return batch
    answers = settle_in_bulk(tx, [end.settlement for _, end in plain])
    settled: set[PendingWrite] = set()
    for write, end in plain:
        # The first plain one is what was applied; any other settlement of the claim meets the fence.
        if end.settlement.token in answers:
            write.value = answers.pop(end.settlement.token)
            end.turn.note(end.settlement, end.leave, write.value)
            settled.add(write)
    left = [write for write in batch if write not in settled]
    if all(isinstance(write.operation, _Claim) and write.operation.is_idle for write in left):
        for write in left:
            write.value = []
        return ()
    return left


def settle_and_claim(
    access: Reading,
    settlements: Sequence[Settlement],
    claims: Sequence[ClaimRequest],
    counting: Counting | None = None,
) -> tuple[list[Answer], list[ClaimedRow]]:
    """End claims and take new ones; see :class:`~taquba_workflow_sync.storage.port.store.Transitions`."""
    turn = _Turn(None if counting is None else set())
    operations: list[Operation] = [_Settle(each, turn) for each in settlements]
    operations += [_Claim(each, turn) for each in claims]
    if counting is not None and turn.applied is not None:
        operations.append(_Count(counting, settlements, turn.applied))
    writes = access.run(operations)
    if counting is not None:
        counting.is_stored = writes[-1].error is None
    answers = [_answer(write) for write in writes[: len(settlements)]]
    claimed: list[ClaimedRow] = []
    for write in writes[len(settlements) : len(settlements) + len(claims)]:
        # A settlement's answer must reach its caller even if the claim beside it failed.
        if write.error is None:
            claimed += write.value
            continue
        if isinstance(write.operation, _Claim):
            write.operation.forget()
        if not settlements:
            raise as_refused(write.error) if is_of_data(write.error) else write.error
    return answers, claimed


def _answer(write: PendingWrite) -> Answer:
    error = write.error
    if error is None:
        applied: Ongoing | None = write.value
        return applied
    if isinstance(error, TaqubaError) and not isinstance(error, (InvalidDataError, DamagedDatabaseError)):
        return error
    # What this one cannot be stored for must not take the answers of the others along.
    return UnstorableError(f"cannot be stored: {type(error).__name__}: {error}")
