"""Each transition of the table, once each way that it can go: it does what the table says, wholly or not at all."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import StoreClosedError
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.transitions import TRANSITIONS
from taquba_workflow_sync.testing import ManualClock
from tests.transitions import CASES, THROUGH_THE_PORT, Case, Scene

from .bench import check_counters, dump, status, version_of
from .conftest import MakeStore

TABLE = {each.name: each for each in TRANSITIONS}
each_case = pytest.mark.parametrize("case", THROUGH_THE_PORT, ids=lambda case: case.name)


def scene_of(store: Store, clock: ManualClock) -> Scene:
    return Scene(store, lambda ms: clock.advance(ms / 1000))


def test_the_catalogue_holds_every_transition_of_the_table_and_no_other() -> None:
    assert {case.transition for case in CASES} == TABLE.keys()
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.transition for case in CASES} == {case.name for case in CASES} & TABLE.keys(), "one is called so"


@pytest.mark.parametrize("name", TABLE)
def test_the_cases_go_every_way_that_the_table_allows_and_no_other(name: str) -> None:
    row, cases = TABLE[name], [case for case in CASES if case.transition == name]
    targets = {case.target for case in cases}
    assert targets - {None} == row.targets
    if row.targets:
        assert (None in targets) <= row.may_vanish
    sources = {case.source for case in cases}
    assert None not in sources or not row.sources
    if name != "quarantine":  # which needs an engine's own hands
        assert sources - {None} == row.sources


@each_case
def test_a_transition_goes_where_the_catalogue_says(store: Store, clock: ManualClock, case: Case) -> None:
    job_id, act = case.prepare(scene_of(store, clock))
    assert (None if job_id is None else status(store, job_id)) is case.source
    before = version_of(store)
    act(store)
    assert version_of(store) != before
    found = status(store, job_id or "enqueued")
    assert found is case.target
    assert found is None or isinstance(found, JobStatus)


@each_case
def test_a_transition_made_by_another_handle_is_the_same(make_store: MakeStore, clock: ManualClock, case: Case) -> None:
    if case.name == "cancel an abandoned claim":
        pytest.skip("its evidence is of the handle that holds the claim")
    first, second = make_store(), make_store()
    job_id, act = case.prepare(scene_of(first, clock))
    act(second)
    assert status(first, job_id or "enqueued") is case.target
    for store in (first, second):
        check_counters(store)
    assert first.check() == []


@each_case
def test_a_transition_is_still_there_after_a_restart(make_store: MakeStore, clock: ManualClock, case: Case) -> None:
    first = make_store()
    _, act = case.prepare(scene_of(first, clock))
    act(first)
    before = dump(first)
    before.pop("held here")
    first.close()
    second = make_store()
    after = dump(second)
    after.pop("held here")
    assert after == before


@each_case
def test_a_closed_store_makes_no_transition(make_store: MakeStore, clock: ManualClock, case: Case) -> None:
    store, watching = make_store(), make_store()
    _, act = case.prepare(scene_of(store, clock))
    before = dump(watching)
    store.close()
    with pytest.raises(StoreClosedError):
        act(store)
    assert dump(watching) == before
