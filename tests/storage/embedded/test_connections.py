"""The order in which connections, their gate and their locks are taken."""

from __future__ import annotations

import threading

from tests.storage.bench import put_one

from .conftest import OpenEmbedded


def test_who_waits_at_a_shut_gate_holds_nothing_that_those_inside_need(open_embedded: OpenEmbedded) -> None:
    """A fork and a close wait for the writer to leave the gate, and it opens the connection that watches."""
    store = open_embedded()
    put_one(store)
    gate = store._connections.gate
    is_waiting = threading.Event()
    enter = gate.enter

    def entering() -> None:
        is_waiting.set()
        enter()

    gate.enter = entering  # type: ignore[method-assign]
    gate.shut()
    looker = threading.Thread(target=store.version)
    looker.start()
    try:
        assert is_waiting.wait(30)
        assert not store._connections._watching.locked()
    finally:
        gate.open()
        looker.join(30)
    assert not looker.is_alive()
