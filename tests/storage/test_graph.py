"""Graphs of queues: registered, replaced, and in the way of nobody."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.store import Store

from .bench import claim, put_run, writes_nothing


def test_a_graph_is_what_was_registered_last(store: Store) -> None:
    assert store.graphs() == {}
    store.put_graph("orders", "one")
    store.put_graph("invoices", "two")
    store.put_graph("orders", "three")
    assert store.graphs() == {"invoices": "two", "orders": "three"}


def test_registering_the_same_again_writes_nothing(store: Store) -> None:
    store.put_graph("orders", "one")
    with writes_nothing(store):
        store.put_graph("orders", "one")


def test_a_store_with_graphs_is_sound_and_works_on(store: Store) -> None:
    store.put_graph("orders", "\u2603")
    put_run(store)
    assert claim(store).run_id == "r"
    assert store.check() == []
