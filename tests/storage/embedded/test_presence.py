"""Who may be taken over: the dead at once, the living and the unknown once they were watched for long enough."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import filelock
import pytest

from taquba_workflow_sync.storage.embedded.owners import Owner, is_alive
from taquba_workflow_sync.storage.relational import presence
from taquba_workflow_sync.storage.relational.presence import Evidence, Watch
from taquba_workflow_sync.storage.relational.rows import OwnedClaim

LEASE_MS = 1_000


def running(owner: str, *, token: str = "t.1.1", until: int = 0, lease: int = LEASE_MS) -> OwnedClaim:
    return OwnedClaim("job", token, owner, 0, until, lease)


class Monotonic:
    """A monotonic clock set by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def watch(owners: Path, monotonic: Monotonic) -> Watch:
    return Watch(partial(is_alive, owners), monotonic=monotonic)


def watched_for(watch: Watch, monotonic: Monotonic, claim: OwnedClaim, seconds: float, now_ms: int = 10) -> Evidence:
    """What is known after ``seconds`` of looking four times a second."""
    abandoned = watch.look([claim], now_ms)
    end = monotonic.now + seconds
    while monotonic.now < end:
        monotonic.now = min(monotonic.now + 0.25, end)
        abandoned = watch.look([claim], now_ms)
    return abandoned


def test_an_overdue_claim_of_a_living_process_is_watched_for_ten_leases(
    watch: Watch, alive: Owner, monotonic: Monotonic
) -> None:
    claim = running(alive.id)
    assert watched_for(watch, monotonic, claim, 9.99) == Evidence()
    assert watched_for(watch, monotonic, claim, 0.01) == Evidence(tokens={claim.token: claim.lease_until_ms})


def test_an_overdue_claim_of_an_unknown_owner_is_watched_for_one_lease(watch: Watch, monotonic: Monotonic) -> None:
    claim = running("1-missing")
    assert watched_for(watch, monotonic, claim, 0.99) == Evidence()
    assert watched_for(watch, monotonic, claim, 0.01) == Evidence(tokens={claim.token: claim.lease_until_ms})


def test_the_first_look_never_takes_anything(watch: Watch, monotonic: Monotonic) -> None:
    # However long ago the lease ended by the wall clock: only what this process watched itself counts.
    assert watch.look([running("1-missing")], 10**15) == Evidence()


def test_a_lease_that_is_not_over_is_not_watched(watch: Watch, monotonic: Monotonic) -> None:
    claim = running("1-missing", until=1_000)
    assert watched_for(watch, monotonic, claim, 100, now_ms=999) == Evidence()
    assert watched_for(watch, monotonic, claim, 0.99, now_ms=1_000) == Evidence()


def test_a_renewal_starts_the_watch_anew(watch: Watch, monotonic: Monotonic) -> None:
    assert watched_for(watch, monotonic, running("1-missing", until=1), 0.99) == Evidence()
    renewed = running("1-missing", until=2)
    assert watched_for(watch, monotonic, renewed, 0.99) == Evidence()
    assert watched_for(watch, monotonic, renewed, 0.01).tokens.keys() == {renewed.token}


def test_a_claim_that_was_away_in_between_is_watched_anew(watch: Watch, monotonic: Monotonic) -> None:
    claim = running("1-missing")
    assert watched_for(watch, monotonic, claim, 0.99) == Evidence()
    assert watch.look([], 10) == Evidence()
    assert watched_for(watch, monotonic, claim, 0.99) == Evidence()


def test_a_wall_clock_that_jumps_takes_nothing(watch: Watch, alive: Owner, monotonic: Monotonic) -> None:
    claim = running(alive.id, until=1_000)
    assert watch.look([claim], 0) == Evidence()
    for now_ms in (10**12, 0, 10**13):
        assert watch.look([claim], now_ms) == Evidence()


def test_a_long_lease_is_watched_for_long(watch: Watch, monotonic: Monotonic) -> None:
    claim = running("1-missing", lease=60_000)
    assert watched_for(watch, monotonic, claim, 59.9) == Evidence()
    assert watched_for(watch, monotonic, claim, 0.1).tokens.keys() == {claim.token}


def test_a_process_that_was_stopped_itself_has_not_watched(watch: Watch, alive: Owner, monotonic: Monotonic) -> None:
    """Everybody was stopped for an hour, the owner too: it must have time to wake up and renew."""
    claims = [running(alive.id), running("1-missing", token="t.1.2")]
    assert watch.look(claims, 10) == Evidence()
    monotonic.now += 3_600
    assert watch.look(claims, 10) == Evidence()


def test_a_stop_in_the_middle_of_a_watch_counts_for_a_quarter(watch: Watch, alive: Owner, monotonic: Monotonic) -> None:
    claim = running(alive.id)
    assert watched_for(watch, monotonic, claim, 7.25) == Evidence()
    monotonic.now += 3_600
    assert watch.look([claim], 10) == Evidence()  # 7.25 + 2.5 s of the ten
    assert watched_for(watch, monotonic, claim, 0.25).tokens.keys() == {claim.token}


def test_rare_looks_free_a_claim_too_only_later(watch: Watch, alive: Owner, monotonic: Monotonic) -> None:
    claim = running(alive.id)
    for _ in range(4):
        assert watch.look([claim], 10) == Evidence()
        monotonic.now += 60
    assert watch.look([claim], 10).tokens.keys() == {claim.token}


def test_a_dead_owner_needs_no_watch_and_its_other_claims_are_not_named_singly(watch: Watch, owners: Path) -> None:
    dead = Owner(owners, is_exclusive=False)
    dead.take()
    dead.leave(has_claims=True)
    claims = [running(dead.id, token="t.1.1", until=10**15), running(dead.id, token="t.1.2")]
    assert watch.look(claims, 10) == Evidence(owners=frozenset({dead.id}))


def test_a_dead_owner_that_another_process_probes_is_known_to_be_dead_when_that_is_outwaited(
    watch: Watch, owners: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_OTHERS_PROBE", 30.0)
    dead = Owner(owners, is_exclusive=False)
    dead.take()
    dead.leave(has_claims=True)
    probe = filelock.FileLock(owners / f"{dead.id}.lock", thread_local=False)
    with probe:
        assert watch.look([running(dead.id)], 0) == Evidence()
        end_of_probe = threading.Timer(0.05, probe.release)
        end_of_probe.start()
        assert watch.look([running(dead.id)], 0, suspect=dead.id).owners == {dead.id}
        end_of_probe.join()


def test_only_the_owner_in_doubt_is_waited_for(alive: Owner, owners: Path) -> None:
    """A cancel would wait for every living process otherwise, one after the other."""
    second = Owner(owners, is_exclusive=False)
    second.take()
    waits: dict[str, float] = {}

    def seen(owner: str, patience: float) -> bool | None:
        waits[owner] = patience
        return is_alive(owners, owner, patience)

    watch = Watch(seen)
    claims = [running(alive.id), running(second.id, token="t.1.2")]
    assert watch.look(claims, 0, suspect=second.id) == Evidence()
    second.leave(has_claims=False)
    assert waits[alive.id] == 0
    assert waits[second.id] > 0
